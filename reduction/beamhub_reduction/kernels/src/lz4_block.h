/* One LZ4 block, decoded with every length checked.

   A block is a row of sequences: a token (literals in the high half, match in the low half, 15 = more bytes
   follow, each of 255 means another one), the literals, then a distance (u16, little endian) back into what was
   decoded and a match of 4 bytes or more. The last sequence ends behind its literals; they are five or more, and
   no match begins in the last twelve bytes. Blocks that break these rules are refused, as LZ4's decoder does.
   Source: "LZ4 Block Format Description", version of 2022, in the documentation of LZ4.

   Header only, so that a kernel that goes on with the block while it lies in the first-level cache can inline
   it. Nothing outside src[0, n_src) is read and nothing outside dst[0, n_dst) is written, whatever the bytes
   say; inside dst, what lies behind the decoded part may be overwritten before it is decoded. */
#ifndef BEAMHUB_LZ4_BLOCK_H
#define BEAMHUB_LZ4_BLOCK_H

#include <stdint.h>
#include <string.h>

#define BH_LZ4_TRUNCATED (-1) /* the block ends inside a sequence */
#define BH_LZ4_LITERALS (-2)  /* more literals than bytes or room */
#define BH_LZ4_DISTANCE (-3)  /* a match begins before the block */
#define BH_LZ4_MATCH (-4)     /* a match goes past the end of the output */
#define BH_LZ4_SHORT (-5)     /* it decodes to fewer bytes than expected */

#define BH_LZ4_INLINE static inline __attribute__((always_inline))

/* Vectors without alignment: a copy is a few moves, and everything is read before anything is written. */
#define BH_COPY(n)                                                                             \
    typedef uint8_t bh_bytes##n __attribute__((vector_size(n), aligned(1), may_alias));        \
    BH_LZ4_INLINE void bh_copy##n(uint8_t *to, const uint8_t *from) {                          \
        *(bh_bytes##n *)to = *(const bh_bytes##n *)from;                                       \
    }
BH_COPY(16)
BH_COPY(32)

/* A length that goes on behind its token; below zero when the block ends first. */
BH_LZ4_INLINE int64_t bh_lz4_length(const uint8_t **at, const uint8_t *end, int64_t length) {
    const uint8_t *p = *at;
    uint8_t more;
    do {
        if (__builtin_expect(p >= end, 0))
            return -1;
        more = *p++;
        length += more;
    } while (more == 255);
    *at = p;
    return length;
}

/* A run of 1, 2, 4 or 8 bytes over and over; up to 31 bytes behind op + length are overwritten. */
BH_LZ4_INLINE void bh_lz4_run(uint8_t *op, int64_t distance, int64_t length) {
    uint64_t word = 0, run[4];
    memcpy(&word, op - distance, (size_t)distance);
    if (distance == 1)
        word *= 0x0101010101010101ULL;
    else if (distance == 2)
        word *= 0x0001000100010001ULL;
    else if (distance == 4)
        word *= 0x0000000100000001ULL;
    run[0] = run[1] = run[2] = run[3] = word;
    for (int64_t i = 0; i < length; i += 32)
        memcpy(op + i, run, 32);
}

/* A match; up to 31 bytes behind op + length are overwritten. */
BH_LZ4_INLINE void bh_lz4_match(uint8_t *op, int64_t distance, int64_t length) {
    const uint8_t *match = op - distance;
    if (__builtin_expect(distance >= 32, 1)) {
        /* Half of them are this short; wider moves would overlap the next ones and stall their loads. */
        if (length <= 18) {
            bh_copy16(op, match);
            memcpy(op + 16, match + 16, 2);
        } else {
            for (int64_t i = 0; i < length; i += 32)
                bh_copy32(op + i, match + i);
        }
    } else if (distance >= 16) {
        for (int64_t i = 0; i < length; i += 16)
            bh_copy16(op + i, match + i);
    } else if (distance <= 2 || distance == 4 || distance == 8) {
        bh_lz4_run(op, distance, length);
    } else {
        /* Byte by byte until a multiple of the distance, 16 to 30, lies behind. */
        const int64_t period = (15 + distance) / distance * distance;
        for (int64_t i = 0; i < 32; i++)
            op[i] = match[i];
        for (int64_t i = 32; i < length; i += 16)
            bh_copy16(op + i, op + i - period);
    }
}

