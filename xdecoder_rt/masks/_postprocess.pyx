# cython: language_level=3, embedsignature=True
# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The hot loops of `xdecoder_rt.masks.postprocess`: upsample, squash, compare and count in one pass.

Mask logits come at stride 4; the source image is several times larger along each axis. The output
is walked in tiles that fit the first-level cache, and nothing of full size is held per query. Of
each query and tile the range of the logits under it is taken first. A bicubic output lies within
``overshoot * range`` of that range, so most queries cannot win anywhere in a tile and are not
upsampled there, and a tile inside one large object needs no upsampling at all. The bounds are
widened by more than float32 rounding, so skipping changes no result.

The axes (first, weights) are those of `xdecoder_rt.masks.resample.mask_axis`. All functions release the
GIL and work on a band of output rows, so that threads can share an image. CMakeLists.txt compiles
this file once per instruction set, under different module names.
"""

from libc.math cimport INFINITY, fabsf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>

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

    static inline float xd_sigmoid(float x) { return 1.0f / (1.0f + xd_exp(-x)); }
    """
    float xd_exp(float x)
    float xd_sigmoid(float x)
    float xd_min(float a, float b)
    float xd_max(float a, float b)

cdef enum:
    TILE_WIDTH = 32
    TILE_HEIGHT = 16
    TILE_PIXELS = TILE_WIDTH * TILE_HEIGHT
    MATRIX_COLUMNS = 32  # widest window of logits for which a tile's weights are a full matrix

# More than the rounding of a sum over thousands of queries.
cdef float SUM_SLACK = 1.001


cdef struct Grid:
    # The way from stride 4 to the source image.
    Py_ssize_t height, width            # of the logits
    Py_ssize_t out_width
    Py_ssize_t row_taps, column_taps
    const int* row_first                # [H]
    const float* row_weights            # [H, row_taps]
    const int* column_first             # [W]
    const float* column_weights         # [column_taps, W]
    float overshoot
    # Working memory, one block.
    void* memory
    float* matrices                     # a [window, TILE_WIDTH] per tile of a row, or NULL
    Py_ssize_t window                   # columns that a tile reads, at most, in fours
    float* columns                      # [height, TILE_WIDTH], what `expand` writes
    float* smallest                     # [queries, width], what `column_bounds` writes
    float* largest
    float* low                          # [queries], what `tile_bounds` writes
    float* high


cdef struct Tile:
    Py_ssize_t y, x, height, width      # output pixels
    Py_ssize_t top, bottom, left, right # the logits that they read


