# cython: language_level=3, embedsignature=True
# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The loops of `xdecoder_rt.tracking` and `xdecoder_rt.masks.boxes`. All release the GIL.

A segment's rank is its index in its frame and one more; 0 is none.
"""

from libc.math cimport INFINITY, hypot, sqrt
from libc.stdlib cimport calloc, free

# Pixels that are compared at once. A constant would make the compiler unroll the loops, which it then
# does not vectorize.
cdef Py_ssize_t BLOCK = 64


cdef inline int differs(const int* pixels, Py_ssize_t count, int value) noexcept nogil:
    """Not 0 where one of the pixels is another value."""
    cdef int bits = 0
    cdef Py_ssize_t i
    for i in range(count):
        bits |= pixels[i] ^ value
    return bits


cdef inline Py_ssize_t end_of_run(
    const int* row, Py_ssize_t x, Py_ssize_t width
) noexcept nogil:
    """One past the last of the equal pixels that begin at `x`."""
    cdef int value = row[x]
    cdef Py_ssize_t block = BLOCK
    while block > 2:
        while x + block <= width and not differs(row + x, block, value):
            x += block
        block >>= 2
    while x < width and row[x] == value:
        x += 1
    return x


cdef inline int changes(
    const unsigned short* pixels, Py_ssize_t count, unsigned short value
) noexcept nogil:
    """Not 0 where one of the ranks is another one."""
    cdef unsigned short bits = 0
    cdef Py_ssize_t i
    for i in range(count):
        bits |= pixels[i] ^ value
    return bits


def sort_cells(
    const int[:, ::1] ids, const short[::1] things, Py_ssize_t step, short[:, ::1] owners,
    int[:, ::1] cells, int[::1] ends, long long[:, ::1] sums,
) -> None:
    """Find the owners of a grid's cells, and order the cells by their owners.

    Args:
        ids: int32 ``[H, W]``.
        things: int16, the thing of each id, -1 for none; ids outside it are none.
        step: pixels a cell; a cell is its middle pixel's.
        owners: int16 ``[h, w]``, written: the thing of each cell, -1 for none.
        cells: int32 ``[2, h * w]``, written: rows and columns, thing by thing.
        ends: int32 ``[things]``, zeros; written: one past each thing's last cell.
        sums: int64 ``[things, 2]``, added to: the rows and the columns of each thing's cells.
    """
    cdef Py_ssize_t height = owners.shape[0], width = owners.shape[1], count = ends.shape[0]
    cdef Py_ssize_t y, x, i, first = step // 2, known = things.shape[0]
    cdef short owner
    cdef int total = 0, length, value
    with nogil:
        for y in range(height):
            for x in range(width):
                value = ids[first + y * step, first + x * step]
                owner = things[value] if 0 <= value < known else -1
                owners[y, x] = owner
                if owner >= 0:
                    ends[owner] += 1
                    sums[owner, 0] += y
                    sums[owner, 1] += x
        for i in range(count):  # where each thing's cells begin
            length = ends[i]
            ends[i] = total
            total += length
        for y in range(height):
            for x in range(width):
                owner = owners[y, x]
                if owner >= 0:
                    i = ends[owner]
                    cells[0, i] = <int> y
                    cells[1, i] = <int> x
                    ends[owner] += 1


def sum_places(
    const int[:, ::1] ids, const short[::1] things, long long[:, ::1] sums
) -> None:
    """Sum up where things lie.

    Args:
        ids: int32 ``[H, W]``.
        things: int16, the thing of each id, -1 for none; ids outside it are none.
        sums: int64 ``[things, 3]``, added to: pixels, their rows, and twice their columns.
    """
    cdef Py_ssize_t width = ids.shape[1], y, x, end, known = things.shape[0]
    cdef long long length
    cdef int value
    cdef short thing
    with nogil:
        for y in range(ids.shape[0]):
            x = 0
            while x < width:
                value = ids[y, x]
                end = end_of_run(&ids[y, 0], x, width)
                thing = things[value] if 0 <= value < known else -1
                if thing >= 0:
                    length = end - x
                    sums[thing, 0] += length
                    sums[thing, 1] += length * y
                    sums[thing, 2] += length * (x + end - 1)
                x = end


def find_boxes(const int[:, ::1] ids, const int[::1] places, int[:, ::1] boxes) -> None:
    """Widen boxes so that each holds its segment.

    Args:
        ids: int32 ``[H, W]``.
        places: int32, the box of each id, -1 for none; ids outside it have none.
        boxes: int32 ``[N, 4]``, changed: left, top, right, bottom, the last two exclusive.
    """
    cdef Py_ssize_t width = ids.shape[1], y, x, end, known = places.shape[0]
    cdef int value, place
    with nogil:
        for y in range(ids.shape[0]):
            x = 0
            while x < width:
                value = ids[y, x]
                end = end_of_run(&ids[y, 0], x, width)
                place = places[value] if 0 <= value < known else -1
                if place >= 0:
                    boxes[place, 0] = min(boxes[place, 0], <int> x)
                    boxes[place, 1] = min(boxes[place, 1], <int> y)
                    boxes[place, 2] = max(boxes[place, 2], <int> end)
                    boxes[place, 3] = <int> y + 1
                x = end


def count_common(
    const int[:, ::1] cells, const int[::1] ends, const int[:, ::1] shifts,
    const short[:, ::1] owners, int[:, ::1] common,
) -> None:
    """Count the cells that each track, shifted, has in common with each thing.

    Args:
        cells: int32 ``[2, K]``, rows and columns, track by track.
        ends: int32 ``[T]``, one past each track's last cell.
        shifts: int32 ``[T, 2]``, in cells: down and right.
        owners: int16 ``[h, w]``, the thing of each cell, -1 for none.
        common: int32 ``[T, things]``, zeros; written.
    """
    cdef Py_ssize_t height = owners.shape[0], width = owners.shape[1], track, i, y, x
    cdef Py_ssize_t first = 0
    cdef short owner
    with nogil:
        for track in range(ends.shape[0]):
            for i in range(first, ends[track]):
                y, x = cells[0, i] + shifts[track, 0], cells[1, i] + shifts[track, 1]
                if 0 <= y < height and 0 <= x < width:
                    owner = owners[y, x]
                    if owner >= 0:
                        common[track, owner] += 1
            first = ends[track]


def liken(
    const int[:, ::1] common, const double[:, ::1] tracks, const int[::1] track_labels,
    const double[:, ::1] things, const int[::1] thing_labels, const double[::1] bounds,
    double[:, ::1] scores,
) -> None:
    """Write how well each thing goes on each track.

    Args:
        common: int32 ``[T, N]``, cells that they have in common.
        tracks: float64 ``[T, 4]``: row, column and area in cells where it is expected, and a
            factor of its scores.
        track_labels: int32 ``[T]``.
        things: float64 ``[N, 3]``: row, column and area in cells.
        thing_labels: int32 ``[N]``.
        bounds: float64 ``[6]``: least overlap of one label and of two, what one label adds, how far
            a thing without overlap may be in lengths of its side, its greatest ratio of areas, and
            the score of one that is where it is expected.
        scores: float64 ``[T, N]``, written; 0 is not at all.
    """
    cdef Py_ssize_t i, j
    cdef double overlap, reach, distance, ratio, score, area, other
    cdef bint same
    with nogil:
        for i in range(scores.shape[0]):
            area = tracks[i, 2]
            for j in range(scores.shape[1]):
                other, same = things[j, 2], track_labels[i] == thing_labels[j]
                overlap = common[i, j] / (area + other - common[i, j])
                score = 0
                if overlap >= (bounds[0] if same else bounds[1]):
                    score = overlap + (bounds[2] if same else 0)
                elif same:
                    # Without overlap, a thing of its name and size that is near.
                    reach = bounds[3] * sqrt(area if area < other else other) + 1
                    distance = hypot(tracks[i, 0] - things[j, 0], tracks[i, 1] - things[j, 1])
                    ratio = area / other
                    if distance < reach and 1 / bounds[4] < ratio < bounds[4]:
                        score = bounds[5] * (1 - distance / reach)
                scores[i, j] = score * tracks[i, 3]


def number_pixels(
    const int[:, ::1] ids, const unsigned short[::1] ranks, const int[::1] numbers,
    const unsigned short[:, ::1] last, const unsigned short[:, ::1] before,
    const int[::1] in_last, const int[::1] of_last, const int[::1] of_before,
    const unsigned char[::1] rests, int[:, ::1] numbered, unsigned short[:, ::1] ranked,
    long long[::1] gains,
) -> None:
    """Write each pixel's number; one that changed just now keeps that of both frames before.

    Args:
        ids: int32 ``[H, W]``.
        ranks: uint16, the rank of each id; ids outside it have the rank 0.
        numbers: int32 ``[N]``, of each rank.
        last: uint16 ``[H, W]``, ranks of the frame before.
        before: uint16 ``[H, W]``, ranks of the one before that.
        in_last: int32 ``[N]``, the rank in `last` of each of this frame's, -1 for none.
        of_last: int32, this frame's rank of each rank of `last`, -1 for none.
        of_before: int32, this frame's rank of each rank of `before`, -1 for none.
        rests: uint8 ``[N]``, whether a rank may win and lose pixels.
        numbered: int32 ``[H, W]``, written.
        ranked: uint16 ``[H, W]``, written: ranks as `ids` has them.
        gains: int64 ``[N]``, added to: pixels that each rank wins.
    """
    cdef Py_ssize_t width = ids.shape[1], y, x, end, stop, i
    cdef int known = <int> ranks.shape[0], value, number, was
    cdef unsigned short rank, expected
    cdef const int* here
    cdef const unsigned short* earlier
    cdef int* out
    cdef unsigned short* kept
    with nogil:
        for y in range(ids.shape[0]):
            here, earlier = &ids[y, 0], &last[y, 0]
            out, kept = &numbered[y, 0], &ranked[y, 0]
            x = 0
            while x < width:
                value = here[x]
                end = end_of_run(here, x, width)
                rank = ranks[value] if 0 <= value < known else 0
                number, expected = numbers[rank], <unsigned short> in_last[rank]
                for i in range(x, end):
                    out[i] = number
                for i in range(x, end):
                    kept[i] = rank
                if rests[rank]:
                    while x < end:
                        stop = x + BLOCK if x + BLOCK < end else end
                        if changes(earlier + x, stop - x, expected):
                            for i in range(x, stop):
                                if earlier[i] == expected:
                                    continue
                                was = of_last[earlier[i]]
                                if was >= 0 and rests[was] and numbers[was] != number:
                                    if of_before[before[y, i]] == was:
                                        out[i] = numbers[was]
                                        gains[was] += 1
                                        gains[rank] -= 1
                        x = stop
                x = end


def assign(const double[:, ::1] cost, long long[::1] assigned) -> None:
    """Find each row's column for the least sum, by shortest augmenting paths.

    Args:
        cost: float64 ``[R, C]`` with R <= C, from 0.
        assigned: int64 ``[R]``, written.

    Raises:
        MemoryError: there is no memory for the prices.
    """
    cdef Py_ssize_t rows = cost.shape[0], columns = cost.shape[1], row, column, nearest, j, i
    # Potentials of Jonker and Volgenant; column 0 is where a path begins.
    cdef double* numbers = <double*> calloc(rows + 2 * columns + 3, sizeof(double))
    cdef Py_ssize_t* places = <Py_ssize_t*> calloc(2 * columns + 2, sizeof(Py_ssize_t))
    cdef unsigned char* visited = <unsigned char*> calloc(columns + 1, 1)
    cdef double* row_price = numbers
    cdef double* column_price = numbers + rows + 1
    cdef double* distance = column_price + columns + 1
    cdef Py_ssize_t* owner = places
    cdef Py_ssize_t* before = places + columns + 1
    cdef double reduced, step
    if not numbers or not places or not visited:
        free(numbers)
        free(places)
        free(visited)
        raise MemoryError
    with nogil:
        for row in range(1, rows + 1):
            owner[0], column = row, 0
            for j in range(columns + 1):
                distance[j], before[j], visited[j] = INFINITY, 0, 0
            while True:
                visited[column] = 1
                i = owner[column]
                step, nearest = INFINITY, 0
                for j in range(1, columns + 1):
                    if not visited[j]:
                        reduced = cost[i - 1, j - 1] - row_price[i] - column_price[j]
                        if reduced < distance[j]:
                            distance[j], before[j] = reduced, column
                        if not nearest or distance[j] < step:
                            step, nearest = distance[j], j
                for j in range(columns + 1):
                    if visited[j]:
                        row_price[owner[j]] += step
                        column_price[j] -= step
                    else:
                        distance[j] -= step
                column = nearest
                if owner[column] == 0:
                    break
            while column:
                owner[column] = owner[before[column]]
                column = before[column]
        for j in range(1, columns + 1):
            if owner[j]:
                assigned[owner[j] - 1] = j - 1
    free(numbers)
    free(places)
    free(visited)
