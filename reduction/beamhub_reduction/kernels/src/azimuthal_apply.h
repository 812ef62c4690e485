/* The inner loop: one tile of the sparse matrix applied to the lanes of sixteen frames.

   Sums are float64 and run over the pixels of a bin in the order of the frame, whatever the tile: the numbers are
   those of SciPy's csr_matrix @ lanes, bit for bit, and do not depend on tiles, paths or the other frames.
   A weight and its square are float32, so their products with counts below 2^29 are exact in float64; therefore
   the fused multiply-add, used for lanes of 1 and 2 bytes where there is one, rounds as the two steps do. */
#ifndef BEAMHUB_AZIMUTHAL_APPLY_H
#define BEAMHUB_AZIMUTHAL_APPLY_H

#include "azimuthal_lanes.h"

#if defined(__AVX512BW__)
#define AZ_WIDE 8
#elif defined(__AVX2__)
#define AZ_WIDE 4
#else
#define AZ_WIDE 2
#endif
#define AZ_VECTORS (AZ_LANES / AZ_WIDE)
typedef double az_vec __attribute__((vector_size(8 * AZ_WIDE), aligned(8), may_alias));
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef int32_t i32;
typedef float f32;
typedef double f64;

/* AZ_WIDE values of each type as float64. */
#if defined(__AVX512BW__)
BH_BITS_INLINE az_vec az_load_u8(const u8 *p) {
    return (az_vec)_mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
BH_BITS_INLINE az_vec az_load_u16(const u16 *p) {
    return (az_vec)_mm512_cvtepi32_pd(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
}
BH_BITS_INLINE az_vec az_load_u32(const u32 *p) {
    return (az_vec)_mm512_cvtepu32_pd(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
BH_BITS_INLINE az_vec az_load_i32(const i32 *p) {
    return (az_vec)_mm512_cvtepi32_pd(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
BH_BITS_INLINE az_vec az_load_f32(const f32 *p) { return (az_vec)_mm512_cvtps_pd(_mm256_loadu_ps(p)); }
BH_BITS_INLINE az_vec az_max(az_vec a, az_vec b) { return (az_vec)_mm512_max_pd((__m512d)a, (__m512d)b); }
#elif defined(__AVX2__)
BH_BITS_INLINE az_vec az_load_u8(const u8 *p) {
    i32 four;
    memcpy(&four, p, 4);
    return (az_vec)_mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(four)));
}
BH_BITS_INLINE az_vec az_load_u16(const u16 *p) {
    return (az_vec)_mm256_cvtepi32_pd(_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
BH_BITS_INLINE az_vec az_load_i32(const i32 *p) {
    return (az_vec)_mm256_cvtepi32_pd(_mm_loadu_si128((const __m128i *)(const void *)p));
}
BH_BITS_INLINE az_vec az_load_u32(const u32 *p) {
    /* There is no conversion of unsigned ones: from 2^31 below, exactly. */
    const __m128i x = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)p), _mm_set1_epi32(INT32_MIN));
    return (az_vec)_mm256_add_pd(_mm256_cvtepi32_pd(x), _mm256_set1_pd(2147483648.0));
}
BH_BITS_INLINE az_vec az_load_f32(const f32 *p) { return (az_vec)_mm256_cvtps_pd(_mm_loadu_ps(p)); }
BH_BITS_INLINE az_vec az_max(az_vec a, az_vec b) { return (az_vec)_mm256_max_pd((__m256d)a, (__m256d)b); }
#else
#define AZ_LOAD(T) \
    BH_BITS_INLINE az_vec az_load_##T(const T *p) { return (az_vec){(double)p[0], (double)p[1]}; }
AZ_LOAD(u8)
AZ_LOAD(u16)
AZ_LOAD(u32)
AZ_LOAD(i32)
AZ_LOAD(f32)
BH_BITS_INLINE az_vec az_max(az_vec a, az_vec b) {
    return (az_vec){a[0] > b[0] ? a[0] : b[0], a[1] > b[1] ? a[1] : b[1]};
}
#endif
BH_BITS_INLINE az_vec az_load_f64(const f64 *p) {
    az_vec x;
    memcpy(&x, p, sizeof x);
    return x;
}

#define AZ_TWO_STEPS(w, c, a) ((a) + (w) * (c))
#if defined(__AVX512BW__)
#define AZ_ONE_STEP(w, c, a) ((az_vec)_mm512_fmadd_pd(_mm512_set1_pd(w), (__m512d)(c), (__m512d)(a)))
#else
#define AZ_ONE_STEP AZ_TWO_STEPS
#endif
#define AZ_FMA_u8 AZ_ONE_STEP
#define AZ_FMA_u16 AZ_ONE_STEP
#define AZ_FMA_u32 AZ_TWO_STEPS
#define AZ_FMA_i32 AZ_TWO_STEPS
#define AZ_FMA_f32 AZ_TWO_STEPS
#define AZ_FMA_f64 AZ_TWO_STEPS

/* The runs of one tile and where their sums go, all of shape [n_bins][AZ_LANES]. */
typedef struct {
    int64_t first_run, last_run;
    const uint32_t *run_bin, *run_stop;
    const uint16_t *offset;
    const float *weight;
    double *signal, *variance;
    /* What blank values take away; used only where a tile has any. */
    const uint16_t *blank; /* [tile], bit f = blank in frame f */
    const double *norm, *dark; /* of the tile's pixels; dark may be NULL */
    double *lost_norm, *lost_dark;
    int32_t *n_lost;
    double floor; /* the least variance of a value */
} az_tile;

#define AZ_APPLY(T)                                                                                            \
    BH_BITS_INLINE void az_apply_inline_##T(const az_tile *t, const T *lanes, int with_variance, int has_blank) { \
        const az_vec least = (az_vec){0} + t->floor;                                                               \
        int64_t e = t->first_run ? t->run_stop[t->first_run - 1] : 0;                                          \
        for (int64_t r = t->first_run; r < t->last_run; r++) {                                                 \
            const int64_t at = (int64_t)t->run_bin[r] * AZ_LANES, stop = t->run_stop[r];                       \
            az_vec a[AZ_VECTORS], v[AZ_VECTORS];                                                               \
            _Pragma("GCC unroll 8") for (int j = 0; j < AZ_VECTORS; j++) {                                     \
                memcpy(&a[j], t->signal + at + j * AZ_WIDE, sizeof a[j]);                                      \
                if (with_variance)                                                                             \
                    memcpy(&v[j], t->variance + at + j * AZ_WIDE, sizeof v[j]);                                \
            }                                                                                                  \
            for (; e < stop; e++) {                                                                            \
                const T *x = lanes + (int64_t)t->offset[e] * AZ_LANES;                                         \
                const double w = (double)t->weight[e], w2 = (double)(float)(w * w);                                             \
                const uint16_t blank = has_blank ? t->blank[t->offset[e]] : 0;                                 \
                if (has_blank && blank) {                                                                      \
                    az_lose(t, e, at, blank);                                                                  \
                    double *aa = (double *)a, *vv = (double *)v;                                               \
                    for (int l = 0; l < AZ_LANES; l++) {                                                       \
                        const double c = (double)x[l];                                                         \
                        if (blank >> l & 1)                                                                    \
                            continue;                                                                          \
                        aa[l] += w * c;                                                                        \
                        if (with_variance)                                                                     \
                            vv[l] += w2 * (c > t->floor ? c : t->floor);                                       \
                    }                                                                                          \
                    continue;                                                                                  \
                }                                                                                              \
                _Pragma("GCC unroll 8") for (int j = 0; j < AZ_VECTORS; j++) {                                 \
                    const az_vec c = az_load_##T(x + j * AZ_WIDE);                                             \
                    a[j] = AZ_FMA_##T(w, c, a[j]);                                                                             \
                    if (with_variance)                                                                         \
                        v[j] = AZ_FMA_##T(w2, az_max(c, least), v[j]);                                                           \
                }                                                                                              \
            }                                                                                                  \
            _Pragma("GCC unroll 8") for (int j = 0; j < AZ_VECTORS; j++) {                                     \
                memcpy(t->signal + at + j * AZ_WIDE, &a[j], sizeof a[j]);                                      \
                if (with_variance)                                                                             \
                    memcpy(t->variance + at + j * AZ_WIDE, &v[j], sizeof v[j]);                                \
            }                                                                                                  \
        }                                                                                                      \
    }                                                                                                          \
    static void az_apply_##T(const az_tile *t, const void *lanes, int with_variance, int has_blank) {          \
        if (has_blank)                                                                                         \
            az_apply_inline_##T(t, lanes, with_variance, 1);                                                   \
        else if (with_variance)                                                                                \
            az_apply_inline_##T(t, lanes, 1, 0);                                                               \
        else                                                                                                   \
            az_apply_inline_##T(t, lanes, 0, 0);                                                               \
    }

/* Entry e belongs to a pixel that is blank in some frames: note what their normalisation loses. */
static __attribute__((noinline)) void az_lose(const az_tile *t, int64_t e, int64_t at, uint16_t blank) {
    const double w = (double)t->weight[e];
    const double norm = w * t->norm[t->offset[e]], dark = t->dark ? w * t->dark[t->offset[e]] : 0;
    for (; blank; blank &= (uint16_t)(blank - 1)) {
        const int64_t l = at + __builtin_ctz(blank);
        t->lost_norm[l] += norm;
        t->n_lost[l]++;
        if (t->dark)
            t->lost_dark[l] += dark;
    }
}

AZ_APPLY(u8)
AZ_APPLY(u16)
AZ_APPLY(u32)
AZ_APPLY(i32)
AZ_APPLY(f32)
AZ_APPLY(f64)

#endif
