/* Neutron events: to bins of time, wavelength or d-spacing, and to cells of a map of pixel by time.

   An event's coordinate is (double)offset * unit, times its pixel's factor where there is a table of them. Its bin
   is the largest k below n_bins with edges[k] <= coordinate, when edges[0] <= coordinate <= edges[n_bins]: the
   bins of numpy.histogram, the last one closed. The bin is guessed by a multiplication, and compared with the
   edges wherever rounding could matter, so the guess never decides. Counts are integers: no order matters.

   Every event gets a code: its bin, or n_bins + one of the four fates. */
#include "kernels.h"

enum { OUTSIDE, MASKED, UNKNOWN, NOT_FINITE, N_FATES };
enum { BLOCK = 1024, LANES = 4, MAX_LANE_BINS = 2048, BUCKET_BITS = 16, MAX_BUCKETS = 4096 };

/* What all events of a bank share; made by kernels/events.py, which checks the lengths.
   n_ids < 0: ids are not looked at. factor, state and row have n_ids + 1 values, the last for ids outside the
   table; any may be null. state: 0 good, else a fate; without it all ids of the table are good. factor: NaN
   where the state is not 0. row: pixel in the map, for good pixels; without it the place in
   the table.

   Guesses. Bins of one width: place = (value - low) * per_cell as an integer, `shift` bits of which stand behind
   the point; a place whose bits behind the point are all 0 or all 1 is compared. Other bins: cell has n_cells
   values, the bin of all values in that cell, or ~(lowest bin) where the cell holds an edge and is compared.
   Integers of 32 bits without factors: steps holds the edges as offsets from first_step, n_steps offsets are inside.
   step = offset - first_step; bins of one width: place = step * step_scale >> step_shift, with step_bits bits behind
   the point, compared where it is within step_near of a border; other bins: the cell step >> step_shift in the
   n_step_cells of step_cell, likewise. */
typedef struct {
    int64_t n_ids, first_id, n_bins, n_cells, shift;
    const double *factor;
    const uint8_t *state;
    const int32_t *row;
    const double *edges;
    const int32_t *cell;
    double unit, per_cell;
    int64_t n_steps, first_step, step_shift, n_step_cells, step_scale, step_bits, step_near;
    const uint32_t *steps;
    const int16_t *step_cell;
} plan_t;

BH_EXPORT int64_t BH(event_histogram)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type,
                                      int64_t n, const plan_t *plan, int64_t *counts);
BH_EXPORT int64_t BH(event_cells)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type,
                                  int64_t n, const plan_t *plan, uint32_t *cells, int64_t *fates);
BH_EXPORT int64_t BH(event_range)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type,
                                  int64_t n, const plan_t *plan, double above, double *range);
BH_EXPORT int64_t BH(sort_cells)(const uint32_t *cells, int64_t n, int64_t n_buckets, uint16_t *sorted,
                                 int64_t *starts);
BH_EXPORT int64_t BH(event_sorted_cells)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type,
                                         int64_t n, const plan_t *plan, int64_t n_buckets, uint32_t *cells,
                                         uint16_t *sorted, int64_t *starts, int64_t *fates);
BH_EXPORT int64_t BH(count_cells_u32)(const uint16_t *const *parts, const int64_t *const *starts, int64_t n_parts,
                                      int64_t n_buckets, int64_t fresh, uint32_t *counts, int64_t n_cells);
BH_EXPORT int64_t BH(count_cells_i64)(const uint16_t *const *parts, const int64_t *const *starts, int64_t n_parts,
                                      int64_t n_buckets, int64_t fresh, int64_t *counts, int64_t n_cells);

/* One block of events on its way: coordinates, places in the table, codes. */
typedef struct {
    double value[BLOCK];
    uint32_t place[BLOCK];
    uint32_t step[BLOCK];
    uint16_t step_cell[BLOCK];
    int32_t code[BLOCK];
} block_t;

