/* One LZ4 block, decoded with every length checked.

   A block is a row of sequences: a token (literals in the high half, match in the low half, 15 = more bytes
   follow, each of 255 means another one), the literals, then a distance (u16, little endian) back into what was
   decoded and a match of 4 bytes or more. The last sequence ends behind its literals.
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

BH_LZ4_INLINE void bh_copy16(uint8_t *to, const uint8_t *from) { memcpy(to, from, 16); }
BH_LZ4_INLINE void bh_copy32(uint8_t *to, const uint8_t *from) {
    uint8_t held[32]; /* both halves are read before one is written */
    memcpy(held, from, 32);
    memcpy(to, held, 32);
}

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

/* A match that may overlap itself or end where the room ends; never a byte behind op + length. */
static __attribute__((noinline, unused)) void bh_lz4_repeat(uint8_t *op, int64_t distance, int64_t length) {
    const uint8_t *match = op - distance;
    if (distance == 1) {
        memset(op, *match, (size_t)length);
        return;
    }
    int64_t i = 0, period = distance;
    if (distance < 16) {
        /* Byte by byte until a multiple of the distance, 16 to 30, lies behind. */
        period = (15 + distance) / distance * distance;
        for (; i < 32 && i < length; i++)
            op[i] = match[i];
    }
    for (; i + 16 <= length; i += 16)
        bh_copy16(op + i, op + i - period);
    for (; i < length; i++)
        op[i] = match[i];
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
        int64_t literals = token >> 4, length = token & 15;
        /* The usual sequence, in full view of both ends: short literals, a near short match. */
        if (__builtin_expect(literals < 15 && in_end - ip >= 32 && out_end - op >= 64, 1)) {
            bh_copy16(op, ip);
            ip += literals;
            op += literals;
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
            if (in_end - ip < 2)
                return BH_LZ4_TRUNCATED;
        }
        const int64_t distance = (int64_t)ip[0] | (int64_t)ip[1] << 8;
        ip += 2;
        if (__builtin_expect(distance == 0 || distance > op - dst, 0))
            return BH_LZ4_DISTANCE;
        if (length == 15 && (length = bh_lz4_length(&ip, in_end, 15)) < 0)
            return BH_LZ4_TRUNCATED;
        length += 4;
        const int64_t room = out_end - op;
        if (__builtin_expect(length > room, 0))
            return BH_LZ4_MATCH;
        const uint8_t *match = op - distance;
        if (__builtin_expect(distance >= 16 && room >= length + 32, 1)) {
            if (distance >= 32) {
                bh_copy32(op, match);
                for (int64_t i = 32; i < length; i += 32)
                    bh_copy32(op + i, match + i);
            } else {
                for (int64_t i = 0; i < length; i += 16)
                    bh_copy16(op + i, match + i);
            }
        } else {
            bh_lz4_repeat(op, distance, length);
        }
        op += length;
    }
}

#endif
