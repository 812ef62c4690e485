/* Many chunks of one dataset in one call: positional reads into a reused buffer, and decoding on the spot. */
#include "read_at.h"

#define BH_RAW 0
#define BH_BSLZ4 1
#define BH_LZ4 2

/* What the caller wants of chunk i, a row of six int64: where it lies (offset, bytes), and which of its decoded
   bytes [from, from + length) go to out[place]; the last is its method, one of the three above. */
enum { OFFSET, BYTES, PLACE, FROM, LENGTH, METHOD, N_COLUMNS };

BH_EXPORT int64_t BH(read_stored)(int64_t file, int64_t n, const int64_t *offsets, const int64_t *sizes,
                                  const int64_t *places, uint8_t *out, int64_t n_out, int64_t *status);
BH_EXPORT int64_t BH(read_chunks)(int64_t file, int64_t n, const int64_t *wanted, int64_t item_bytes,
                                  int64_t chunk_bytes, uint8_t *stored, int64_t n_stored, uint8_t *scratch,
                                  int64_t n_scratch, uint8_t *out, int64_t n_out, int64_t *status);

static int64_t outcome(int64_t got, int64_t expected) {
    return got == expected ? 0 : got < 0 ? got : BH_FILE_END;
}

/* Chunks as they are, chunk i to out[places[i]]; the number of chunks whose status is not 0. */
int64_t BH(read_stored)(int64_t file, int64_t n, const int64_t *offsets, const int64_t *sizes,
                        const int64_t *places, uint8_t *out, int64_t n_out, int64_t *status) {
    int64_t n_failed = 0;
    for (int64_t i = 0; i < n;) {
        if (offsets[i] < 0 || offsets[i] > BH_FAR || sizes[i] < 0 || places[i] < 0 || sizes[i] > n_out || places[i] > n_out - sizes[i])
            return BH_BAD_CALL;
        /* Neighbours in the file that are to be neighbours in memory are one read. */
        int64_t last = i, bytes = sizes[i];
        while (last + 1 < n && offsets[last + 1] == offsets[i] + bytes && places[last + 1] == places[i] + bytes &&
               sizes[last + 1] >= 0 && sizes[last + 1] <= n_out - places[i] - bytes && bytes < (4 << 20))
            bytes += sizes[++last];
        const int64_t got = read_at((int)file, offsets[i], bytes, out + places[i]);
        for (int64_t end = 0; i <= last; i++) {
            end += sizes[i];
            status[i] = got >= end ? 0 : outcome(got, end);
            n_failed += status[i] != 0;
        }
    }
    return n_failed;
}

typedef struct {
    int64_t item_bytes, chunk_bytes, n_scratch, n_out;
    uint8_t *scratch, *out;
} Target;

/* The wanted part of one chunk whose stored bytes are in memory. */
static int64_t place(const int64_t *w, const uint8_t *stored, const Target *t) {
    uint8_t *to = t->out + w[PLACE];
    if (w[METHOD] == BH_RAW) {
        if (w[BYTES] != t->chunk_bytes)
            return BH_WRONG_TOTAL;
        memcpy(to, stored + w[FROM], (size_t)w[LENGTH]);
        return 0;
    }
    const int whole = w[FROM] == 0 && w[LENGTH] == t->chunk_bytes;
    uint8_t *decoded = to, *scratch = t->scratch;
    int64_t room = t->n_scratch;
    if (!whole) { /* the whole chunk is decoded behind the blocks, and a part of it copied */
        if (room < t->chunk_bytes)
            return BH_NO_ROOM;
        room -= t->chunk_bytes;
        decoded = scratch + room;
    }
    const int64_t wrong = w[METHOD] == BH_LZ4
                              ? bh_lz4_chunk(stored, w[BYTES], decoded, t->chunk_bytes)
                              : bh_bslz4(stored, w[BYTES], t->item_bytes, decoded, t->chunk_bytes, scratch, room);
    if (wrong == 0 && !whole)
        memcpy(to, decoded + w[FROM], (size_t)w[LENGTH]);
    return wrong;
}

static int bad(const int64_t *w, int64_t chunk_bytes, int64_t n_out) {
    return w[OFFSET] < 0 || w[OFFSET] > BH_FAR || w[BYTES] < 0 || w[BYTES] > BH_FAR || w[PLACE] < 0 || w[FROM] < 0 || w[LENGTH] < 0 || w[METHOD] < BH_RAW ||
           w[METHOD] > BH_LZ4 || w[FROM] > chunk_bytes || w[LENGTH] > chunk_bytes - w[FROM] || w[LENGTH] > n_out ||
           w[PLACE] > n_out - w[LENGTH];
}

/* The number of chunks whose status is not 0, or BH_BAD_CALL when a row of `wanted` is impossible (then nothing
   behind that row was done). `stored` should hold the largest chunk, and several small ones; `scratch` two blocks
   and, where a part of a chunk is wanted, the chunk. */
int64_t BH(read_chunks)(int64_t file, int64_t n, const int64_t *wanted, int64_t item_bytes, int64_t chunk_bytes,
                        uint8_t *stored, int64_t n_stored, uint8_t *scratch, int64_t n_scratch, uint8_t *out,
                        int64_t n_out, int64_t *status) {
    const Target target = {item_bytes, chunk_bytes, n_scratch, n_out, scratch, out};
    int64_t n_failed = 0;
    if (item_bytes < 1 || item_bytes > 1 << 20 || chunk_bytes < 0 || n_out < 0)
        return BH_BAD_CALL;
    for (int64_t i = 0; i < n;) {
        const int64_t *w = wanted + N_COLUMNS * i;
        if (bad(w, chunk_bytes, n_out))
            return BH_BAD_CALL;
        if (w[METHOD] == BH_RAW && w[BYTES] == chunk_bytes && w[LENGTH] >= 1 << 16) {
            /* Large and as it is: straight to its place, and only what is wanted. */
            status[i] = outcome(read_at((int)file, w[OFFSET] + w[FROM], w[LENGTH], out + w[PLACE]), w[LENGTH]);
            n_failed += status[i++] != 0;
            continue;
        }
        if (w[BYTES] > n_stored) {
            status[i++] = BH_NO_ROOM;
            n_failed++;
            continue;
        }
        /* Neighbours, and those behind a small gap, in one read. */
        int64_t last = i, end = w[OFFSET] + w[BYTES];
        for (; last + 1 < n; last++) {
            const int64_t *next = wanted + N_COLUMNS * (last + 1);
            if (bad(next, chunk_bytes, n_out))
                return BH_BAD_CALL;
            if (next[OFFSET] < end || next[OFFSET] - end > 4096 || next[BYTES] > n_stored ||
                next[OFFSET] + next[BYTES] - w[OFFSET] > n_stored)
                break;
            end = next[OFFSET] + next[BYTES];
        }
        const int64_t start = w[OFFSET], got = read_at((int)file, start, end - start, stored);
        for (; i <= last; i++) {
            const int64_t *x = wanted + N_COLUMNS * i, from = x[OFFSET] - start;
            status[i] = got >= from + x[BYTES] ? place(x, stored + from, &target) : outcome(got, from + x[BYTES]);
            n_failed += status[i] != 0;
        }
    }
    return n_failed;
}
