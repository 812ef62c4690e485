/* Azimuthal integration of up to sixteen frames in one pass over a sparse matrix, or their sum, pixel by pixel.

   The frames come as they are (azimuthal_dense) or as bitshuffle-LZ4 chunks (azimuthal_stored), of which one tile
   after the other is decoded, turned into lanes[pixel][frame] and used while it lies in the second-level cache.
   A value outside [low, high] of a pixel that is good is blank: it counts nowhere, and what it takes away from
   the normalisation of its frame is noted. A chunk that does not decode ends with its frame's status below zero;
   the other frames do not notice, because no sum crosses lanes. */
#define _POSIX_C_SOURCE 200809L
#include <float.h>
#include <math.h>

#include "azimuthal_apply.h"
#include "kernels.h"
#include "windows.h"

#define AZ_BAD_CALL (-20)

/* One call; the same fields in the same order stand in kernels/azimuthal.py. Every field has 8 bytes. */
typedef struct {
    /* The matrix and the pixels. */
    int64_t n_pixels, n_bins, tile, n_tiles;
    const int64_t *tile_run; /* [n_tiles + 1] */
    const uint32_t *run_bin, *run_stop;
    const uint16_t *offset;
    const float *weight;
    const uint8_t *good, *good_bits; /* [n_pixels] 0 or 1, and as bits, with 8 bytes behind them */
    const double *norm, *dark;       /* [n_pixels]; dark may be NULL */
    /* What is asked for. */
    int64_t n_frames, with_variance, is_sum, sign;
    int64_t low, high;
    double low_real, high_real, floor;
    /* Results, [n_bins][16]; for a sum [n_pixels]. */
    double *signal, *variance, *lost_norm, *lost_dark;
    int32_t *n_lost;
    int64_t *sum;
    double *sum_real, *lost_weight;
    int32_t *n_blank;
    const double *frame_weight; /* [16] */
    /* Results of each frame, [16]. */
    int64_t *counts, *blanks, *status;
    double *counts_real;
    uint8_t *scratch;
    int64_t n_scratch;
} az_call;

BH_EXPORT int64_t BH(azimuthal_dense)(const az_call *z, const uint8_t *frames, int64_t kind);
BH_EXPORT int64_t BH(azimuthal_stored)(const az_call *z, const bh_chunks *chunks, int64_t kind, int64_t block_items);

enum { AZ_U8, AZ_U16, AZ_U32, AZ_I32, AZ_F32, AZ_F64, AZ_KINDS };
static const int64_t az_item_bytes[AZ_KINDS] = {1, 2, 4, 4, 4, 8};

static inline uint8_t *az_align(uint8_t *p) { return (uint8_t *)(((uintptr_t)p + 63) & ~(uintptr_t)63); }

/* The limits of valid values within a type; they do not meet where nothing so narrow is valid. */
#define AZ_NONE(z, least, most) ((z)->low > (most) || (z)->high < (least))
#define AZ_LOW(z, least, most) (AZ_NONE(z, least, most) ? (least) + 1 : (z)->low < (least) ? (least) : (z)->low)
#define AZ_HIGH(z, least, most) (AZ_NONE(z, least, most) ? (least) : (z)->high > (most) ? (most) : (z)->high)

/* Blank what is out of range and zero what is masked; whether any lane of the tile is blank. */
#define AZ_SCAN(T, SUM, COUNTS, LOW, HIGH)                                                               \
    static int az_scan_##T(const az_call *z, T *lanes, int64_t first, int64_t n, uint16_t *blank) {      \
        const T low = (T)LOW, high = (T)HIGH;                                                            \
        const int n_frames = (int)z->n_frames;                                                           \
        SUM held[AZ_LANES];                                                                              \
        int found = 0;                                                                                   \
        memcpy(held, z->COUNTS, sizeof held);                                                            \
        for (int64_t p = 0; p < n; p++) {                                                                \
            T *x = lanes + p * AZ_LANES;                                                                 \
            blank[p] = 0;                                                                                \
            if (!z->good[first + p]) {                                                                   \
                memset(x, 0, sizeof(T) * AZ_LANES);                                                      \
                continue;                                                                                \
            }                                                                                            \
            unsigned any = 0;                                                                            \
            for (int l = 0; l < AZ_LANES; l++)                                                           \
                any |= (unsigned)!((x[l] >= low) & (x[l] <= high));                                      \
            for (int l = 0; any && l < n_frames; l++)                                                    \
                if (!(x[l] >= low && x[l] <= high)) {                                                    \
                    x[l] = 0;                                                                            \
                    blank[p] |= (uint16_t)(1u << l);                                                     \
                    z->blanks[l]++;                                                                      \
                    found = 1;                                                                           \
                }                                                                                        \
            for (int l = 0; l < AZ_LANES; l++)                                                           \
                held[l] += (SUM)x[l];                                                                    \
        }                                                                                                \
        memcpy(z->COUNTS, held, sizeof held);                                                            \
        return found;                                                                                    \
    }
