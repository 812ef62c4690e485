/* Sum, sum of squares, smallest, largest and number of values of each pixel over frames; counts of each frame.

   Integers: exact, so their order does not matter. A tile of pixels is summed in 32 bits first; if its largest
   value shows that this may have wrapped, the tile is summed again in 64 bits. The sum of squares is kept in
   two words, so that squares of 32-bit values cannot overflow in 2^32 frames.
   Floating point: frame after frame, with the error of each addition and square kept
   (TwoSum: Knuth; product: Veltkamp and Dekker, doi 10.1007/BF01397083). */
#include "statistics.h"
#include "statistics_group.h"

BH_EXPORT int64_t BH(pixel_sums)(const bh_pixel_sums *sums, const void *frames, int64_t n_frames,
                                 const uint8_t *blank, int64_t *totals);
BH_EXPORT int64_t BH(pixel_sums_tile)(const bh_pixel_sums *sums, const void *const *rows, int64_t n_frames,
                                      int64_t at, int64_t n, int64_t *totals);
BH_EXPORT int64_t BH(float_sums)(const double *values, int64_t n_pixels, const uint8_t *usable,
                                 const double *low, const double *high, double *const *sums,
                                 uint32_t *const *counts);

#define GROUP_SUMS(T, EIGHT, NAME)                                                                            \
    BH_APART static void group_##NAME(const T *const *rows, const T *restrict off, int64_t n, T limit,       \
                             uint32_t *restrict s, uint32_t *restrict q, T *restrict low, T *restrict high,  \
                             T *restrict valid, uint32_t *restrict totals) {                                 \
        const T *restrict a = rows[0], *restrict b = rows[1], *restrict c = rows[2], *restrict d = rows[3];  \
        const T *restrict e = rows[4], *restrict f = rows[5], *restrict g = rows[6], *restrict h = rows[7];  \
        uint32_t ta = 0, tb = 0, tc = 0, td = 0, te = 0, tf = 0, tg = 0, th = 0;                             \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            const T masked = off[i];                                                                         \
            EIGHT sum = 0;                                                                                   \
            uint32_t square = q[i];                                                                          \
            T least = low[i], most = high[i], count = valid[i];                                              \
            ADD(T, EIGHT, a, ta) ADD(T, EIGHT, b, tb) ADD(T, EIGHT, c, tc) ADD(T, EIGHT, d, td)              \
            ADD(T, EIGHT, e, te) ADD(T, EIGHT, f, tf) ADD(T, EIGHT, g, tg) ADD(T, EIGHT, h, th)              \
            s[i] += sum, q[i] = square, low[i] = least, high[i] = most, valid[i] = count;                    \
        }                                                                                                    \
        totals[0] = ta, totals[1] = tb, totals[2] = tc, totals[3] = td;                                      \
        totals[4] = te, totals[5] = tf, totals[6] = tg, totals[7] = th;                                      \
    }

