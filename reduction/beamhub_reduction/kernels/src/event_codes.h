/* The bin of each event, for histograms (events.c) and maps (events_map.c).

   An event's coordinate is (double)offset * unit, times its pixel's factor where there is a table of them. Its bin
   is the largest k below n_bins with edges[k] <= coordinate, when edges[0] <= coordinate <= edges[n_bins]: the
   bins of numpy.histogram, the last one closed. Counts are integers: no order matters.

   Every event gets a code: its bin, or n_bins + one of the four fates. Codes are guessed in a way that the plan
   names. A guess is taken only where it is proven; what lies so close to an edge that rounding could matter gets a
   code below zero first, and is then compared with the edges as float64. */
#ifndef BEAMHUB_EVENT_CODES_H
#define BEAMHUB_EVENT_CODES_H

#include "event_plan.h"

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
