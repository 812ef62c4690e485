/* Neutron events to cells of a map of pixel by bin: cells are ordered by parts of the map that fit the cache, and
   counted part after part. */
#include "event_codes.h"

enum { BUCKET_BITS = 16, MAX_BUCKETS = 4096 };

BH_EXPORT int64_t BH(event_cells)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type,
                                  int64_t n, const plan_t *plan, uint32_t *cells, int64_t *fates);
BH_EXPORT int64_t BH(event_map)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type, int64_t n,
                                const plan_t *plan, uint32_t *counts, int64_t n_cells, int64_t *fates);
BH_EXPORT int64_t BH(sort_cells)(const uint32_t *cells, int64_t n, int64_t n_buckets, uint16_t *sorted,
                                 int64_t *starts);
BH_EXPORT int64_t BH(event_sorted_cells)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type,
                                         int64_t n, const plan_t *plan, int64_t n_buckets, uint32_t *cells,
                                         uint16_t *sorted, int64_t *starts, int64_t *fates);
BH_EXPORT int64_t BH(count_cells_u32)(const uint16_t *const *parts, const int64_t *const *starts, int64_t n_parts,
                                      int64_t n_buckets, int64_t fresh, uint32_t *counts, int64_t n_cells);
BH_EXPORT int64_t BH(count_cells_i64)(const uint16_t *const *parts, const int64_t *const *starts, int64_t n_parts,
                                      int64_t n_buckets, int64_t fresh, int64_t *counts, int64_t n_cells);

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
    const events_t e = {ids, offsets, id_type, offset_type};
    if (!usable(&e, n, plan) || plan->n_ids < 0 || !cells || !fates)
        return -1;
    block_t b;
    int64_t used = 0;
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t m = n - at < BLOCK ? n - at : BLOCK;
        code_block(&e, at, m, plan, &b);
        used += cells_of(plan, m, &b, cells + used, fates);
    }
    return used;
}

/* Events counted where they belong, for maps that stay in the cache; gives how many have a cell. A cell outside the
   map ends it with -3. */
int64_t BH(event_map)(const void *ids, int64_t id_type, const void *offsets, int64_t offset_type, int64_t n,
                      const plan_t *plan, uint32_t *counts, int64_t n_cells, int64_t *fates) {
    const events_t e = {ids, offsets, id_type, offset_type};
    if (!usable(&e, n, plan) || plan->n_ids < 0 || !counts || n_cells < 0 || !fates)
        return -1;
    block_t b;
    uint32_t cells[BLOCK];
    int64_t used = 0;
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t m = n - at < BLOCK ? n - at : BLOCK;
        code_block(&e, at, m, plan, &b);
        const int64_t made = cells_of(plan, m, &b, cells, fates);
        uint32_t most = 0;
        for (int64_t i = 0; i < made; i++)
            most = cells[i] > most ? cells[i] : most;
        if (made && (int64_t)most >= n_cells)
            return -3;
        for (int64_t i = 0; i < made; i++)
            counts[cells[i]]++;
        used += made;
    }
    return used;
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
    const events_t e = {ids, offsets, id_type, offset_type};
    if (!usable(&e, n, plan) || plan->n_ids < 0 || !cells || !fates)
        return -1;
    uint32_t to[MAX_BUCKETS + 1] = {0};
    block_t b;
    int64_t used = 0;
    for (int64_t at = 0; at < n; at += BLOCK) {
        const int64_t m = n - at < BLOCK ? n - at : BLOCK;
        code_block(&e, at, m, plan, &b);
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
