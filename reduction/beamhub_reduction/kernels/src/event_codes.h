/* The bin of each event, for histograms (events.c) and maps (events_map.c).

   An event's coordinate is (double)offset * unit, times its pixel's factor where there is a table of them. Its bin
   is the largest k below n_bins with edges[k] <= coordinate, when edges[0] <= coordinate <= edges[n_bins]: the
   bins of numpy.histogram, the last one closed. Counts are integers: no order matters.

   Every event gets a code: its bin, or n_bins + one of the four fates. Codes are guessed in a way that the plan
   names. A guess is taken only where it is proven; what lies so close to an edge that rounding could matter gets a
   code below zero first, and is then compared with the edges as float64. */
#ifndef BEAMHUB_EVENT_CODES_H
#define BEAMHUB_EVENT_CODES_H

#include <float.h>

#include "kernels.h"

enum { OUTSIDE, MASKED, UNKNOWN, NOT_FINITE, N_FATES };
enum { BLOCK = 1024, PART = 64 };
enum { EVEN_DOUBLES, ANY_DOUBLES, EVEN_STEPS, EVEN_FLOATS, ANY_FLOATS, EVEN_LOGS };

/* What all events of a bank share; made by kernels/event_plan.py, which checks the lengths.
   n_ids < 0: ids are not looked at. factor, state and row have n_ids + 1 values, the last for ids outside the
   table; any may be null. state: 0 good, else a fate; without it all ids of the table are good. state_bits: the
   same, 16 in a word. factor: NaN where the state is not 0. row: pixel in the map, for good pixels; without it the
   place in the table. scale: as float32, NaN with the state in its last bits where it is not 0.

   EVEN_DOUBLES, bins of one width: place = (value - low) * per_cell as an integer, `shift` bits of which stand
   behind the point; all 0 or all 1 there is close. ANY_DOUBLES: cell has n_cells values, the bin of all values in
   that cell, or ~(lowest bin) where the cell holds an edge and all are close.
   EVEN_STEPS, integers of 32 bits without factors: step = offset - first_step, of which n_steps are inside; the
   bin is (step * step_scale + step_bias) >> step_shift. Proven for all edges, so nothing is close.
   EVEN_FLOATS: x = (float)offset * scale, place = x - low; within `near` of a border is close.
   EVEN_LOGS, bins of one ratio: the same with place = log2(x) * per_float_cell.
   ANY_FLOATS: x likewise; its cell from x - low, or from the bits of x where bits_shift >= 0. An x in cell j is in
   bin float_cell[j] if it is up to up_to[j], in the next if it is at least at_least[j], else close: so is all of a
   cell with several edges. The cells n_float_cells and the next are for what is outside and what is not sure.
   inside and sure: what x surely lies inside, and outside. */
typedef struct {
    int64_t n_ids, first_id, n_bins, way, n_cells, shift;
    const double *factor;
    const uint8_t *state;
    const int32_t *row;
    const double *edges;
    const int32_t *cell;
    double unit, per_cell;
    int64_t n_steps, first_step, step_scale, step_shift, step_bias;
    const uint32_t *state_bits;
    const float *scale;
    const float *up_to, *at_least;
    const int32_t *float_cell;
    int64_t n_float_cells, first_bits, bits_shift;
    double scale_all, low, near, per_float_cell, inside_low, inside_high, sure_low, sure_high;
} plan_t;

/* One block of events on its way. */
typedef struct {
    double value[BLOCK];
    float x[BLOCK], scale[BLOCK];
    uint32_t place[BLOCK];
    int32_t code[BLOCK];
} block_t;

typedef struct {
    const void *ids, *offsets;
    int64_t id_type, offset_type;
} events_t;

static inline int usable(const events_t *e, int64_t n, const plan_t *p) {
    if (n < 0 || !e->offsets || !p || (!e->ids && p->n_ids >= 0) || p->n_ids > INT32_MAX || p->n_bins < 1 ||
        p->n_bins >= INT32_MAX - N_FATES || !p->edges || e->offset_type < 0 || e->offset_type > 4 ||
        (p->n_ids >= 0 && (e->id_type < 0 || e->id_type > 2)))
        return 0;
    switch (p->way) {
    case EVEN_DOUBLES: return p->shift >= 0 && p->shift < 31;
    case ANY_DOUBLES: return p->cell && p->n_cells >= 1 && p->n_cells < INT32_MAX;
    case EVEN_STEPS:
        return e->offset_type <= 1 && p->n_steps >= 1 && p->n_steps <= (int64_t)1 << 32 && p->step_shift >= 0 &&
               p->step_shift < 64;
    case EVEN_LOGS:
    case EVEN_FLOATS: return p->n_bins <= INT16_MAX - N_FATES && (p->scale || !p->factor);
    case ANY_FLOATS:
        return p->n_bins <= INT16_MAX - N_FATES && (p->scale || !p->factor) && p->up_to && p->at_least && p->float_cell &&
               p->n_float_cells >= 1 && p->n_float_cells <= 1 << 20 && p->bits_shift < 32;
    default: return 0;
    }
}

