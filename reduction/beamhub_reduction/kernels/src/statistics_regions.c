/* Counts of regions of each frame, and its first moments; exact integers, values above `limit` are none.
   A region is runs of pixels: spans (n_spans, 3) of first pixel, end pixel, region. */
#include "statistics.h"

#define BH_STRIP 1024 /* columns that are summed together */
#define BH_RUN 65536  /* pixels whose sum of 16-bit values fits 32 bits */

BH_EXPORT int64_t BH(region_sums)(const void *frames, const int64_t *shape, uint64_t limit,
                                  const uint8_t *blank, const int64_t *spans, int64_t *sums, int64_t *valid);
BH_EXPORT int64_t BH(frame_moments)(const void *frames, const int64_t *shape, uint64_t limit,
                                    const void *counts_not, int64_t *sums, double *moments);

/* A pixel that counts adds its value and one. A row's sum and its share of the columns come from one reading. */
#define REGIONS(T, WIDE, NAME)                                                                               \
    static void span_##NAME(const T *restrict row, const uint8_t *restrict blank, int64_t n, T limit,        \
                            int64_t *sum, int64_t *valid) {                                                  \
        for (int64_t done = 0; done < n; done += BH_RUN) {                                                   \
            const int64_t end = n - done < BH_RUN ? n : done + BH_RUN;                                       \
            WIDE total = 0;                                                                                  \
            uint32_t count = 0;                                                                              \
            if (blank)                                                                                       \
                for (int64_t i = done; i < end; i++) {                                                       \
                    const int ok = (row[i] <= limit) & !blank[i];                                            \
                    total += ok ? row[i] : 0, count += (uint32_t)ok;                                         \
                }                                                                                            \
            else                                                                                             \
                for (int64_t i = done; i < end; i++) {                                                       \
                    const int ok = row[i] <= limit;                                                          \
                    total += ok ? row[i] : 0, count += (uint32_t)ok;                                         \
                }                                                                                            \
            *sum += (int64_t)total, *valid += count;                                                         \
        }                                                                                                    \
    }                                                                                                        \
    BH_APART static void columns_##NAME(const T *restrict row, const T *restrict masked, int64_t n, T limit, \
                                        WIDE *restrict columns) {                                            \
        for (int64_t x = 0; x < n; x++) {                                                                    \
            const T v = row[x] | masked[x], counted = v <= limit ? v : 0;                                    \
            columns[x] += counted;                                                                           \
        }                                                                                                    \
    }                                                                                                        \
    BH_APART static WIDE row_##NAME(const T *restrict row, const T *restrict masked, int64_t n, T limit) {   \
        WIDE total = 0;                                                                                      \
        for (int64_t x = 0; x < n; x++) {                                                                    \
            const T v = row[x] | masked[x], counted = v <= limit ? v : 0;                                    \
            total += counted;                                                                                \
        }                                                                                                    \
        return total;                                                                                        \
    }                                                                                                        \
    BH_APART static WIDE both_##NAME(const T *restrict row, const T *restrict masked, int64_t n, T limit,    \
                                     WIDE *restrict columns) {                                               \
        WIDE total = 0;                                                                                      \
        for (int64_t x = 0; x < n; x++) {                                                                    \
            const T v = row[x] | masked[x], counted = v <= limit ? v : 0;                                    \
            columns[x] += counted, total += counted;                                                         \
        }                                                                                                    \
        return total;                                                                                        \
    }                                                                                                        \
    static void moments_##NAME(const T *frame, const T *not, int64_t ny, int64_t nx, T limit, int64_t *sum,  \
                               double *moments) {                                                            \
        int64_t whole = 0;                                                                                   \
        double by_y = 0.0, by_x = 0.0;                                                                       \
        for (int64_t first = 0; first < nx; first += BH_STRIP) {                                             \
            const int64_t n = nx - first < BH_STRIP ? nx - first : BH_STRIP;                                 \
            WIDE columns[BH_STRIP] = {0};                                                                    \
            for (int64_t y = 0; y < ny; y++) {                                                               \
                const T *row = frame + y * nx + first, *off = not + y * nx + first;                          \
                if (first) {                                                                                 \
                    columns_##NAME(row, off, n, limit, columns);                                             \
                    continue;                                                                                \
                }                                                                                            \
                WIDE total = both_##NAME(row, off, n, limit, columns);                                       \
                if (n < nx)                                                                                  \
                    total += row_##NAME(row + n, off + n, nx - n, limit);                                    \
                whole += (int64_t)total;                                                                     \
                by_y += (double)total * (double)y;                                                           \
            }                                                                                                \
            for (int64_t x = 0; x < n; x++)                                                                  \
                by_x += (double)columns[x] * (double)(first + x);                                            \
        }                                                                                                    \
        *sum = whole, moments[0] = by_y, moments[1] = by_x;                                                  \
    }