#define LOAD(NAME, TYPE)                                                                            \
    static void load_##NAME(const void *from, int64_t at, int64_t n, double unit, double *restrict value) { \
        const TYPE *restrict s = (const TYPE *)from + at;                                           \
        for (int64_t i = 0; i < n; i++)                                                             \
            value[i] = (double)s[i] * unit;                                                         \
    }
LOAD(i32, int32_t)
LOAD(u32, uint32_t)
LOAD(i64, int64_t)
LOAD(f32, float)
LOAD(f64, double)

/* The subtraction wraps: the caller sees to it that the whole table lies within the ids' type. */
#define PLACE(NAME, TYPE, UNSIGNED)                                                                 \
    static void place_##NAME(const void *from, int64_t at, int64_t n, const plan_t *p, uint32_t *restrict place) { \
        const TYPE *restrict s = (const TYPE *)from + at;                                           \
        const UNSIGNED first = (UNSIGNED)p->first_id, last = (UNSIGNED)p->n_ids;                    \
        for (int64_t i = 0; i < n; i++) {                                                           \
            const UNSIGNED d = (UNSIGNED)s[i] - first;                                              \
            place[i] = (uint32_t)(d < last ? d : last);                                             \
        }                                                                                           \
    }
PLACE(i32, int32_t, uint32_t)
PLACE(u32, uint32_t, uint32_t)
PLACE(i64, int64_t, uint64_t)

static int by_steps(const plan_t *p, int64_t offset_type) {
    return p->n_steps > 0 && (offset_type == 0 || offset_type == 1);
}

static int load(const void *offsets, int64_t offset_type, int64_t at, int64_t n, const plan_t *p, block_t *b) {
    switch (offset_type) {
    case 0: load_i32(offsets, at, n, p->unit, b->value); break;
    case 1: load_u32(offsets, at, n, p->unit, b->value); break;
    case 2: load_i64(offsets, at, n, p->unit, b->value); break;
    case 3: load_f32(offsets, at, n, p->unit, b->value); break;
    case 4: load_f64(offsets, at, n, p->unit, b->value); break;
    default: return 0;
    }
    return 1;
}

static int place(const void *ids, int64_t id_type, int64_t at, int64_t n, const plan_t *p, block_t *b) {
    if (p->n_ids < 0)
        return 1;
    switch (id_type) {
    case 0: place_i32(ids, at, n, p, b->place); break;
    case 1: place_u32(ids, at, n, p, b->place); break;
    case 2: place_i64(ids, at, n, p, b->place); break;
    default: return 0;
    }
    return 1;
}

static int usable(const void *ids, const void *offsets, int64_t n, const plan_t *p) {
    return n >= 0 && offsets && p && (ids || p->n_ids < 0) && p->n_ids <= INT32_MAX && p->n_bins >= 1 &&
           p->n_bins < INT32_MAX - N_FATES && p->edges && (!p->cell || (p->n_cells >= 1 && p->n_cells < INT32_MAX)) &&
           (!p->n_steps || (p->steps && p->n_steps > 0 && p->n_steps <= (int64_t)1 << 32 && p->step_shift >= 0 &&
                            p->step_shift < 64 && (!p->step_cell || p->n_step_cells <= UINT16_MAX)));
}

/* The largest bin from `low` on whose first edge is not above the value; edges[low] <= value is known. */
static int32_t exact_bin(double value, int64_t low, const double *edges, int64_t n_bins) {
    int64_t high = n_bins - 1;
    for (int i = 0; i < 4; i++) {
        if (low == high || !(edges[low + 1] <= value))
            return (int32_t)low;
        low++;
    }
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        if (edges[middle] <= value)
            low = middle;
        else
            high = middle - 1;
    }
    return (int32_t)low;
}

