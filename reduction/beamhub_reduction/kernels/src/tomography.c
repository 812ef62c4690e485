/* Projections of a tomography scan: dark and flat correction, binning, -log, in one pass over the counts.

   The counts of bin x bin raw pixels are summed first (integers exactly, floats row by row from left to right),
   so that flat and dark are needed at the binned size only. Work goes band by band: the references and sums of a
   few binned rows stay in the cache while all frames of the batch pass, each with a stretch of neighbouring rows
   (row by row, every access would begin a new page of memory). Every float operation is a single float32 operation
   in a fixed order, so all paths and NumPy give the same bits. */
#include "kernels.h"

#define BAND_BYTES (1 << 18) /* of references and sums that stay in the cache: 24 bytes a binned pixel */
#define TILE 1024 /* raw columns that are summed at once; a multiple of every bin up to 16 fits into it */

typedef struct {
    const float *dark;   /* (ny, nx) binned dark; NaN where no raw pixel of the bin can be used */
    const float *before; /* (ny, nx) binned flat minus dark, above zero */
    const float *after;  /* the next flat, or NULL */
    float weight, rest;  /* of `after` and of `before` */
    float scale;         /* what a projection is multiplied with */
    float least;         /* smallest transmission */
    int64_t take_log;
} bh_correction;

/* -log(x) for normal x above zero. log(1 + f) = f - f^2/2 + f^3 P(f) with f in [sqrt(1/2) - 1, sqrt(2) - 1);
   P was fitted by us (minimax, 0.05 ulp); log(2) is split so that its product with the exponent is exact.
   The error of the result is at most 1 ulp. Source: measured against float64 in test_kernels_tomography.py. */
static inline float minus_log(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t moved = bits - 0x3f3504f3u; /* sqrt(1/2) */
    const int32_t exponent = (int32_t)moved >> 23;
    const uint32_t mantissa = (moved & 0x007fffffu) + 0x3f3504f3u;
    float m;
    memcpy(&m, &mantissa, sizeof m);
    const float f = m - 1.0f, e = (float)exponent;
    float p = -0.07634586f;
    p = p * f + 0.12761599f;
    p = p * f - 0.13160156f;
    p = p * f + 0.14201753f;
    p = p * f - 0.1662336f;
    p = p * f + 0.20001227f;
    p = p * f - 0.2500082f;
    p = p * f + 0.3333333f;
    const float square = f * f;
    float low = (square * f) * p + e * -2.12194440e-4f;
    low = low - 0.5f * square;
    return -((f + low) + e * 0.693359375f);
}

BH_EXPORT int64_t BH(minus_log)(const float *values, int64_t n, float *out);
int64_t BH(minus_log)(const float *values, int64_t n, float *out) {
    if (n < 0)
        return -1;
    for (int64_t i = 0; i < n; i++)
        out[i] = minus_log(values[i]);
    return 0;
}

/* One binned row of one frame. The number of values that were raised to `least`. */
static int64_t correct_row(const float *restrict sums, int64_t at, int64_t n, const bh_correction *c, float *restrict out) {
    const float *restrict dark = c->dark + at, *restrict before = c->before + at;
    const float scale = c->scale, least = c->least;
    int32_t raised = 0;
    if (c->after) {
        const float *restrict after = c->after + at;
        const float weight = c->weight, rest = c->rest;
        for (int64_t x = 0; x < n; x++)
            out[x] = ((sums[x] - dark[x]) * scale) / (before[x] * rest + after[x] * weight);
    } else {
        for (int64_t x = 0; x < n; x++)
            out[x] = ((sums[x] - dark[x]) * scale) / before[x];
    }
    if (!c->take_log) {
        for (int64_t x = 0; x < n; x++)
            out[x] = out[x] == out[x] ? out[x] : __builtin_nanf("");
        return 0;
    }
    for (int64_t x = 0; x < n; x++) {
        const float t = out[x];
        const int low = t <= least; /* false for NaN */
        const float value = minus_log(low ? least : t);
        raised += low;
        out[x] = t == t ? value : __builtin_nanf("");
    }
    return raised;
}

#define AS_IT_IS(s) (s)
#define OR_NAN(s) or_nan(s)
static inline float or_nan(float s) { return s - s == 0.0f ? s : __builtin_nanf(""); }

/* Sums of one binned row: raw rows of `frame` from y on, `bin` of them, all columns. `good` is 1 or 0 for each
   raw pixel, or NULL. Values from `limit` on are counted in *n_limit. */
