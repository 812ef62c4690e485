/* The fixed kernel term of the limit of azimuthal integration: what the loop costs when all data lie ready.

   Sixteen frames side by side as float32, [pixel][frame]; a full-split matrix in tiles of pixels, inside a tile by
   bin (u16), weights and sums float32; no variance, no masks, no blank values, no checks. It is kept as it is,
   apart from our kernels, so that a slow kernel cannot flatter the ratio.

   cc -O3 -march=native -ffast-math -mprefer-vector-width=512 -shared -fPIC reference_kernel.c -o reference.so */
#include <stdint.h>

#define FRAMES 16

/* `tile` [tile_pixels][16] stands for every tile of the frames and stays in the cache: their traffic belongs to
   the decoder. Run r of bin[r] ends before entry stop[r]; `offset` is the pixel's place in its tile. */
void reference_kernel(const float *tile, int64_t n_runs, const uint16_t *bin, const uint32_t *stop,
                      const uint16_t *offset, const float *weight, float *sums) {
    uint32_t e = 0;
    for (int64_t r = 0; r < n_runs; r++) {
        float *to = sums + (int64_t)bin[r] * FRAMES;
        float sum[FRAMES];
        for (int f = 0; f < FRAMES; f++)
            sum[f] = to[f];
        for (; e < stop[r]; e++) {
            const float *x = tile + (int64_t)offset[e] * FRAMES;
            for (int f = 0; f < FRAMES; f++)
                sum[f] += weight[e] * x[f];
        }
        for (int f = 0; f < FRAMES; f++)
            to[f] = sum[f];
    }
}
