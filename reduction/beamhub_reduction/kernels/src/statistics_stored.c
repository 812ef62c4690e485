/* Sums over frames and counts of regions straight from stored bitshuffle-LZ4 chunks, block by block.

   The same block of all frames of a batch is decoded, then summed while it lies in the cache; the frames never
   meet the memory. Regions are counted before the bits are put together: a region's count is the number of
   set bits of each plane under its mask, times the plane's weight; blocks without a region are not decoded.
   Container: total bytes (u64 BE), block bytes (u32 BE), then for each block its length (u32 BE) and its bytes;
   up to 7 elements follow as they are. Source: bitshuffle, bshuf_h5filter.c (MIT). */
#define _POSIX_C_SOURCE 200809L
#include "statistics.h"
#include "windows.h"

#define BH_MAX_BLOCK 65536
#define BH_MAX_PLANES 32

#define FAILED_HEADER 1 /* the header does not fit the frame */
#define FAILED_LENGTH 2 /* a block's length goes past the chunk's end */
#define FAILED_LZ4 3    /* a block does not decode */
#define FAILED_REST 4   /* too many or too few bytes behind the last block */

BH_EXPORT int64_t BH(pixel_sums_tile)(const bh_pixel_sums *sums, const void *const *rows, int64_t n_frames,
                                      int64_t at, int64_t n, int64_t *totals);

typedef struct {
    bh_chunks chunks;
    int64_t n_frames;
    int64_t item_bytes, n_pixels, is_signed; /* of the decoded frame */
    const uint8_t *bits;                     /* (n_regions, bits_bytes): pixel 8 i + r in bit r of byte i */
    int64_t bits_bytes, n_regions;
    int64_t *region_sums, *region_valid;     /* (n_frames, n_regions), added to */
    uint8_t *scratch;                        /* n_scratch bytes, (n_frames + 1) largest blocks at least */
    int64_t n_scratch;
    int64_t *failed; /* (n_frames,): 0, or what is wrong with the chunk; below zero as in containers.h */
} bh_stored;

BH_EXPORT int64_t BH(stored_pixel_sums)(const bh_stored *stored, const bh_pixel_sums *sums, int64_t *totals);
BH_EXPORT int64_t BH(stored_regions)(const bh_stored *stored);

/* Bytes of a full block, the same in all chunks; 0 when there is no chunk that says so, -1 when they differ. */
static int64_t read_headers(const bh_stored *s, bh_window *windows) {
    const int64_t total = s->n_pixels * s->item_bytes;
    int64_t block = 0;
    for (int64_t k = 0; k < s->n_frames; k++) {
        bh_window *w = windows + k;
        s->failed[k] = FAILED_HEADER;
        if (bh_window_open(&s->chunks, k, s->chunks.data + k * BH_WINDOW_BYTES, BH_WINDOW_BYTES, w) ||
            bh_window_rest(w) < 12)
            continue;
        s->failed[k] = bh_window_need(&s->chunks, w, 12);
        if (s->failed[k])
            continue;
        s->failed[k] = FAILED_HEADER;
        int64_t own = (int64_t)bh_big_endian(w->at + 8, 4);
        own = own ? own : 8192;
        if (bh_big_endian(w->at, 8) != (uint64_t)total || own % (8 * s->item_bytes))
            continue;
        if (own > BH_MAX_BLOCK || (block && own != block))
            return -1;
        w->at += 12;
        block = own;
        s->failed[k] = 0;
    }
    return block;
}

/* Larger blocks want larger windows: they begin again behind the headers. */
static void widen_windows(const bh_stored *s, int64_t block, bh_window *windows) {
    const int64_t n = bh_window_bytes(block);
    for (int64_t k = 0; k < s->n_frames && n > BH_WINDOW_BYTES && s->chunks.file >= 0; k++) {
        uint8_t *at = s->chunks.data + k * n;
        windows[k] = (bh_window){at, at, at, n, s->chunks.offsets[k] + 12, s->chunks.sizes[k] - 12};
    }
}

/* The next block's bytes of a chunk, or NULL with what is wrong noted. */
static const uint8_t *next_block(const bh_stored *s, int64_t k, bh_window *w, int64_t *length) {
    int64_t wrong = bh_window_need(&s->chunks, w, 4);
    if (!wrong) {
        *length = (int64_t)bh_big_endian(w->at, 4);
        w->at += 4;
        wrong = *length ? bh_window_need(&s->chunks, w, *length) : BH_BLOCK_LENGTH;
    }
    if (wrong) {
        s->failed[k] = wrong == BH_BLOCK_LENGTH || wrong == BH_NO_ROOM ? FAILED_LENGTH : wrong;
        return NULL;
    }
    const uint8_t *found = w->at;
    w->at += *length;
    return found;
}

