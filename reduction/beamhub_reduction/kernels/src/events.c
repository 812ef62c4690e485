/* Neutron events to bins of time, wavelength or d-spacing; event_codes.h says which. */
#include "read_at.h"

#include "event_codes.h"

enum { LANES = 4, MAX_LANE_BINS = 2048 };

BH_EXPORT int64_t BH(event_histogram)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type,
                                      int64_t n, const plan_t *plan, int64_t *counts);
BH_EXPORT int64_t BH(event_histogram_stored)(int64_t id_file, int64_t id_at, int64_t id_type, int64_t offset_file,
                                             int64_t offset_at, int64_t offset_type, int64_t n, const plan_t *plan,
                                             uint8_t *buffer, int64_t n_buffer, int64_t *counts);
BH_EXPORT int64_t BH(event_range)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type,
                                  int64_t n, const plan_t *plan, double above, double *range);

/* Four tables: the same bin twice in a row does not wait for its own store. */
typedef struct {
    uint32_t lanes[LANES][MAX_LANE_BINS];
    int64_t n_waiting;
    block_t block;
} tables_t;

static int by_lanes(const plan_t *p) { return p->n_bins + N_FATES <= MAX_LANE_BINS; }

static void add_lanes(const plan_t *p, tables_t *t, int64_t *counts) {
    if (!by_lanes(p))
        return;
    for (int64_t c = 0; c < p->n_bins + N_FATES; c++) {
        counts[c] += (int64_t)t->lanes[0][c] + t->lanes[1][c] + t->lanes[2][c] + t->lanes[3][c];
        for (int k = 0; k < LANES; k++)
            t->lanes[k][c] = 0;
    }
    t->n_waiting = 0;
}

static void begin_lanes(const plan_t *p, tables_t *t) {
    t->n_waiting = 0;
    for (int k = 0; by_lanes(p) && k < LANES; k++)
        memset(t->lanes[k], 0, (size_t)(p->n_bins + N_FATES) * sizeof t->lanes[k][0]);
}

/* Count events; some of them wait in the lanes, where no number reaches 2^32. */
static void count(const events_t *e, int64_t n, const plan_t *p, tables_t *t, int64_t *counts) {
    const int in_lanes = by_lanes(p);
    const int32_t *code = t->block.code;
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t m = n - at < BLOCK ? n - at : BLOCK;
        code_block(e, at, m, p, &t->block);
        int64_t i = 0;
        if (in_lanes) {
            for (; i + LANES <= m; i += LANES) {
                t->lanes[0][code[i]]++;
                t->lanes[1][code[i + 1]]++;
                t->lanes[2][code[i + 2]]++;
                t->lanes[3][code[i + 3]]++;
            }
            t->n_waiting += m;
            if (t->n_waiting >= (int64_t)1 << 31)
                add_lanes(p, t, counts);
        }
        for (; i < m; i++)
            counts[code[i]]++;
    }
}

int64_t BH(event_histogram)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type, int64_t n,
                            const plan_t *plan, int64_t *counts) {
    const events_t e = {ids, offsets, id_type, offset_type};
    if (!usable(&e, n, plan) || !counts)
        return -1;
    tables_t t;
    begin_lanes(plan, &t);
    count(&e, n, plan, &t, counts);
    add_lanes(plan, &t, counts);
    return 0;
}

/* The same for n events that lie in files as they are, from the bytes id_at and offset_at on; id_file is not looked
   at when the plan has no ids. buffer has room for n_buffer events of 8 bytes, twice. Gives how many events were
   counted: fewer than n where a file ended. */
int64_t BH(event_histogram_stored)(int64_t id_file, int64_t id_at, int64_t id_type, int64_t offset_file,
                                   int64_t offset_at, int64_t offset_type, int64_t n, const plan_t *plan,
                                   uint8_t *buffer, int64_t n_buffer, int64_t *counts) {
    static const int8_t id_bytes[] = {4, 4, 8}, offset_bytes[] = {4, 4, 8, 4, 8};
    const events_t e = {buffer, buffer + 8 * n_buffer, id_type, offset_type};
    if (!buffer || n_buffer < 1 || n_buffer > 1 << 24 || id_at < 0 || offset_at < 0 || id_at > BH_FAR ||
        offset_at > BH_FAR || n > BH_FAR / 8 || !usable(&e, n, plan) || !counts)
        return -1;
    const int with_ids = plan->n_ids >= 0;
    const int64_t per_offset = offset_bytes[offset_type], per_id = with_ids ? id_bytes[id_type] : 0;
    tables_t t;
    begin_lanes(plan, &t);
    int64_t at = 0, got = 0;
    while (at < n) {
        int64_t m = n - at < n_buffer ? n - at : n_buffer;
        const int64_t wanted = m;
        if (with_ids) {
            got = read_at((int)id_file, id_at + at * per_id, m * per_id, buffer);
            if (got < 0)
                break;
            m = got / per_id;
        }
        got = read_at((int)offset_file, offset_at + at * per_offset, m * per_offset, buffer + 8 * n_buffer);
        if (got < 0)
            break;
        m = got / per_offset;
        count(&e, m, plan, &t, counts);
        at += m;
        if (m < wanted)
            break;
    }
    add_lanes(plan, &t, counts);
    return got < 0 ? got : at;
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

