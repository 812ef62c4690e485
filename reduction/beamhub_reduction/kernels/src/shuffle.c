/* HDF5's byte shuffle, undone: byte k of all elements stands together in the source.
   Source: HDF5 reference manual, H5Pset_shuffle. */
#include "kernels.h"

BH_EXPORT int64_t BH(unshuffle)(const uint8_t *source, int64_t n_bytes, int64_t item_bytes, uint8_t *out);

#define UNSHUFFLE(N)                                                                     \
    static void unshuffle_##N(const uint8_t *restrict s, int64_t n, uint8_t *restrict o) { \
        for (int64_t i = 0; i < n; i++)                                                  \
            for (int k = 0; k < N; k++)                                                  \
                o[i * N + k] = s[k * n + i];                                             \
    }
UNSHUFFLE(2)
UNSHUFFLE(4)
UNSHUFFLE(8)

int64_t BH(unshuffle)(const uint8_t *source, int64_t n_bytes, int64_t item_bytes, uint8_t *out) {
    if (n_bytes < 0 || item_bytes < 1)
        return -1;
    const int64_t n = n_bytes / item_bytes, rest = n_bytes - n * item_bytes;
    if (item_bytes == 2)
        unshuffle_2(source, n, out);
    else if (item_bytes == 4)
        unshuffle_4(source, n, out);
    else if (item_bytes == 8)
        unshuffle_8(source, n, out);
    else
        for (int64_t k = 0; k < item_bytes; k++)
            for (int64_t i = 0; i < n; i++)
                out[i * item_bytes + k] = source[k * n + i];
    if (rest)
        memcpy(out + n * item_bytes, source + n * item_bytes, (size_t)rest);
    return 0;
}