static int has_bits(const uint8_t *bits, int64_t n) {
    uint8_t any = 0;
    for (int64_t i = 0; i < n; i++)
        any |= bits[i];
    return any != 0;
}

static uint64_t word_at(const uint8_t *p, int64_t n) {
    uint64_t word = 0;
    memcpy(&word, p, n < 8 ? (size_t)n : 8);
    return word;
}

/* Count one region in one block's planes of `row` bytes; `present` has a bit for each value that is one. */
static void count_planes(const uint8_t *planes, int64_t row, int64_t n_planes, const uint8_t *present,
                         const uint8_t *bits, int64_t *sum, int64_t *valid) {
    uint64_t mask[BH_MAX_BLOCK / 64 + 1], total = 0;
    const int64_t whole = row / 8, rest = row & 7;
    int64_t count = 0;
    for (int64_t i = 0; i < whole; i++) {
        uint64_t wanted, there;
        memcpy(&wanted, bits + 8 * i, 8), memcpy(&there, present + 8 * i, 8);
        mask[i] = wanted & there;
        count += __builtin_popcountll(mask[i]);
    }
    mask[whole] = rest ? word_at(bits + 8 * whole, rest) & word_at(present + 8 * whole, rest) : 0;
    count += __builtin_popcountll(mask[whole]);
    *valid += count;
    for (int64_t p = 0; p < n_planes; p++) {
        const uint8_t *plane = planes + p * row;
        uint64_t set = 0, word;
        for (int64_t i = 0; i < whole; i++) {
            memcpy(&word, plane + 8 * i, 8);
            set += (uint64_t)__builtin_popcountll(word & mask[i]);
        }
        if (rest)
            set += (uint64_t)__builtin_popcountll(word_at(plane + 8 * whole, rest) & mask[whole]);
        total += set << p;
    }
    *sum += (int64_t)total;
}

/* Planes that hold any bit where a value is present: those above are not counted. */
static int64_t find_present(const uint8_t *planes, int64_t row, int64_t n_planes, int is_signed,
                            uint8_t *present) {
    const uint8_t *top = planes + (n_planes - 1) * row;
    uint8_t none[BH_MAX_BLOCK / 8], other;
    memcpy(none, top, (size_t)row);
    int64_t p = n_planes - 1;
    if (!is_signed && has_bits(top, row))
        for (int64_t q = 0; q < n_planes - 1; q++)
            for (int64_t i = 0; i < row; i++)
                none[i] &= planes[q * row + i];
    for (int64_t i = 0; i < row; i++)
        present[i] = (uint8_t)~none[i];
    for (; p >= 0; p--) {
        other = 0;
        for (int64_t i = 0; i < row; i++)
            other |= planes[p * row + i] & present[i];
        if (other)
            break;
    }
    return p + 1;
}

static void count_block(const bh_stored *s, int64_t k, const uint8_t *planes, int64_t n_items, int64_t first,
                        const uint8_t *touched) {
    uint8_t present[BH_MAX_BLOCK / 8];
    const int64_t row = n_items / 8;
    const int64_t n = find_present(planes, row, 8 * s->item_bytes, (int)s->is_signed, present);
    for (int64_t r = 0; r < s->n_regions; r++)
        if (touched[r])
            count_planes(planes, row, n, present, s->bits + r * s->bits_bytes + first / 8,
                         s->region_sums + k * s->n_regions + r, s->region_valid + k * s->n_regions + r);
}

/* The up to 7 elements behind the last block. */
static void count_rest(const bh_stored *s, int64_t k, const uint8_t *raw, int64_t first) {
    for (int64_t i = first; i < s->n_pixels; i++) {
        uint64_t value = 0, largest = s->item_bytes == 4 ? 0xffffffffu : s->item_bytes == 2 ? 0xffff : 0xff;
        for (int64_t b = 0; b < s->item_bytes; b++)
            value |= (uint64_t)raw[(i - first) * s->item_bytes + b] << (8 * b);
        if (s->is_signed ? value > largest / 2 : value == largest)
            continue;
        for (int64_t r = 0; r < s->n_regions; r++)
            if (s->bits[r * s->bits_bytes + i / 8] >> (i & 7) & 1) {
                s->region_sums[k * s->n_regions + r] += (int64_t)value;
                s->region_valid[k * s->n_regions + r]++;
            }
    }
}

