/* The containers around LZ4 blocks in HDF5 chunks, bitshuffle-LZ4 (filter 32008) and plain LZ4 (32004): every
   length is checked before anything is decoded from it; any bytes may be passed.

   bitshuffle: decoded bytes (u64 BE), bytes of a block (u32 BE, 0 for 8192), then for each block its length
   (u32 BE) and its LZ4 block; the last block is a multiple of 8 elements, and what remains follows as it is.
   Source: bitshuffle, bshuf_h5filter.c.
   LZ4: decoded bytes (u64 BE), bytes of a block (u32 BE), then for each block its length (u32 BE) and its LZ4
   block, or the bytes themselves when the length is the block's own.
   Source: HDF5_LZ4.pdf, The HDF Group, registered filters. */
#ifndef BEAMHUB_CONTAINERS_H
#define BEAMHUB_CONTAINERS_H

#include "bitshuffle.h"
#include "kernels.h"
#include "lz4_block.h"

/* Below zero: what is wrong; the same numbers stand in kernels/decode.py. -1 to -5 are those of lz4_block.h. */
#define BH_NO_HEADER (-10)    /* shorter than a header */
#define BH_WRONG_TOTAL (-11)  /* the header says another number of decoded bytes */
#define BH_WRONG_BLOCK (-12)  /* blocks of an impossible size */
#define BH_BLOCK_LENGTH (-13) /* a block claims more bytes than there are */
#define BH_WRONG_END (-14)    /* too many or too few bytes behind the last block */
#define BH_NO_ROOM (-15)      /* a block is larger than the scratch buffer: call again with a larger one */
#define BH_FILE_END (-16)     /* the file ends inside the chunk */
#define BH_BAD_CALL (-17)     /* arguments that no chunk can have */
#define BH_ERRNO (-1000)      /* minus the system's error number: the read failed */

#define BH_DEFAULT_BLOCK 8192
/* Larger outputs go around the caches: they do not fit, and reading their lines first costs as much again. */
#define BH_STREAM_BYTES (4 << 20)

BH_LZ4_INLINE uint64_t bh_big_endian(const uint8_t *p, int n) {
    uint64_t value = 0;
    for (int i = 0; i < n; i++)
        value = value << 8 | p[i];
    return value;
}

/* Copy n bytes, a multiple of 16, to a place aligned to 16, around the caches. */
BH_LZ4_INLINE void bh_stream(uint8_t *to, const uint8_t *from, int64_t n) {
#if defined(__SSE2__)
    for (int64_t i = 0; i < n; i += 16)
        _mm_stream_si128((__m128i *)(void *)(to + i), _mm_loadu_si128((const __m128i *)(const void *)(from + i)));
#else
    memcpy(to, from, (size_t)n);
#endif
}

/* 0, or what is wrong. `scratch` holds two blocks. */
static __attribute__((unused)) int64_t bh_bslz4(const uint8_t *chunk, int64_t n_chunk, int64_t item_bytes,
                                                uint8_t *out, int64_t n_out, uint8_t *scratch,
                                                int64_t n_scratch) {
    if (n_chunk < 12)
        return BH_NO_HEADER;
    if (bh_big_endian(chunk, 8) != (uint64_t)n_out)
        return BH_WRONG_TOTAL;
    int64_t block = (int64_t)bh_big_endian(chunk + 8, 4);
    if (block == 0)
        block = BH_DEFAULT_BLOCK;
    if (block % (8 * item_bytes))
        return BH_WRONG_BLOCK;
    const int64_t most = block < n_out ? block : n_out;
    if (2 * most > n_scratch)
        return BH_NO_ROOM;
    const int streamed = n_out >= BH_STREAM_BYTES && ((uintptr_t)out & 15) == 0 && block % 16 == 0;
    int64_t at = 12, done = 0;
    while (n_out - done >= 8 * item_bytes) {
        int64_t size = n_out - done < block ? n_out - done : block;
        size -= size % (8 * item_bytes);
        if (n_chunk - at < 4)
            return BH_BLOCK_LENGTH;
        const int64_t length = (int64_t)bh_big_endian(chunk + at, 4);
        at += 4;
        if (length > n_chunk - at)
            return BH_BLOCK_LENGTH;
        const int64_t got = bh_lz4_block(chunk + at, length, scratch, size);
        if (got != size)
            return got;
        if (streamed && size % 16 == 0) {
            bh_unbitshuffle(scratch, size / item_bytes, item_bytes, scratch + most);
            bh_stream(out + done, scratch + most, size);
        } else {
            bh_unbitshuffle(scratch, size / item_bytes, item_bytes, out + done);
        }
        at += length;
        done += size;
    }
#if defined(__SSE2__)
    if (streamed)
        _mm_sfence();
#endif
    if (n_chunk - at != n_out - done)
        return BH_WRONG_END;
    memcpy(out + done, chunk + at, (size_t)(n_out - done));
    return 0;
}

/* 0, or what is wrong. */
static __attribute__((unused)) int64_t bh_lz4_chunk(const uint8_t *chunk, int64_t n_chunk, uint8_t *out,
                                                    int64_t n_out) {
    if (n_chunk < 12)
        return BH_NO_HEADER;
    if (bh_big_endian(chunk, 8) != (uint64_t)n_out)
        return BH_WRONG_TOTAL;
    const int64_t block = (int64_t)bh_big_endian(chunk + 8, 4);
    if (block == 0 && n_out)
        return BH_WRONG_BLOCK;
    int64_t at = 12, done = 0;
    while (done < n_out) {
        const int64_t size = n_out - done < block ? n_out - done : block;
        if (n_chunk - at < 4)
            return BH_BLOCK_LENGTH;
        const int64_t length = (int64_t)bh_big_endian(chunk + at, 4);
        at += 4;
        if (length > n_chunk - at)
            return BH_BLOCK_LENGTH;
        if (length == size) {
            memcpy(out + done, chunk + at, (size_t)size);
        } else {
            const int64_t got = bh_lz4_block(chunk + at, length, out + done, size);
            if (got != size)
                return got;
        }
        at += length;
        done += size;
    }
    return at == n_chunk ? 0 : BH_WRONG_END;
}

#endif