AZ_SCAN(u8, int64_t, counts, AZ_LOW(z, 0, 255), AZ_HIGH(z, 0, 255))
AZ_SCAN(u16, int64_t, counts, AZ_LOW(z, 0, 65535), AZ_HIGH(z, 0, 65535))
AZ_SCAN(u32, int64_t, counts, AZ_LOW(z, 0, (int64_t)UINT32_MAX), AZ_HIGH(z, 0, (int64_t)UINT32_MAX))
AZ_SCAN(i32, int64_t, counts, AZ_LOW(z, (int64_t)INT32_MIN, (int64_t)INT32_MAX), AZ_HIGH(z, (int64_t)INT32_MIN, (int64_t)INT32_MAX))
/* Infinities are never valid. */
AZ_SCAN(f32, double, counts_real, fmax(z->low_real, -FLT_MAX), fmin(z->high_real, FLT_MAX))
AZ_SCAN(f64, double, counts_real, fmax(z->low_real, -DBL_MAX), fmin(z->high_real, DBL_MAX))

static int az_scan(const az_call *z, int64_t kind, void *lanes, int64_t first, int64_t n, uint16_t *blank) {
    switch (kind) {
    case AZ_U8: return az_scan_u8(z, lanes, first, n, blank);
    case AZ_U16: return az_scan_u16(z, lanes, first, n, blank);
    case AZ_U32: return az_scan_u32(z, lanes, first, n, blank);
    case AZ_I32: return az_scan_i32(z, lanes, first, n, blank);
    case AZ_F32: return az_scan_f32(z, lanes, first, n, blank);
    default: return az_scan_f64(z, lanes, first, n, blank);
    }
}

/* Add the lanes of a tile to the sum of frames; real numbers in the order of the frames. */
#define AZ_ADD(T, SUM, IMAGE)                                                          \
    static void az_add_##T(const az_call *z, const T *lanes, int64_t first, int64_t n) { \
        for (int64_t p = 0; p < n; p++) {                                              \
            const T *x = lanes + p * AZ_LANES;                                         \
            SUM s = 0;                                                                 \
            for (int l = 0; l < AZ_LANES; l++)                                         \
                s += (SUM)x[l];                                                        \
            z->IMAGE[first + p] += z->sign * (int64_t)s;                               \
        }                                                                              \
    }
AZ_ADD(u8, u32, sum)
AZ_ADD(u16, u32, sum)
AZ_ADD(u32, int64_t, sum)
AZ_ADD(i32, int64_t, sum)
#define AZ_ADD_REAL(T)                                                                   \
    static void az_add_##T(const az_call *z, const T *lanes, int64_t first, int64_t n) { \
        for (int64_t p = 0; p < n; p++)                                                  \
            for (int l = 0; l < z->n_frames; l++)                                        \
                z->sum_real[first + p] += (double)lanes[p * AZ_LANES + l];               \
    }
AZ_ADD_REAL(f32)
AZ_ADD_REAL(f64)

static void az_add(const az_call *z, int64_t kind, const void *lanes, int64_t first, int64_t n) {
    switch (kind) {
    case AZ_U8: az_add_u8(z, lanes, first, n); break;
    case AZ_U16: az_add_u16(z, lanes, first, n); break;
    case AZ_U32: az_add_u32(z, lanes, first, n); break;
    case AZ_I32: az_add_i32(z, lanes, first, n); break;
    case AZ_F32: az_add_f32(z, lanes, first, n); break;
    default: az_add_f64(z, lanes, first, n); break;
    }
}

