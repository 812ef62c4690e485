/* What all events of a bank share, and one block of events on its way: see event_codes.h. */
#ifndef BEAMHUB_EVENT_PLAN_H
#define BEAMHUB_EVENT_PLAN_H

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

#endif