static int32_t exact_code(double value, int64_t guess, const plan_t *p) {
    if (!(value >= p->edges[0] && value <= p->edges[p->n_bins]))
        return (int32_t)p->n_bins + (value - value == 0.0 ? OUTSIDE : NOT_FINITE);
    while (guess > 0 && p->edges[guess] > value)
        guess--;
    return exact_bin(value, guess, p->edges, p->n_bins);
}

/* Codes of values in bins of one width. */
static void code_uniform(const plan_t *p, int64_t n, block_t *restrict b) {
    const double low = p->edges[0], per_cell = p->per_cell;
    const int64_t shift = p->shift;
    const int32_t n_bins = (int32_t)p->n_bins, bits = ((int32_t)1 << shift) - 1;
    const double top = (double)(((int64_t)n_bins << shift) + 1);
    const double *restrict value = b->value;
    int32_t *restrict code = b->code;
    int32_t any = 0;
    for (int64_t i = 0; i < n; i++) {
        const double v = value[i];
        double g = (v - low) * per_cell;
        g = g > -1.0 ? g : -1.0;
        g = g < top ? g : top;
        const int32_t place = (int32_t)g;
        const int32_t k = place >> shift, rest = place & bits;
        const int close = (rest == 0) | (rest == bits);
        int32_t c = close ? ~(k < n_bins ? k : n_bins - 1) : k;
        c = place < 0 ? n_bins + OUTSIDE : c;
        c = k >= n_bins && place > (n_bins << shift) ? n_bins + OUTSIDE : c;
        c = v - v == 0.0 ? c : n_bins + NOT_FINITE;
        code[i] = c;
        any |= c;
    }
    if (any >= 0)
        return;
    for (int64_t i = 0; i < n; i++)
        if (code[i] < 0)
            code[i] = exact_code(value[i], ~code[i], p);
}

/* Codes of values in bins of any widths, by a table of cells of one width. */
static void code_cells(const plan_t *p, int64_t n, block_t *restrict b) {
    const double low = p->edges[0], per_cell = p->per_cell, top = (double)(p->n_cells - 1);
    const double *restrict value = b->value;
    int32_t *restrict code = b->code;
    for (int64_t i = 0; i < n; i++) {
        double g = (value[i] - low) * per_cell;
        g = g > 0.0 ? g : 0.0;
        g = g < top ? g : top;
        code[i] = (int32_t)g;
    }
    const double high = p->edges[p->n_bins];
    for (int64_t i = 0; i < n; i++) {
        const int32_t c = p->cell[code[i]];
        const int inside = (value[i] >= low) & (value[i] <= high);
        code[i] = BH_LIKELY((c >= 0) & inside) ? c : exact_code(value[i], c >= 0 ? c : ~c, p);
    }
}

/* Codes of 32-bit integers in bins of one width, in integers. */
static void code_even_steps(const void *offsets, int64_t at, const plan_t *p, int64_t n, block_t *restrict b) {
    const uint32_t *restrict offset = (const uint32_t *)offsets + at;
    const uint32_t first = (uint32_t)p->first_step, last = (uint32_t)(p->n_steps - 1);
    const uint32_t near = (uint32_t)p->step_near, wide = 2 * near, bits = ((uint32_t)1 << p->step_bits) - 1;
    const uint64_t scale = (uint32_t)p->step_scale;
    const int shift = (int)p->step_shift, behind = (int)p->step_bits;
    const int32_t n_bins = (int32_t)p->n_bins;
    uint32_t *restrict step = b->step;
    int32_t *restrict code = b->code;
    int32_t any = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t q = offset[i] - first;
        const uint32_t place = (uint32_t)(((uint64_t)q * scale) >> shift);
        int32_t c = (int32_t)(place >> behind);
        c = ((place + near) & bits) <= wide ? ~c : c;
        c = q <= last ? c : n_bins + OUTSIDE;
        code[i] = c;
        step[i] = q;
        any |= c;
    }
    if (any >= 0)
        return;
    for (int64_t i = 0; i < n; i++) {
        int32_t c = code[i];
        if (c >= 0)
            continue;
        c = ~c > 0 ? ~c - 1 : 0;
        while (c + 1 < n_bins && p->steps[c + 1] <= step[i])
            c++;
        code[i] = c;
    }
}