/* Use the lanes of tile t: apply the matrix, or add them to the sum. */
static void az_use(const az_call *z, int64_t kind, const void *lanes, int64_t t, const uint16_t *blank,
                   int has_blank) {
    const int64_t first = t * z->tile, rest = z->n_pixels - first, n = rest < z->tile ? rest : z->tile;
    if (z->is_sum) {
        az_add(z, kind, lanes, first, n);
        for (int64_t p = 0; has_blank && p < n; p++)
            for (unsigned m = blank[p]; m; m &= m - 1) {
                z->n_blank[first + p] += (int32_t)z->sign;
                z->lost_weight[first + p] += (double)z->sign * z->frame_weight[__builtin_ctz(m)];
            }
        return;
    }
    const az_tile tile = {
        z->tile_run[t], z->tile_run[t + 1], z->run_bin, z->run_stop, z->offset, z->weight, z->signal, z->variance,
        blank, z->norm + first, z->dark ? z->dark + first : NULL, z->lost_norm, z->lost_dark, z->n_lost, z->floor,
    };
    const int with_variance = z->with_variance != 0;
    switch (kind) {
    case AZ_U8: az_apply_u8(&tile, lanes, with_variance, has_blank); break;
    case AZ_U16: az_apply_u16(&tile, lanes, with_variance, has_blank); break;
    case AZ_U32: az_apply_u32(&tile, lanes, with_variance, has_blank); break;
    case AZ_I32: az_apply_i32(&tile, lanes, with_variance, has_blank); break;
    case AZ_F32: az_apply_f32(&tile, lanes, with_variance, has_blank); break;
    default: az_apply_f64(&tile, lanes, with_variance, has_blank); break;
    }
}

static int az_is_bad(const az_call *z, int64_t kind) {
    return kind < 0 || kind >= AZ_KINDS || z->n_frames < 0 || z->n_frames > AZ_LANES || z->n_pixels < 0 ||
           z->tile < 8 || z->tile > 65536 || z->n_tiles != (z->n_pixels + z->tile - 1) / z->tile;
}

#define AZ_TURN(T)                                                                                       \
    static void az_turn_##T(const T *frames, int64_t stride, int64_t n_frames, int64_t n, T *lanes) {    \
        for (int64_t p = 0; p < n; p++)                                                                  \
            for (int64_t f = 0; f < n_frames; f++)                                                       \
                lanes[p * AZ_LANES + f] = frames[f * stride + p];                                        \
    }
AZ_TURN(u8)
AZ_TURN(u16)
AZ_TURN(u32)
AZ_TURN(f64)

/* One image of real numbers, as a sum of frames is: the order of the sums is that of the lanes. */
static void az_one(const az_call *z, const double *image, double *lane) {
    const double low = fmax(z->low_real, -DBL_MAX), high = fmin(z->high_real, DBL_MAX);
    for (int64_t t = 0; t < z->n_tiles; t++) {
        const int64_t first = t * z->tile, rest = z->n_pixels - first, n = rest < z->tile ? rest : z->tile;
        const double *x = image + first;
        for (int64_t p = 0; p < n; p++) {
            const int good = z->good[first + p], valid = x[p] >= low && x[p] <= high;
            lane[p] = !good ? 0.0 : valid ? x[p] : NAN;
            z->counts_real[0] += good && valid ? x[p] : 0.0;
            z->blanks[0] += good && !valid;
        }
        int64_t r = z->tile_run[t];
        int64_t e = r ? z->run_stop[r - 1] : 0;
        for (; r < z->tile_run[t + 1]; r++) {
            const int64_t at = (int64_t)z->run_bin[r] * AZ_LANES;
            double a = z->signal[at], v = z->with_variance ? z->variance[at] : 0.0;
            for (; e < z->run_stop[r]; e++) {
                const int64_t p = z->offset[e];
                const double c = lane[p], w = (double)z->weight[e], w2 = (double)(float)(w * w);
                if (BH_UNLIKELY(c != c)) {
                    z->lost_norm[at] += w * z->norm[first + p];
                    z->n_lost[at]++;
                    if (z->dark)
                        z->lost_dark[at] += w * z->dark[first + p];
                    continue;
                }
                a += w * c;
                v += w2 * (c > z->floor ? c : z->floor);
            }
            z->signal[at] = a;
            if (z->with_variance)
                z->variance[at] = v;
        }
    }
}

