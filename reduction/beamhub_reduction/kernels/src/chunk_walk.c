/* What HDF5's H5Dchunk_iter calls for every storage chunk: a row of a table, without the interpreter.
   Source: HDF5 reference manual 1.14, H5D_chunk_iter_op_t. */
#include "kernels.h"

typedef struct {
    int64_t rank, room, n; /* axes, rows that fit the table, rows that are in it */
    int64_t cut;           /* 1: not all chunks are there. What H5Dchunk_iter returns does not always tell */
    int64_t *table;        /* (room, rank + 3): the chunk's first element, its place in the file, bytes, filter mask */
} bh_chunk_table;

BH_EXPORT int BH(note_chunk)(const uint64_t *first, unsigned mask, uint64_t at, uint64_t n_bytes, void *to);

/* 0 to go on; 1 ends the walk and sets `cut`: there is no room, or a number that int64 does not hold. */
int BH(note_chunk)(const uint64_t *first, unsigned mask, uint64_t at, uint64_t n_bytes, void *to) {
    bh_chunk_table *t = to;
    if (t->n >= t->room || at > INT64_MAX || n_bytes > INT64_MAX)
        return (int)(t->cut = 1);
    int64_t *row = t->table + t->n * (t->rank + 3);
    for (int64_t i = 0; i < t->rank; i++) {
        if (first[i] > INT64_MAX)
            return (int)(t->cut = 1);
        row[i] = (int64_t)first[i];
    }
    row[t->rank] = (int64_t)at;
    row[t->rank + 1] = (int64_t)n_bytes;
    row[t->rank + 2] = (int64_t)mask;
    t->n++;
    return 0;
}
