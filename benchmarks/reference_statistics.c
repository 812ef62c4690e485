/* The fixed kernel term of the limit of statistics over frames: sum, sum of squares, smallest, largest and number
   of values of each pixel, when all frames lie ready.

   No mask, no totals of frames, no guard against overflow. It is kept as it is, apart from our kernels, so that a
   slow kernel cannot flatter the ratio.

   cc -O3 -march=native -ffast-math -shared -fPIC reference_statistics.c -o reference.so */
#include <stdint.h>

#define FRAMES 64
#define TILE 2048

/* `tile` [64][TILE] stands for every tile of the frames and stays in the cache: their traffic belongs to the
   decoder. */
#define REFERENCE(T, NAME)                                                                                           \
    static __attribute__((noinline)) void add_##NAME(const T *restrict a, uint32_t *restrict s, uint32_t *restrict q,\
                                                     T *restrict n, T *restrict least, T *restrict most) {           \
        for (int j = 0; j < TILE; j++) {                                                                             \
            uint32_t sum = s[j], square = q[j];                                                                      \
            T count = n[j], low = least[j], high = most[j];                                                          \
            for (int k = 0; k < 8; k++) {                                                                            \
                const T v = a[k * TILE + j], ok = v != (T)-1, x = ok ? v : 0;                                        \
                sum += x, square += (uint32_t)x * x, count += ok;                                                    \
                low = v < low ? v : low, high = x > high ? x : high;                                                 \
            }                                                                                                        \
            s[j] = sum, q[j] = square, n[j] = count, least[j] = low, most[j] = high;                                 \
        }                                                                                                            \
    }                                                                                                                \
    void NAME(const T *tile, int64_t n_pixels, uint64_t *sum, uint64_t *square, T *low, T *high,                     \
              uint32_t *valid) {                                                                                     \
        for (int64_t at = 0; at + TILE <= n_pixels; at += TILE) {                                                    \
            uint32_t s[TILE] = {0}, q[TILE] = {0};                                                                   \
            T n[TILE] = {0};                                                                                         \
            for (int k = 0; k < FRAMES; k += 8)                                                                      \
                add_##NAME(tile + k * TILE, s, q, n, low + at, high + at);                                           \
            for (int j = 0; j < TILE; j++)                                                                           \
                sum[at + j] += s[j], square[at + j] += q[j], valid[at + j] += n[j];                                  \
        }                                                                                                            \
    }

REFERENCE(uint16_t, reference_uint16)
REFERENCE(uint32_t, reference_uint32)