/* Rows and columns of 65536 values of the first type fit the second. */
REGIONS(uint8_t, uint32_t, u8)
REGIONS(uint16_t, uint32_t, u16)
REGIONS(uint32_t, uint64_t, u32)

/* shape: item_bytes, n_frames, n_pixels, n_spans, n_regions. sums, valid: (n_frames, n_regions), added to. */
int64_t BH(region_sums)(const void *frames, const int64_t *shape, uint64_t limit, const uint8_t *blank,
                        const int64_t *spans, int64_t *sums, int64_t *valid) {
    const int64_t item = shape[0], n_frames = shape[1], n = shape[2], n_spans = shape[3], n_regions = shape[4];
    if (n_frames < 0 || n < 0 || n_spans < 0 || n_regions < 0 || (item != 1 && item != 2 && item != 4))
        return -1;
    for (int64_t j = 0; j < n_spans; j++)
        if (spans[3 * j] < 0 || spans[3 * j + 1] < spans[3 * j] || spans[3 * j + 1] > n ||
            spans[3 * j + 2] < 0 || spans[3 * j + 2] >= n_regions)
            return -2;
    for (int64_t k = 0; k < n_frames; k++)
        for (int64_t j = 0; j < n_spans; j++) {
            const int64_t first = k * n + spans[3 * j], size = spans[3 * j + 1] - spans[3 * j];
            const int64_t to = k * n_regions + spans[3 * j + 2];
            const uint8_t *not = blank ? blank + first : NULL;
            if (item == 1)
                span_u8((const uint8_t *)frames + first, not, size, (uint8_t)limit, sums + to, valid + to);
            else if (item == 2)
                span_u16((const uint16_t *)frames + first, not, size, (uint16_t)limit, sums + to, valid + to);
            else
                span_u32((const uint32_t *)frames + first, not, size, (uint32_t)limit, sums + to, valid + to);
        }
    return 0;
}

/* counts_not: of the frames' type, all bits set where a value does not count, else 0.
   shape: item_bytes, n_frames, ny, nx, own (1: counts_not is (n_frames, ny, nx), else (ny, nx)). sums (n_frames,),
   moments (n_frames, 2): sums of value * y and value * x, rows and columns exact, then added in order. */
int64_t BH(frame_moments)(const void *frames, const int64_t *shape, uint64_t limit, const void *counts_not,
                          int64_t *sums, double *moments) {
    const int64_t item = shape[0], n_frames = shape[1], ny = shape[2], nx = shape[3], own = shape[4];
    if (n_frames < 0 || ny < 0 || nx < 0 || nx > 65536 || ny > 65536 || (item != 1 && item != 2 && item != 4))
        return -1;
    for (int64_t k = 0; k < n_frames; k++) {
        const uint8_t *frame = (const uint8_t *)frames + k * ny * nx * item;
        const uint8_t *not = (const uint8_t *)counts_not + (own ? k * ny * nx * item : 0);
        if (item == 1)
            moments_u8(frame, not, ny, nx, (uint8_t)limit, sums + k, moments + 2 * k);
        else if (item == 2)
            moments_u16((const uint16_t *)frame, (const uint16_t *)(const void *)not, ny, nx, (uint16_t)limit, sums + k, moments + 2 * k);
        else
            moments_u32((const uint32_t *)frame, (const uint32_t *)(const void *)not, ny, nx, (uint32_t)limit, sums + k, moments + 2 * k);
    }
    return 0;
}