/* One block of one frame: its planes in `planes`; below zero when it does not decode. */
static int64_t decode_planes(const bh_stored *s, int64_t k, bh_window *w, uint8_t *planes, int64_t n_bytes,
                             int wanted) {
    int64_t length;
    const uint8_t *block = next_block(s, k, w, &length);
    if (!block)
        return -1;
    if (wanted && bh_lz4_block(block, length, planes, n_bytes) != n_bytes) {
        s->failed[k] = FAILED_LZ4;
        return -1;
    }
    return 0;
}

static int64_t check(const bh_stored *s, bh_window *windows) {
    const int64_t item = s->item_bytes, is_file = s->chunks.file >= 0;
    if (s->n_frames < 0 || s->n_frames > BH_MAX_FRAMES || s->n_pixels < 0 || s->n_regions < 0 ||
        (item != 1 && item != 2 && item != 4) || s->n_pixels > INT64_MAX / 8 || s->chunks.n_data < 0 ||
        (s->n_regions && s->bits_bytes < (s->n_pixels + 7) / 8) ||
        (is_file && s->chunks.n_data < s->n_frames * bh_window_bytes(BH_MAX_BLOCK)))
        return -1;
    const int64_t block = read_headers(s, windows);
    if (block < 0)
        return -2;
    widen_windows(s, block, windows);
    return block && s->n_scratch < block * (s->n_frames + 1) ? -1 : block;
}

/* Which regions have a pixel in pixels first to first + n; n_regions flags, whether there is one. */
static int find_touched(const bh_stored *s, int64_t first, int64_t n, uint8_t *touched) {
    int any = 0;
    for (int64_t r = 0; r < s->n_regions; r++)
        any |= touched[r] = (uint8_t)has_bits(s->bits + r * s->bits_bytes + first / 8, n / 8);
    return any;
}

#define BH_MAX_REGIONS 4096

/* Add a batch of stored frames to the sums of pixels (if given) and count the regions. Gives 0; -1 for unusable
   arguments; -2 when the blocks are too large or differ: then nothing was added. What a chunk with failed[k] != 0
   has added is undefined: the caller starts again without it. */
static int64_t run(const bh_stored *s, const bh_pixel_sums *sums, int64_t *totals) {
    uint8_t touched[BH_MAX_REGIONS];
    bh_window windows[BH_MAX_FRAMES];
    const void *rows[BH_MAX_FRAMES];
    const int64_t block = s->n_regions > BH_MAX_REGIONS ? -1 : check(s, windows), item = s->item_bytes;
    if (block <= 0)
        return block;
    if (sums && (sums->n_pixels != s->n_pixels || sums->item_bytes != item || sums->low))
        return -1;
    const int64_t total = s->n_pixels * item, whole = total / (8 * item) * (8 * item);
    uint8_t *planes = s->scratch + s->n_frames * block;
    for (int64_t k = 0; k < s->n_frames; k++)
        rows[k] = s->scratch + k * block;
    for (int64_t done = 0; done < whole; done += block) {
        const int64_t n_bytes = whole - done < block ? whole - done : block, n = n_bytes / item;
        const int counted = find_touched(s, done / item, n, touched);
        for (int64_t k = 0; k < s->n_frames; k++) {
            uint8_t *row = s->scratch + k * block;
            if (s->failed[k] || decode_planes(s, k, &windows[k], planes, n_bytes, sums || counted) < 0) {
                if (sums)
                    memset(row, 0xff, (size_t)n_bytes);
                continue;
            }
            if (counted)
                count_block(s, k, planes, n, done / item, touched);
            if (sums)
                bh_unbitshuffle(planes, n, item, row);
        }
        if (sums && BH(pixel_sums_tile)(sums, rows, s->n_frames, done / item, n, totals) < 0)
            return -1;
    }
    for (int64_t k = 0; k < s->n_frames; k++) {
        uint8_t *row = s->scratch + k * block;
        memset(row, 0xff, (size_t)(8 * item));
        if (s->failed[k])
            continue;
        const int64_t rest = total - whole;
        const int64_t wrong = bh_window_rest(&windows[k]) == rest ? bh_window_need(&s->chunks, &windows[k], rest)
                                                                  : FAILED_REST;
        if (wrong) {
            s->failed[k] = wrong;
            continue;
        }
        memcpy(row, windows[k].at, (size_t)rest);
        count_rest(s, k, row, whole / item);
    }
    if (sums && total > whole)
        return BH(pixel_sums_tile)(sums, rows, s->n_frames, whole / item, s->n_pixels - whole / item, totals);
    return 0;
}

int64_t BH(stored_pixel_sums)(const bh_stored *stored, const bh_pixel_sums *sums, int64_t *totals) {
    return run(stored, sums, totals);
}

int64_t BH(stored_regions)(const bh_stored *stored) { return run(stored, NULL, NULL); }
