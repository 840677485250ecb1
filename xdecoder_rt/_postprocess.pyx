# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: embedsignature=True
"""The hot loops of `xdecoder_rt.postprocess`: upsample, squash, compare and count in one pass.

Mask logits come at stride 4; the source image is several times larger along each axis. The output
is walked in tiles that fit the first-level cache, and nothing of full size is held per query. Of
each query and tile the range of the logits under it is taken first. A bicubic output lies within
``overshoot * range`` of that range, so most queries cannot win anywhere in a tile and are not
upsampled there, and a tile inside one large object needs no upsampling at all. The bounds are
widened by more than float32 rounding, so skipping changes no result.

CMakeLists.txt compiles this file several times, once per instruction set, under different module
names; `instruction_sets` says which of them this processor runs.
"""

from libc.math cimport INFINITY, expf, fabsf
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>

    #if defined(__x86_64__) && defined(__GNUC__)
    static int xd_runs_avx2(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    static int xd_runs_avx512(void) {
        return xd_runs_avx2() && __builtin_cpu_supports("avx512f")
            && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int xd_runs_avx2(void) { return 0; }
    static int xd_runs_avx512(void) { return 0; }
    #endif

    static inline float xd_min(float a, float b) { return a < b ? a : b; }
    static inline float xd_max(float a, float b) { return a > b ? a : b; }

    /* exp(x) in float32, relative error below 2e-7, x clamped to +-87. No branch, no call and no
       table, so that compilers turn loops over it into vector code. exp(x) = 2^n exp(r) with n
       the nearest integer to x log2(e), found by adding 1.5 * 2^23, and |r| <= ln(2) / 2. */
    static inline float xd_exp(float x) {
        const float shift = 12582912.0f;
        x = x < 87.0f ? x : 87.0f;
        x = x > -87.0f ? x : -87.0f;
        float shifted = x * 1.44269504088896341f + shift;
        float n = shifted - shift;
        float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
        float p = 1.9875691500e-4f;
        p = p * r + 1.3981999507e-3f;
        p = p * r + 8.3334519073e-3f;
        p = p * r + 4.1665795894e-2f;
        p = p * r + 1.6666665459e-1f;
        p = p * r + 5.0000001201e-1f;
        p = p * r * r + r + 1.0f;
        uint32_t bits, exponent;
        memcpy(&bits, &p, sizeof bits);
        memcpy(&exponent, &shifted, sizeof exponent);
        bits += exponent << 23;
        memcpy(&p, &bits, sizeof p);
        return p;
    }
    """
    bint xd_runs_avx2()
    bint xd_runs_avx512()
    float xd_exp(float x)
    float xd_min(float a, float b)
    float xd_max(float a, float b)

cdef enum:
    TILE_WIDTH = 32
    TILE_HEIGHT = 16
    TILE_PIXELS = TILE_WIDTH * TILE_HEIGHT


cdef struct Grid:
    # Both axes of the way from stride 4 to the source image (xdecoder_rt.resample.mask_axis).
    Py_ssize_t height, width            # of the logits
    Py_ssize_t row_taps, column_taps
    Py_ssize_t out_width
    const int* row_first                # [H]
    const float* row_weights            # [H, row_taps]
    const int* column_first             # [W]
    const float* column_weights         # [column_taps, W]
    float overshoot


cdef struct Tile:
    Py_ssize_t y, x, height, width      # output pixels
    Py_ssize_t top, bottom, left, right # the logits that they read


cdef Grid make_grid(
    const float[:, :, ::1] logits,
    const int[::1] row_first,
    const float[:, ::1] row_weights,
    const int[::1] column_first,
    const float[:, ::1] column_weights,
    double overshoot,
) noexcept:
    cdef Grid grid
    grid.height, grid.width = logits.shape[1], logits.shape[2]
    grid.row_taps, grid.column_taps = row_weights.shape[1], column_weights.shape[0]
    grid.out_width = column_first.shape[0]
    grid.row_first, grid.row_weights = &row_first[0], &row_weights[0, 0]
    grid.column_first, grid.column_weights = &column_first[0], &column_weights[0, 0]
    grid.overshoot = <float> overshoot
    return grid


cdef inline Py_ssize_t least(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef inline Tile make_tile(
    const Grid* grid, Py_ssize_t y, Py_ssize_t stop, Py_ssize_t x, Py_ssize_t rows
) noexcept nogil:
    cdef Tile tile
    tile.y, tile.x = y, x
    tile.height = least(rows, stop - y)
    tile.width = least(TILE_WIDTH, grid.out_width - x)
    tile.top = grid.row_first[y]
    tile.bottom = grid.row_first[y + tile.height - 1] + grid.row_taps
    tile.left = grid.column_first[x]
    tile.right = grid.column_first[x + tile.width - 1] + grid.column_taps
    return tile


cdef void column_bounds(
    const Grid* grid, const Tile* tile, const float* logits, float* smallest, float* largest
) noexcept nogil:
    """Range of each column of the logits over the rows that a row of tiles reads."""
    cdef Py_ssize_t x, y
    cdef const float* row = logits + tile.top * grid.width
    for x in range(grid.width):
        smallest[x] = row[x]
        largest[x] = row[x]
    for y in range(tile.top + 1, tile.bottom):
        row = logits + y * grid.width
        for x in range(grid.width):
            smallest[x] = xd_min(row[x], smallest[x])
            largest[x] = xd_max(row[x], largest[x])


cdef inline void tile_bounds(
    const Grid* grid, const Tile* tile, const float* smallest, const float* largest,
    float* low, float* high
) noexcept nogil:
    """Limits of the upsampled logits inside the tile, outside any rounding."""
    cdef Py_ssize_t x
    cdef float lowest = smallest[tile.left], highest = largest[tile.left], slack
    for x in range(tile.left + 1, tile.right):
        lowest = xd_min(smallest[x], lowest)
        highest = xd_max(largest[x], highest)
    slack = grid.overshoot * (highest - lowest) + 1e-5 * (fabsf(lowest) + fabsf(highest)) + 1e-6
    low[0] = lowest - slack
    high[0] = highest + slack


cdef void expand(
    const Grid* grid, const Tile* tile, const float* logits, float* columns
) noexcept nogil:
    """Resample along x every row that the tile reads: columns[bottom - top, TILE_WIDTH]."""
    cdef Py_ssize_t n = tile.width, taps = grid.column_taps, x, y, tap
    cdef const int* first = grid.column_first + tile.x
    cdef const float* w0 = grid.column_weights + tile.x
    cdef const float* w1
    cdef const float* w2
    cdef const float* w3
    cdef const float* row
    cdef const float* weights
    cdef float* out
    for y in range(tile.top, tile.bottom):
        row = logits + y * grid.width
        out = columns + (y - tile.top) * TILE_WIDTH
        tap = 0
        if taps >= 4:
            w1, w2, w3 = w0 + grid.out_width, w0 + 2 * grid.out_width, w0 + 3 * grid.out_width
            for x in range(n):
                out[x] = (
                    w0[x] * row[first[x]] + w1[x] * row[first[x] + 1]
                    + w2[x] * row[first[x] + 2] + w3[x] * row[first[x] + 3]
                )
            tap = 4
        else:
            for x in range(n):
                out[x] = 0
        while tap < taps:
            weights = w0 + tap * grid.out_width
            for x in range(n):
                out[x] += weights[x] * row[first[x] + tap]
            tap += 1


cdef void combine(
    const Grid* grid, const Tile* tile, const float* columns, Py_ssize_t y, float* out
) noexcept nogil:
    """Row `y` of the output from the tile's expanded rows."""
    cdef Py_ssize_t n = tile.width, x, tap = 0
    cdef const float* weights = grid.row_weights + y * grid.row_taps
    cdef const float* rows = columns + (grid.row_first[y] - tile.top) * TILE_WIDTH
    cdef float a, b, c, d
    if grid.row_taps >= 4:
        a, b, c, d = weights[0], weights[1], weights[2], weights[3]
        for x in range(n):
            out[x] = (
                a * rows[x] + b * rows[TILE_WIDTH + x]
                + c * rows[2 * TILE_WIDTH + x] + d * rows[3 * TILE_WIDTH + x]
            )
        tap = 4
    else:
        for x in range(n):
            out[x] = 0
    while tap < grid.row_taps:
        a = weights[tap]
        for x in range(n):
            out[x] += a * rows[tap * TILE_WIDTH + x]
        tap += 1


cdef inline void compete(
    const float* logits, Py_ssize_t n, float offset, float shift, int label, float* cost, int* winner
) noexcept nogil:
    """Give a pixel to `label` where its cost is lower; negative label: its probability is < 0.5."""
    cdef Py_ssize_t x
    cdef float mine
    cdef int negative, lower, any = 0
    # exp(z) >= 1 + z: a row without a pixel that passes this needs no exponential.
    for x in range(n):
        any |= (shift - logits[x] < cost[x] - offset - <float> 0.999)
    if not any:
        return
    # Masks of all bits (-1) or none instead of branches: compilers vectorize these everywhere.
    for x in range(n):
        mine = offset + xd_exp(shift - logits[x])
        lower = -(mine < cost[x])
        negative = -(logits[x] < 0)
        winner[x] = (winner[x] & ~lower) | (((label ^ negative) - negative) & lower)
        cost[x] = xd_min(mine, cost[x])


cdef inline Py_ssize_t count_from_zero(const float* logits, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t x
    cdef int count = 0
    for x in range(n):
        count += logits[x] >= 0
    return count


cdef void panoptic_tile(
    const Grid* grid, const Tile* tile, const float* logits, Py_ssize_t queries,
    const float* offsets, const float* shifts, const float* smallest, const float* largest,
    float* low, float* high, float* columns,
    int* winners, Py_ssize_t winners_stride, long long* owned, long long* inside, long long* final
) noexcept nogil:
    cdef Py_ssize_t size = grid.height * grid.width, area = tile.height * tile.width
    cdef Py_ssize_t k, x, y, contenders = 0, only = 0
    cdef float limit = INFINITY, cost
    cdef float row[TILE_WIDTH]
    cdef float costs[TILE_PIXELS]
    cdef int labels[TILE_PIXELS]
    cdef int label, mine, positive, fill = 0
    cdef bint contends, counts
    cdef int* target

    # The score times sigmoid(logit) is largest where (1 + exp(-logit)) / score is smallest: that
    # is offset + exp(shift - logit) with offset = 1 / score, shift = -log(score).
    for k in range(queries):
        tile_bounds(
            grid, tile, smallest + k * grid.width, largest + k * grid.width, &low[k], &high[k]
        )
        cost = offsets[k] + xd_exp(shifts[k] - low[k])
        limit = cost if cost < limit else limit
    limit *= <float> 1.00001
    for k in range(queries):
        if not (offsets[k] + xd_exp(shifts[k] - high[k]) > limit):
            contenders += 1
            only = k
    if contenders == 1 and (low[only] >= 0 or high[only] < 0):
        # One query owns the tile, all of it inside its mask or all of it outside.
        owned[only] += area
        if low[only] >= 0:
            final[only] += area
            fill = <int> only + 1
        for y in range(tile.height):
            target = winners + y * winners_stride
            for x in range(tile.width):
                target[x] = fill
        contenders = 0
    elif contenders:
        for x in range(TILE_PIXELS):
            costs[x] = INFINITY
            labels[x] = 0

    for k in range(queries):
        contends = contenders > 0 and not (offsets[k] + xd_exp(shifts[k] - high[k]) > limit)
        counts = not (high[k] < 0)
        if counts and low[k] >= 0:
            inside[k] += area
            counts = False
        if not (contends or counts):
            continue
        expand(grid, tile, logits + k * size, columns)
        for y in range(tile.height):
            combine(grid, tile, columns, tile.y + y, row)
            if counts:
                inside[k] += count_from_zero(row, tile.width)
            if contends:
                compete(
                    row, tile.width, offsets[k], shifts[k], <int> k + 1,
                    costs + y * TILE_WIDTH, labels + y * TILE_WIDTH,
                )
    if not contenders:
        return

    for k in range(queries):
        if offsets[k] + xd_exp(shifts[k] - high[k]) > limit:
            continue
        label = <int> k + 1
        mine = 0
        positive = 0
        for x in range(TILE_WIDTH * tile.height):
            mine += (labels[x] == label) | (labels[x] == -label)
            positive += labels[x] == label
        owned[k] += mine
        final[k] += positive
    for y in range(tile.height):
        target = winners + y * winners_stride
        for x in range(tile.width):
            label = labels[y * TILE_WIDTH + x]
            target[x] = label if label > 0 else 0


def panoptic_rows(
    const float[:, :, ::1] logits not None,
    const int[::1] row_first not None,
    const float[:, ::1] row_weights not None,
    const int[::1] column_first not None,
    const float[:, ::1] column_weights not None,
    double overshoot,
    const float[::1] offsets not None,
    const float[::1] shifts not None,
    Py_ssize_t start,
    Py_ssize_t stop,
    int[:, ::1] winners not None,
    long long[:, ::1] counts not None,
):
    """Owner of every pixel of the output rows start..stop, and the areas that decide who stays.

    Args:
        logits: ``[K, h, w]``.
        row_first, row_weights: ``[H]`` and ``[H, taps]``.
        column_first, column_weights: ``[W]`` and ``[taps, W]``.
        overshoot: bound of the two axes together.
        offsets, shifts: ``[K]``, 1 / score and -log(score).
        start, stop: output rows.
        winners: ``[H, W]``, written: 1 + the query with the largest score x probability where its
            probability is at least 0.5, else 0.
        counts: ``[3, K]``, added to: pixels owned, pixels with probability >= 0.5, pixels of both.
    """
    cdef Grid grid = make_grid(
        logits, row_first, row_weights, column_first, column_weights, overshoot
    )
    cdef Py_ssize_t queries = logits.shape[0], size = grid.height * grid.width, k, y, x
    cdef Tile tile
    cdef float* ranges = <float*> malloc(
        (2 * queries * (grid.width + 1) + TILE_WIDTH * grid.height) * sizeof(float)
    )
    cdef float* smallest = ranges
    cdef float* largest = smallest + queries * grid.width
    cdef float* low = largest + queries * grid.width
    cdef float* high = low + queries
    cdef float* columns = high + queries
    if ranges == NULL:
        raise MemoryError
    with nogil:
        y = start
        while y < stop:
            tile = make_tile(&grid, y, stop, 0, TILE_HEIGHT)
            for k in range(queries):
                column_bounds(
                    &grid, &tile, &logits[k, 0, 0],
                    smallest + k * grid.width, largest + k * grid.width,
                )
            x = 0
            while x < grid.out_width:
                tile = make_tile(&grid, y, stop, x, TILE_HEIGHT)
                panoptic_tile(
                    &grid, &tile, &logits[0, 0, 0], queries, &offsets[0], &shifts[0],
                    smallest, largest, low, high, columns, &winners[y, x], grid.out_width,
                    &counts[0, 0], &counts[1, 0], &counts[2, 0],
                )
                x += TILE_WIDTH
            y += TILE_HEIGHT
        free(ranges)


def relabel(int[:, ::1] labels not None, const int[::1] table not None):
    """Replace every value of `labels` by its entry in `table`, in place."""
    cdef Py_ssize_t n = labels.shape[0] * labels.shape[1], i
    cdef int* values
    if n == 0:
        return
    values = &labels[0, 0]
    with nogil:
        for i in range(n):
            values[i] = table[values[i]]


def instruction_sets():
    """Suffixes of the variants of this module that the processor runs, best first."""
    names = []
    if xd_runs_avx512():
        names.append("_avx512")
    if xd_runs_avx2():
        names.append("_avx2")
    names.append("")
    return tuple(names)