/* Codes of 32-bit integers in bins of any widths. An event outside is in the cell behind the last. */
static void code_steps(const void *offsets, int64_t at, const plan_t *p, int64_t n, block_t *restrict b) {
    const uint32_t *restrict offset = (const uint32_t *)offsets + at;
    const uint32_t first = (uint32_t)p->first_step, last = (uint32_t)(p->n_steps - 1);
    const uint32_t shift = (uint32_t)p->step_shift;
    const uint16_t behind = (uint16_t)p->n_step_cells;
    uint32_t *restrict step = b->step;
    uint16_t *restrict in = b->step_cell;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t q = offset[i] - first;
        step[i] = q;
        in[i] = q <= last ? (uint16_t)(q >> shift) : behind;
    }
    const int16_t *restrict cell = p->step_cell;
    for (int64_t i = 0; i < n; i++) {
        int32_t c = cell[in[i]];
        if (BH_UNLIKELY(c < 0)) {
            c = ~c;
            while (c + 1 < p->n_bins && p->steps[c + 1] <= step[i])
                c++;
        }
        b->code[i] = c;
    }
}

/* Codes of one block; ids come first, because an event of no pixel is unknown whatever its time. */
static int code_block(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type, int64_t at,
                      int64_t n, const plan_t *p, block_t *restrict b) {
    const int32_t n_bins = (int32_t)p->n_bins;
    if (!place(ids, id_type, at, n, p, b))
        return 0;
    if (by_steps(p, offset_type) && !p->step_cell) {
        code_even_steps(offsets, at, p, n, b);
    } else if (by_steps(p, offset_type)) {
        code_steps(offsets, at, p, n, b);
    } else {
        if (!load(offsets, offset_type, at, n, p, b))
            return 0;
        if (p->n_ids >= 0 && p->factor)
            for (int64_t i = 0; i < n; i++)
                b->value[i] *= p->factor[b->place[i]];
        if (p->cell)
            code_cells(p, n, b);
        else
            code_uniform(p, n, b);
    }
    if (p->n_ids < 0)
        return 1;
    if (p->state && p->factor && !by_steps(p, offset_type)) {
        for (int64_t i = 0; i < n; i++)
            if (BH_UNLIKELY(b->code[i] == n_bins + NOT_FINITE) && p->state[b->place[i]])
                b->code[i] = n_bins + p->state[b->place[i]];
    } else if (p->state) {
        for (int64_t i = 0; i < n; i++) {
            const int32_t s = p->state[b->place[i]];
            b->code[i] = s ? n_bins + s : b->code[i];
        }
    } else {
        const uint32_t last = (uint32_t)p->n_ids;
        for (int64_t i = 0; i < n; i++)
            b->code[i] = b->place[i] < last ? b->code[i] : n_bins + UNKNOWN;
    }
    return 1;
}

