/* One decoded block of bitshuffle, planes of bits back to elements.

   A block of n elements (a multiple of 8) of b bytes is 8 b planes of n / 8 bytes each: plane 8 k + j holds bit j
   of byte k (little endian) of every element, element 8 i + r in bit r of byte i.
   Source: bitshuffle, K. Masui et al., Astronomy and Computing 12 (2015) 181, doi:10.1016/j.ascom.2015.07.002.

   Counts are small: in most places the planes above the lowest ones are all equal, 0 or the pattern of gap
   pixels (all bits set). Then only the lowest planes are transposed, and the rest is one masked operation.

   Header only, to be inlined. `planes` and `out` do not overlap and need no alignment; what is read is
   n_items * b bytes, what is written as many. Every form gives the same bytes. */
#ifndef BEAMHUB_BITSHUFFLE_H
#define BEAMHUB_BITSHUFFLE_H

#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define BH_BITS_INLINE static inline __attribute__((always_inline, unused))

/* The 8 x 8 bits of a word transposed: bit r of byte j goes to bit j of byte r. */
BH_BITS_INLINE uint64_t bh_transpose8(uint64_t x) {
    uint64_t t = (x ^ (x >> 7)) & 0x00AA00AA00AA00AAULL;
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & 0x0000CCCC0000CCCCULL;
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & 0x00000000F0F0F0F0ULL;
    return x ^ t ^ (t << 28);
}

/* Any number of bytes an element, byte positions [from, to) of the planes: eight elements at a time. */
BH_BITS_INLINE void bh_unbitshuffle_rows(const uint8_t *planes, int64_t row, int64_t from, int64_t to,
                                         int64_t item_bytes, uint8_t *out) {
    for (int64_t i = from; i < to; i++)
        for (int64_t k = 0; k < item_bytes; k++) {
            uint64_t x = 0;
            for (int64_t j = 0; j < 8; j++)
                x |= (uint64_t)planes[(8 * k + j) * row + i] << (8 * j);
            x = bh_transpose8(x);
            for (int64_t r = 0; r < 8; r++)
                out[(8 * i + r) * item_bytes + k] = (uint8_t)(x >> (8 * r));
        }
}