/* Frames of n_pixels values each, one behind the other. */
int64_t BH(azimuthal_dense)(const az_call *z, const uint8_t *frames, int64_t kind) {
    if (az_is_bad(z, kind))
        return AZ_BAD_CALL;
    const int64_t item = az_item_bytes[kind];
    if (z->n_scratch < z->tile * (AZ_LANES * item + 2) + 192)
        return AZ_BAD_CALL;
    uint8_t *lanes = az_align(z->scratch);
    uint16_t *blank = (uint16_t *)(void *)az_align(lanes + z->tile * AZ_LANES * item);
    if (kind == AZ_F64 && z->n_frames == 1 && !z->is_sum) {
        az_one(z, (const double *)(const void *)frames, (double *)(void *)lanes);
        return 0;
    }
    memset(lanes, 0, (size_t)(z->tile * AZ_LANES * item));
    for (int64_t t = 0; t < z->n_tiles; t++) {
        const int64_t first = t * z->tile, rest = z->n_pixels - first, n = rest < z->tile ? rest : z->tile;
        const void *from = frames + first * item;
        if (item == 1)
            az_turn_u8(from, z->n_pixels, z->n_frames, n, (void *)lanes);
        else if (item == 2)
            az_turn_u16(from, z->n_pixels, z->n_frames, n, (void *)lanes);
        else if (item == 4)
            az_turn_u32(from, z->n_pixels, z->n_frames, n, (void *)lanes);
        else
            az_turn_f64(from, z->n_pixels, z->n_frames, n, (void *)lanes);
        const int has_blank = az_scan(z, kind, lanes, first, n, blank);
        az_use(z, kind, lanes, t, blank, has_blank);
    }
    return 0;
}

/* The chunks of a call while they are decoded. */
typedef struct {
    const bh_chunks *chunks;
    bh_window window[AZ_LANES];
    int64_t item, block_bytes;
    uint8_t *planes; /* [block of the tile][frame][block_bytes] */
    uint64_t counts[AZ_LANES];
    uint32_t used;
} az_stream;

/* 0, or what is wrong with the header of a chunk. */
static int64_t az_open(const az_call *z, az_stream *s, int64_t f) {
    bh_window *w = &s->window[f];
    if (bh_window_rest(w) < 12)
        return BH_NO_HEADER;
    const int64_t wrong = bh_window_need(s->chunks, w, 12);
    if (wrong)
        return wrong;
    const uint8_t *chunk = w->at;
    w->at += 12;
    if (bh_big_endian(chunk, 8) != (uint64_t)(z->n_pixels * s->item))
        return BH_WRONG_TOTAL;
    const int64_t block = (int64_t)bh_big_endian(chunk + 8, 4);
    return (block ? block : 8192) == s->block_bytes ? 0 : BH_WRONG_BLOCK;
}

/* The next block of a chunk, decoded; n_bytes, or what is wrong. */
static inline int64_t az_block(const bh_chunks *chunks, bh_window *w, uint8_t *planes, int64_t n_bytes) {
    int64_t wrong = bh_window_need(chunks, w, 4);
    if (BH_UNLIKELY(wrong))
        return wrong;
    const int64_t length = (int64_t)bh_big_endian(w->at, 4);
    w->at += 4;
    wrong = bh_window_need(chunks, w, length);
    if (BH_UNLIKELY(wrong))
        return wrong;
    const uint8_t *from = w->at;
    w->at += length;
    const int64_t got = bh_lz4_block(from, length, planes, n_bytes);
    return got == n_bytes || got < 0 ? got : BH_LZ4_SHORT;
}

/* Decode block b of a tile, n_items elements, of all frames. */
static void az_decode(const az_call *z, az_stream *s, int64_t b, int64_t first, int64_t n_items) {
    const int64_t n_bytes = n_items * s->item, row = n_items / 8;
    for (int64_t f = 0; f < z->n_frames; f++) {
        if (z->status[f])
            continue;
        uint8_t *planes = s->planes + (b * AZ_LANES + f) * s->block_bytes;
        const int64_t got = az_block(s->chunks, &s->window[f], planes, n_bytes);
        if (got != n_bytes) {
            z->status[f] = got;
            continue;
        }
        s->used |= az_planes_used(planes, row, z->high < 255 ? 0 : 8, 8 * s->item, z->good_bits + first / 8);
    }
}