int64_t BH(event_histogram)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type, int64_t n,
                            const plan_t *plan, int64_t *counts) {
    if (!usable(ids, offsets, n, plan) || !counts)
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
            if (!code_block(ids, id_type, offsets, offset_type, at, m, plan, &b))
                return -2;
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

/* The cells of one block's events that have one, and what became of the others. */
static int64_t cells_of(const plan_t *p, int64_t m, const block_t *b, uint32_t *restrict cells, int64_t *fates) {
    const int32_t n_bins = (int32_t)p->n_bins;
    int64_t used = 0;
    int32_t most = 0;
    for (int64_t i = 0; i < m; i++)
        most = b->code[i] > most ? b->code[i] : most;
    if (most < n_bins && !p->row) {
        for (int64_t i = 0; i < m; i++)
            cells[i] = b->place[i] * (uint32_t)n_bins + (uint32_t)b->code[i];
        return m;
    }
    for (int64_t i = 0; i < m; i++) {
        const int32_t c = b->code[i];
        const uint32_t row = p->row ? (uint32_t)p->row[b->place[i]] : b->place[i];
        cells[used] = row * (uint32_t)n_bins + (uint32_t)c;
        used += c < n_bins;
        if (BH_UNLIKELY(c >= n_bins))
            fates[c - n_bins]++;
    }
    return used;
}

/* Cells to their buckets; `to` holds how many each has. */
static void order(const uint32_t *restrict cells, int64_t n, int64_t n_buckets, uint32_t *restrict to,
                  uint16_t *restrict sorted, int64_t *starts) {
    uint32_t sum = 0;
    for (int64_t k = 0; k < n_buckets; k++) {
        const uint32_t here = to[k];
        starts[k] = to[k] = sum;
        sum += here;
    }
    starts[n_buckets] = sum;
    for (int64_t i = 0; i < n; i++)
        sorted[to[cells[i] >> BUCKET_BITS]++] = (uint16_t)cells[i];
}

/* The cell of every event that has one, in the events' order; gives their number. Cell: row * n_bins + bin. */
int64_t BH(event_cells)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type, int64_t n,
                        const plan_t *plan, uint32_t *cells, int64_t *fates) {
    if (!usable(ids, offsets, n, plan) || plan->n_ids < 0 || !cells || !fates)
        return -1;
    block_t b;
    int64_t used = 0;
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t m = n - at < BLOCK ? n - at : BLOCK;
        if (!code_block(ids, id_type, offsets, offset_type, at, m, plan, &b))
            return -2;
        used += cells_of(plan, m, &b, cells + used, fates);
    }
    return used;
}

