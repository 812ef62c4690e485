/* What every kernel's file begins with: the name of its instruction set, and types.

   A kernel is `BH_EXPORT int64_t BH(name)(...)`; it becomes bh_name_plain, bh_name_avx2, bh_name_avx512.
   Rules: no global state, no allocation that is not freed, every length checked before it is used, no errno;
   a result below zero says what is wrong with the input. Floating-point sums have one order on every path. */
#ifndef BEAMHUB_KERNELS_H
#define BEAMHUB_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef BH_PATH
#define BH_PATH plain
#endif
#define BH_JOIN3(a, b, c) a##b##_##c
#define BH_JOIN(a, b, c) BH_JOIN3(a, b, c)
#define BH(name) BH_JOIN(bh_, name, BH_PATH)
#define BH_EXPORT __attribute__((visibility("default")))
#define BH_LIKELY(x) __builtin_expect(!!(x), 1)
#define BH_UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