/* The last elements, fewer than 8, stand behind the last block as they are: their lanes, and the chunk's end. */
static void az_rest(const az_call *z, az_stream *s, int64_t first, u32 rest[8][AZ_LANES]) {
    const int64_t n = z->n_pixels - first;
    memset(rest, 0, sizeof(u32) * 8 * AZ_LANES);
    for (int64_t f = 0; f < z->n_frames; f++) {
        if (z->status[f])
            continue;
        bh_window *w = &s->window[f];
        const int64_t is_end = bh_window_rest(w) == n * s->item;
        const int64_t wrong = is_end ? bh_window_need(s->chunks, w, n * s->item) : BH_WRONG_END;
        if (wrong) {
            z->status[f] = wrong;
            continue;
        }
        for (int64_t p = 0; p < n; p++) {
            u32 value = 0;
            memcpy(&value, w->at + p * s->item, (size_t)s->item);
            if (z->good[first + p]) {
                rest[p][f] = value;
                s->used |= value;
                s->counts[f] += value;
            }
        }
    }
}

/* Frames that failed hold nothing, in this tile and in those that follow. */
static void az_forget_failed(const az_call *z, const az_stream *s, int64_t n_blocks, u32 rest[8][AZ_LANES]) {
    for (int64_t f = 0; f < z->n_frames; f++)
        if (z->status[f] < 0) {
            for (int64_t b = 0; b < n_blocks; b++)
                memset(s->planes + (b * AZ_LANES + f) * s->block_bytes, 0, (size_t)s->block_bytes);
            for (int p = 0; p < 8; p++)
                rest[p][f] = 0;
        }
}

static void az_put_rest(u32 rest[8][AZ_LANES], int64_t n, int64_t width, uint8_t *lanes) {
    for (int64_t p = 0; p < n; p++)
        for (int64_t f = 0; f < AZ_LANES; f++)
            memcpy(lanes + (p * AZ_LANES + f) * width, &rest[p][f], (size_t)width);
}

/* Pixels whose counts of one frame are added up in 32 bits: as many values of 16 bits fit. */
#define AZ_STRIP 4096

#define AZ_ADD_ROW(T)                                                                                          \
    static uint64_t az_add_row_##T(const T *restrict x, const uint8_t *restrict good, int64_t n, u32 *restrict sum) { \
        uint64_t total = 0;                                                                                    \
        for (int64_t done = 0; done < n; done += AZ_STRIP) {                                                   \
            const int64_t end = n - done < AZ_STRIP ? n : done + AZ_STRIP;                                     \
            u32 counts = 0;                                                                                    \
            for (int64_t p = done; p < end; p++) {                                                             \
                const u32 v = good[p] ? x[p] : 0;                                                              \
                sum[p] += v, counts += v;                                                                      \
            }                                                                                                  \
            total += counts;                                                                                   \
        }                                                                                                      \
        return total;                                                                                          \
    }
AZ_ADD_ROW(u8)
AZ_ADD_ROW(u16)
AZ_ADD_ROW(u32)

/* Add a tile of which no value is blank, negative or above 65535 to the sum of frames, frame by frame: nothing has
   to be turned into lanes. `sum` has room for a tile, `row` for a block. */
static void az_add_planes(const az_call *z, const az_stream *s, int64_t first, int64_t n_whole, u32 rest[8][AZ_LANES],
                          u32 *sum, uint8_t *row) {
    const int64_t n = z->n_pixels - first < z->tile ? z->n_pixels - first : z->tile;
    const int64_t block_items = s->block_bytes / s->item;
    memset(sum, 0, (size_t)n * sizeof *sum);
    for (int64_t b = 0, p = 0; p < n_whole; b++, p += block_items) {
        const int64_t items = n_whole - p < block_items ? n_whole - p : block_items;
        const uint8_t *good = z->good + first + p;
        for (int64_t f = 0; f < z->n_frames; f++) {
            bh_unbitshuffle(s->planes + (b * AZ_LANES + f) * s->block_bytes, items, s->item, row);
            uint64_t counts;
            if (s->item == 1)
                counts = az_add_row_u8(row, good, items, sum + p);
            else if (s->item == 2)
                counts = az_add_row_u16((const u16 *)(const void *)row, good, items, sum + p);
            else
                counts = az_add_row_u32((const u32 *)(const void *)row, good, items, sum + p);
            z->counts[f] += (int64_t)counts;
        }
    }
    for (int64_t p = n_whole; p < n; p++)
        for (int64_t f = 0; f < AZ_LANES; f++)
            sum[p] += rest[p - n_whole][f];
    for (int64_t f = 0; f < z->n_frames; f++)
        z->counts[f] += (int64_t)s->counts[f]; /* of the rest */
    int64_t *restrict image = z->sum + first;
    for (int64_t p = 0; p < n; p++)
        image[p] += z->sign * (int64_t)sum[p];
}

