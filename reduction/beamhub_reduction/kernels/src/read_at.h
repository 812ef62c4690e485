/* Positional reads, however long. Include it first: it says which system calls are wanted. */
#ifndef BEAMHUB_READ_AT_H
#define BEAMHUB_READ_AT_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <errno.h>
#include <unistd.h>

#include "containers.h"

#define BH_FAR ((int64_t)1 << 61) /* sums of two such places do not overflow */

/* Bytes read (fewer at the end of the file), or BH_ERRNO minus what the system said. */
static inline int64_t read_at(int file, int64_t offset, int64_t n, uint8_t *to) {
    int64_t done = 0;
    while (done < n) {
        const int64_t ask = n - done < (1 << 30) ? n - done : (1 << 30);
        const ssize_t got = pread(file, to + done, (size_t)ask, (off_t)(offset + done));
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return BH_ERRNO - errno;
        }
        if (got == 0)
            break;
        done += got;
    }
    return done;
}

#endif
