/* The fixed unshuffle of the limit of fluorescence maps: byte k of all elements stood together.

   Kept as it is, apart from our kernels, so that a slow kernel cannot flatter the ratio.
   cc -O3 -march=native -shared -fPIC reference_unshuffle.c -o reference_unshuffle.so */
#include <stdint.h>

void reference_unshuffle_4(const uint8_t *restrict source, int64_t n, uint8_t *restrict out) {
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 4; k++)
            out[4 * i + k] = source[k * n + i];
}