/* One tile: all blocks of all frames decoded, then lanes as narrow as the good pixels' values allow. */
static void az_stored_tile(const az_call *z, az_stream *s, int64_t t, int64_t kind, uint8_t *lanes,
                           uint16_t *blank) {
    const int64_t first = t * z->tile, left = z->n_pixels - first, n = left < z->tile ? left : z->tile;
    const int64_t block_items = s->block_bytes / s->item, n_blocks = z->tile / block_items;
    const int64_t n_whole = n & ~(int64_t)7; /* only the last tile has a rest */
    u32 rest[8][AZ_LANES];
    s->used = 0;
    memset(s->counts, 0, sizeof s->counts);
    memset(rest, 0, sizeof rest);
    for (int64_t b = 0, p = 0; p < n_whole; b++, p += block_items)
        az_decode(z, s, b, first + p, n_whole - p < block_items ? n_whole - p : block_items);
    if (t == z->n_tiles - 1)
        az_rest(z, s, first + n_whole, rest);
    az_forget_failed(z, s, n_blocks, rest);
    const int is_signed = kind == AZ_I32;
    const int negative = is_signed && s->used >> 31, blanks = negative || z->low > 0 || (int64_t)s->used > z->high;
    if (z->is_sum && !blanks && s->used < 65536) {
        uint8_t *row = lanes + z->tile * 4;
        az_add_planes(z, s, first, n_whole, rest, (u32 *)(void *)lanes, row);
        return;
    }
    int64_t width = s->used < 256 ? 1 : s->used < 65536 ? 2 : 4;
    width = width > s->item ? s->item : width;
    for (int64_t b = 0, p = 0; p < n_whole; b++, p += block_items) {
        const int64_t items = n_whole - p < block_items ? n_whole - p : block_items;
        az_lanes(s->planes + b * AZ_LANES * s->block_bytes, s->block_bytes, z->good_bits + (first + p) / 8, items / 8,
                 width, lanes + p * AZ_LANES * width, s->counts);
    }
    az_put_rest(rest, n - n_whole, width, lanes + n_whole * AZ_LANES * width);
    const int64_t lane_kind = width == 1 ? AZ_U8 : width == 2 ? AZ_U16 : is_signed ? AZ_I32 : AZ_U32;
    int has_blank = 0;
    if (blanks) {
        has_blank = az_scan(z, lane_kind, lanes, first, n, blank);
    } else {
        for (int64_t f = 0; f < z->n_frames; f++)
            z->counts[f] += (int64_t)s->counts[f];
    }
    az_use(z, lane_kind, lanes, t, blank, has_blank);
}

/* A chunk has its header of 12 bytes. Elements of `kind`, little endian, in blocks of block_items; the tile is a
   multiple of them. Any bytes may be passed. */
int64_t BH(azimuthal_stored)(const az_call *z, const bh_chunks *chunks, int64_t kind, int64_t block_items) {
    if (az_is_bad(z, kind) || kind > AZ_I32 || block_items < 8 || block_items % 8 || z->tile % block_items)
        return AZ_BAD_CALL;
    az_stream s = {.chunks = chunks, .item = az_item_bytes[kind], .block_bytes = block_items * az_item_bytes[kind]};
    const int64_t n_planes = z->tile * s.item * AZ_LANES, n_window = bh_window_bytes(s.block_bytes);
    if (z->n_scratch < n_planes + z->tile * (4 * AZ_LANES + 2) + 256)
        return AZ_BAD_CALL;
    if (chunks->file >= 0 && chunks->n_data < n_window * z->n_frames)
        return AZ_BAD_CALL;
    s.planes = az_align(z->scratch);
    uint8_t *lanes = az_align(s.planes + n_planes);
    uint16_t *blank = (uint16_t *)(void *)az_align(lanes + z->tile * 4 * AZ_LANES);
    memset(s.planes, 0, (size_t)n_planes);
    for (int64_t f = 0; f < z->n_frames; f++) {
        if (bh_window_open(chunks, f, chunks->data + f * n_window, n_window, &s.window[f]))
            return AZ_BAD_CALL;
        z->status[f] = az_open(z, &s, f);
    }
    for (int64_t t = 0; t < z->n_tiles; t++)
        az_stored_tile(z, &s, t, kind, lanes, blank);
    return 0;
}