#if defined(__SSE2__)
/* Vectors of the path's width. Unpacking works in lanes of 16 bytes, as the hardware does. */
#if defined(__AVX512BW__)
typedef __m512i bh_vec;
#define BH_LANES 4
#define BH_LOAD(p) _mm512_loadu_si512((const void *)(p))
#define BH_LOW8(a, b) _mm512_unpacklo_epi8(a, b)
#define BH_HIGH8(a, b) _mm512_unpackhi_epi8(a, b)
#define BH_LOW16(a, b) _mm512_unpacklo_epi16(a, b)
#define BH_HIGH16(a, b) _mm512_unpackhi_epi16(a, b)
#define BH_LOW32(a, b) _mm512_unpacklo_epi32(a, b)
#define BH_HIGH32(a, b) _mm512_unpackhi_epi32(a, b)
#define BH_LOW64(a, b) _mm512_unpacklo_epi64(a, b)
#define BH_HIGH64(a, b) _mm512_unpackhi_epi64(a, b)
#define BH_XOR(a, b) _mm512_xor_si512(a, b)
#define BH_OR(a, b) _mm512_or_si512(a, b)
#define BH_RIGHT(a, n) _mm512_srli_epi64(a, n)
#define BH_LEFT(a, n) _mm512_slli_epi64(a, n)
#define BH_ONES(n) _mm512_set1_epi8((char)(n))
#define BH_CHOOSE(m, a, b) _mm512_ternarylogic_epi64(m, a, b, 0xCA) /* m ? a : b, bit by bit */
#define BH_IS_ZERO(a) (_mm512_test_epi64_mask(a, a) == 0)
#define BH_LANE(a, n) _mm512_extracti32x4_epi32(a, n)
#elif defined(__AVX2__)
typedef __m256i bh_vec;
#define BH_LANES 2
#define BH_LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define BH_LOW8(a, b) _mm256_unpacklo_epi8(a, b)
#define BH_HIGH8(a, b) _mm256_unpackhi_epi8(a, b)
#define BH_LOW16(a, b) _mm256_unpacklo_epi16(a, b)
#define BH_HIGH16(a, b) _mm256_unpackhi_epi16(a, b)
#define BH_LOW32(a, b) _mm256_unpacklo_epi32(a, b)
#define BH_HIGH32(a, b) _mm256_unpackhi_epi32(a, b)
#define BH_LOW64(a, b) _mm256_unpacklo_epi64(a, b)
#define BH_HIGH64(a, b) _mm256_unpackhi_epi64(a, b)
#define BH_XOR(a, b) _mm256_xor_si256(a, b)
#define BH_OR(a, b) _mm256_or_si256(a, b)
#define BH_RIGHT(a, n) _mm256_srli_epi64(a, n)
#define BH_LEFT(a, n) _mm256_slli_epi64(a, n)
#define BH_ONES(n) _mm256_set1_epi8((char)(n))
#define BH_CHOOSE(m, a, b) _mm256_or_si256(_mm256_and_si256(m, a), _mm256_andnot_si256(m, b))
#define BH_IS_ZERO(a) _mm256_testz_si256(a, a)
#define BH_LANE(a, n) _mm256_extracti128_si256(a, n)
#else
typedef __m128i bh_vec;
#define BH_LANES 1
#define BH_LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define BH_LOW8(a, b) _mm_unpacklo_epi8(a, b)
#define BH_HIGH8(a, b) _mm_unpackhi_epi8(a, b)
#define BH_LOW16(a, b) _mm_unpacklo_epi16(a, b)
#define BH_HIGH16(a, b) _mm_unpackhi_epi16(a, b)
#define BH_LOW32(a, b) _mm_unpacklo_epi32(a, b)
#define BH_HIGH32(a, b) _mm_unpackhi_epi32(a, b)
#define BH_LOW64(a, b) _mm_unpacklo_epi64(a, b)
#define BH_HIGH64(a, b) _mm_unpackhi_epi64(a, b)
#define BH_XOR(a, b) _mm_xor_si128(a, b)
#define BH_OR(a, b) _mm_or_si128(a, b)
#define BH_RIGHT(a, n) _mm_srli_epi64(a, n)
#define BH_LEFT(a, n) _mm_slli_epi64(a, n)
#define BH_ONES(n) _mm_set1_epi8((char)(n))
#define BH_CHOOSE(m, a, b) _mm_or_si128(_mm_and_si128(m, a), _mm_andnot_si128(m, b))
#define BH_IS_ZERO(a) (_mm_movemask_epi8(_mm_cmpeq_epi8(a, _mm_setzero_si128())) == 0xFFFF)
#define BH_LANE(a, n) (a)
#endif
#define BH_VEC_BYTES (16 * BH_LANES)

/* a and b exchange the bits that lie `n` apart: the high ones of a with the low ones of b. */
#define BH_EXCHANGE(a, b, n, low)                                  \
    do {                                                           \
        const bh_vec a_ = a, b_ = b;                               \
        a = BH_CHOOSE(low, a_, BH_LEFT(b_, n));                    \
        b = BH_CHOOSE(low, BH_RIGHT(a_, n), b_);                   \
    } while (0)

