/* Sums of two parts put together, and statistics of each pixel from its exact sums, in one pass: the numbers
   that NumPy gives, bit by bit.

   The variance is (n q - s^2) / (n (n - 1)) with q the sum of squares. Where n q may not fit 62 bits, which a
   cheap bound in floating point decides, the pixel is marked: the caller works it out in long integers. */
#include "statistics.h"

#include <math.h>

/* (n_pixels,) each; what has no value is NaN. `wide` is 1 where the variance is left to the caller. */
typedef struct {
    double *mean, *variance, *error, *minimum, *maximum;
    int64_t *n_valid;
    uint8_t *wide;
} bh_finished;

BH_EXPORT int64_t BH(pixel_finish)(const bh_pixel_sums *sums, const bh_finished *out);
BH_EXPORT int64_t BH(pixel_merge)(const bh_pixel_sums *to, const bh_pixel_sums *more);

/* Arrays that are mostly never written stay so: memory that nobody writes is not there. */
BH_APART static void add_u32(uint32_t *restrict to, const uint32_t *restrict more, int64_t n) {
    uint32_t any = 0;
    for (int64_t i = 0; i < n; i++)
        any |= more[i];
    for (int64_t i = 0; any && i < n; i++)
        to[i] += more[i];
}

BH_APART static void add_u64(uint64_t *restrict to, const uint64_t *restrict more, int64_t n) {
    uint64_t any = 0;
    for (int64_t i = 0; i < n; i++)
        any |= more[i];
    for (int64_t i = 0; any && i < n; i++)
        to[i] += more[i];
}

#define MERGE(T, NAME)                                                                                       \
    BH_APART static void merge_##NAME(T *restrict low, T *restrict high, const T *restrict more_low,         \
                                      const T *restrict more_high, int64_t n) {                              \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            low[i] = more_low[i] < low[i] ? more_low[i] : low[i];                                            \
            high[i] = more_high[i] > high[i] ? more_high[i] : high[i];                                       \
        }                                                                                                    \
    }

MERGE(uint8_t, u8)
MERGE(uint16_t, u16)
MERGE(uint32_t, u32)

/* Add the sums of other frames; -1 for sums of another kind. */
int64_t BH(pixel_merge)(const bh_pixel_sums *to, const bh_pixel_sums *more) {
    const int64_t item = to->item_bytes, n_pixels = to->n_pixels;
    if (n_pixels < 0 || more->n_pixels != n_pixels || more->item_bytes != item || (item != 1 && item != 2 && item != 4))
        return -1;
    for (int64_t at = 0; at < n_pixels; at += 8 * BH_TILE) {
        const int64_t n = n_pixels - at < 8 * BH_TILE ? n_pixels - at : 8 * BH_TILE;
        add_u64((uint64_t *)to->sum + at, (const uint64_t *)more->sum + at, n);
        add_u64(to->square_low + at, more->square_low + at, n);
        add_u64(to->square_high + at, more->square_high + at, n);
        add_u32(to->n_valid + at, more->n_valid + at, n);
        add_u32(to->n_rejected + at, more->n_rejected + at, n);
        if (item == 1)
            merge_u8((uint8_t *)to->minimum + at, (uint8_t *)to->maximum + at, (const uint8_t *)more->minimum + at,
                     (const uint8_t *)more->maximum + at, n);
        else if (item == 2)
            merge_u16((uint16_t *)to->minimum + at, (uint16_t *)to->maximum + at,
                      (const uint16_t *)more->minimum + at, (const uint16_t *)more->maximum + at, n);
        else
            merge_u32((uint32_t *)to->minimum + at, (uint32_t *)to->maximum + at,
                      (const uint32_t *)more->minimum + at, (const uint32_t *)more->maximum + at, n);
    }
    return 0;
}

#define EXTREMES(T, NAME)                                                                                    \
    BH_APART static void extremes_##NAME(const T *restrict low, const T *restrict high,                      \
                                         const uint32_t *restrict valid, int64_t n, double *restrict least,  \
                                         double *restrict most) {                                            \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            const double a = (double)low[i], b = (double)high[i];                                            \
            least[i] = valid[i] ? a : NAN;                                                                   \
            most[i] = valid[i] ? b : NAN;                                                                    \
        }                                                                                                    \
    }

EXTREMES(uint8_t, u8)
EXTREMES(uint16_t, u16)
EXTREMES(uint32_t, u32)

BH_APART static void means(const int64_t *restrict sum, const uint32_t *restrict valid, int64_t n,
                           double *restrict mean, int64_t *restrict n_valid) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t count = valid[i];
        const double by = (double)(count > 0 ? count : 1), value = (double)sum[i] / by;
        n_valid[i] = count;
        mean[i] = count > 0 ? value : NAN;
    }
}

BH_APART static int64_t variances(const int64_t *restrict sum, const uint64_t *restrict low,
                                  const uint64_t *restrict high, const uint32_t *restrict valid, int64_t n,
                                  double *restrict variance, double *restrict error, uint8_t *restrict wide) {
    uint64_t any = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t count = valid[i], s = (uint64_t)sum[i], enough = count > 1 ? count : 2;
        const double bound = ((double)high[i] * 4294967296.0 + (double)low[i]) * (double)count;
        const uint64_t above = enough * ((high[i] << 32) + low[i]) - s * s; /* wraps where it is not used */
        const double value = (double)(int64_t)above / (double)(int64_t)(enough * (enough - 1));
        const double at_mean = sqrt(value / (double)enough);
        const uint64_t is_wide = count > 1 && !(bound < 4611686018427387904.0);
        variance[i] = count > 1 ? value : NAN;
        error[i] = count > 1 ? at_mean : NAN;
        wide[i] = (uint8_t)is_wide;
        any += is_wide;
    }
    return (int64_t)any;
}

/* Gives the number of pixels that are marked in `wide`; -1 for unusable arguments. */
int64_t BH(pixel_finish)(const bh_pixel_sums *sums, const bh_finished *out) {
    const int64_t item = sums->item_bytes, n_pixels = sums->n_pixels;
    int64_t n_wide = 0;
    if (n_pixels < 0 || (item != 1 && item != 2 && item != 4))
        return -1;
    for (int64_t at = 0; at < n_pixels; at += BH_TILE) {
        const int64_t n = n_pixels - at < BH_TILE ? n_pixels - at : BH_TILE;
        const uint32_t *valid = sums->n_valid + at;
        means(sums->sum + at, valid, n, out->mean + at, out->n_valid + at);
        n_wide += variances(sums->sum + at, sums->square_low + at, sums->square_high + at, valid, n,
                            out->variance + at, out->error + at, out->wide + at);
        if (item == 1)
            extremes_u8((const uint8_t *)sums->minimum + at, (const uint8_t *)sums->maximum + at, valid, n,
                        out->minimum + at, out->maximum + at);
        else if (item == 2)
            extremes_u16((const uint16_t *)sums->minimum + at, (const uint16_t *)sums->maximum + at, valid, n,
                         out->minimum + at, out->maximum + at);
        else
            extremes_u32((const uint32_t *)sums->minimum + at, (const uint32_t *)sums->maximum + at, valid, n,
                         out->minimum + at, out->maximum + at);
    }
    return n_wide;
}
