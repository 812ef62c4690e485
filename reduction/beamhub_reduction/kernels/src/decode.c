/* Whole chunks of bitshuffle-LZ4. The header and every length are checked before anything is decoded from them;
   any bytes may be passed.
   Source of the container: bitshuffle, bshuf_h5filter.c: decoded bytes (u64 BE), bytes of a block (u32 BE, 0 for
   8192), then for each block its length (u32 BE) and its LZ4 block; the last block is a multiple of 8 elements,
   and what remains (below 8 elements) follows as it is. */
#include "bitshuffle.h"
#include "kernels.h"
#include "lz4_block.h"

/* Below zero: what is wrong with a chunk; the same numbers stand in kernels/decode.py. -1 to -5: lz4_block.h. */
#define BH_NO_HEADER (-10)
#define BH_WRONG_TOTAL (-11)
#define BH_WRONG_BLOCK (-12)
#define BH_BLOCK_LENGTH (-13)
#define BH_WRONG_END (-14)

#define BH_DEFAULT_BLOCK 8192

BH_EXPORT int64_t BH(decode_bslz4)(const uint8_t *chunk, int64_t n_chunk, int64_t item_bytes, uint8_t *out,
                                   int64_t n_out, uint8_t *scratch, int64_t n_scratch);

static inline uint64_t big_endian(const uint8_t *p, int n) {
    uint64_t value = 0;
    for (int i = 0; i < n; i++)
        value = value << 8 | p[i];
    return value;
}

/* 0, or what is wrong; `scratch` has room for one block of the chunk. */
int64_t BH(decode_bslz4)(const uint8_t *chunk, int64_t n_chunk, int64_t item_bytes, uint8_t *out, int64_t n_out,
                         uint8_t *scratch, int64_t n_scratch) {
    if (n_chunk < 12 || item_bytes < 1 || n_out < 0)
        return BH_NO_HEADER;
    if (big_endian(chunk, 8) != (uint64_t)n_out)
        return BH_WRONG_TOTAL;
    int64_t block = (int64_t)big_endian(chunk + 8, 4);
    if (block == 0)
        block = BH_DEFAULT_BLOCK;
    if (block % (8 * item_bytes))
        return BH_WRONG_BLOCK;
    int64_t at = 12, done = 0;
    while (n_out - done >= 8 * item_bytes) {
        int64_t size = n_out - done < block ? n_out - done : block;
        size -= size % (8 * item_bytes);
        if (n_chunk - at < 4)
            return BH_BLOCK_LENGTH;
        const int64_t length = (int64_t)big_endian(chunk + at, 4);
        at += 4;
        if (length > n_chunk - at || size > n_scratch)
            return BH_BLOCK_LENGTH;
        const int64_t got = bh_lz4_block(chunk + at, length, scratch, size);
        if (got != size)
            return got;
        bh_unbitshuffle(scratch, size / item_bytes, item_bytes, out + done);
        at += length;
        done += size;
    }
    if (n_chunk - at != n_out - done)
        return BH_WRONG_END;
    memcpy(out + done, chunk + at, (size_t)(n_out - done));
    return 0;
}
