/* Stored chunks that a kernel goes through side by side: all in memory, or read from their file piece by piece.

   Frames of a batch are used block by block, the same block of all of them. Whole chunks of a batch do not fit the
   caches; a window of each does, so that stored bytes are decoded before they ever meet the memory.
   No byte outside a chunk is given away, whatever the chunk says; a file that ends early is a status. */
#ifndef BEAMHUB_WINDOWS_H
#define BEAMHUB_WINDOWS_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "containers.h"

#define BH_WINDOW_BYTES 32768 /* read at once for blocks of 8 KiB; larger blocks have larger windows */
#define BH_FAR_AWAY ((int64_t)1 << 61)

/* Chunk k is data[offsets[k], offsets[k] + sizes[k]), or, with a file (a descriptor; below zero: none), as many
   bytes of it; `data` then holds the windows. The same fields stand in kernels/stored.py. */
typedef struct {
    int64_t file;
    uint8_t *data;
    int64_t n_data;
    const int64_t *offsets, *sizes;
} bh_chunks;

/* What is in memory of a chunk and not used yet, and where the rest of it lies. */
typedef struct {
    const uint8_t *at, *end;
    uint8_t *window;
    int64_t n_window, next, left;
} bh_window;

/* What one window takes for blocks of so many decoded bytes: LZ4 makes a block by a 255th longer at most. */
static inline int64_t bh_window_bytes(int64_t block_bytes) {
    const int64_t least = block_bytes + block_bytes / 255 + 64;
    return least > BH_WINDOW_BYTES / 2 ? 2 * least : BH_WINDOW_BYTES;
}

/* Begin chunk k; with a file it has n_window bytes from `window` on. 0, or BH_BAD_CALL. */
static inline int64_t bh_window_open(const bh_chunks *c, int64_t k, uint8_t *window, int64_t n_window, bh_window *w) {
    const int64_t offset = c->offsets[k], size = c->sizes[k];
    if (offset < 0 || size < 0 || offset > BH_FAR_AWAY || size > BH_FAR_AWAY)
        return BH_BAD_CALL;
    if (c->file >= 0) {
        *w = (bh_window){window, window, window, n_window, offset, size};
        return 0;
    }
    if (size > c->n_data || offset > c->n_data - size)
        return BH_BAD_CALL;
    *w = (bh_window){c->data + offset, c->data + offset + size, NULL, 0, 0, 0};
    return 0;
}

/* Bytes of the chunk that are not used yet. */
static inline int64_t bh_window_rest(const bh_window *w) { return w->end - w->at + w->left; }

static __attribute__((noinline, unused)) int64_t bh_window_fill(const bh_chunks *c, bh_window *w, int64_t n) {
    const int64_t have = w->end - w->at;
    if (n > have + w->left)
        return BH_BLOCK_LENGTH;
    if (n > w->n_window)
        return BH_NO_ROOM;
    memmove(w->window, w->at, (size_t)have);
    w->at = w->window;
    w->end = w->window + have;
    const int64_t room = w->n_window - have, ask = w->left < room ? w->left : room;
    for (int64_t done = 0; done < ask;) {
        const ssize_t got = pread((int)c->file, w->window + have + done, (size_t)(ask - done), (off_t)w->next);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? BH_ERRNO - errno : BH_FILE_END;
        done += got;
        w->next += got;
        w->left -= got;
        w->end += got;
    }
    return 0;
}

/* Have the next n bytes of the chunk at w->at: 0, or what is wrong. */
static inline int64_t bh_window_need(const bh_chunks *c, bh_window *w, int64_t n) {
    return w->end - w->at >= n ? 0 : bh_window_fill(c, w, n);
}

#endif