/* Smallest and largest finite coordinate above a bound, of events of good pixels; range is updated. */
int64_t BH(event_range)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type, int64_t n,
                        const plan_t *plan, double above, double *range) {
    if (!usable(ids, offsets, n, plan) || !range)
        return -1;
    block_t b;
    double least = range[0], most = range[1];
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t m = n - at < BLOCK ? n - at : BLOCK;
        if (!place(ids, id_type, at, m, plan, &b) || !load(offsets, offset_type, at, m, plan, &b))
            return -2;
        for (int64_t i = 0; i < m; i++) {
            double v = b.value[i];
            if (plan->n_ids >= 0) {
                const uint32_t place = b.place[i];
                if (plan->state ? plan->state[place] != 0 : place >= (uint32_t)plan->n_ids)
                    continue;
                v = plan->factor ? v * plan->factor[place] : v;
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

/* Cells ordered by bucket: cell >> BUCKET_BITS is the bucket, the bits below are kept. Meant for as many cells as
   fit the cache. starts has n_buckets + 1 values. */
int64_t BH(sort_cells)(const uint32_t *cells, int64_t n, int64_t n_buckets, uint16_t *sorted, int64_t *starts) {
    if (!cells || !sorted || !starts || n < 0 || n > UINT32_MAX || n_buckets < 1 || n_buckets > MAX_BUCKETS)
        return -1;
    uint32_t most = 0, to[MAX_BUCKETS + 1] = {0};
    for (int64_t i = 0; i < n; i++)
        most = cells[i] > most ? cells[i] : most;
    if ((int64_t)(most >> BUCKET_BITS) >= n_buckets)
        return -3;
    for (int64_t i = 0; i < n; i++)
        to[cells[i] >> BUCKET_BITS]++;
    order(cells, n, n_buckets, to, sorted, starts);
    return 0;
}

/* Both in one: events to sorted cells. `cells` has room for all events and holds nothing afterwards. Gives how many
   have a cell. */
int64_t BH(event_sorted_cells)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type, int64_t n,
                               const plan_t *plan, int64_t n_buckets, uint32_t *cells, uint16_t *sorted,
                               int64_t *starts, int64_t *fates) {
    if (!sorted || !starts || n > UINT32_MAX || n_buckets < 1 || n_buckets > MAX_BUCKETS)
        return -1;
    if (!usable(ids, offsets, n, plan) || plan->n_ids < 0 || !cells || !fates)
        return -1;
    uint32_t to[MAX_BUCKETS + 1] = {0};
    block_t b;
    int64_t used = 0;
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t m = n - at < BLOCK ? n - at : BLOCK;
        if (!code_block(ids, id_type, offsets, offset_type, at, m, plan, &b))
            return -2;
        const int64_t made = cells_of(plan, m, &b, cells + used, fates);
        for (int64_t i = 0; i < made; i++) {
            const uint32_t bucket = cells[used + i] >> BUCKET_BITS;
            to[bucket < (uint32_t)n_buckets ? bucket : (uint32_t)n_buckets]++;
        }
        used += made;
    }
    if (to[n_buckets])
        return -3;
    order(cells, used, n_buckets, to, sorted, starts);
    return used;
}

/* Count the cells of several sorted parts, bucket by bucket. A bucket with many events is first brought into the
   cache as a stream: one event after the other would wait for memory each. `fresh` counts held nothing and begin
   with zeros. A cell outside the map ends it with -3. */
#define COUNT(NAME, TYPE)                                                                                       \
    int64_t BH(count_cells_##NAME)(const uint16_t *const *parts, const int64_t *const *starts, int64_t n_parts, \
                                   int64_t n_buckets, int64_t fresh, TYPE *restrict counts, int64_t n_cells) {  \
        if (!parts || !starts || !counts || n_parts < 0 || n_buckets < 0 || n_cells < 0)                        \
            return -1;                                                                                          \
        for (int64_t k = 0; k < n_buckets; k++) {                                                               \
            const int64_t size = (int64_t)1 << BUCKET_BITS, low = k * size;                                     \
            const int64_t room = n_cells - low < size ? n_cells - low : size;                                   \
            const int64_t per_line = 64 / (int64_t)sizeof(TYPE);                                                \
            TYPE *restrict here = counts + low;                                                                 \
            if (fresh && room > 0)                                                                              \
                memset(here, 0, (size_t)room * sizeof *here);                                                   \
            int64_t n = 0;                                                                                      \
            for (int64_t j = 0; j < n_parts; j++)                                                               \
                n += starts[j][k + 1] - starts[j][k];                                                           \
            if (!fresh && n_buckets > 1 && n > room / per_line / 2)                                             \
                for (int64_t c = 0; c < room; c += per_line)                                                    \
                    __builtin_prefetch(here + c, 1, 2);                                                         \
            for (int64_t j = 0; j < n_parts; j++) {                                                             \
                const int64_t ahead = j + 4 < n_parts ? j + 4 : n_parts - 1, end = starts[j][k + 1];            \
                const char *next = (const char *)(parts[ahead] + starts[ahead][k]);                             \
                const char *last = (const char *)(parts[ahead] + starts[ahead][k + 1]);                         \
                for (int64_t line = 0; line < 8 && next + 64 * line < last; line++)                             \
                    __builtin_prefetch(next + 64 * line, 0, 2);                                                 \
                const uint16_t *restrict cells = parts[j];                                                      \
                if (room < size)                                                                                \
                    for (int64_t i = starts[j][k]; i < end; i++)                                                \
                        if ((int64_t)cells[i] >= room)                                                          \
                            return -3;                                                                          \
                for (int64_t i = starts[j][k]; i < end; i++)                                                    \
                    here[cells[i]]++;                                                                           \
            }                                                                                                   \
        }                                                                                                       \
        return 0;                                                                                               \
    }
COUNT(u32, uint32_t)
COUNT(i64, int64_t)