/* Byte k of 8 * BH_VEC_BYTES elements: v[q], lane L, holds those of elements 128 L + 16 q to + 15. */
BH_BITS_INLINE void bh_gather_bytes(const uint8_t *planes, int64_t row, bh_vec v[8]) {
    bh_vec p0 = BH_LOAD(planes), p1 = BH_LOAD(planes + row), p2 = BH_LOAD(planes + 2 * row),
           p3 = BH_LOAD(planes + 3 * row), p4 = BH_LOAD(planes + 4 * row), p5 = BH_LOAD(planes + 5 * row),
           p6 = BH_LOAD(planes + 6 * row), p7 = BH_LOAD(planes + 7 * row);
    const bh_vec nibble = BH_ONES(0x0F), pair = BH_ONES(0x33), bit = BH_ONES(0x55);
    BH_EXCHANGE(p0, p4, 4, nibble);
    BH_EXCHANGE(p1, p5, 4, nibble);
    BH_EXCHANGE(p2, p6, 4, nibble);
    BH_EXCHANGE(p3, p7, 4, nibble);
    BH_EXCHANGE(p0, p2, 2, pair);
    BH_EXCHANGE(p1, p3, 2, pair);
    BH_EXCHANGE(p4, p6, 2, pair);
    BH_EXCHANGE(p5, p7, 2, pair);
    BH_EXCHANGE(p0, p1, 1, bit);
    BH_EXCHANGE(p2, p3, 1, bit);
    BH_EXCHANGE(p4, p5, 1, bit);
    BH_EXCHANGE(p6, p7, 1, bit);
    /* Now p_r holds, in byte i, the byte of element 8 i + r. */
    const bh_vec a0 = BH_LOW8(p0, p1), a1 = BH_HIGH8(p0, p1), a2 = BH_LOW8(p2, p3), a3 = BH_HIGH8(p2, p3),
                 a4 = BH_LOW8(p4, p5), a5 = BH_HIGH8(p4, p5), a6 = BH_LOW8(p6, p7), a7 = BH_HIGH8(p6, p7);
    const bh_vec b0 = BH_LOW16(a0, a2), b1 = BH_HIGH16(a0, a2), b2 = BH_LOW16(a1, a3), b3 = BH_HIGH16(a1, a3),
                 b4 = BH_LOW16(a4, a6), b5 = BH_HIGH16(a4, a6), b6 = BH_LOW16(a5, a7), b7 = BH_HIGH16(a5, a7);
    v[0] = BH_LOW32(b0, b4);
    v[1] = BH_HIGH32(b0, b4);
    v[2] = BH_LOW32(b1, b5);
    v[3] = BH_HIGH32(b1, b5);
    v[4] = BH_LOW32(b2, b6);
    v[5] = BH_HIGH32(b2, b6);
    v[6] = BH_LOW32(b3, b7);
    v[7] = BH_HIGH32(b3, b7);
}

/* Whether planes [first, last) are all equal to plane `last`, in these bytes. */
BH_BITS_INLINE int bh_planes_equal(const uint8_t *planes, int64_t row, int64_t first, int64_t last) {
    const bh_vec top = BH_LOAD(planes + last * row);
    bh_vec other = BH_XOR(top, top);
    for (int64_t p = first; p < last; p++)
        other = BH_OR(other, BH_XOR(top, BH_LOAD(planes + p * row)));
    return BH_IS_ZERO(other);
}

/* Do `store(v[q] lane L, 128 L + 16 q)` for all lanes; L has to be a constant. */
#if BH_LANES == 4
#define BH_EACH_LANE(DO, ...) DO(0, __VA_ARGS__) DO(1, __VA_ARGS__) DO(2, __VA_ARGS__) DO(3, __VA_ARGS__)
#elif BH_LANES == 2
#define BH_EACH_LANE(DO, ...) DO(0, __VA_ARGS__) DO(1, __VA_ARGS__)
#else
#define BH_EACH_LANE(DO, ...) DO(0, __VA_ARGS__)
#endif
#define BH_STORE_LANE(L, to, v) _mm_storeu_si128((__m128i *)((to) + 128 * (L)), BH_LANE(v, L));
#endif

/* Elements of one byte. */
BH_BITS_INLINE void bh_unbitshuffle_8(const uint8_t *planes, int64_t n_items, uint8_t *out) {
    const int64_t row = n_items / 8;
    int64_t i = 0;
#if defined(__SSE2__)
    for (; i + BH_VEC_BYTES <= row; i += BH_VEC_BYTES) {
        bh_vec v[8];
        bh_gather_bytes(planes + i, row, v);
        for (int q = 0; q < 8; q++) {
            uint8_t *to = out + 8 * i + 16 * q;
            BH_EACH_LANE(BH_STORE_LANE, to, v[q])
        }
    }
#endif
    bh_unbitshuffle_rows(planes, row, i, row, 1, out);
}

#if defined(__SSE2__)
/* 16 elements of 16 bits: their low bytes, and the high byte that all their upper planes agree on (0 or 255). */
BH_BITS_INLINE void bh_widen_16(__m128i low, const uint8_t *sign, uint16_t *to) {
    uint16_t set;
    memcpy(&set, sign, 2);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    __m256i wide = _mm256_cvtepu8_epi16(low);
    wide = _mm256_mask_blend_epi16(set, wide, _mm256_or_si256(wide, _mm256_set1_epi16((short)0xFF00)));
    _mm256_storeu_si256((__m256i *)to, wide);
#else
    const __m128i bit = _mm_set1_epi64x((long long)0x8040201008040201ULL);
    __m128i high = _mm_cvtsi32_si128(set);
    high = _mm_unpacklo_epi8(high, high);
    high = _mm_shufflelo_epi16(high, 0x50);
    high = _mm_unpacklo_epi32(high, high); /* byte 0 eight times, byte 1 eight times */
    high = _mm_cmpeq_epi8(_mm_and_si128(high, bit), bit);
    _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi8(low, high));
    _mm_storeu_si128((__m128i *)(to + 8), _mm_unpackhi_epi8(low, high));
