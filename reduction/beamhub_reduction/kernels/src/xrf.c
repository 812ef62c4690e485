/* Spectra of a multichannel analyser: sums over ranges of channels, the sum and the maximum of all spectra.
   Everything is integer arithmetic, so any order of additions gives the same numbers. */
#include "kernels.h"

#define XRF(NAME, TYPE)                                                                                       \
    static void add_four_##NAME(const TYPE *restrict v, int64_t n, int64_t *restrict sum, TYPE *restrict top) { \
        const TYPE *restrict a = v, *restrict b = v + n, *restrict c = v + 2 * n, *restrict d = v + 3 * n;    \
        for (int64_t i = 0; i < n; i++) {                                                                     \
            sum[i] += (int64_t)a[i] + (int64_t)b[i] + (int64_t)c[i] + (int64_t)d[i];                          \
            const TYPE ab = a[i] > b[i] ? a[i] : b[i], cd = c[i] > d[i] ? c[i] : d[i];                        \
            const TYPE most = ab > cd ? ab : cd;                                                              \
            top[i] = most > top[i] ? most : top[i];                                                           \
        }                                                                                                     \
    }                                                                                                         \
    static void add_one_##NAME(const TYPE *restrict v, int64_t n, int64_t *restrict sum, TYPE *restrict top) {  \
        for (int64_t i = 0; i < n; i++) {                                                                     \
            sum[i] += (int64_t)v[i];                                                                          \
            top[i] = v[i] > top[i] ? v[i] : top[i];                                                           \
        }                                                                                                     \
    }                                                                                                         \
    static int64_t range_##NAME(const TYPE *restrict v, int64_t low, int64_t high) {                           \
        int64_t sum = 0;                                                                                      \
        for (int64_t i = low; i < high; i++)                                                                  \
            sum += (int64_t)v[i];                                                                             \
        return sum;                                                                                           \
    }                                                                                                         \
    static void sums_##NAME(const TYPE *v, int64_t n_spectra, int64_t n, const int64_t *ranges, int64_t n_ranges, \
                            int64_t *out, int64_t *sum, TYPE *top) {                                          \
        int64_t s = 0;                                                                                        \
        while (s < n_spectra) {                                                                               \
            const int64_t four = n_spectra - s >= 4 ? 4 : 1;                                                  \
            if (four == 4)                                                                                    \
                add_four_##NAME(v + s * n, n, sum, top);                                                      \
            else                                                                                              \
                add_one_##NAME(v + s * n, n, sum, top);                                                       \
            for (int64_t k = s; k < s + four; k++)                                                            \
                for (int64_t r = 0; r < n_ranges; r++)                                                        \
                    out[k * n_ranges + r] = range_##NAME(v + k * n, ranges[2 * r], ranges[2 * r + 1]);         \
            s += four;                                                                                        \
        }                                                                                                     \
    }
XRF(u8, uint8_t)
XRF(u16, uint16_t)
XRF(u32, uint32_t)
XRF(i32, int32_t)

#define SHUFFLED(NAME, TYPE)                                                                                  \
    static void shuffled_##NAME(const uint8_t *planes, int64_t stride, int64_t n_spectra, int64_t n,          \
                                const int64_t *ranges, int64_t n_ranges, int64_t *out, int64_t *sum, TYPE *top, \
                                TYPE *four) {                                                                 \
        for (int64_t s = 0; s < n_spectra; s += 4) {                                                          \
            const int64_t count = n_spectra - s >= 4 ? 4 : n_spectra - s;                                     \
            const uint8_t *restrict from = planes + s * n;                                                    \
            uint8_t *restrict to = (uint8_t *)four;                                                           \
            for (int64_t i = 0; i < count * n; i++)                                                           \
                for (int64_t k = 0; k < (int64_t)sizeof(TYPE); k++)                                           \
                    to[i * (int64_t)sizeof(TYPE) + k] = from[k * stride + i];                                 \
            sums_##NAME(four, count, n, ranges, n_ranges, out + s * n_ranges, sum, top);                      \
        }                                                                                                     \
    }
SHUFFLED(u16, uint16_t)
SHUFFLED(u32, uint32_t)
SHUFFLED(i32, int32_t)

static int64_t check(int64_t kind, int64_t n_spectra, int64_t n_channels, const int64_t *ranges, int64_t n_ranges) {
    if (kind < 0 || kind > 3 || n_spectra < 0 || n_channels < 0 || n_ranges < 0)
        return -1;
    for (int64_t r = 0; r < n_ranges; r++)
        if (ranges[2 * r] < 0 || ranges[2 * r + 1] > n_channels)
            return -2;
    return 0;
}

/* spectra (n_spectra, n_channels); ranges (n_ranges, 2) of channels, low inside and high not; out (n_spectra,
   n_ranges); sum and top (n_channels) gain the spectra. */
BH_EXPORT int64_t BH(spectra_sums)(int64_t kind, const void *spectra, int64_t n_spectra, int64_t n_channels,
                                   const int64_t *ranges, int64_t n_ranges, int64_t *out, int64_t *sum, void *top);
int64_t BH(spectra_sums)(int64_t kind, const void *spectra, int64_t n_spectra, int64_t n_channels,
                         const int64_t *ranges, int64_t n_ranges, int64_t *out, int64_t *sum, void *top) {
    const int64_t bad = check(kind, n_spectra, n_channels, ranges, n_ranges);
    if (bad)
        return bad;
    if (kind == 0)
        sums_u8(spectra, n_spectra, n_channels, ranges, n_ranges, out, sum, top);
    else if (kind == 1)
        sums_u16(spectra, n_spectra, n_channels, ranges, n_ranges, out, sum, top);
    else if (kind == 2)
        sums_u32(spectra, n_spectra, n_channels, ranges, n_ranges, out, sum, top);
    else
        sums_i32(spectra, n_spectra, n_channels, ranges, n_ranges, out, sum, top);
    return 0;
}

/* The same from spectra as HDF5's shuffle left them: byte k of element i is planes[k * stride + i]. `planes` begins
   at the first spectrum; `four` has room for four spectra, which stay in the cache until they are summed. */
BH_EXPORT int64_t BH(shuffled_spectra_sums)(int64_t kind, const uint8_t *planes, int64_t stride, int64_t n_spectra,
                                            int64_t n_channels, const int64_t *ranges, int64_t n_ranges,
                                            int64_t *out, int64_t *sum, void *top, void *four);
int64_t BH(shuffled_spectra_sums)(int64_t kind, const uint8_t *planes, int64_t stride, int64_t n_spectra,
                                  int64_t n_channels, const int64_t *ranges, int64_t n_ranges, int64_t *out,
                                  int64_t *sum, void *top, void *four) {
    const int64_t bad = check(kind, n_spectra, n_channels, ranges, n_ranges);
    if (bad)
        return bad;
    if (n_channels && n_spectra > stride / n_channels)
        return -3;
    if (kind == 0)
        sums_u8(planes, n_spectra, n_channels, ranges, n_ranges, out, sum, top);
    else if (kind == 1)
        shuffled_u16(planes, stride, n_spectra, n_channels, ranges, n_ranges, out, sum, top, four);
    else if (kind == 2)
        shuffled_u32(planes, stride, n_spectra, n_channels, ranges, n_ranges, out, sum, top, four);
    else
        shuffled_i32(planes, stride, n_spectra, n_channels, ranges, n_ranges, out, sum, top, four);
    return 0;
}
