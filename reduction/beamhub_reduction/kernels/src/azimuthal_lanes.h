/* Sixteen frames side by side: from planes of bits, or from whole frames, to lanes[pixel][frame].

   A kernel that applies one sparse matrix to sixteen frames reads one pixel of all of them as one vector. Lanes
   are as narrow as the values of a tile allow (1, 2 or 4 bytes), so that they stay in the first caches.
   Header only, to be inlined; every form gives the same lanes. */
#ifndef BEAMHUB_AZIMUTHAL_LANES_H
#define BEAMHUB_AZIMUTHAL_LANES_H

#include "bitshuffle.h"

#define AZ_LANES 16

/* Byte positions [from, to) of the planes of frame f, one after the other; the sum of the good elements. */
static inline uint64_t az_lanes_rows(const uint8_t *planes, const uint8_t *good, int64_t row, int64_t from,
                                     int64_t to, int64_t f, int64_t width, uint8_t *lanes) {
    uint64_t sum = 0;
    for (int64_t i = from; i < to; i++)
        for (int64_t k = 0; k < width; k++) {
            uint64_t x = 0;
            for (int64_t j = 0; j < 8; j++)
                x |= (uint64_t)(planes[(8 * k + j) * row + i] & good[i]) << (8 * j);
            x = bh_transpose8(x);
            for (int64_t r = 0; r < 8; r++) {
                const uint8_t byte = (uint8_t)(x >> (8 * r));
                lanes[((8 * i + r) * AZ_LANES + f) * width + k] = byte;
                sum += (uint64_t)byte << (8 * k);
            }
        }
    return sum;
}

#if defined(__AVX512BW__)
#define AZ_AND(a, b) _mm512_and_si512(a, b)
#define AZ_SAD(a, b) _mm512_sad_epu8(a, b)
#define AZ_ADD64(a, b) _mm512_add_epi64(a, b)
#elif defined(__AVX2__)
#define AZ_AND(a, b) _mm256_and_si256(a, b)
#define AZ_SAD(a, b) _mm256_sad_epu8(a, b)
#define AZ_ADD64(a, b) _mm256_add_epi64(a, b)
#elif defined(__SSE2__)
#define AZ_AND(a, b) _mm_and_si128(a, b)
#define AZ_SAD(a, b) _mm_sad_epu8(a, b)
#define AZ_ADD64(a, b) _mm_add_epi64(a, b)
#endif

#if defined(__SSE2__)
/* 16 x 16 bytes in each lane of 16 bytes: byte j of vector i goes to byte i of vector j. */
BH_BITS_INLINE void az_transpose16(bh_vec r[16]) {
    bh_vec t[16];
#define AZ_STAGE(from, to)                            \
    for (int i = 0; i < 8; i++) {                     \
        to[2 * i] = BH_LOW8(from[i], from[i + 8]);    \
        to[2 * i + 1] = BH_HIGH8(from[i], from[i + 8]); \
    }
    AZ_STAGE(r, t)
    AZ_STAGE(t, r)
    AZ_STAGE(r, t)
    AZ_STAGE(t, r)
#undef AZ_STAGE
}

/* Byte k of 8 * BH_VEC_BYTES elements, masked ones zero: p[r], byte i, is that of element 8 i + r. */
BH_BITS_INLINE void az_gather(const uint8_t *planes, const uint8_t *good, int64_t row, bh_vec p[8]) {
    const bh_vec keep = BH_LOAD(good), nibble = BH_ONES(0x0F), pair = BH_ONES(0x33), bit = BH_ONES(0x55);
    for (int j = 0; j < 8; j++)
        p[j] = AZ_AND(BH_LOAD(planes + j * row), keep);
    for (int j = 0; j < 4; j++)
        BH_EXCHANGE(p[j], p[j + 4], 4, nibble);
    for (int j = 0; j < 8; j += 4) {
        BH_EXCHANGE(p[j], p[j + 2], 2, pair);
        BH_EXCHANGE(p[j + 1], p[j + 3], 2, pair);
    }
    for (int j = 0; j < 8; j += 2)
        BH_EXCHANGE(p[j], p[j + 1], 1, bit);
}

