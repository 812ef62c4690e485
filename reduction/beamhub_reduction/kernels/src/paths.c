/* Which instruction sets this processor and operating system can run; compiled once. */
#include "kernels.h"

BH_EXPORT int64_t bh_abi(void);
BH_EXPORT int64_t bh_has_avx2(void);
BH_EXPORT int64_t bh_has_avx512(void);

int64_t bh_abi(void) { return 1; }

#if defined(__x86_64__)
int64_t bh_has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}
int64_t bh_has_avx512(void) {
    __builtin_cpu_init();
    return bh_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd");
}
#else
int64_t bh_has_avx2(void) { return 0; }
int64_t bh_has_avx512(void) { return 0; }
#endif