/* GROUP adds eight frames to a tile, IN_ORDER sorts what it left of the sums of squares. */
#define TILE_SUMS(T, NAME, GROUP, IN_ORDER)                                                                  \
    /* Again in 64 bits, for tiles with large values. */                                                     \
    static void wide_##NAME(const bh_pixel_sums *sums, const T *const *rows, int64_t n_frames, int64_t at,   \
                            int64_t n, int64_t *totals) {                                                    \
        const T limit = (T)sums->limit;                                                                      \
        uint64_t s[BH_TILE] = {0}, q[BH_TILE] = {0}, p[BH_TILE] = {0};                                       \
        const uint8_t *restrict usable = sums->usable + at;                                                  \
        for (int64_t k = 0; k < n_frames; k++) {                                                             \
            const T *restrict row = rows[k];                                                                 \
            uint64_t total = 0;                                                                              \
            for (int64_t i = 0; i < n; i++) {                                                                \
                const uint64_t v = row[i] <= limit && usable[i] ? row[i] : 0, vv = v * v;                    \
                s[i] += v, q[i] += vv & 0xffffffffu, p[i] += vv >> 32, total += v;                           \
            }                                                                                                \
            if (totals)                                                                                      \
                totals[k] += (int64_t)total;                                                                 \
        }                                                                                                    \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            sums->sum[at + i] += (int64_t)s[i];                                                              \
            sums->square_low[at + i] += q[i], sums->square_high[at + i] += p[i];                             \
        }                                                                                                    \
    }                                                                                                        \
    static void tile_##NAME(const bh_pixel_sums *sums, const T *const *given, int64_t n_frames, int64_t at,  \
                            int64_t n, int64_t *totals) {                                                    \
        uint32_t s[BH_TILE] = {0}, q[BH_TILE] = {0}, in_frame[BH_MAX_FRAMES + BH_GROUP];                     \
        T low[BH_TILE], high[BH_TILE], valid[BH_TILE], pad[BH_TILE], off[BH_TILE];                           \
        const T *rows[BH_MAX_FRAMES + BH_GROUP];                                                             \
        const uint8_t *restrict usable = sums->usable + at;                                                  \
        const T limit = (T)sums->limit;                                                                      \
        memset(low, 0xff, sizeof low), memset(pad, 0xff, sizeof pad);                                        \
        memset(high, 0, sizeof high), memset(valid, 0, sizeof valid);                                        \
        for (int64_t i = 0; i < n; i++)                                                                      \
            off[i] = usable[i] ? 0 : (T)-1; /* a masked pixel has no value */                                \
        for (int64_t k = 0; k < n_frames + BH_GROUP; k++)                                                    \
            rows[k] = k < n_frames ? given[k] : pad;                                                         \
        for (int64_t k = 0; k < n_frames; k += BH_GROUP)                                                     \
            GROUP(rows + k, off, n, limit, s, q, low, high, valid, in_frame + k);                            \
        IN_ORDER(q, n);                                                                                      \
        T most = 0;                                                                                          \
        T *restrict minimum = (T *)sums->minimum + at, *restrict maximum = (T *)sums->maximum + at;          \
        uint32_t *restrict n_valid = sums->n_valid + at;                                                     \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            most = high[i] > most ? high[i] : most;                                                          \
            minimum[i] = low[i] <= limit && low[i] < minimum[i] ? low[i] : minimum[i];                       \
            maximum[i] = high[i] > maximum[i] ? high[i] : maximum[i];                                        \
            n_valid[i] += valid[i];                                                                          \
        }                                                                                                    \
        if ((uint64_t)most * most > 0xffffffffu / BH_MAX_FRAMES || (uint64_t)most * BH_TILE > 0xffffffffu) { \
            wide_##NAME(sums, given, n_frames, at, n, totals);                                               \
            return;                                                                                          \
        }                                                                                                    \
        int64_t *restrict sum = sums->sum + at;                                                              \
        uint64_t *restrict square = sums->square_low + at;                                                   \
        for (int64_t i = 0; i < n; i++)                                                                      \
            sum[i] += s[i], square[i] += q[i];                                                               \
        if (totals)                                                                                          \
            for (int64_t k = 0; k < n_frames; k++)                                                           \
                totals[k] += in_frame[k];                                                                    \
    }                                                                                                        \
    /* One value after the other: with bounds, or with values that could not be decoded. */                  \
    static void careful_##NAME(const bh_pixel_sums *sums, const T *row, const uint8_t *blank,                \
                               int64_t *total) {                                                             \
        const T limit = (T)sums->limit, *low = sums->low, *high = sums->high;                                \
        T *minimum = sums->minimum, *maximum = sums->maximum;                                                \
        uint64_t counted = 0;                                                                                \
        for (int64_t i = 0; i < sums->n_pixels; i++) {                                                       \
            const uint64_t v = row[i], vv = v * v;                                                           \
            if (!sums->usable[i] || v > limit || (blank && blank[i]))                                        \
                continue;                                                                                    \
            counted += v;                                                                                    \
            if (low && (v < low[i] || v > high[i])) {                                                        \
                sums->n_rejected[i]++;                                                                       \
                continue;                                                                                    \
            }                                                                                                \
            sums->sum[i] += (int64_t)v, sums->n_valid[i]++;                                                  \
            sums->square_low[i] += vv & 0xffffffffu, sums->square_high[i] += vv >> 32;                       \
            minimum[i] = row[i] < minimum[i] ? row[i] : minimum[i];                                          \
            maximum[i] = row[i] > maximum[i] ? row[i] : maximum[i];                                          \
        }                                                                                                    \
        if (total)                                                                                           \
            *total += (int64_t)counted;                                                                      \
    }