#define SUM_ROW(NAME, TYPE, WIDE, FINITE)                                                                     \
    static void sum_row_##NAME(const TYPE *restrict rows, const uint8_t *restrict good, int64_t raw_nx,         \
                               int64_t nx, int64_t bin, TYPE limit, int has_limit, float *restrict out,         \
                               int64_t *n_limit) {                                                              \
        WIDE line[TILE];                                                                                        \
        const int64_t per_tile = TILE / bin;                                                                    \
        int64_t found = 0;                                                                                      \
        for (int64_t first = 0; first < nx; first += per_tile) {                                                \
            const int64_t n = nx - first < per_tile ? nx - first : per_tile, width = n * bin;                   \
            for (int64_t row = 0; row < bin; row++) {                                                           \
                const TYPE *restrict v = rows + row * raw_nx + first * bin;                                     \
                if (has_limit) {                                                                                \
                    TYPE most = 0; /* narrow lanes; `limit` is above zero */                                    \
                    for (int64_t x = 0; x < width; x++)                                                         \
                        most = v[x] > most ? v[x] : most;                                                       \
                    for (int64_t x = 0; most >= limit && x < width; x++)                                        \
                        found += v[x] >= limit;                                                                 \
                }                                                                                               \
                if (bin <= 2 && !good)                                                                          \
                    continue; /* summed below, without a line between */                                        \
                if (good) {                                                                                     \
                    const uint8_t *restrict g = good + row * raw_nx + first * bin;                              \
                    for (int64_t x = 0; x < width; x++) {                                                       \
                        const WIDE value = g[x] ? (WIDE)v[x] : (WIDE)0;                                         \
                        line[x] = row ? line[x] + value : value;                                                \
                    }                                                                                           \
                } else if (row) {                                                                               \
                    for (int64_t x = 0; x < width; x++)                                                         \
                        line[x] += (WIDE)v[x];                                                                  \
                } else {                                                                                        \
                    for (int64_t x = 0; x < width; x++)                                                         \
                        line[x] = (WIDE)v[x];                                                                   \
                }                                                                                               \
            }                                                                                                   \
            const TYPE *restrict a = rows + first * bin, *restrict b = a + (bin - 1) * raw_nx;                  \
            if (bin == 1 && !good)                                                                              \
                for (int64_t x = 0; x < n; x++)                                                                 \
                    out[first + x] = FINITE((float)(WIDE)a[x]);                                                 \
            else if (bin == 2 && !good)                                                                         \
                for (int64_t x = 0; x < n; x++)                                                                 \
                    out[first + x] = FINITE((float)(((WIDE)a[2 * x] + (WIDE)b[2 * x]) +                         \
                                                    ((WIDE)a[2 * x + 1] + (WIDE)b[2 * x + 1])));                \
            else if (bin == 1)                                                                                  \
                for (int64_t x = 0; x < n; x++)                                                                 \
                    out[first + x] = FINITE((float)line[x]);                                                    \
            else if (bin == 2)                                                                                  \
                for (int64_t x = 0; x < n; x++)                                                                 \
                    out[first + x] = FINITE((float)(line[2 * x] + line[2 * x + 1]));                            \
            else                                                                                                \
                for (int64_t x = 0; x < n; x++) {                                                               \
                    WIDE sum = line[bin * x];                                                                   \
                    for (int64_t k = 1; k < bin; k++)                                                           \
                        sum += line[bin * x + k];                                                               \
                    out[first + x] = FINITE((float)sum);                                                        \
                }                                                                                               \
        }                                                                                                       \
        *n_limit += found;                                                                                      \
    }
SUM_ROW(u8, uint8_t, int32_t, AS_IT_IS)
SUM_ROW(u16, uint16_t, int32_t, AS_IT_IS)
SUM_ROW(i16, int16_t, int32_t, AS_IT_IS)
SUM_ROW(u32, uint32_t, int64_t, AS_IT_IS)
SUM_ROW(i32, int32_t, int64_t, AS_IT_IS)
SUM_ROW(f32, float, float, OR_NAN)

enum { KIND, N_FRAMES, RAW_NY, RAW_NX, NY, NX, BIN, HAS_LIMIT, TAKE_LOG, ROWS_PER_BLOCK, FRAMES_PER_BLOCK, FIRST, N_DIMS };
static const int64_t ITEM_BYTES[] = {1, 2, 2, 4, 4, 4};