#define LOAD(NAME, TYPE)                                                                                       \
    static inline void load_##NAME(const void *from, int64_t at, int64_t n, double unit, double *restrict value) { \
        const TYPE *restrict s = (const TYPE *)from + at;                                                      \
        for (int64_t i = 0; i < n; i++)                                                                        \
            value[i] = (double)s[i] * unit;                                                                    \
    }                                                                                                          \
    static void small_##NAME(const void *from, int64_t at, int64_t n, const float *restrict scale, float all,  \
                             float *restrict x) {                                                              \
        const TYPE *restrict s = (const TYPE *)from + at;                                                      \
        for (int64_t i = 0; scale && i < n; i++)                                                               \
            x[i] = (float)s[i] * scale[i];                                                                     \
        for (int64_t i = 0; !scale && i < n; i++)                                                              \
            x[i] = (float)s[i] * all;                                                                          \
    }
LOAD(i32, int32_t)
LOAD(u32, uint32_t)
LOAD(i64, int64_t)
LOAD(f32, float)
LOAD(f64, double)

/* Coordinates without factors, and offsets as float32; the caller has checked the type. */
static inline void load(const events_t *e, int64_t at, int64_t n, double unit, double *value) {
    switch (e->offset_type) {
    case 0: load_i32(e->offsets, at, n, unit, value); break;
    case 1: load_u32(e->offsets, at, n, unit, value); break;
    case 2: load_i64(e->offsets, at, n, unit, value); break;
    case 3: load_f32(e->offsets, at, n, unit, value); break;
    default: load_f64(e->offsets, at, n, unit, value); break;
    }
}

static inline void load_small(const events_t *e, int64_t at, int64_t n, const plan_t *p, block_t *b) {
    const float *scale = p->scale ? b->scale : 0, all = (float)p->scale_all;
    switch (e->offset_type) {
    case 0: small_i32(e->offsets, at, n, scale, all, b->x); break;
    case 1: small_u32(e->offsets, at, n, scale, all, b->x); break;
    case 2: small_i64(e->offsets, at, n, scale, all, b->x); break;
    case 3: small_f32(e->offsets, at, n, scale, all, b->x); break;
    default: small_f64(e->offsets, at, n, scale, all, b->x); break;
    }
}

/* The subtraction wraps: the caller sees to it that the whole table lies within the ids' type. */
#define PLACE(NAME, TYPE, UNSIGNED)                                                                          \
    static inline void place_##NAME(const void *from, int64_t at, int64_t n, const plan_t *p,                \
                                    uint32_t *restrict place) {                                              \
        const TYPE *restrict s = (const TYPE *)from + at;                                                    \
        const UNSIGNED first = (UNSIGNED)p->first_id, last = (UNSIGNED)p->n_ids;                             \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            const UNSIGNED d = (UNSIGNED)s[i] - first;                                                       \
            place[i] = (uint32_t)(d < last ? d : last);                                                      \
        }                                                                                                    \
    }
PLACE(i32, int32_t, uint32_t)
PLACE(u32, uint32_t, uint32_t)
PLACE(i64, int64_t, uint64_t)

static inline void place(const events_t *e, int64_t at, int64_t n, const plan_t *p, block_t *b) {
    if (p->n_ids < 0)
        return;
    switch (e->id_type) {
    case 0: place_i32(e->ids, at, n, p, b->place); break;
    case 1: place_u32(e->ids, at, n, p, b->place); break;
    default: place_i64(e->ids, at, n, p, b->place); break;
    }
}

/* The code of one value, from a guess below n_bins. */
static inline int32_t exact_code(double value, int64_t low, const plan_t *p) {
    const double *edges = p->edges;
    if (!(value >= edges[0] && value <= edges[p->n_bins]))
        return (int32_t)p->n_bins + (value - value == 0.0 ? OUTSIDE : NOT_FINITE);
    int64_t high = p->n_bins - 1;
    if (edges[low] > value)
        low = low > 0 && edges[low - 1] <= value ? low - 1 : 0;
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

static inline void code_even_doubles(const plan_t *p, int64_t n, block_t *restrict b) {
    const double low = p->edges[0], per_cell = p->per_cell;
    const int64_t shift = p->shift;
    const int32_t n_bins = (int32_t)p->n_bins, bits = ((int32_t)1 << shift) - 1;
    const double top = (double)(((int64_t)n_bins << shift) + 1);
    const double *restrict value = b->value;
    int32_t *restrict code = b->code;
    for (int64_t i = 0; i < n; i++) {
        const double v = value[i];
        double g = (v - low) * per_cell;
        g = g > -1.0 ? g : -1.0;
        g = g < top ? g : top;
        const int32_t cell = (int32_t)g;
        const int32_t k = cell >> shift, rest = cell & bits;
        const int close = (rest == 0) | (rest == bits);
        int32_t c = close ? ~(k < n_bins ? k : n_bins - 1) : k;
        c = cell < 0 ? n_bins + OUTSIDE : c;
        c = k >= n_bins && cell > (n_bins << shift) ? n_bins + OUTSIDE : c;
        code[i] = v - v == 0.0 ? c : n_bins + NOT_FINITE;
    }
}

static inline void code_any_doubles(const plan_t *p, int64_t n, block_t *restrict b) {
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
        code[i] = inside || c < 0 ? c : ~c;
    }
}