/* A match close to the end of the output: never a byte behind op + length. */
static __attribute__((noinline, unused)) void bh_lz4_match_end(uint8_t *op, int64_t distance, int64_t length) {
    int64_t i = length > 32 ? length - 32 : 0; /* the last match of a block is often its longest */
    if (i)
        bh_lz4_match(op, distance, i);
    if (distance >= 16)
        for (; i + 16 <= length; i += 16)
            bh_copy16(op + i, op + i - distance);
    for (; i < length; i++)
        op[i] = op[i - distance];
}

/* Decode exactly n_dst bytes; n_dst, or one of the codes above. */
static inline int64_t bh_lz4_block(const uint8_t *src, int64_t n_src, uint8_t *dst, int64_t n_dst) {
    const uint8_t *ip = src;
    const uint8_t *const in_end = src + n_src;
    uint8_t *op = dst;
    uint8_t *const out_end = dst + n_dst;
    for (;;) {
        if (__builtin_expect(ip >= in_end, 0))
            return BH_LZ4_TRUNCATED;
        const uint32_t token = *ip++;
        int64_t literals = token >> 4, length = token & 15, distance;
        if (__builtin_expect(literals < 15 && in_end - ip >= 32 && out_end - op >= 32, 1)) {
            /* The usual sequence, far from both ends; its lengths without a branch that is hard to foresee. */
            bh_copy16(op, ip);
            ip += literals;
            op += literals;
            distance = (int64_t)ip[0] | (int64_t)ip[1] << 8;
            const int64_t more = length == 15 ? ip[2] : 0;
            ip += 2 + (length == 15);
            length += more;
            if (__builtin_expect(more == 255, 0) && (length = bh_lz4_length(&ip, in_end, length)) < 0)
                return BH_LZ4_TRUNCATED;
        } else {
            if (literals == 15 && (literals = bh_lz4_length(&ip, in_end, 15)) < 0)
                return BH_LZ4_TRUNCATED;
            if (literals > in_end - ip || literals > out_end - op)
                return BH_LZ4_LITERALS;
            if (in_end - ip >= literals + 32 && out_end - op >= literals + 32) {
                for (int64_t i = 0; i < literals; i += 32)
                    bh_copy32(op + i, ip + i);
            } else {
                memcpy(op, ip, (size_t)literals);
            }
            ip += literals;
            op += literals;
            if (ip == in_end)
                return op == out_end ? n_dst : BH_LZ4_SHORT;
            /* Not the last sequence: behind it come a distance, a token and five literals, and twelve bytes. */
            if (in_end - ip < 8 || out_end - op < 12)
                return BH_LZ4_TRUNCATED;
            distance = (int64_t)ip[0] | (int64_t)ip[1] << 8;
            ip += 2;
            if (length == 15 && (length = bh_lz4_length(&ip, in_end, 15)) < 0)
                return BH_LZ4_TRUNCATED;
        }
        if (__builtin_expect(distance == 0 || distance > op - dst, 0))
            return BH_LZ4_DISTANCE;
        length += 4;
        if (__builtin_expect(length > out_end - op - 5, 0)) /* a block ends with five literals at least */
            return BH_LZ4_MATCH;
        if (__builtin_expect(out_end - op >= length + 32, 1))
            bh_lz4_match(op, distance, length);
        else
            bh_lz4_match_end(op, distance, length);
        op += length;
    }
}

#endif