static int64_t check(const int64_t *d) {
    if (d[KIND] < 0 || d[KIND] > 5 || d[N_FRAMES] < 0 || d[BIN] < 1 || d[BIN] > 16)
        return -1;
    if (d[NY] < 0 || d[NX] < 0 || d[NX] > (1 << 20) || d[NY] * d[BIN] > d[RAW_NY] || d[NX] * d[BIN] > d[RAW_NX])
        return -2;
    if (d[ROWS_PER_BLOCK] < 1 || d[FIRST] < 0 || d[FIRST] + d[N_FRAMES] > d[FRAMES_PER_BLOCK])
        return -3;
    return 0;
}

static void sum_row(const int64_t *d, const uint8_t *rows, const uint8_t *good, const void *limit, float *sums,
                    int64_t *n_limit) {
    const int has = (int)d[HAS_LIMIT];
#define CASE(I, NAME, TYPE)                                                                             \
    case I: {                                                                                           \
        TYPE at;                                                                                        \
        memcpy(&at, limit, sizeof at);                                                                  \
        sum_row_##NAME((const TYPE *)(const void *)rows, good, d[RAW_NX], d[NX], d[BIN], at, has, sums, n_limit); \
        break;                                                                                          \
    }
    switch (d[KIND]) {
        CASE(0, u8, uint8_t)
        CASE(1, u16, uint16_t)
        CASE(2, i16, int16_t)
        CASE(3, u32, uint32_t)
        CASE(4, i32, int32_t)
        CASE(5, f32, float)
    }
}

/* frames (n_frames, raw_ny, raw_nx) to out, which is (blocks of rows_per_block rows, frames_per_block,
   rows_per_block, nx): the order of the storage chunks that it is written to. `weights`, `rests` and `scales`
   (n_frames) belong to the frames. `total` and `n_finite` (ny, nx) gain the values that are not NaN.
   counts[0] gains the values raised to `least`, counts[1] the raw values from `limit` on. */
BH_EXPORT int64_t BH(correct_frames)(const int64_t *dims, const uint8_t *frames, const uint8_t *good,
                                     const void *limit, const float *dark, const float *before, const float *after,
                                     const float *weights, const float *rests, const float *scales, float least,
                                     float *sums, float *out, double *total, uint32_t *n_finite, int64_t *counts);
int64_t BH(correct_frames)(const int64_t *dims, const uint8_t *frames, const uint8_t *good, const void *limit,
                           const float *dark, const float *before, const float *after, const float *weights,
                           const float *rests, const float *scales, float least, float *sums, float *out,
                           double *total, uint32_t *n_finite, int64_t *counts) {
    const int64_t bad = check(dims);
    if (bad)
        return bad;
    const int64_t nx = dims[NX], bin = dims[BIN], raw_nx = dims[RAW_NX], rows = dims[ROWS_PER_BLOCK];
    const int64_t frame_bytes = dims[RAW_NY] * raw_nx * ITEM_BYTES[dims[KIND]];
    const int64_t row_bytes = bin * raw_nx * ITEM_BYTES[dims[KIND]];
    const int64_t fit = nx ? BAND_BYTES / (24 * nx) : 1, band = fit < 1 ? 1 : fit;
    for (int64_t low = 0; low < dims[NY]; low += band) {
        const int64_t high = dims[NY] - low < band ? dims[NY] : low + band;
        for (int64_t i = 0; i < dims[N_FRAMES]; i++) {
            const bh_correction c = {dark, before, after, weights[i], rests[i], scales[i], least, dims[TAKE_LOG]};
            for (int64_t y = low; y < high; y++) {
                double *restrict t = total + y * nx;
                uint32_t *restrict count = n_finite + y * nx;
                float *restrict o =
                    out + (((y / rows) * dims[FRAMES_PER_BLOCK] + dims[FIRST] + i) * rows + y % rows) * nx;
                sum_row(dims, frames + i * frame_bytes + y * row_bytes, good ? good + y * bin * raw_nx : 0, limit,
                        sums, &counts[1]);
                counts[0] += correct_row(sums, y * nx, nx, &c, o);
                for (int64_t x = 0; x < nx; x++) {
                    const int is = o[x] == o[x];
                    t[x] += is ? (double)o[x] : 0.0;
                    count[x] += (uint32_t)is;
                }
            }
        }
    }
    return 0;
}
