/* Frames of one memory cell each, weighted and summed: sum of the frame, and a running sum for each pixel.

   A frame's sum has 16 running sums, pixel i in sum i % 16, which are added in order at the end: the same on every
   path. Values that are no finite numbers add nothing and are counted for their pixel. */
#include "kernels.h"

enum { LANES = 16, TILE = 512, MAX_FRAMES = 16 };

BH_EXPORT int64_t BH(weighted_frame_u16)(const uint16_t *frame, int64_t n, const float *weight, double *image,
                                         double *total);
BH_EXPORT int64_t BH(weighted_frame_f32)(const float *frame, int64_t n, const float *weight, double *image,
                                         int64_t *blank, double *total);

BH_EXPORT int64_t BH(weighted_frames_u16)(const uint8_t *const *frames, const int64_t *planes, int64_t n_frames,
                                          int64_t n, const float *const *weights, double *image, double *totals);

static double in_order(const double *lane) {
    double sum = 0.0;
    for (int k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

int64_t BH(weighted_frame_u16)(const uint16_t *frame, int64_t n, const float *weight, double *restrict image,
                               double *total) {
    if (!frame || !weight || !image || !total || n < 0)
        return -1;
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const double x = (double)frame[i + k] * (double)weight[i + k];
            image[i + k] += x;
            lane[k] += x;
        }
    for (int k = 0; i < n; i++, k++) {
        const double x = (double)frame[i] * (double)weight[i];
        image[i] += x;
        lane[k] += x;
    }
    *total = in_order(lane);
    return 0;
}

int64_t BH(weighted_frame_f32)(const float *frame, int64_t n, const float *weight, double *restrict image,
                               int64_t *restrict blank, double *total) {
    if (!frame || !weight || !image || !blank || !total || n < 0)
        return -1;
    double lane[LANES] = {0};
    for (int64_t i = 0; i < n; i++) {
        const int good = frame[i] - frame[i] == 0.0f;
        const double x = good ? (double)frame[i] * (double)weight[i] : 0.0;
        image[i] += x;
        blank[i] += !good & (weight[i] != 0.0f);
        lane[i % LANES] += x;
    }
    *total = in_order(lane);
    return 0;
}

/* Low and high bytes to pixels. */
static void join(const uint8_t *restrict low, const uint8_t *restrict high, int64_t n, uint16_t *restrict to) {
    for (int64_t i = 0; i < n; i++)
        to[i] = (uint16_t)(low[i] | (uint16_t)high[i] << 8);
}

/* n is a multiple of LANES. */
static void add_tile(const uint16_t *restrict v, const float *restrict weight, int64_t n, double *restrict image,
                     double *restrict sum) {
    double lane[LANES];
    memcpy(lane, sum, sizeof lane);
    for (int64_t i = 0; i < n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const double x = (double)v[i + k] * (double)weight[i + k];
            image[i + k] += x;
            lane[k] += x;
        }
    memcpy(sum, lane, sizeof lane);
}

static inline uint16_t pixel_of(const uint8_t *frame, int64_t plane, int64_t at) {
    uint16_t v;
    if (plane)
        return (uint16_t)(frame[at] | frame[plane + at] << 8);
    memcpy(&v, frame + 2 * at, sizeof v);
    return v;
}

/* Several frames in turn, a tile of pixels at a time, so that the image is read and written once for all of them;
   the same sums as frame by frame. Where planes[j] is not 0, frame j is as HDF5's shuffle left it, and its high bytes
   begin there. */
int64_t BH(weighted_frames_u16)(const uint8_t *const *frames, const int64_t *planes, int64_t n_frames, int64_t n,
                                const float *const *weights, double *restrict image, double *totals) {
    if (!frames || !planes || !weights || !image || !totals || n < 0 || n_frames < 0 || n_frames > MAX_FRAMES)
        return -1;
    double lane[MAX_FRAMES][LANES] = {{0}};
    uint16_t v[TILE];
    const int64_t whole = n / LANES * LANES;
    for (int64_t tile = 0; tile < whole; tile += TILE) {
        const int64_t end = whole - tile < TILE ? whole : tile + TILE;
        for (int64_t j = 0; j < n_frames; j++) {
            if (planes[j])
                join(frames[j] + tile, frames[j] + planes[j] + tile, end - tile, v);
            else
                memcpy(v, frames[j] + 2 * tile, (size_t)(end - tile) * sizeof *v);
            add_tile(v, weights[j] + tile, end - tile, image + tile, lane[j]);
        }
    }
    for (int64_t j = 0; j < n_frames; j++) {
        for (int64_t i = whole; i < n; i++) {
            const double x = (double)pixel_of(frames[j], planes[j], i) * (double)weights[j][i];
            image[i] += x;
            lane[j][i - whole] += x;
        }
        totals[j] = in_order(lane[j]);
    }
    return 0;
}
