/* Sixteen frames side by side: from planes of bits, or from whole frames, to lanes[pixel][frame].

   A kernel that applies one sparse matrix to sixteen frames reads one pixel of all of them as one vector. Lanes
   are as narrow as the values of a tile allow (1, 2 or 4 bytes), so that they stay in the first caches.
   Header only, to be inlined; every form gives the same lanes. */
#ifndef BEAMHUB_AZIMUTHAL_LANES_H
#define BEAMHUB_AZIMUTHAL_LANES_H

#include "bitshuffle.h"

#define AZ_LANES 16

/* Byte positions [from, to) of the planes of frame f, one element after the other. */
static inline void az_lanes_rows(const uint8_t *planes, int64_t row, int64_t from, int64_t to, int64_t f,
                                 int64_t width, uint8_t *lanes) {
    for (int64_t i = from; i < to; i++)
        for (int64_t k = 0; k < width; k++) {
            uint64_t x = 0;
            for (int64_t j = 0; j < 8; j++)
                x |= (uint64_t)planes[(8 * k + j) * row + i] << (8 * j);
            x = bh_transpose8(x);
            for (int64_t r = 0; r < 8; r++)
                lanes[((8 * i + r) * AZ_LANES + f) * width + k] = (uint8_t)(x >> (8 * r));
        }
}

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

#define AZ_STORE_1(L, to, v) _mm_storeu_si128((__m128i *)((to) + 128 * AZ_LANES * (L)), BH_LANE(v, L));
#define AZ_STORE_2(L, to, lo, hi)                                                              \
    _mm_storeu_si128((__m128i *)((to) + 256 * AZ_LANES * (L)), BH_LANE(lo, L));                \
    _mm_storeu_si128((__m128i *)((to) + 256 * AZ_LANES * (L) + 16), BH_LANE(hi, L));
#define AZ_STORE_4(L, to, a, b, c, d)                                                          \
    _mm_storeu_si128((__m128i *)((to) + 512 * AZ_LANES * (L)), BH_LANE(a, L));                 \
    _mm_storeu_si128((__m128i *)((to) + 512 * AZ_LANES * (L) + 16), BH_LANE(b, L));            \
    _mm_storeu_si128((__m128i *)((to) + 512 * AZ_LANES * (L) + 32), BH_LANE(c, L));            \
    _mm_storeu_si128((__m128i *)((to) + 512 * AZ_LANES * (L) + 48), BH_LANE(d, L));

/* 8 * BH_VEC_BYTES elements of all frames; `held` has room for width * 8 * 16 vectors. */
BH_BITS_INLINE void az_lanes_vectors(const uint8_t *planes, int64_t frame_bytes, int64_t row, int64_t width,
                                     bh_vec *held, uint8_t *lanes) {
    for (int64_t k = 0; k < width; k++)
        for (int f = 0; f < AZ_LANES; f++) {
            bh_vec v[8];
            bh_gather_bytes(planes + f * frame_bytes + 8 * k * row, row, v);
            for (int q = 0; q < 8; q++)
                held[(k * 8 + q) * AZ_LANES + f] = v[q];
        }
    for (int q = 0; q < 8; q++) {
        uint8_t *to = lanes + (int64_t)16 * q * AZ_LANES * width;
        for (int64_t k = 0; k < width; k++)
            az_transpose16(held + (k * 8 + q) * AZ_LANES);
        const bh_vec *b0 = held + q * AZ_LANES;
        const bh_vec *b1 = b0 + 8 * AZ_LANES, *b2 = b0 + 16 * AZ_LANES, *b3 = b0 + 24 * AZ_LANES;
        for (int j = 0; j < 16; j++, to += AZ_LANES * width) {
            if (width == 1) {
                const bh_vec x = b0[j];
                BH_EACH_LANE(AZ_STORE_1, to, x)
            } else {
                const bh_vec lo = BH_LOW8(b0[j], b1[j]), hi = BH_HIGH8(b0[j], b1[j]);
                if (width == 2) {
                    BH_EACH_LANE(AZ_STORE_2, to, lo, hi)
                } else {
                    const bh_vec lo2 = BH_LOW8(b2[j], b3[j]), hi2 = BH_HIGH8(b2[j], b3[j]);
                    const bh_vec a = BH_LOW16(lo, lo2), b = BH_HIGH16(lo, lo2);
                    const bh_vec c = BH_LOW16(hi, hi2), d = BH_HIGH16(hi, hi2);
                    BH_EACH_LANE(AZ_STORE_4, to, a, b, c, d)
                }
            }
        }
    }
}
#endif

/* One block of all frames: planes lie `frame_bytes` apart; lanes of `width` bytes (1, 2 or 4), little endian. */
BH_BITS_INLINE void az_lanes_of_width(const uint8_t *planes, int64_t frame_bytes, int64_t row, int64_t width,
                                      uint8_t *lanes) {
    int64_t i = 0;
#if defined(__SSE2__)
    bh_vec held[4 * 8 * AZ_LANES];
    for (; i + BH_VEC_BYTES <= row; i += BH_VEC_BYTES)
        az_lanes_vectors(planes + i, frame_bytes, row, width, held, lanes + 8 * i * AZ_LANES * width);
#endif
    for (int64_t f = 0; f < AZ_LANES && i < row; f++)
        az_lanes_rows(planes + f * frame_bytes, row, i, row, f, width, lanes);
}

static void az_lanes(const uint8_t *planes, int64_t frame_bytes, int64_t row, int64_t width, uint8_t *lanes) {
    if (width == 1)
        az_lanes_of_width(planes, frame_bytes, row, 1, lanes);
    else if (width == 2)
        az_lanes_of_width(planes, frame_bytes, row, 2, lanes);
    else
        az_lanes_of_width(planes, frame_bytes, row, 4, lanes);
}

/* Which planes of a block hold a set bit of a good pixel, and the sum of the good pixels' values. */
static inline uint32_t az_planes_used(const uint8_t *planes, int64_t row, int64_t n_planes,
                                      const uint8_t *good, uint64_t *sum) {
    uint32_t used = 0;
    for (int64_t p = 0; p < n_planes; p++) {
        const uint8_t *at = planes + p * row;
        uint64_t any = 0, x, g;
        int64_t i = 0;
        for (; i + 8 <= row; i += 8) {
            memcpy(&x, at + i, 8);
            memcpy(&g, good + i, 8);
            any |= x & g;
        }
        for (int64_t j = i; j < row; j++)
            any |= at[j] & good[j];
        if (!any)
            continue;
        used |= (uint32_t)1 << p;
        uint64_t n = 0;
        for (i = 0; i + 8 <= row; i += 8) {
            memcpy(&x, at + i, 8);
            memcpy(&g, good + i, 8);
            n += (uint64_t)__builtin_popcountll(x & g);
        }
        for (; i < row; i++)
            n += (uint64_t)__builtin_popcountll((uint64_t)(at[i] & good[i]));
        *sum += n << p;
    }
    return used;
}

#endif
