/* Frames of memory cells with gain stages, and sums over bins of pixels; the constants of cells.

   As in xfel.c, a frame's sum has 16 running sums, and a bin has 4, pixel i in sum i % 4; they are added in order at
   the end: the same on every path. */
#include "kernels.h"

enum { LANES = 16, BIN_LANES = 4, TILE = 512, MAX_FRAMES = 16, MAX_STAGES = 4 };
enum { N_FRAMES, N_PIXELS, N_STAGES, IS_FLOAT, N_BINS };

BH_EXPORT int64_t BH(cell_frames)(const int64_t *dims, const uint8_t *const *frames, const int64_t *planes,
                                  const float *const *weights, const float *const *offsets,
                                  const float *const *thresholds, double *image, int64_t *n_good, int64_t *blank,
                                  double *totals, const int32_t *bins, const double *scale, double *lanes,
                                  double *binned, int64_t *n_bad);
BH_EXPORT int64_t BH(cell_constants)(int64_t n_cells, int64_t n, float *weight, float *offset, const uint8_t *bad,
                                     double *dark);
BH_EXPORT int64_t BH(take_off_cells)(int64_t n_cells, int64_t n, const int64_t *n_of_cell, const float *weight,
                                     const float *offset, double *image, int64_t *n_good);

static inline int is_finite(double v) { return v - v == 0.0; }

/* Values first to first + n of a frame: uint16 as it is or as HDF5's shuffle left it (high bytes from plane on), or
   float32. */
static void load(const uint8_t *frame, int64_t plane, int is_float, int64_t first, int64_t n, double *restrict to) {
    if (is_float) {
        const float *v = (const float *)(const void *)frame + first;
        for (int64_t i = 0; i < n; i++)
            to[i] = (double)v[i];
    } else if (plane) {
        const uint8_t *low = frame + first, *high = frame + plane + first;
        for (int64_t i = 0; i < n; i++)
            to[i] = (double)(uint16_t)(low[i] | (uint16_t)high[i] << 8);
    } else {
        const uint16_t *v = (const uint16_t *)(const void *)frame + first;
        for (int64_t i = 0; i < n; i++)
            to[i] = (double)v[i];
    }
}

/* Weight and offset of each pixel by its gain value: of the last stage whose threshold lies below the value. Stages
   that no pixel of the tile has are not read. */
static void choose_stage(const double *restrict gain, int64_t n_stages, int64_t tile, int64_t n,
                         const float *const *weights, const float *const *offsets, const float *const *thresholds,
                         float *restrict w, float *restrict o) {
    memcpy(w, weights[0] + tile, (size_t)n * sizeof *w);
    memcpy(o, offsets[0] + tile, (size_t)n * sizeof *o);
    for (int64_t s = 1; s < n_stages; s++) {
        const float *restrict t = thresholds[s - 1] + tile;
        const float *restrict ws = weights[s] + tile, *restrict os = offsets[s] + tile;
        int any = 0;
        for (int64_t i = 0; i < n; i++)
            any |= gain[i] > (double)t[i];
        if (!any)
            continue;
        for (int64_t i = 0; i < n; i++) {
            const int above = gain[i] > (double)t[i];
            w[i] = above ? ws[i] : w[i];
            o[i] = above ? os[i] : o[i];
        }
    }
}

/* Corrected values of a tile; 0 where a value is not finite or its weight is 0, and `ok` says where it is neither. */
static void correct(const double *restrict v, const float *restrict w, const float *restrict o, int64_t n,
                    double *restrict x, uint8_t *restrict ok) {
    /* In loops of their own: only then does the compiler vectorise them. */
    if (o)
        for (int64_t i = 0; i < n; i++)
            x[i] = is_finite(v[i]) ? (v[i] - (double)o[i]) * (double)w[i] : 0.0;
    else
        for (int64_t i = 0; i < n; i++)
            x[i] = is_finite(v[i]) ? v[i] * (double)w[i] : 0.0;
    for (int64_t i = 0; i < n; i++)
        ok[i] = (uint8_t)(is_finite(v[i]) & (w[i] != 0.0f));
}

static void count(const double *restrict v, const float *restrict w, const uint8_t *restrict ok, int64_t n,
                  int64_t *restrict n_good, int64_t *restrict blank) {
    if (n_good)
        for (int64_t i = 0; i < n; i++)
            n_good[i] += ok[i];
    if (blank)
        for (int64_t i = 0; i < n; i++)
            blank[i] += !is_finite(v[i]) & (w[i] != 0.0f);
}

static void add(const double *restrict x, int64_t n, double *restrict image, double *restrict lane) {
    double sum[LANES];
    memcpy(sum, lane, sizeof sum);
    const int64_t whole = n / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int k = 0; k < LANES; k++) {
            image[i + k] += x[i + k];
            sum[k] += x[i + k];
        }
    for (int64_t i = whole; i < n; i++) {
        image[i] += x[i];
        sum[i - whole] += x[i];
    }
    memcpy(lane, sum, sizeof sum);
}

/* `bins` are from 0 to n_bins, the last for pixels in none; `lanes` has four sums for each, beside each other. */
static int scatter(const double *restrict x, const uint8_t *restrict ok, const int32_t *restrict bins,
                   const double *restrict scale, int64_t n, int64_t n_bins, double *restrict lanes,
                   int64_t *restrict n_bad) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t b = bins[i];
        if (BH_UNLIKELY(b < 0 || b > n_bins))
            return -1;
        lanes[b * BIN_LANES + i % BIN_LANES] += x[i] * scale[i];
        if (BH_UNLIKELY(!ok[i]))
            n_bad[b]++;
    }
    return 0;
}

