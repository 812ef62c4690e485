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
#define REFERENCE(T, NAME)                                                                                  \
    void NAME(const T *tile, int64_t n_pixels, uint64_t *sum, uint64_t *square, T *low, T *high,            \
              uint32_t *valid) {                                                                            \
        for (int64_t at = 0; at + TILE <= n_pixels; at += TILE)                                             \
            for (int64_t i = 0; i < TILE; i += 64) {                                                        \
                uint32_t s[64] = {0}, q[64] = {0}, n[64] = {0};                                             \
                T least[64], most[64];                                                                      \
                for (int j = 0; j < 64; j++)                                                                \
                    least[j] = low[at + i + j], most[j] = high[at + i + j];                                 \
                for (int k = 0; k < FRAMES; k++)                                                            \
                    for (int j = 0; j < 64; j++) {                                                          \
                        const T v = tile[k * TILE + i + j], ok = v != (T)-1, x = ok ? v : 0;                \
                        s[j] += x, q[j] += (uint32_t)x * x, n[j] += ok;                                     \
                        least[j] = v < least[j] ? v : least[j], most[j] = x > most[j] ? x : most[j];        \
                    }                                                                                       \
                for (int j = 0; j < 64; j++) {                                                              \
                    sum[at + i + j] += s[j], square[at + i + j] += q[j], valid[at + i + j] += n[j];         \
                    low[at + i + j] = least[j], high[at + i + j] = most[j];                                 \
                }                                                                                           \
            }                                                                                               \
    }

REFERENCE(uint16_t, reference_uint16)
REFERENCE(uint32_t, reference_uint32)
