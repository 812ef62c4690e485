/* Sums over frames for each pixel: what statistics.c and statistics_stored.c share. */
#ifndef BEAMHUB_STATISTICS_H
#define BEAMHUB_STATISTICS_H

#include "kernels.h"

#define BH_TILE 256      /* pixels whose sums stay in the nearest cache */
#define BH_MAX_FRAMES 64 /* frames of one call: 64 blocks of 8 KiB stay in the second cache */
#define BH_GROUP 8       /* frames that are read together; pads hold a value that counts nowhere */

/* Not inlined: a compiler forgets `restrict` when it inlines, and does not vectorise so many arrays then. */
#define BH_APART __attribute__((noinline))

/* One value per pixel each; integers of 8, 16 or 32 bits are taken as unsigned: values above `limit` are
   'no value' (the largest unsigned one, or what is negative in a signed type).
   The sum of squares is square_high * 2^32 + square_low. */
typedef struct {
    int64_t item_bytes, n_pixels;
    uint64_t limit;
    const uint8_t *usable; /* 1 = counts */
    const void *low, *high; /* same type as the values, or NULL: only low <= value <= high counts */
    int64_t *sum;
    uint64_t *square_low, *square_high;
    void *minimum, *maximum;
    uint32_t *n_valid, *n_rejected; /* n_rejected may be NULL without bounds */
} bh_pixel_sums;

#endif
