/* Frames of one memory cell each, weighted and summed: sum of the frame, and a running sum for each pixel.

   A frame's sum has 16 running sums, pixel i in sum i % 16, which are added in order at the end: the same on every
   path. Values that are no finite numbers add nothing and are counted for their pixel. */
#include "kernels.h"

enum { LANES = 16 };

BH_EXPORT int64_t BH(weighted_frame_u16)(const uint16_t *frame, int64_t n, const float *weight, double *image,
                                         double *total);
BH_EXPORT int64_t BH(weighted_frame_f32)(const float *frame, int64_t n, const float *weight, double *image,
                                         int64_t *blank, double *total);

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
