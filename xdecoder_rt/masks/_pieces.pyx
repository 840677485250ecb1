# cython: language_level=3, embedsignature=True
# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The labelling of `xdecoder_rt.masks.pieces`: connected pieces by runs of equal pixels.

A map is read once into runs, runs of neighbouring rows are joined, and the runs of small pieces are
cleared; no second map is held. All functions release the GIL. It is compiled once, unlike
`_postprocess.pyx`: with AVX2 it takes as long.
"""

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset

ctypedef fused pixel:
    int
    unsigned char

cdef enum:
    RUN_BLOCK = 16  # pixels that are compared at once


cdef struct Run:
    # Neighbouring pixels of a row that have one label.
    int start, stop     # columns, stop exclusive
    int label
    int root            # an earlier run of the same piece, or the run itself


cdef struct Runs:
    # The runs of a map, row by row; a piece is named by the first of its runs.
    Run* items
    Py_ssize_t count, room
    Py_ssize_t* ends    # [height], of each row: one past its last run


cdef struct Extent:
    # What is left of a label, and its largest piece.
    Py_ssize_t area, largest
    Py_ssize_t left, top, right, bottom # right and bottom exclusive


cdef inline Py_ssize_t least(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef inline Py_ssize_t most(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a > b else b


cdef inline Py_ssize_t end_of_run(
    const pixel* row, Py_ssize_t x, Py_ssize_t width
) noexcept nogil:
    """One past the last of the equal pixels that begin at `x`."""
    cdef pixel value = row[x], differs
    cdef Py_ssize_t i
    while x + RUN_BLOCK <= width:
        differs = 0
        for i in range(RUN_BLOCK):
            differs |= row[x + i] ^ value
        if differs:
            break
        x += RUN_BLOCK
    while x < width and row[x] == value:
        x += 1
    return x


cdef int find_runs(
    Runs* runs, const pixel* pixels, Py_ssize_t stride, Py_ssize_t height, Py_ssize_t width
) noexcept nogil:
    """Fill `runs`, which is empty, with those of labels other than 0; -1 where memory ends."""
    cdef Py_ssize_t x, y, stop
    cdef void* larger
    for y in range(height):
        x = 0
        while x < width:
            stop = end_of_run(pixels, x, width)
            if pixels[x]:
                if runs.count == runs.room:
                    larger = realloc(runs.items, 2 * runs.room * sizeof(Run))
                    if larger == NULL:
                        return -1
                    runs.items = <Run*> larger
                    runs.room *= 2
                runs.items[runs.count].start = <int> x
                runs.items[runs.count].stop = <int> stop
                runs.items[runs.count].label = <int> pixels[x]
                runs.items[runs.count].root = <int> runs.count
                runs.count += 1
            x = stop
        runs.ends[y] = runs.count
        pixels += stride
    return 0


cdef inline int root_of(Run* items, int run) noexcept nogil:
    while items[run].root != run:
        items[run].root = items[items[run].root].root
        run = items[run].root
    return run


cdef inline void join(Run* items, Py_ssize_t above, Py_ssize_t below) noexcept nogil:
    """Make one piece of two runs of neighbouring rows if they touch, at a corner at least."""
    cdef int first, second
    if items[above].label != items[below].label:
        return
    if items[above].start > items[below].stop or items[below].start > items[above].stop:
        return
    first, second = root_of(items, <int> above), root_of(items, <int> below)
    if first < second:
        items[second].root = first
    else:
        items[first].root = second


cdef void join_rows(Runs* runs, Py_ssize_t height) noexcept nogil:
    cdef Py_ssize_t y, above, below, above_end, below_end
    cdef Run* items = runs.items
    for y in range(1, height):
        above = runs.ends[y - 2] if y > 1 else 0
        above_end = runs.ends[y - 1]
        below, below_end = above_end, runs.ends[y]
        while above < above_end and below < below_end:
            join(items, above, below)
            if items[above].stop < items[below].stop:
                above += 1
            elif items[above].stop > items[below].stop:
                below += 1
            else:
                # Both corners where the two end.
                if above + 1 < above_end:
                    join(items, above + 1, below)
                if below + 1 < below_end:
                    join(items, above, below + 1)
                above += 1
                below += 1


cdef int leave_out(
    Runs* runs, pixel* pixels, Py_ssize_t stride, Py_ssize_t height, Py_ssize_t width,
    const double* shares, Extent* extents, Py_ssize_t labels
) noexcept nogil:
    """Set small pieces of every label to 0; -1 where memory ends, before anything is written.

    Args:
        runs: with `ends` for every row and some room; of any contents.
        shares: of each label, the share of its largest piece that a piece must have.
        extents: of each label, written.
        labels: how many, 0 included.
    """
    cdef Py_ssize_t y, i
    cdef Py_ssize_t* areas
    cdef Extent* extent
    cdef Run* run
    runs.count = 0
    if find_runs(runs, pixels, stride, height, width) < 0:
        return -1
    areas = <Py_ssize_t*> calloc(runs.count + 1, sizeof(Py_ssize_t))
    if areas == NULL:
        return -1
    join_rows(runs, height)
    for i in range(labels):
        extents[i].area, extents[i].largest = 0, 0
        extents[i].left, extents[i].top = width, height
        extents[i].right, extents[i].bottom = 0, 0
    for i in range(runs.count):
        run = runs.items + i
        # Roots come first, so that those of earlier runs are final.
        run.root = runs.items[run.root].root
        areas[run.root] += run.stop - run.start
        extent = extents + run.label
        extent.largest = most(extent.largest, areas[run.root])
    i = 0
    for y in range(height):
        while i < runs.ends[y]:
            run = runs.items + i
            extent = extents + run.label
            if areas[run.root] < shares[run.label] * extent.largest:
                memset(pixels + run.start, 0, (run.stop - run.start) * sizeof(pixel))
            else:
                extent.area += run.stop - run.start
                extent.left = least(extent.left, run.start)
                extent.top = least(extent.top, y)
                extent.right = most(extent.right, run.stop)
                extent.bottom = most(extent.bottom, y + 1)
            i += 1
        pixels += stride
    free(areas)
    return 0


cdef int open_runs(Runs* runs, Py_ssize_t height, void* beside) except -1:
    """Make room for the runs of maps of at most `height` rows; `close_runs` gives it back.

    Where there is no memory, `beside` is given back too.
    """
    runs.room = 4 * height
    runs.items = <Run*> malloc(runs.room * sizeof(Run))
    runs.ends = <Py_ssize_t*> malloc(height * sizeof(Py_ssize_t))
    if runs.items == NULL or runs.ends == NULL:
        close_runs(runs)
        free(beside)
        raise MemoryError
    return 0


cdef void close_runs(Runs* runs) noexcept nogil:
    free(runs.items)
    free(runs.ends)


def clean_map(
    int[:, ::1] labels not None, const double[::1] shares not None, long long[::1] areas not None
):
    """Set pieces of a map's labels that are small beside their label's largest to 0.

    Args:
        labels: ``[H, W]``, 0 to K; changed in place.
        shares: ``[K + 1]``, of each label: pieces smaller than this share of its largest go.
        areas: ``[K + 1]``, written: pixels of what is left, of label 0 zero.
    """
    cdef Runs runs
    cdef Py_ssize_t count = shares.shape[0], i
    cdef Extent* extents
    cdef int status
    if labels.shape[0] == 0 or labels.shape[1] == 0:
        return
    extents = <Extent*> calloc(count, sizeof(Extent))
    if extents == NULL:
        raise MemoryError
    open_runs(&runs, labels.shape[0], extents)
    with nogil:
        status = leave_out(
            &runs, &labels[0, 0], labels.shape[1], labels.shape[0], labels.shape[1],
            &shares[0], extents, count,
        )
        for i in range(count):
            areas[i] = extents[i].area
        close_runs(&runs)
        free(extents)
    if status < 0:
        raise MemoryError


def clean_masks(
    unsigned char[:, :, ::1] masks not None,
    const long long[:, ::1] windows not None,
    double share,
    Py_ssize_t start,
    Py_ssize_t stop,
    long long[:, ::1] extents not None,
):
    """Clear the small pieces of masks start..stop, each for itself.

    Args:
        masks: ``[K, H, W]``, 0 and 1; changed in place.
        windows: ``[K, 4]``, left, top, right, bottom (exclusive) of each mask.
        share: pieces smaller than this share of their mask's largest go.
        extents: ``[K, 5]``, zeros; written of masks that are not empty: area, left, top, right,
            bottom (exclusive) of what is left.
    """
    cdef Runs runs
    cdef Py_ssize_t i, left, top, right, bottom
    cdef double shares[2]
    cdef Extent found[2]
    cdef int status = 0
    if masks.shape[1] == 0 or masks.shape[2] == 0:
        return
    shares[0], shares[1] = 0, share
    open_runs(&runs, masks.shape[1], NULL)
    with nogil:
        for i in range(start, stop):
            left, top, right, bottom = windows[i, 0], windows[i, 1], windows[i, 2], windows[i, 3]
            if right <= left or bottom <= top:
                continue
            status = leave_out(
                &runs, &masks[i, top, left], masks.shape[2], bottom - top, right - left,
                shares, found, 2,
            )
            if status < 0:
                break
            extents[i, 0] = found[1].area
            extents[i, 1], extents[i, 2] = left + found[1].left, top + found[1].top
            extents[i, 3], extents[i, 4] = left + found[1].right, top + found[1].bottom
        close_runs(&runs)
    if status < 0:
        raise MemoryError