/* One value of one frame. The smallest needs no test: 'no value' is larger than every value. */
#define ADD(T, EIGHT, ROW, TOTAL)                                                                            \
    {                                                                                                        \
        const T v = ROW[i] | masked, ok = v <= limit, x = ok ? v : 0;                                        \
        least = v < least ? v : least, most = x > most ? x : most, count = (T)(count + ok);                  \
        sum = (EIGHT)(sum + x), square += (uint32_t)x * (uint32_t)x, TOTAL += x;                             \
    }

#define AS_IT_IS(q, n)
/* Eight values that pass the test of the largest value fit the second type. */
GROUP_SUMS(uint8_t, uint16_t, u8)
GROUP_SUMS(uint16_t, uint16_t, u16)
GROUP_SUMS(uint32_t, uint32_t, u32)
TILE_SUMS(uint8_t, u8, group_u8, AS_IT_IS)
TILE_SUMS(uint32_t, u32, group_u32, AS_IT_IS)
#ifdef BH_HAS_VECTORS_U16
/* Whole vectors of pixels, then the rest. */
static void groups_u16(const uint16_t *const *rows, const uint16_t *off, int64_t n, uint16_t limit, uint32_t *s,
                       uint32_t *q, uint16_t *low, uint16_t *high, uint16_t *valid, uint32_t *totals) {
    const int64_t i = vectors_u16(rows, off, n, limit, s, q, low, high, valid, totals);
    if (i == n)
        return;
    const uint16_t *rest[BH_GROUP];
    uint32_t more[BH_GROUP];
    for (int k = 0; k < BH_GROUP; k++)
        rest[k] = rows[k] + i;
    group_u16(rest, off + i, n - i, limit, s + i, q + i, low + i, high + i, valid + i, more);
    for (int k = 0; k < BH_GROUP; k++)
        totals[k] += more[k];
}
#define VECTORS_IN_ORDER(q, n) in_order_u16(q, (n) / BH_WIDE_ITEMS * BH_WIDE_ITEMS)
TILE_SUMS(uint16_t, u16, groups_u16, VECTORS_IN_ORDER)
#else
TILE_SUMS(uint16_t, u16, group_u16, AS_IT_IS)
#endif

/* Pixels at to at + n of up to BH_MAX_FRAMES frames, whose rows begin at pixel `at`. */
int64_t BH(pixel_sums_tile)(const bh_pixel_sums *sums, const void *const *rows, int64_t n_frames, int64_t at,
                            int64_t n, int64_t *totals) {
    if (n_frames < 0 || n_frames > BH_MAX_FRAMES || at < 0 || n < 0 || at > sums->n_pixels - n)
        return -1;
    const void *here[BH_MAX_FRAMES];
    for (int64_t done = 0; done < n; done += BH_TILE) {
        const int64_t size = n - done < BH_TILE ? n - done : BH_TILE;
        for (int64_t k = 0; k < n_frames; k++)
            here[k] = (const uint8_t *)rows[k] + done * sums->item_bytes;
        if (sums->item_bytes == 1)
            tile_u8(sums, (const uint8_t *const *)here, n_frames, at + done, size, totals);
        else if (sums->item_bytes == 2)
            tile_u16(sums, (const uint16_t *const *)here, n_frames, at + done, size, totals);
        else if (sums->item_bytes == 4)
            tile_u32(sums, (const uint32_t *const *)here, n_frames, at + done, size, totals);
        else
            return -1;
    }
    return 0;
}

