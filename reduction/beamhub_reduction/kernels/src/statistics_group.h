/* Eight frames of 16-bit values added to the sums of one tile: what statistics.c does for every type, with the
   one instruction that a compiler does not find. It multiplies signed pairs and adds them: the squares of two
   frames, and the total of a frame, in half the steps. Values of 2^15 and more come out wrong here; a tile that
   holds any is summed again in 64 bits, as every tile with values above 8191. */
#ifndef BEAMHUB_STATISTICS_GROUP_H
#define BEAMHUB_STATISTICS_GROUP_H

#include "statistics.h"

#if defined(__AVX2__)
#include <immintrin.h>

#if defined(__AVX512BW__)
#define BH_G(name) _mm512_##name
typedef __m512i bh_wide;
#define BH_WIDE_LOAD(p) _mm512_loadu_si512(p)
#define BH_WIDE_STORE(p, x) _mm512_storeu_si512(p, x)
#define BH_WIDE_OR(a, b) _mm512_or_si512(a, b)
#define BH_WIDE_KEEP(v, limit, count, x)                             \
    {                                                                \
        const __mmask32 ok = _mm512_cmple_epu16_mask(v, limit);      \
        x = _mm512_maskz_mov_epi16(ok, v);                           \
        count = _mm512_mask_sub_epi16(count, ok, count, minus_one);  \
    }
#define BH_WIDE_HALF(x, h) ((h) ? _mm512_extracti64x4_epi64(x, 1) : _mm512_castsi512_si256(x))
#else
#define BH_G(name) _mm256_##name
typedef __m256i bh_wide;
#define BH_WIDE_LOAD(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define BH_WIDE_STORE(p, x) _mm256_storeu_si256((__m256i *)(void *)(p), x)
#define BH_WIDE_OR(a, b) _mm256_or_si256(a, b)
#define BH_WIDE_KEEP(v, limit, count, x)                                                              \
    {                                                                                                 \
        const __m256i ok = _mm256_cmpeq_epi16(_mm256_subs_epu16(v, limit), _mm256_setzero_si256());   \
        x = _mm256_and_si256(v, ok);                                                                  \
        count = _mm256_sub_epi16(count, ok);                                                          \
    }
#endif
#define BH_WIDE_ITEMS ((int64_t)sizeof(bh_wide) / 2)

/* One value of two frames in each place. */
#define BH_WIDE_PAIR(A, B)                                                                         \
    {                                                                                              \
        const bh_wide va = BH_WIDE_OR(BH_WIDE_LOAD(rows[A] + i), masked);                          \
        const bh_wide vb = BH_WIDE_OR(BH_WIDE_LOAD(rows[B] + i), masked);                          \
        bh_wide xa, xb;                                                                            \
        BH_WIDE_KEEP(va, largest, count, xa)                                                       \
        BH_WIDE_KEEP(vb, largest, count, xb)                                                       \
        least = BH_G(min_epu16)(least, BH_G(min_epu16)(va, vb));                                   \
        most = BH_G(max_epu16)(most, BH_G(max_epu16)(xa, xb));                                     \
        sum = BH_G(add_epi16)(sum, BH_G(add_epi16)(xa, xb));                                       \
        const bh_wide near = BH_G(unpacklo_epi16)(xa, xb), far = BH_G(unpackhi_epi16)(xa, xb);     \
        q0 = BH_G(add_epi32)(q0, BH_G(madd_epi16)(near, near));                                    \
        q1 = BH_G(add_epi32)(q1, BH_G(madd_epi16)(far, far));                                      \
        total[A] = BH_G(add_epi32)(total[A], BH_G(madd_epi16)(xa, one));                           \
        total[B] = BH_G(add_epi32)(total[B], BH_G(madd_epi16)(xb, one));                           \
    }

/* Gives how many of the n pixels it has added. The sums of squares `q` of each vector of pixels come as two
   halves, those of the first and of the second four of every eight pixels: see in_order_u16. */
BH_APART static int64_t vectors_u16(const uint16_t *const *rows, const uint16_t *off, int64_t n, uint16_t limit,
                                    uint32_t *s, uint32_t *q, uint16_t *low, uint16_t *high, uint16_t *valid,
                                    uint32_t *totals) {
    const bh_wide largest = BH_G(set1_epi16)((short)limit), one = BH_G(set1_epi16)(1);
    const bh_wide minus_one = BH_G(set1_epi16)(-1);
    bh_wide total[BH_GROUP];
    int64_t i = 0;
    (void)minus_one;
    for (int k = 0; k < BH_GROUP; k++)
        total[k] = BH_WIDE_LOAD(off), total[k] = BH_G(sub_epi32)(total[k], total[k]);
    for (; i + BH_WIDE_ITEMS <= n; i += BH_WIDE_ITEMS) {
        const bh_wide masked = BH_WIDE_LOAD(off + i);
        bh_wide least = BH_WIDE_LOAD(low + i), most = BH_WIDE_LOAD(high + i), count = BH_WIDE_LOAD(valid + i);
        bh_wide q0 = BH_WIDE_LOAD(q + i), q1 = BH_WIDE_LOAD(q + i + BH_WIDE_ITEMS / 2);
        bh_wide sum = BH_G(sub_epi16)(one, one);
        BH_WIDE_PAIR(0, 1)
        BH_WIDE_PAIR(2, 3)
        BH_WIDE_PAIR(4, 5)
        BH_WIDE_PAIR(6, 7)
        BH_WIDE_STORE(low + i, least), BH_WIDE_STORE(high + i, most), BH_WIDE_STORE(valid + i, count);
        BH_WIDE_STORE(q + i, q0), BH_WIDE_STORE(q + i + BH_WIDE_ITEMS / 2, q1);
        uint16_t of_eight[BH_WIDE_ITEMS];
        BH_WIDE_STORE(of_eight, sum);
        for (int64_t j = 0; j < BH_WIDE_ITEMS; j++)
            s[i + j] += of_eight[j];
    }
    for (int k = 0; k < BH_GROUP; k++) {
        uint32_t part[BH_WIDE_ITEMS / 2], all = 0;
        BH_WIDE_STORE(part, total[k]);
        for (int64_t j = 0; j < BH_WIDE_ITEMS / 2; j++)
            all += part[j];
        totals[k] = all;
    }
    return i;
}

/* The first n sums of squares, as vectors_u16 left them, in the order of the pixels. */
static void in_order_u16(uint32_t *q, int64_t n) {
    uint32_t half[BH_WIDE_ITEMS];
    for (int64_t i = 0; i < n; i += BH_WIDE_ITEMS) {
        memcpy(half, q + i, sizeof half);
        for (int64_t j = 0; j < BH_WIDE_ITEMS / 8; j++) {
            memcpy(q + i + 8 * j, half + 4 * j, 16);
            memcpy(q + i + 8 * j + 4, half + BH_WIDE_ITEMS / 2 + 4 * j, 16);
        }
    }
}
#define BH_HAS_VECTORS_U16 1
#endif
#endif