#endif
}
#define BH_WIDEN_16(L, to, sign, v) bh_widen_16(BH_LANE(v, L), (sign) + 16 * (L), (to) + 128 * (L));
#define BH_PAIR_16(L, to, lo, hi)                                           \
    _mm_storeu_si128((__m128i *)((to) + 128 * (L)), BH_LANE(lo, L));        \
    _mm_storeu_si128((__m128i *)((to) + 128 * (L) + 8), BH_LANE(hi, L));
#endif

/* Elements of two bytes. */
BH_BITS_INLINE void bh_unbitshuffle_16(const uint8_t *planes, int64_t n_items, uint16_t *out) {
    const int64_t row = n_items / 8;
    int64_t i = 0;
#if defined(__SSE2__)
    for (; i + BH_VEC_BYTES <= row; i += BH_VEC_BYTES) {
        bh_vec v[8], w[8];
        bh_gather_bytes(planes + i, row, v);
        if (bh_planes_equal(planes + i, row, 8, 15)) {
            for (int q = 0; q < 8; q++) {
                uint16_t *to = out + 8 * i + 16 * q;
                const uint8_t *sign = planes + 15 * row + i + 2 * q;
                BH_EACH_LANE(BH_WIDEN_16, to, sign, v[q])
            }
            continue;
        }
        bh_gather_bytes(planes + 8 * row + i, row, w);
        for (int q = 0; q < 8; q++) {
            const bh_vec lo = BH_LOW8(v[q], w[q]), hi = BH_HIGH8(v[q], w[q]);
            uint16_t *to = out + 8 * i + 16 * q;
            BH_EACH_LANE(BH_PAIR_16, to, lo, hi)
        }
    }
#endif
    bh_unbitshuffle_rows(planes, row, i, row, 2, (uint8_t *)out);
}

#if defined(__SSE2__)
/* 16 elements of 32 bits: their low bytes, and what all their upper planes agree on. */
BH_BITS_INLINE void bh_widen_32(__m128i low, const uint8_t *sign, uint32_t *to) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    uint16_t set;
    memcpy(&set, sign, 2);
    const __m512i wide = _mm512_cvtepu8_epi32(low);
    _mm512_storeu_si512(to, _mm512_mask_or_epi32(wide, set, wide, _mm512_set1_epi32((int)0xFFFFFF00)));
#else
    uint16_t half[16];
    bh_widen_16(low, sign, half);
    for (int e = 0; e < 16; e += 8) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(half + e)), high = _mm_srai_epi16(x, 15);
        _mm_storeu_si128((__m128i *)(to + e), _mm_unpacklo_epi16(x, high));
        _mm_storeu_si128((__m128i *)(to + e + 4), _mm_unpackhi_epi16(x, high));
    }
#endif
}
#define BH_WIDEN_32(L, to, sign, v) bh_widen_32(BH_LANE(v, L), (sign) + 16 * (L), (to) + 128 * (L));
#define BH_QUAD_32(L, to, a, b, c, d)                                       \
    _mm_storeu_si128((__m128i *)((to) + 128 * (L)), BH_LANE(a, L));         \
    _mm_storeu_si128((__m128i *)((to) + 128 * (L) + 4), BH_LANE(b, L));     \
    _mm_storeu_si128((__m128i *)((to) + 128 * (L) + 8), BH_LANE(c, L));     \
    _mm_storeu_si128((__m128i *)((to) + 128 * (L) + 12), BH_LANE(d, L));