cdef inline Py_ssize_t least(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef inline Py_ssize_t most(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a > b else b


cdef int open_grid(
    Grid* grid,
    const float[:, :, ::1] logits,
    const int[::1] row_first,
    const float[:, ::1] row_weights,
    const int[::1] column_first,
    const float[:, ::1] column_weights,
    double overshoot,
) except -1:
    """Fill `grid` and take its working memory; `free(grid.memory)` gives it back."""
    cdef Py_ssize_t queries = logits.shape[0], tiles, matrix_floats, x, last
    cdef float* block
    grid.height, grid.width = logits.shape[1], logits.shape[2]
    grid.out_width = column_first.shape[0]
    grid.row_taps, grid.column_taps = row_weights.shape[1], column_weights.shape[0]
    grid.row_first, grid.row_weights = &row_first[0], &row_weights[0, 0]
    grid.column_first, grid.column_weights = &column_first[0], &column_weights[0, 0]
    grid.overshoot = <float> overshoot

    tiles = (grid.out_width + TILE_WIDTH - 1) // TILE_WIDTH
    grid.window = 0
    for x in range(tiles):
        last = least((x + 1) * TILE_WIDTH, grid.out_width) - 1
        grid.window = most(
            grid.window, column_first[last] + grid.column_taps - column_first[x * TILE_WIDTH]
        )
    grid.window = (grid.window + 3) // 4 * 4
    matrix_floats = tiles * grid.window * TILE_WIDTH if grid.window <= MATRIX_COLUMNS else 0

    grid.memory = malloc(
        (matrix_floats + TILE_WIDTH * grid.height + 2 * queries * (grid.width + 1)) * sizeof(float)
    )
    if grid.memory == NULL:
        raise MemoryError
    block = <float*> grid.memory
    grid.matrices = block if matrix_floats else NULL
    grid.columns = block + matrix_floats
    grid.smallest = grid.columns + TILE_WIDTH * grid.height
    grid.largest = grid.smallest + queries * grid.width
    grid.low = grid.largest + queries * grid.width
    grid.high = grid.low + queries
    if matrix_floats:
        memset(block, 0, matrix_floats * sizeof(float))
        fill_matrices(grid)
    return 0


cdef void fill_matrices(Grid* grid) noexcept nogil:
    """The column weights of each tile as a full matrix."""
    cdef Py_ssize_t x, tap, left
    cdef float* matrix
    for x in range(grid.out_width):
        left = grid.column_first[x - x % TILE_WIDTH]
        matrix = grid.matrices + (x // TILE_WIDTH) * grid.window * TILE_WIDTH + x % TILE_WIDTH
        for tap in range(grid.column_taps):
            matrix[(grid.column_first[x] + tap - left) * TILE_WIDTH] = (
                grid.column_weights[tap * grid.out_width + x]
            )


cdef inline Tile make_tile(
    const Grid* grid, Py_ssize_t y, Py_ssize_t stop, Py_ssize_t x
) noexcept nogil:
    cdef Tile tile
    tile.y, tile.x = y, x
    tile.height = least(TILE_HEIGHT, stop - y)
    tile.width = least(TILE_WIDTH, grid.out_width - x)
    tile.top = grid.row_first[y]
    tile.bottom = grid.row_first[y + tile.height - 1] + grid.row_taps
    tile.left = grid.column_first[x]
    tile.right = grid.column_first[x + tile.width - 1] + grid.column_taps
    return tile


cdef void column_bounds(
    const Grid* grid, const Tile* tile, const float* logits, Py_ssize_t queries
) noexcept nogil:
    """Range of each query and column of logits over the rows that a row of tiles reads."""
    cdef Py_ssize_t q, x, y
    cdef const float* row
    cdef float* smallest
    cdef float* largest
    for q in range(queries):
        smallest = grid.smallest + q * grid.width
        largest = grid.largest + q * grid.width
        row = logits + (q * grid.height + tile.top) * grid.width
        for x in range(grid.width):
            smallest[x] = row[x]
            largest[x] = row[x]
        for y in range(tile.top + 1, tile.bottom):
            row = logits + (q * grid.height + y) * grid.width
            for x in range(grid.width):
                smallest[x] = xd_min(row[x], smallest[x])
                largest[x] = xd_max(row[x], largest[x])


cdef void tile_bounds(const Grid* grid, const Tile* tile, Py_ssize_t queries) noexcept nogil:
    """Limits of each query's upsampled logits inside the tile, outside any rounding."""
    cdef Py_ssize_t q, x
    cdef float lowest, highest, slack
    cdef const float* smallest
    cdef const float* largest
    for q in range(queries):
        smallest = grid.smallest + q * grid.width
        largest = grid.largest + q * grid.width
        lowest = smallest[tile.left]
        highest = largest[tile.left]
        for x in range(tile.left + 1, tile.right):
            lowest = xd_min(smallest[x], lowest)
            highest = xd_max(largest[x], highest)
        slack = grid.overshoot * (highest - lowest)
        slack += <float> 1e-5 * (fabsf(lowest) + fabsf(highest)) + <float> 1e-6
        grid.low[q] = lowest - slack
        grid.high[q] = highest + slack


cdef inline void expand_row_by_matrix(
    const float* matrix, const float* row, Py_ssize_t columns, float* out
) noexcept nogil:
    cdef Py_ssize_t x, c
    cdef float values[MATRIX_COLUMNS]
    for c in range(columns):
        values[c] = row[c]
    for c in range(columns, (columns + 3) // 4 * 4):
        values[c] = 0
    for x in range(TILE_WIDTH):
        out[x] = 0
    c = 0
    while c < columns:
        for x in range(TILE_WIDTH):
            out[x] += (
                matrix[x] * values[c]
                + matrix[TILE_WIDTH + x] * values[c + 1]
                + matrix[2 * TILE_WIDTH + x] * values[c + 2]
                + matrix[3 * TILE_WIDTH + x] * values[c + 3]
            )
        matrix += 4 * TILE_WIDTH
        c += 4


cdef void expand(const Grid* grid, const Tile* tile, const float* logits) noexcept nogil:
    """Resample along x every row of one query's logits that the tile reads."""
    cdef Py_ssize_t x, y, tap
    cdef const int* first = grid.column_first + tile.x
    cdef const float* weights
    cdef const float* row
    cdef float* out
    for y in range(tile.top, tile.bottom):
        row = logits + y * grid.width
        out = grid.columns + (y - tile.top) * TILE_WIDTH
        if grid.matrices != NULL:
            # Enlarging, neighbouring outputs share their few inputs: a small full matrix beats
            # the same sums with an index each.
            expand_row_by_matrix(
                grid.matrices + tile.x // TILE_WIDTH * grid.window * TILE_WIDTH,
                row + tile.left, tile.right - tile.left, out,
            )
            continue
        for x in range(tile.width):
            out[x] = 0
        for tap in range(grid.column_taps):
            weights = grid.column_weights + tap * grid.out_width + tile.x
            for x in range(tile.width):
                out[x] += weights[x] * row[first[x] + tap]


cdef void combine(const Grid* grid, const Tile* tile, Py_ssize_t y, float* out) noexcept nogil:
    """Upsampled logits of output row `y` of the tile, from its expanded rows."""
    cdef Py_ssize_t n = tile.width, x, tap = 0
    cdef const float* weights = grid.row_weights + y * grid.row_taps
    cdef const float* rows = grid.columns + (grid.row_first[y] - tile.top) * TILE_WIDTH
    cdef float a, b, c, d
    for x in range(n):
        out[x] = 0
    while tap + 4 <= grid.row_taps:
        a, b, c, d = weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3]
        for x in range(n):
            out[x] += (
                a * rows[x] + b * rows[TILE_WIDTH + x]
                + c * rows[2 * TILE_WIDTH + x] + d * rows[3 * TILE_WIDTH + x]
            )
        rows += 4 * TILE_WIDTH
        tap += 4
    while tap < grid.row_taps:
        a = weights[tap]
        for x in range(n):
            out[x] += a * rows[x]
        rows += TILE_WIDTH
        tap += 1


cdef inline void squash(float* values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t x
    for x in range(n):
        values[x] = xd_sigmoid(values[x])


cdef inline void fill_tile(
    const Tile* tile, int* out, Py_ssize_t stride, int value
) noexcept nogil:
    cdef Py_ssize_t x, y
    for y in range(tile.height):
        for x in range(tile.width):
            out[y * stride + x] = value


# ---------------------------------------------------------------------------------------- panoptic

cdef inline void compete(
    const float* logits, Py_ssize_t n, float offset, float shift, int label, float* cost, int* owner
) noexcept nogil:
    """Give a pixel to `label`, negated where its probability is below 0.5, if its cost is lower."""
    cdef Py_ssize_t x
    cdef float mine
    cdef int negative, lower, possible = 0
    # exp(z) >= 1 + z: a row without a pixel that passes this needs no exponential.
    for x in range(n):
        possible |= shift - logits[x] < cost[x] - offset - <float> 0.999
    if not possible:
        return
    # Masks of all bits (-1) or none instead of branches: compilers vectorize these everywhere.
    for x in range(n):
        mine = offset + xd_exp(shift - logits[x])
        lower = -(mine < cost[x])
        negative = -(logits[x] < 0)
        owner[x] = (owner[x] & ~lower) | (((label ^ negative) - negative) & lower)
        cost[x] = xd_min(mine, cost[x])


cdef inline Py_ssize_t count_from_zero(const float* logits, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t x
    cdef int count = 0
    for x in range(n):
        count += logits[x] >= 0
    return count


cdef inline bint contends(
    const Grid* grid, Py_ssize_t q, const float* offsets, const float* shifts, float limit
) noexcept nogil:
    return not (offsets[q] + xd_exp(shifts[q] - grid.high[q]) > limit)


cdef void panoptic_tile(
    const Grid* grid, const Tile* tile, const float* logits, Py_ssize_t queries,
    const float* offsets, const float* shifts, int* winners,
    long long* owned, long long* inside, long long* kept
) noexcept nogil:
    cdef Py_ssize_t size = grid.height * grid.width, area = tile.height * tile.width
    cdef Py_ssize_t q, x, y, contenders = 0, only = 0
    cdef float limit = INFINITY
    cdef float row[TILE_WIDTH]
    cdef float costs[TILE_PIXELS]
    cdef int owners[TILE_PIXELS]
    cdef int label, mine, positive
    cdef bint competes, counts

    # Score x sigmoid(logit) is largest where (1 + exp(-logit)) / score is smallest, and that is
    # offset + exp(shift - logit) with offset = 1 / score and shift = -log(score).
    for q in range(queries):
        limit = xd_min(offsets[q] + xd_exp(shifts[q] - grid.low[q]), limit)
    limit *= <float> 1.00001
    for q in range(queries):
        if contends(grid, q, offsets, shifts, limit):
            contenders += 1
            only = q
    if contenders == 1 and (grid.low[only] >= 0 or grid.high[only] < 0):
        # One query owns the tile, all of it inside its mask or all of it outside.
        owned[only] += area
        kept[only] += area if grid.low[only] >= 0 else 0
        fill_tile(tile, winners, grid.out_width, <int> only + 1 if grid.low[only] >= 0 else 0)
        contenders = 0
    else:
        for x in range(TILE_PIXELS):
            costs[x] = INFINITY
            owners[x] = 0

    for q in range(queries):
        competes = contenders > 0 and contends(grid, q, offsets, shifts, limit)
        counts = not (grid.high[q] < 0)
        if counts and grid.low[q] >= 0:
            inside[q] += area
            counts = False
        if not (competes or counts):
            continue
        expand(grid, tile, logits + q * size)
        for y in range(tile.height):
            combine(grid, tile, tile.y + y, row)
            if counts:
                inside[q] += count_from_zero(row, tile.width)
            if competes:
                compete(
                    row, tile.width, offsets[q], shifts[q], <int> q + 1,
                    costs + y * TILE_WIDTH, owners + y * TILE_WIDTH,
                )
    if contenders == 0:
        return

    for q in range(queries):
        if contends(grid, q, offsets, shifts, limit):
            label = <int> q + 1
            mine = 0
            positive = 0
            for x in range(TILE_WIDTH * tile.height):
                mine += (owners[x] == label) | (owners[x] == -label)
                positive += owners[x] == label
            owned[q] += mine
            kept[q] += positive
    for y in range(tile.height):
        for x in range(tile.width):
            label = owners[y * TILE_WIDTH + x]
            winners[y * grid.out_width + x] = label if label > 0 else 0


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
    """Owner of every pixel of output rows start..stop, and the areas that decide who stays.

    Args:
        logits: ``[K, h, w]``.
        row_first, row_weights: ``[H]`` and ``[H, taps]``.
        column_first, column_weights: ``[W]`` and ``[taps, W]``.
        overshoot: bound of the two axes together.
        offsets, shifts: ``[K]``, 1 / score and -log(score).
        start, stop: output rows.
        winners: ``[H, W]``, written: 1 + the query with the largest score x probability where its
            probability is at least 0.5, else 0. Of equal queries the first wins.
        counts: ``[3, K]``, added to: pixels owned, pixels with probability >= 0.5, pixels of both.
    """
    cdef Py_ssize_t queries = logits.shape[0], y = start, x
    cdef Grid grid
    cdef Tile tile
    open_grid(&grid, logits, row_first, row_weights, column_first, column_weights, overshoot)
    with nogil:
        while y < stop:
            tile = make_tile(&grid, y, stop, 0)
            column_bounds(&grid, &tile, &logits[0, 0, 0], queries)
            x = 0
            while x < grid.out_width:
                tile = make_tile(&grid, y, stop, x)
                tile_bounds(&grid, &tile, queries)
                panoptic_tile(
                    &grid, &tile, &logits[0, 0, 0], queries, &offsets[0], &shifts[0],
                    &winners[y, x], &counts[0, 0], &counts[1, 0], &counts[2, 0],
                )
                x += TILE_WIDTH
            y += TILE_HEIGHT
        free(grid.memory)


def relabel(int[:, ::1] labels not None, const int[::1] table not None):
    """Replace every value of `labels` by its entry in `table`, in place."""
    cdef Py_ssize_t n = labels.shape[0] * labels.shape[1], i
    cdef int* values = &labels[0, 0]
    with nogil:
        for i in range(n):
            values[i] = table[values[i]]


# ------------------------------------------------------------------------------------ binary masks

cdef void binary_tile(
    const Grid* grid, const Tile* tile, const float* logits, unsigned char* mask,
    long long* extent, double* probability
) noexcept nogil:
    cdef Py_ssize_t x, y
    cdef int count, first = -1, last = -1
    cdef float row[TILE_WIDTH]
    cdef float sums[TILE_WIDTH]
    cdef int counts[TILE_WIDTH]
    for x in range(TILE_WIDTH):
        sums[x] = 0
        counts[x] = 0
    expand(grid, tile, logits)
    for y in range(tile.height):
        combine(grid, tile, tile.y + y, row)
        count = 0
        for x in range(tile.width):
            mask[x] = row[x] > 0
            count += row[x] > 0
        mask += grid.out_width
        if count == 0:
            continue
        for x in range(tile.width):
            counts[x] += row[x] > 0
            sums[x] += <float> (row[x] > 0) * xd_sigmoid(row[x])
        extent[0] += count
        if first < 0:
            first = <int> y
        last = <int> y
    if first < 0:
        return
    extent[2] = least(extent[2], tile.y + first)
    extent[4] = most(extent[4], tile.y + last + 1)
    for x in range(tile.width):
        if counts[x]:
            extent[1] = least(extent[1], tile.x + x)
            extent[3] = most(extent[3], tile.x + x + 1)
            probability[0] += sums[x]


def binary_rows(
    const float[:, :, ::1] logits not None,
    const int[::1] row_first not None,
    const float[:, ::1] row_weights not None,
    const int[::1] column_first not None,
    const float[:, ::1] column_weights not None,
    double overshoot,
    Py_ssize_t start,
    Py_ssize_t stop,
    unsigned char[:, :, ::1] masks not None,
    long long[:, ::1] extents not None,
    double[::1] probabilities not None,
):
    """Output rows start..stop of the masks ``logit > 0``, with their areas, boxes and certainty.

    Args:
        logits: ``[K, h, w]``; the axes, `start` and `stop` as in `panoptic_rows`.
        masks: ``[K, H, W]``, zeros; ones are written.
        extents: ``[K, 5]``: area (added to), left, top (lowered), right, bottom (raised, exclusive).
        probabilities: ``[K]``, added to: the sum of the probability inside the mask.
    """
    cdef Py_ssize_t queries = logits.shape[0], y = start, x, q
    cdef Grid grid
    cdef Tile tile
    open_grid(&grid, logits, row_first, row_weights, column_first, column_weights, overshoot)
    with nogil:
        while y < stop:
            tile = make_tile(&grid, y, stop, 0)
            column_bounds(&grid, &tile, &logits[0, 0, 0], queries)
            x = 0
            while x < grid.out_width:
                tile = make_tile(&grid, y, stop, x)
                tile_bounds(&grid, &tile, queries)
                for q in range(queries):
                    if not (grid.high[q] <= 0):
                        binary_tile(
                            &grid, &tile, &logits[q, 0, 0], &masks[q, y, x],
                            &extents[q, 0], &probabilities[q],
                        )
                x += TILE_WIDTH
            y += TILE_HEIGHT
        free(grid.memory)


# ---------------------------------------------------------------------------------------- semantic

cdef Py_ssize_t possible_classes(
    const Grid* grid, const float* class_probabilities, Py_ssize_t queries, Py_ssize_t classes,
    float* lower, float* upper, int* possible
) noexcept nogil:
    """The classes whose score may be the largest somewhere in the tile, ascending."""
    cdef Py_ssize_t q, c, count = 0
    cdef float least_mask, most_mask, best = 0
    cdef const float* row
    for c in range(classes):
        lower[c] = 0
        upper[c] = 0
    for q in range(queries):
        row = class_probabilities + q * classes
        least_mask = xd_sigmoid(grid.low[q])
        most_mask = xd_sigmoid(grid.high[q])
        for c in range(classes):
            lower[c] += row[c] * least_mask
            upper[c] += row[c] * most_mask
    for c in range(classes):
        best = xd_max(lower[c], best)
    for c in range(classes):
        if not (upper[c] * SUM_SLACK < best):
            possible[count] = <int> c
            count += 1
    return count


cdef void sum_queries(
    const float* masks, const float* column, Py_ssize_t queries, Py_ssize_t classes,
    Py_ssize_t pixels, float* scores
) noexcept nogil:
    """One class's scores: its probabilities, a column of the class table, times the masks."""
    cdef Py_ssize_t q = 0, x
    cdef float a, b, c, d
    memset(scores, 0, pixels * sizeof(float))
    while q < queries:
        a = column[q * classes]
        b = column[(q + 1) * classes] if q + 1 < queries else 0
        c = column[(q + 2) * classes] if q + 2 < queries else 0
        d = column[(q + 3) * classes] if q + 3 < queries else 0
        for x in range(pixels):
            scores[x] += (
                a * masks[x] + b * masks[TILE_PIXELS + x]
                + c * masks[2 * TILE_PIXELS + x] + d * masks[3 * TILE_PIXELS + x]
            )
        masks += 4 * TILE_PIXELS
        q += 4


cdef inline float outbid(
    const float* scores, Py_ssize_t pixels, int label, float* best, int* winners
) noexcept nogil:
    """Give pixels to `label` where its score is larger (if equal: to the first); the least best."""
    cdef Py_ssize_t x
    cdef int better
    cdef float least_best = INFINITY
    for x in range(pixels):
        better = -((scores[x] > best[x]) | ((scores[x] == best[x]) & (label < winners[x])))
        winners[x] = (winners[x] & ~better) | (label & better)
        best[x] = xd_max(scores[x], best[x])
    for x in range(pixels):
        least_best = xd_min(best[x], least_best)
    return least_best


cdef void semantic_tile(
    const Grid* grid, const Tile* tile, const float* logits, const float* class_probabilities,
    Py_ssize_t queries, Py_ssize_t classes, const float* upper, int* possible, Py_ssize_t count,
    float* masks, int* labels
) noexcept nogil:
    cdef Py_ssize_t q, i, x, y, waiting, pixels = TILE_WIDTH * tile.height
    cdef float best[TILE_PIXELS]
    cdef float scores[TILE_PIXELS]
    cdef int winners[TILE_PIXELS]
    cdef float least_best = -1, threshold = 0
    cdef int label
    for q in range(queries):
        expand(grid, tile, logits + q * grid.height * grid.width)
        for y in range(tile.height):
            combine(grid, tile, tile.y + y, masks + q * TILE_PIXELS + y * TILE_WIDTH)
            squash(masks + q * TILE_PIXELS + y * TILE_WIDTH, tile.width)
    for x in range(pixels):
        # Columns beyond the image are nobody's, so that they do not hold the least best down.
        best[x] = -1 if x % TILE_WIDTH < tile.width else INFINITY
        winners[x] = 0

    # Promising classes first: once every pixel has a score that a class cannot reach anywhere in
    # the tile, the class needs no scores.
    for i in range(count):
        threshold = xd_max(upper[possible[i]], threshold)
    waiting = count
    while waiting:
        threshold = threshold / 4 if threshold > 1e-6 else 0
        waiting = 0
        for i in range(count):
            label = possible[i]
            if label < 0:
                continue
            if upper[label] * SUM_SLACK < least_best:
                possible[i] = -1
            elif upper[label] < threshold:
                waiting += 1
            else:
                sum_queries(
                    masks, class_probabilities + label, queries, classes, pixels, scores
                )
                least_best = outbid(scores, pixels, label, best, winners)
                possible[i] = -1
    for y in range(tile.height):
        for x in range(tile.width):
            labels[y * grid.out_width + x] = winners[y * TILE_WIDTH + x]


def semantic_rows(
    const float[:, :, ::1] logits not None,
    const int[::1] row_first not None,
    const float[:, ::1] row_weights not None,
    const int[::1] column_first not None,
    const float[:, ::1] column_weights not None,
    double overshoot,
    const float[:, ::1] class_probabilities not None,
    Py_ssize_t start,
    Py_ssize_t stop,
    int[:, ::1] labels not None,
):
    """Best class of every pixel of output rows start..stop.

    Args:
        logits: ``[Q, h, w]``; the axes, `start` and `stop` as in `panoptic_rows`.
        class_probabilities: ``[Q, K]``, of the classes that take part.
        labels: ``[H, W]``, written: the class with the largest sum over queries of class
            probability x mask probability. Of equal classes the first wins.
    """
    cdef Py_ssize_t queries = logits.shape[0], classes = class_probabilities.shape[1]
    cdef Py_ssize_t y = start, x, count
    cdef Grid grid
    cdef Tile tile
    cdef float* lower
    cdef float* upper
    cdef float* masks
    cdef int* possible
    open_grid(&grid, logits, row_first, row_weights, column_first, column_weights, overshoot)
    # Masks of zeros round their number up to a multiple of 4, as sum_queries takes them.
    lower = <float*> calloc(2 * classes + (queries + 3) // 4 * 4 * TILE_PIXELS, sizeof(float))
    possible = <int*> malloc(classes * sizeof(int))
    if lower == NULL or possible == NULL:
        free(lower)
        free(possible)
        free(grid.memory)
        raise MemoryError
    upper = lower + classes
    masks = upper + classes
    with nogil:
        while y < stop:
            tile = make_tile(&grid, y, stop, 0)
            column_bounds(&grid, &tile, &logits[0, 0, 0], queries)
            x = 0
            while x < grid.out_width:
                tile = make_tile(&grid, y, stop, x)
                tile_bounds(&grid, &tile, queries)
                count = possible_classes(
                    &grid, &class_probabilities[0, 0], queries, classes, lower, upper, possible
                )
                if count == 1:
                    fill_tile(&tile, &labels[y, x], grid.out_width, possible[0])
                else:
                    semantic_tile(
                        &grid, &tile, &logits[0, 0, 0], &class_probabilities[0, 0],
                        queries, classes, upper, possible, count, masks, &labels[y, x],
                    )
                x += TILE_WIDTH
            y += TILE_HEIGHT
        free(lower)
        free(possible)
        free(grid.memory)


# ------------------------------------------------------------------------------------- plain values

def upsample_rows(
    const float[:, :, ::1] logits not None,
    const int[::1] row_first not None,
    const float[:, ::1] row_weights not None,
    const int[::1] column_first not None,
    const float[:, ::1] column_weights not None,
    double overshoot,
    bint probabilities,
    Py_ssize_t start,
    Py_ssize_t stop,
    float[:, :, ::1] out not None,
):
    """Output rows start..stop of the upsampled logits, or of their sigmoid.

    Args:
        logits: ``[K, h, w]``; the axes, `start` and `stop` as in `panoptic_rows`.
        probabilities: whether to take the sigmoid.
        out: ``[K, stop - start, W]``, written.
    """
    cdef Py_ssize_t y = start, x, q, row
    cdef Grid grid
    cdef Tile tile
    open_grid(&grid, logits, row_first, row_weights, column_first, column_weights, overshoot)
    with nogil:
        while y < stop:
            x = 0
            while x < grid.out_width:
                tile = make_tile(&grid, y, stop, x)
                for q in range(logits.shape[0]):
                    expand(&grid, &tile, &logits[q, 0, 0])
                    for row in range(tile.height):
                        combine(&grid, &tile, y + row, &out[q, y - start + row, x])
                        if probabilities:
                            squash(&out[q, y - start + row, x], tile.width)
                x += TILE_WIDTH
            y += TILE_HEIGHT
        free(grid.memory)
