/* Single chunks: bitshuffle-LZ4, LZ4, and the planes of bitshuffle without compression. */
#include "containers.h"

BH_EXPORT int64_t BH(decode_bslz4)(const uint8_t *chunk, int64_t n_chunk, int64_t item_bytes, uint8_t *out,
                                   int64_t n_out, uint8_t *scratch, int64_t n_scratch);
BH_EXPORT int64_t BH(decode_lz4)(const uint8_t *chunk, int64_t n_chunk, uint8_t *out, int64_t n_out);
BH_EXPORT int64_t BH(unbitshuffle)(const uint8_t *data, int64_t n_bytes, int64_t item_bytes, int64_t block_bytes,
                                   uint8_t *out);
BH_EXPORT int64_t BH(fletcher32)(const uint8_t *data, int64_t n_bytes);

int64_t BH(decode_bslz4)(const uint8_t *chunk, int64_t n_chunk, int64_t item_bytes, uint8_t *out, int64_t n_out,
                         uint8_t *scratch, int64_t n_scratch) {
    if (item_bytes < 1 || item_bytes > 1 << 20 || n_out < 0)
        return BH_BAD_CALL;
    return bh_bslz4(chunk, n_chunk, item_bytes, out, n_out, scratch, n_scratch);
}

int64_t BH(decode_lz4)(const uint8_t *chunk, int64_t n_chunk, uint8_t *out, int64_t n_out) {
    return n_out < 0 ? BH_BAD_CALL : bh_lz4_chunk(chunk, n_chunk, out, n_out);
}

int64_t BH(unbitshuffle)(const uint8_t *data, int64_t n_bytes, int64_t item_bytes, int64_t block_bytes,
                         uint8_t *out) {
    if (item_bytes < 1 || n_bytes < 0 || block_bytes < 8 * item_bytes || block_bytes % (8 * item_bytes))
        return BH_BAD_CALL;
    int64_t done = 0;
    while (n_bytes - done >= 8 * item_bytes) {
        int64_t size = n_bytes - done < block_bytes ? n_bytes - done : block_bytes;
        size -= size % (8 * item_bytes);
        bh_unbitshuffle(data + done, size / item_bytes, item_bytes, out + done);
        done += size;
    }
    memcpy(out + done, data + done, (size_t)(n_bytes - done));
    return 0;
}

/* HDF5's checksum of a chunk: sums of big-endian 16-bit words modulo 65535, where 0 is 65535 unless all are 0;
   an odd last byte is the high one of a word. Source: J. Fletcher, doi:10.1109/TCOM.1982.1095369; HDF5 H5checksum.c
   for the order of bytes. */
int64_t BH(fletcher32)(const uint8_t *data, int64_t n_bytes) {
    uint64_t first = 0, second = 0;
    int64_t i = 0;
    if (n_bytes < 0)
        return BH_BAD_CALL;
    while (i + 1 < n_bytes) {
        /* second grows by at most 2^16 * 2^14 * 2^14 / 2 + 2^14 * 2^17 in a run: far below 2^64. */
        const int64_t stop = n_bytes - i > 32768 ? i + 32768 : i + ((n_bytes - i) & ~(int64_t)1);
        for (; i < stop; i += 2) {
            first += (uint64_t)data[i] << 8 | data[i + 1];
            second += first;
        }
        first = (first & 0xFFFF) + (first >> 16);
        second = (second & 0xFFFF) + (second >> 16);
    }
    if (i < n_bytes) {
        first += (uint64_t)data[i] << 8;
        second += first;
    }
    while (first >> 16)
        first = (first & 0xFFFF) + (first >> 16);
    while (second >> 16)
        second = (second & 0xFFFF) + (second >> 16);
    return (int64_t)(second << 16 | first);
}
