/* Maps of a scan straight from stored bitshuffle-LZ4 chunks: each frame is decoded into one buffer, which stays in
   the second cache, and summed there by the kernels of statistics_regions.c. */
#include "containers.h"

BH_EXPORT int64_t BH(region_sums)(const void *frames, const int64_t *shape, uint64_t limit,
                                  const uint8_t *blank, const int64_t *spans, int64_t *sums, int64_t *valid);
BH_EXPORT int64_t BH(frame_moments)(const void *frames, const int64_t *shape, uint64_t limit,
                                    const void *counts_not, int64_t *sums, double *moments);

/* Chunk k is data[offsets[k], offsets[k] + sizes[k]); rows k of sums, valid (n_regions), totals and moments (2) are
   added to. counts_not as for frame_moments, NULL for no moments. status[k]: 0, or what is wrong with the chunk:
   then its rows are as they were. `frame` holds one decoded frame, `blocks` two blocks. */
typedef struct {
    const uint8_t *data;
    int64_t n_data, n_frames;
    const int64_t *offsets, *sizes;
    int64_t item_bytes, ny, nx;
    uint64_t limit;
    const int64_t *spans;
    int64_t n_spans, n_regions;
    const void *counts_not;
    uint8_t *frame, *blocks;
    int64_t n_frame, n_blocks;
    int64_t *sums, *valid, *totals;
    double *moments;
    int64_t *status;
} bh_stored_maps;

BH_EXPORT int64_t BH(stored_maps)(const bh_stored_maps *s);

/* The number of chunks whose status is not 0, or BH_BAD_CALL for arguments that nothing can have. */
int64_t BH(stored_maps)(const bh_stored_maps *s) {
    const int64_t item = s->item_bytes, ny = s->ny, nx = s->nx;
    if ((item != 1 && item != 2 && item != 4) || ny < 0 || nx < 0 || ny > 65536 || nx > 65536 || s->n_frames < 0 ||
        s->n_data < 0 || s->n_frame < ny * nx * item)
        return BH_BAD_CALL;
    const int64_t regions[5] = {item, 1, ny * nx, s->n_spans, s->n_regions}, image[5] = {item, 1, ny, nx, 0};
    int64_t n_failed = 0;
    for (int64_t k = 0; k < s->n_frames; k++) {
        const int64_t at = s->offsets[k], size = s->sizes[k];
        if (at < 0 || size < 0 || at > s->n_data || size > s->n_data - at)
            return BH_BAD_CALL;
        s->status[k] = bh_bslz4(s->data + at, size, item, s->frame, ny * nx * item, s->blocks, s->n_blocks);
        if (s->status[k]) {
            n_failed++;
            continue;
        }
        int64_t *sums = s->sums + k * s->n_regions, *valid = s->valid + k * s->n_regions;
        if (BH(region_sums)(s->frame, regions, s->limit, NULL, s->spans, sums, valid) < 0)
            return BH_BAD_CALL;
        if (s->counts_not && BH(frame_moments)(s->frame, image, s->limit, s->counts_not, s->totals + k, s->moments + 2 * k) < 0)
            return BH_BAD_CALL;
    }
    return n_failed;
}
