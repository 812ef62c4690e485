/* Neutron events to bins of time, wavelength or d-spacing; event_codes.h says which. */
#include "event_codes.h"

enum { LANES = 4, MAX_LANE_BINS = 2048 };

BH_EXPORT int64_t BH(event_histogram)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type,
                                      int64_t n, const plan_t *plan, int64_t *counts);
BH_EXPORT int64_t BH(event_range)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type,
                                  int64_t n, const plan_t *plan, double above, double *range);

int64_t BH(event_histogram)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type, int64_t n,
                            const plan_t *plan, int64_t *counts) {
    const events_t e = {ids, offsets, id_type, offset_type};
    if (!usable(&e, n, plan) || !counts)
        return -1;
    const int64_t n_codes = plan->n_bins + N_FATES;
    block_t b;
    /* Four tables: the same bin twice in a row does not wait for its own store. A call has below 2^32 events
       in each, because they are added up every 2^30 events. */
    uint32_t lanes[LANES][MAX_LANE_BINS];
    const int by_lanes = n_codes <= MAX_LANE_BINS;
    for (int64_t begin = 0; begin < n; begin += (int64_t)1 << 30) {
        const int64_t end = n - begin < (int64_t)1 << 30 ? n : begin + ((int64_t)1 << 30);
        if (by_lanes)
            for (int k = 0; k < LANES; k++)
                memset(lanes[k], 0, (size_t)n_codes * sizeof lanes[k][0]);
        for (int64_t at = begin; at < end; at += BLOCK) {
            const int64_t m = end - at < BLOCK ? end - at : BLOCK;
            code_block(&e, at, m, plan, &b);
            int64_t i = 0;
            if (by_lanes) {
                for (; i + LANES <= m; i += LANES) {
                    lanes[0][b.code[i]]++;
                    lanes[1][b.code[i + 1]]++;
                    lanes[2][b.code[i + 2]]++;
                    lanes[3][b.code[i + 3]]++;
                }
            }
            for (; i < m; i++)
                counts[b.code[i]]++;
        }
        if (by_lanes)
            for (int64_t c = 0; c < n_codes; c++)
                counts[c] += (int64_t)lanes[0][c] + lanes[1][c] + lanes[2][c] + lanes[3][c];
    }
    return 0;
}

/* Smallest and largest finite coordinate above a bound, of events of good pixels; range is updated. */
int64_t BH(event_range)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type, int64_t n,
                        const plan_t *plan, double above, double *range) {
    const events_t e = {ids, offsets, id_type, offset_type};
    if (!usable(&e, n, plan) || !range)
        return -1;
    block_t b;
    double least = range[0], most = range[1];
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t m = n - at < BLOCK ? n - at : BLOCK;
        place(&e, at, m, plan, &b);
        load(&e, at, m, plan->unit, b.value);
        for (int64_t i = 0; i < m; i++) {
            double v = b.value[i];
            if (plan->n_ids >= 0) {
                const uint32_t at_id = b.place[i];
                if (plan->state ? plan->state[at_id] != 0 : at_id >= (uint32_t)plan->n_ids)
                    continue;
                v = plan->factor ? v * plan->factor[at_id] : v;
            }
            if (!(v > above) || v - v != 0.0)
                continue;
            least = v < least ? v : least;
            most = v > most ? v : most;
        }
    }
    range[0] = least;
    range[1] = most;
    return 0;
}