/* The sum of the bytes of 8 vectors. */
BH_BITS_INLINE uint64_t az_sum_bytes(const bh_vec p[8]) {
    const bh_vec zero = BH_XOR(p[0], p[0]);
    bh_vec sum = AZ_SAD(p[0], zero);
    for (int j = 1; j < 8; j++)
        sum = AZ_ADD64(sum, AZ_SAD(p[j], zero));
    uint64_t part[BH_VEC_BYTES / 8], total = 0;
    memcpy(part, &sum, sizeof part);
    for (int j = 0; j < BH_VEC_BYTES / 8; j++)
        total += part[j];
    return total;
}

/* Lane L of v goes to element 8 * (16 L + j) + r. */
#define AZ_STORE_1(L, to, v) _mm_storeu_si128((__m128i *)(void *)((to) + 128 * AZ_LANES * (L)), BH_LANE(v, L));
#define AZ_STORE_2(L, to, lo, hi)                                                                      \
    _mm_storeu_si128((__m128i *)(void *)((to) + 256 * AZ_LANES * (L)), BH_LANE(lo, L));                \
    _mm_storeu_si128((__m128i *)(void *)((to) + 256 * AZ_LANES * (L) + 16), BH_LANE(hi, L));
#define AZ_STORE_4(L, to, a, b, c, d)                                                                  \
    _mm_storeu_si128((__m128i *)(void *)((to) + 512 * AZ_LANES * (L)), BH_LANE(a, L));                 \
    _mm_storeu_si128((__m128i *)(void *)((to) + 512 * AZ_LANES * (L) + 16), BH_LANE(b, L));            \
    _mm_storeu_si128((__m128i *)(void *)((to) + 512 * AZ_LANES * (L) + 32), BH_LANE(c, L));            \
    _mm_storeu_si128((__m128i *)(void *)((to) + 512 * AZ_LANES * (L) + 48), BH_LANE(d, L));

/* 8 * BH_VEC_BYTES elements of all frames; `held` has room for width * 8 * 16 vectors. */
BH_BITS_INLINE void az_lanes_vectors(const uint8_t *planes, int64_t frame_bytes, const uint8_t *good, int64_t row,
                                     int64_t width, bh_vec *held, uint8_t *lanes, uint64_t *counts) {
    for (int64_t k = 0; k < width; k++)
        for (int f = 0; f < AZ_LANES; f++) {
            bh_vec p[8];
            az_gather(planes + f * frame_bytes + 8 * k * row, good, row, p);
            counts[f] += az_sum_bytes(p) << (8 * k);
            for (int r = 0; r < 8; r++)
                held[(k * 8 + r) * AZ_LANES + f] = p[r];
        }
    for (int r = 0; r < 8; r++) {
        uint8_t *to = lanes + r * AZ_LANES * width;
        for (int64_t k = 0; k < width; k++)
            az_transpose16(held + (k * 8 + r) * AZ_LANES);
        const bh_vec *b0 = held + r * AZ_LANES;
        const bh_vec *b1 = b0 + 8 * AZ_LANES, *b2 = b0 + 16 * AZ_LANES, *b3 = b0 + 24 * AZ_LANES;
        for (int j = 0; j < 16; j++, to += 8 * AZ_LANES * width) {
            if (width == 1) {
                const bh_vec x = b0[j];
                BH_EACH_LANE(AZ_STORE_1, to, x)
                continue;
            }
            const bh_vec lo = BH_LOW8(b0[j], b1[j]), hi = BH_HIGH8(b0[j], b1[j]);
            if (width == 2) {
                BH_EACH_LANE(AZ_STORE_2, to, lo, hi)
                continue;
            }
            const bh_vec lo2 = BH_LOW8(b2[j], b3[j]), hi2 = BH_HIGH8(b2[j], b3[j]);
            const bh_vec a = BH_LOW16(lo, lo2), b = BH_HIGH16(lo, lo2);
            const bh_vec c = BH_LOW16(hi, hi2), d = BH_HIGH16(hi, hi2);
            BH_EACH_LANE(AZ_STORE_4, to, a, b, c, d)
        }
    }
}
#endif