/* Several frames, a tile of pixels at a time. Of frame j, weights[j * n_stages + s] and offsets likewise are those of
   stage s, thresholds[j * (n_stages - 1) + s - 1] its gain threshold; with one stage, offsets may be NULL (none is
   taken off). With more, the gain values stand behind the n pixels. Each of n_good (where values were used), blank
   (values that are not finite), and bins (with scale, lanes, binned, n_bad) may be NULL. */
int64_t BH(cell_frames)(const int64_t *dims, const uint8_t *const *frames, const int64_t *planes,
                        const float *const *weights, const float *const *offsets, const float *const *thresholds,
                        double *image, int64_t *n_good, int64_t *blank, double *totals, const int32_t *bins,
                        const double *scale, double *lanes, double *binned, int64_t *n_bad) {
    const int64_t n_frames = dims[N_FRAMES], n = dims[N_PIXELS], n_stages = dims[N_STAGES], n_bins = dims[N_BINS];
    const int is_float = dims[IS_FLOAT] != 0;
    if (n_frames < 0 || n_frames > MAX_FRAMES || n < 0 || n_stages < 1 || n_stages > MAX_STAGES || n_bins < 0 ||
        n_bins > 1 << 24 || (n_stages > 1 && (!offsets || !thresholds)) ||
        (bins && (!scale || !lanes || !binned || !n_bad)))
        return -1;
    double lane[MAX_FRAMES][LANES] = {{0}};
    double v[TILE], gain[TILE], x[TILE];
    float w_of[TILE], o_of[TILE];
    uint8_t ok[TILE];
    const int64_t n_table = n_bins + 1;
    for (int64_t tile = 0; tile < n; tile += TILE) {
        const int64_t size = n - tile < TILE ? n - tile : TILE;
        for (int64_t j = 0; j < n_frames; j++) {
            const float *w = weights[j * n_stages] + tile, *o = offsets ? offsets[j * n_stages] + tile : 0;
            load(frames[j], planes[j], is_float, tile, size, v);
            if (n_stages > 1) {
                load(frames[j], planes[j], is_float, n + tile, size, gain);
                choose_stage(gain, n_stages, tile, size, weights + j * n_stages, offsets + j * n_stages,
                             thresholds + j * (n_stages - 1), w_of, o_of);
                w = w_of;
                o = o_of;
            }
            correct(v, w, o, size, x, ok);
            count(v, w, ok, size, n_good ? n_good + tile : 0, blank && is_float ? blank + tile : 0);
            add(x, size, image + tile, lane[j]);
            if (bins && scatter(x, ok, bins + tile, scale + tile, size, n_bins, lanes + j * BIN_LANES * n_table,
                                n_bad + j * n_table))
                return -1;
        }
    }
    for (int64_t j = 0; j < n_frames; j++) {
        totals[j] = 0.0;
        for (int k = 0; k < LANES; k++)
            totals[j] += lane[j][k];
        const double *t = bins ? lanes + j * BIN_LANES * n_table : 0;
        for (int64_t b = 0; t && b < n_bins; b++)
            binned[j * n_bins + b] =
                ((t[BIN_LANES * b] + t[BIN_LANES * b + 1]) + t[BIN_LANES * b + 2]) + t[BIN_LANES * b + 3];
    }
    return 0;
}

/* Weight 0 and offset 0 where a pixel is bad, its weight 0, or one of them not finite; the sum of weight * offset of
   each cell. */
int64_t BH(cell_constants)(int64_t n_cells, int64_t n, float *weight, float *offset, const uint8_t *bad,
                           double *dark) {
    if (n_cells < 0 || n < 0 || !weight || !offset || !bad || !dark)
        return -1;
    for (int64_t cell = 0; cell < n_cells; cell++) {
        float *restrict w = weight + cell * n, *restrict o = offset + cell * n;
        const uint8_t *restrict b = bad + cell * n;
        double lane[LANES] = {0};
        for (int64_t i = 0; i < n; i++) {
            const int good = (b[i] == 0) & (o[i] - o[i] == 0.0f) & (w[i] - w[i] == 0.0f) & (w[i] != 0.0f);
            w[i] = good ? w[i] : 0.0f;
            o[i] = good ? o[i] : 0.0f;
        }
        const int64_t whole = n / LANES * LANES;
        for (int64_t i = 0; i < whole; i += LANES)
            for (int k = 0; k < LANES; k++)
                lane[k] += (double)o[i + k] * (double)w[i + k];
        for (int64_t i = whole; i < n; i++)
            lane[i - whole] += (double)o[i] * (double)w[i];
        dark[cell] = 0.0;
        for (int k = 0; k < LANES; k++)
            dark[cell] += lane[k];
    }
    return 0;
}

/* The offsets of n_of_cell frames of each cell, weighted, taken off their sum; and how many values went into it. */
int64_t BH(take_off_cells)(int64_t n_cells, int64_t n, const int64_t *n_of_cell, const float *weight,
                           const float *offset, double *image, int64_t *n_good) {
    if (n_cells < 0 || n < 0 || !n_of_cell || !weight || !offset || !image || !n_good)
        return -1;
    for (int64_t tile = 0; tile < n; tile += TILE) {
        const int64_t size = n - tile < TILE ? n - tile : TILE;
        double *restrict to = image + tile;
        int64_t *restrict good = n_good + tile;
        for (int64_t cell = 0; cell < n_cells; cell++) {
            const int64_t n_frames = n_of_cell[cell];
            if (n_frames == 0)
                continue;
            const float *restrict w = weight + cell * n + tile, *restrict o = offset + cell * n + tile;
            for (int64_t i = 0; i < size; i++) {
                to[i] -= (double)n_frames * ((double)w[i] * (double)o[i]);
                good[i] += w[i] != 0.0f ? n_frames : 0;
            }
        }
    }
    return 0;
}