/* Add frames (n_frames, n_pixels) to the sums; totals (n_frames,) may be NULL. */
int64_t BH(pixel_sums)(const bh_pixel_sums *sums, const void *frames, int64_t n_frames, const uint8_t *blank,
                       int64_t *totals) {
    const int64_t item = sums->item_bytes, n = sums->n_pixels;
    if (n_frames < 0 || n < 0 || (item != 1 && item != 2 && item != 4))
        return -1;
    if (sums->low && (!sums->high || !sums->n_rejected))
        return -1;
    if (blank || sums->low) {
        for (int64_t k = 0; k < n_frames; k++) {
            const uint8_t *row = (const uint8_t *)frames + k * n * item, *not = blank ? blank + k * n : NULL;
            if (item == 1)
                careful_u8(sums, row, not, totals ? totals + k : NULL);
            else if (item == 2)
                careful_u16(sums, (const uint16_t *)row, not, totals ? totals + k : NULL);
            else
                careful_u32(sums, (const uint32_t *)row, not, totals ? totals + k : NULL);
        }
        return 0;
    }
    const void *rows[BH_MAX_FRAMES];
    for (int64_t first = 0; first < n_frames; first += BH_MAX_FRAMES) {
        const int64_t some = n_frames - first < BH_MAX_FRAMES ? n_frames - first : BH_MAX_FRAMES;
        for (int64_t k = 0; k < some; k++)
            rows[k] = (const uint8_t *)frames + (first + k) * n * item;
        if (BH(pixel_sums_tile)(sums, rows, some, 0, n, totals ? totals + first : NULL) < 0)
            return -1;
    }
    return 0;
}

/* One frame of float64; values that are not finite are left out. sums: sum, its error, sum of squares, its
   error, smallest, largest; counts: valid, rejected. Each (n_pixels,). */
int64_t BH(float_sums)(const double *values, int64_t n_pixels, const uint8_t *usable, const double *low,
                       const double *high, double *const *sums, uint32_t *const *counts) {
    double *restrict s = sums[0], *restrict s_error = sums[1], *restrict q = sums[2];
    double *restrict q_error = sums[3], *restrict least = sums[4], *restrict most = sums[5];
    uint32_t *restrict valid = counts[0], *restrict rejected = counts[1];
    if (n_pixels < 0 || (low && !high))
        return -1;
    for (int64_t i = 0; i < n_pixels; i++) {
        const double given = values[i];
        const int finite = given - given == 0 && usable[i];
        const int inside = !low || (given >= low[i] && given <= high[i]);
        const int ok = finite && inside;
        const double v = ok ? given : 0.0;
        const double sum = s[i] + v, sum_part = sum - s[i];
        s_error[i] += (s[i] - (sum - sum_part)) + (v - sum_part);
        s[i] = sum;
        const double spread = 134217729.0 * v, head = spread - (spread - v), tail = v - head;
        const double p = v * v, p_error = ((head * head - p) + 2.0 * head * tail) + tail * tail;
        const double square = q[i] + p, square_part = square - q[i];
        q_error[i] += ((q[i] - (square - square_part)) + (p - square_part)) +
                      (p_error - p_error == 0 ? p_error : 0.0);
        q[i] = square;
        least[i] = ok && given < least[i] ? given : least[i];
        most[i] = ok && given > most[i] ? given : most[i];
        valid[i] += ok, rejected[i] += finite && !inside;
    }
    return 0;
}