/* All 32 planes: bytes to pairs, pairs to elements. */
static __attribute__((noinline, unused)) void bh_unbitshuffle_32_full(const uint8_t *planes, int64_t row,
                                                                            int narrow, uint32_t *out) {
    bh_vec b0[8], b1[8], b2[8], b3[8];
    bh_gather_bytes(planes, row, b0);
    bh_gather_bytes(planes + 8 * row, row, b1);
    bh_gather_bytes(planes + 16 * row, row, b2);
    if (narrow) /* the upper two bytes are the same */
        memcpy(b3, b2, sizeof b3);
    else
        bh_gather_bytes(planes + 24 * row, row, b3);
    for (int q = 0; q < 8; q++) {
        const bh_vec low = BH_LOW8(b0[q], b1[q]), low2 = BH_HIGH8(b0[q], b1[q]);
        const bh_vec high = BH_LOW8(b2[q], b3[q]), high2 = BH_HIGH8(b2[q], b3[q]);
        const bh_vec a = BH_LOW16(low, high), b = BH_HIGH16(low, high);
        const bh_vec c = BH_LOW16(low2, high2), d = BH_HIGH16(low2, high2);
        uint32_t *to = out + 16 * q;
        BH_EACH_LANE(BH_QUAD_32, to, a, b, c, d)
    }
}
#endif

/* Elements of four bytes. */
BH_BITS_INLINE void bh_unbitshuffle_32(const uint8_t *planes, int64_t n_items, uint32_t *out) {
    const int64_t row = n_items / 8;
    int64_t i = 0;
#if defined(__SSE2__)
    for (; i + BH_VEC_BYTES <= row; i += BH_VEC_BYTES) {
        const int narrow = bh_planes_equal(planes + i, row, 16, 31);
        if (!narrow || !bh_planes_equal(planes + i, row, 8, 16)) {
            bh_unbitshuffle_32_full(planes + i, row, narrow, out + 8 * i);
            continue;
        }
        bh_vec v[8];
        bh_gather_bytes(planes + i, row, v);
        for (int q = 0; q < 8; q++) {
            uint32_t *to = out + 8 * i + 16 * q;
            const uint8_t *sign = planes + 31 * row + i + 2 * q;
            BH_EACH_LANE(BH_WIDEN_32, to, sign, v[q])
        }
    }
#endif
    bh_unbitshuffle_rows(planes, row, i, row, 4, (uint8_t *)out);
}

/* Elements of any number of bytes. */
BH_BITS_INLINE void bh_unbitshuffle(const uint8_t *planes, int64_t n_items, int64_t item_bytes, uint8_t *out) {
    if (item_bytes == 1)
        bh_unbitshuffle_8(planes, n_items, out);
    else if (item_bytes == 2)
        bh_unbitshuffle_16(planes, n_items, (uint16_t *)(void *)out);
    else if (item_bytes == 4)
        bh_unbitshuffle_32(planes, n_items, (uint32_t *)(void *)out);
    else
        bh_unbitshuffle_rows(planes, n_items / 8, 0, n_items / 8, item_bytes, out);
}

/* Which of a block's planes (32 at most) hold any set bit: bit p of the result for plane p. */
BH_BITS_INLINE uint32_t bh_planes_used(const uint8_t *planes, int64_t row, int64_t n_planes) {
    uint32_t used = 0;
    for (int64_t p = 0; p < n_planes; p++) {
        const uint8_t *at = planes + p * row;
        uint64_t any = 0, part;
        int64_t i = 0;
        for (; i + 8 <= row; i += 8) {
            memcpy(&part, at + i, 8);
            any |= part;
        }
        for (; i < row; i++)
            any |= at[i];
        used |= (uint32_t)(any != 0) << p;
    }
    return used;
}

/* Elements of four bytes of which only the planes in `used` hold anything; what the others hold is not read. */
BH_BITS_INLINE void bh_unbitshuffle_32_used(const uint8_t *planes, int64_t n_items, uint32_t used, uint32_t *out) {
    const int64_t row = n_items / 8;
    for (int64_t i = 0; i < row; i++) {
        uint32_t element[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        for (int k = 0; k < 4; k++) {
            uint32_t of_byte = used >> (8 * k) & 255;
            uint64_t x = 0;
            if (!of_byte)
                continue;
            for (; of_byte; of_byte &= of_byte - 1) {
                const int j = __builtin_ctz(of_byte);
                x |= (uint64_t)planes[(8 * k + j) * row + i] << (8 * j);
            }
            x = bh_transpose8(x);
            for (int r = 0; r < 8; r++)
                element[r] |= (uint32_t)(x >> (8 * r) & 255) << (8 * k);
        }
        memcpy(out + 8 * i, element, sizeof element);
    }
}

#endif