static inline void code_even_steps(const events_t *e, int64_t at, const plan_t *p, int64_t n, block_t *restrict b) {
    const uint32_t *restrict offset = (const uint32_t *)e->offsets + at;
    const uint32_t first = (uint32_t)p->first_step, last = (uint32_t)(p->n_steps - 1);
    const uint64_t scale = (uint32_t)p->step_scale, bias = (uint64_t)p->step_bias;
    const int shift = (int)p->step_shift;
    const uint32_t n_bins = (uint32_t)p->n_bins;
    int32_t *restrict code = b->code;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t step = offset[i] - first;
        uint32_t c = (uint32_t)(((uint64_t)step * scale + bias) >> shift);
        c = c < n_bins - 1 ? c : n_bins - 1;
        code[i] = (int32_t)(step <= last ? c : n_bins + OUTSIDE);
    }
}

static inline int32_t bits_of(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_of(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void gather_scales(const float *restrict scale, const uint32_t *restrict place, int64_t n, float *restrict to) {
    for (int64_t i = 0; i < n; i++)
        to[i] = scale[place[i]];
}

static void code_even_floats(const plan_t *p, int64_t n, const float *restrict x, int32_t *restrict code) {
    const float low = (float)p->low, near = (float)p->near, far = 1.0f - near;
    const int32_t n_bins = (int32_t)p->n_bins;
    const float top = (float)n_bins + 0.5f;
    for (int64_t i = 0; i < n; i++) {
        float g = x[i] - low;
        const int32_t finite = g - g == 0.0f;
        g = g > -0.5f ? g : -0.5f;
        g = g < top ? g : top;
        g += 1.0f;
        const int32_t k = (int32_t)g;
        const float rest = g - (float)k;
        const int32_t sure = finite & (rest > near) & (rest < far);
        const int32_t above = k - 1 < n_bins ? k - 1 : n_bins - 1;
        const int32_t c = k < 1 ? n_bins + OUTSIDE : k - 1; /* above them all it is n_bins + OUTSIDE, too */
        code[i] = sure ? c : ~(above > 0 ? above : 0);
    }
}

/* x to its place among bins of one ratio. log2 is a polynomial, less than 2^-18 off; float32 does not overflow and
   what is not above 0.5 is far below the first edge, which is at 1. What is not finite stays so. */
static void places_of_logs(const plan_t *p, int64_t n, float *restrict x) {
    const float per = (float)p->per_float_cell;
    for (int64_t i = 0; i < n; i++) {
        const float v = x[i] > 0.5f ? x[i] : 0.5f;
        const int32_t bits = bits_of(v) - 0x3f3504f3; /* the square root of one half */
        const float t = float_of((bits & 0x7fffff) + 0x3f3504f3) - 1.0f;
        float y = -0x1.a70f4cp-3f;
        y = y * t + 0x1.49e1aap-2f;
        y = y * t + -0x1.785012p-2f;
        y = y * t + 0x1.eada54p-2f;
        y = y * t + -0x1.71382ep-1f;
        y = y * t + 0x1.7155acp+0f;
        y = (y * t + (float)(bits >> 23)) * per;
        x[i] = x[i] - x[i] == 0.0f ? y : x[i];
    }
}

/* Cells first, then what their two borders say. */
static void code_any_floats(const plan_t *p, int64_t n, float *restrict x, int32_t *restrict code) {
    const float low = (float)p->low, per = (float)p->per_float_cell, top = (float)(p->n_float_cells - 1);
    const float in_low = (float)p->inside_low, in_high = (float)p->inside_high;
    const float out_low = (float)p->sure_low, out_high = (float)p->sure_high;
    const int32_t n_cells = (int32_t)p->n_float_cells;
    const int32_t first = (int32_t)p->first_bits, shift = (int32_t)p->bits_shift;
    if (shift >= 0) {
        for (int64_t i = 0; i < n; i++)
            code[i] = (int32_t)((uint32_t)bits_of(x[i]) - (uint32_t)first) >> shift;
    } else {
        for (int64_t i = 0; i < n; i++) {
            float g = (x[i] - low) * per;
            g = g > 0.0f ? g : 0.0f;
            g = g < top ? g : top;
            code[i] = (int32_t)g;
        }
    }
    for (int64_t i = 0; i < n; i++) {
        const float v = x[i];
        int32_t j = code[i];
        j = j > 0 ? j : 0;
        j = j < n_cells ? j : n_cells - 1;
        const int32_t inside = (v >= in_low) & (v <= in_high);
        const int32_t outside = ((v < out_low) | (v > out_high)) & (v - v == 0.0f);
        code[i] = inside ? j : outside ? n_cells : n_cells + 1;
    }
    const int32_t *restrict bin = p->float_cell;
    const float *restrict up_to = p->up_to, *restrict at_least = p->at_least;
    for (int64_t i = 0; i < n; i++) {
        const int32_t j = code[i];
        const int32_t next = x[i] >= at_least[j], beyond = !(x[i] <= up_to[j]);
        code[i] = (bin[j] + next) ^ -(next ^ beyond);
    }
}

static void state_codes(const float *restrict scale, int64_t n, int32_t n_bins, int32_t *restrict code) {
    for (int64_t i = 0; i < n; i++) {
        const int32_t bits = bits_of(scale[i]) & INT32_MAX;
        code[i] = bits > 0x7f800000 ? n_bins + (bits & 3) : code[i];
    }
}

static inline void code_floats(const events_t *e, int64_t at, const plan_t *p, int64_t n, block_t *b) {
    if (p->scale)
        gather_scales(p->scale, b->place, n, b->scale);
    load_small(e, at, n, p, b);
    if (p->way == EVEN_LOGS)
        places_of_logs(p, n, b->x);
    if (p->way == ANY_FLOATS)
        code_any_floats(p, n, b->x, b->code);
    else
        code_even_floats(p, n, b->x, b->code);
    if (p->scale)
        state_codes(b->scale, n, (int32_t)p->n_bins, b->code);
}

static inline double offset_of(const events_t *e, int64_t at) {
    switch (e->offset_type) {
    case 0: return ((const int32_t *)e->offsets)[at];
    case 1: return ((const uint32_t *)e->offsets)[at];
    case 2: return (double)((const int64_t *)e->offsets)[at];
    case 3: return ((const float *)e->offsets)[at];
    default: return ((const double *)e->offsets)[at];
    }
}

/* What was close is compared with the edges. */
static inline void decide(const events_t *e, int64_t at, const plan_t *p, int64_t n, block_t *restrict b) {
    int32_t *restrict code = b->code;
    for (int64_t from = 0; from < n; from += PART) {
        const int64_t to = n - from < PART ? n : from + PART;
        int32_t any = 0;
        for (int64_t i = from; i < to; i++)
            any |= code[i];
        if (any >= 0)
            continue;
        for (int64_t i = from; i < to; i++) {
            if (code[i] >= 0)
                continue;
            double value = offset_of(e, at + i) * p->unit;
            if (p->factor)
                value *= p->factor[b->place[i]];
            code[i] = exact_code(value, ~code[i], p);
        }
    }
}

/* Codes of one block. An event of no pixel is unknown whatever its time, so the states come last. */
static inline void code_block(const events_t *e, int64_t at, int64_t n, const plan_t *p, block_t *restrict b) {
    const int32_t n_bins = (int32_t)p->n_bins;
    place(e, at, n, p, b);
    if (p->way == EVEN_STEPS) {
        code_even_steps(e, at, p, n, b);
    } else if (p->way >= EVEN_FLOATS) {
        code_floats(e, at, p, n, b);
        decide(e, at, p, n, b);
        if (p->scale)
            return;
    } else {
        load(e, at, n, p->unit, b->value);
        if (p->n_ids >= 0 && p->factor)
            for (int64_t i = 0; i < n; i++)
                b->value[i] *= p->factor[b->place[i]];
        if (p->way == EVEN_DOUBLES)
            code_even_doubles(p, n, b);
        else
            code_any_doubles(p, n, b);
        decide(e, at, p, n, b);
    }
    if (p->n_ids < 0)
        return;
    int32_t *restrict code = b->code;
    const uint32_t *restrict place = b->place;
    if (p->state_bits) {
        const uint32_t *restrict words = p->state_bits;
        for (int64_t i = 0; i < n; i++) {
            const int32_t s = (int32_t)(words[place[i] >> 4] >> 2 * (place[i] & 15)) & 3;
            code[i] = s ? n_bins + s : code[i];
        }
    } else {
        const uint32_t last = (uint32_t)p->n_ids;
        for (int64_t i = 0; i < n; i++)
            code[i] = place[i] < last ? code[i] : n_bins + UNKNOWN;
    }
}

#endif