/* One block of all frames: planes lie `frame_bytes` apart; lanes of `width` bytes (1, 2 or 4), little endian.
   Masked elements become zero; what the good ones hold is added to each frame's counts. */
BH_BITS_INLINE void az_lanes_of_width(const uint8_t *planes, int64_t frame_bytes, const uint8_t *good, int64_t row,
                                      int64_t width, uint8_t *lanes, uint64_t *counts) {
    int64_t i = 0;
#if defined(__SSE2__)
    bh_vec held[4 * 8 * AZ_LANES];
    for (; i + BH_VEC_BYTES <= row; i += BH_VEC_BYTES)
        az_lanes_vectors(planes + i, frame_bytes, good + i, row, width, held, lanes + 8 * i * AZ_LANES * width,
                         counts);
#endif
    for (int64_t f = 0; f < AZ_LANES && i < row; f++)
        counts[f] += az_lanes_rows(planes + f * frame_bytes, good, row, i, row, f, width, lanes);
}

static void az_lanes(const uint8_t *planes, int64_t frame_bytes, const uint8_t *good, int64_t row, int64_t width,
                     uint8_t *lanes, uint64_t *counts) {
    if (width == 1)
        az_lanes_of_width(planes, frame_bytes, good, row, 1, lanes, counts);
    else if (width == 2)
        az_lanes_of_width(planes, frame_bytes, good, row, 2, lanes, counts);
    else
        az_lanes_of_width(planes, frame_bytes, good, row, 4, lanes, counts);
}

/* Which planes of a block hold a set bit of a good pixel; `lowest` planes count as used without a look. */
static inline uint32_t az_planes_used(const uint8_t *planes, int64_t row, int64_t lowest, int64_t n_planes,
                                      const uint8_t *good) {
    uint32_t used = (uint32_t)(((uint64_t)1 << lowest) - 1);
    int64_t p = lowest;
#if defined(__AVX512BW__)
    if (row == 256) {
        const __m512i g0 = _mm512_loadu_si512(good), g1 = _mm512_loadu_si512(good + 64);
        const __m512i g2 = _mm512_loadu_si512(good + 128), g3 = _mm512_loadu_si512(good + 192);
        for (; p < n_planes; p++) {
            const uint8_t *at = planes + p * row;
            __m512i any = _mm512_and_si512(g0, _mm512_loadu_si512(at));
            any = _mm512_ternarylogic_epi64(any, g1, _mm512_loadu_si512(at + 64), 0xF8); /* any | g & x */
            any = _mm512_ternarylogic_epi64(any, g2, _mm512_loadu_si512(at + 128), 0xF8);
            any = _mm512_ternarylogic_epi64(any, g3, _mm512_loadu_si512(at + 192), 0xF8);
            used |= (uint32_t)(_mm512_test_epi64_mask(any, any) != 0) << p;
        }
    }
#endif
    for (; p < n_planes; p++) {
        const uint8_t *at = planes + p * row;
        uint64_t any = 0, x, g;
        int64_t i = 0;
        for (; i + 8 <= row; i += 8) {
            memcpy(&x, at + i, 8);
            memcpy(&g, good + i, 8);
            any |= x & g;
        }
        for (; i < row; i++)
            any |= at[i] & good[i];
        used |= (uint32_t)(any != 0) << p;
    }
    return used;
}

#endif
