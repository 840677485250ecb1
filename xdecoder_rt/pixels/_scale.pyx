# cython: language_level=3, embedsignature=True
# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The hot loops of `xdecoder_rt.pixels.scaling`: Pillow's resize of 8-bit RGB, in integers.

Lines are scaled to the target's width into a ring that holds as many of them as one output row
reads, and output rows are made of the ring: nothing of the image's height is held in between, and
what is read was just written. Both passes round to bytes, as Pillow's do. CMakeLists.txt compiles
this file once per instruction set, under different module names.
"""

from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cdef extern from * nogil:
    """
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>

    enum { XD_PRECISION = 22, XD_HALF = 1 << (XD_PRECISION - 1), XD_LINES = 4 };

    static int xd_runs_avx2(void) {
    #if defined(__x86_64__) && defined(__GNUC__)
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    #else
        return 0;
    #endif
    }

    static inline uint8_t xd_byte(int32_t sum) {
        sum >>= XD_PRECISION;
        return (uint8_t) (sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }

    /* Both forms of a pass take the same arguments and give the same bytes.

       Across: four lines to `width` pixels each. Output x of a line is the sum of `taps` pixels
       (a multiple of four) from first[x] on; reads end 4 bytes after the last of them. Writes end
       one byte after the last pixel; a line of `out` has room for it.
       Down: n bytes of one row. Tap t reads line (slot + t) modulo `lines` of the ring. */

    #if defined(__AVX2__)
    #include <immintrin.h>

    static inline __m256i xd_add(
        __m256i sum, const uint8_t* pixels, __m256i near, __m256i far, __m256i weight_near,
        __m256i weight_far
    ) {
        const __m256i four = _mm256_broadcastsi128_si256(
            _mm_loadu_si128((const __m128i*) pixels));
        sum = _mm256_add_epi32(
            sum, _mm256_mullo_epi32(weight_near, _mm256_shuffle_epi8(four, near)));
        return _mm256_add_epi32(
            sum, _mm256_mullo_epi32(weight_far, _mm256_shuffle_epi8(four, far)));
    }

    static void xd_across(
        const uint8_t* const* lines, uint8_t* out, ptrdiff_t out_pitch, const int32_t* first,
        const int32_t* weights, ptrdiff_t taps, ptrdiff_t width, int turns
    ) {
        /* A pixel as [c c c 0], 32 bits each; a lane of 128 bits takes one. */
        const __m128i next = _mm_setr_epi8(3, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0);
        const __m128i pixel0 = turns
            ? _mm_setr_epi8(2, -1, -1, -1, 1, -1, -1, -1, 0, -1, -1, -1, -1, -1, -1, -1)
            : _mm_setr_epi8(0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, -1, -1, -1, -1);
        const __m128i pixel1 = _mm_add_epi8(pixel0, next), pixel2 = _mm_add_epi8(pixel1, next);
        const __m256i near = _mm256_setr_m128i(pixel0, pixel1);
        const __m256i far = _mm256_setr_m128i(pixel2, _mm_add_epi8(pixel2, next));
        const __m256i weights_near = _mm256_setr_m128i(
            _mm_set1_epi32(0x03020100), _mm_set1_epi32(0x07060504));
        const __m256i weights_far = _mm256_setr_m128i(
            _mm_set1_epi32(0x0b0a0908), _mm_set1_epi32(0x0f0e0d0c));
        const uint8_t *line0 = lines[0], *line1 = lines[1], *line2 = lines[2], *line3 = lines[3];

        for (ptrdiff_t x = 0; x < width; x++, weights += taps) {
            ptrdiff_t place = 3 * (ptrdiff_t) first[x];
            /* Both lanes are summed at the end. */
            __m256i sum0 = _mm256_set1_epi32(XD_HALF / 2), sum1 = sum0, sum2 = sum0, sum3 = sum0;
            for (ptrdiff_t t = 0; t < taps; t += 4, place += 12) {
                const __m256i four = _mm256_broadcastsi128_si256(
                    _mm_loadu_si128((const __m128i*) (weights + t)));
                const __m256i weight_near = _mm256_shuffle_epi8(four, weights_near);
                const __m256i weight_far = _mm256_shuffle_epi8(four, weights_far);
                sum0 = xd_add(sum0, line0 + place, near, far, weight_near, weight_far);
                sum1 = xd_add(sum1, line1 + place, near, far, weight_near, weight_far);
                sum2 = xd_add(sum2, line2 + place, near, far, weight_near, weight_far);
                sum3 = xd_add(sum3, line3 + place, near, far, weight_near, weight_far);
            }
            /* Lanes: [line 0 | line 1] and [line 2 | line 3]; packing saturates. */
            const __m256i pair = _mm256_srai_epi32(_mm256_add_epi32(
                _mm256_blend_epi32(sum0, sum1, 0xf0), _mm256_permute2x128_si256(sum0, sum1, 0x21)),
                XD_PRECISION);
            const __m256i other_pair = _mm256_srai_epi32(_mm256_add_epi32(
                _mm256_blend_epi32(sum2, sum3, 0xf0), _mm256_permute2x128_si256(sum2, sum3, 0x21)),
                XD_PRECISION);
            const __m256i words = _mm256_packs_epi32(pair, other_pair);
            const __m256i bytes = _mm256_packus_epi16(words, words);
            const __m128i even = _mm256_castsi256_si128(bytes);
            const __m128i odd = _mm256_extracti128_si256(bytes, 1);
            const int32_t pixel[XD_LINES] = {
                _mm_cvtsi128_si32(even), _mm_cvtsi128_si32(odd),
                _mm_extract_epi32(even, 1), _mm_extract_epi32(odd, 1)};
            for (int line = 0; line < XD_LINES; line++)
                memcpy(out + line * out_pitch + 3 * x, &pixel[line], 4);
        }
    }

    static void xd_down(
        const uint8_t* ring, ptrdiff_t pitch, ptrdiff_t lines, ptrdiff_t slot,
        const int32_t* weights, ptrdiff_t taps, uint8_t* out, ptrdiff_t n
    ) {
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        ptrdiff_t i = 0;
        for (; i + 32 <= n; i += 32) {
            __m256i sum[4];
            for (int j = 0; j < 4; j++) sum[j] = _mm256_set1_epi32(XD_HALF);
            ptrdiff_t line = slot;
            for (ptrdiff_t t = 0; t < taps; t++) {
                const uint8_t* bytes = ring + line * pitch + i;
                const __m256i weight = _mm256_set1_epi32(weights[t]);
                for (int j = 0; j < 4; j++)
                    sum[j] = _mm256_add_epi32(sum[j], _mm256_mullo_epi32(
                        weight, _mm256_cvtepu8_epi32(
                            _mm_loadl_epi64((const __m128i*) (bytes + 8 * j)))));
                line = line + 1 == lines ? 0 : line + 1;
            }
            for (int j = 0; j < 4; j++) sum[j] = _mm256_srai_epi32(sum[j], XD_PRECISION);
            const __m256i packed = _mm256_packus_epi16(
                _mm256_packs_epi32(sum[0], sum[1]), _mm256_packs_epi32(sum[2], sum[3]));
            _mm256_storeu_si256(
                (__m256i*) (out + i), _mm256_permutevar8x32_epi32(packed, order));
        }
        for (; i < n; i++) {
            int32_t sum = XD_HALF;
            ptrdiff_t line = slot;
            for (ptrdiff_t t = 0; t < taps; t++) {
                sum += weights[t] * ring[line * pitch + i];
                line = line + 1 == lines ? 0 : line + 1;
            }
            out[i] = xd_byte(sum);
        }
    }

    #else

    static void xd_across(
        const uint8_t* const* lines, uint8_t* out, ptrdiff_t out_pitch, const int32_t* first,
        const int32_t* weights, ptrdiff_t taps, ptrdiff_t width, int turns
    ) {
        const int red = turns ? 2 : 0, blue = 2 - red;
        for (int line = 0; line < XD_LINES; line++, out += out_pitch) {
            for (ptrdiff_t x = 0; x < width; x++) {
                const uint8_t* pixel = lines[line] + 3 * (ptrdiff_t) first[x];
                const int32_t* weight = weights + x * taps;
                int32_t sum0 = XD_HALF, sum1 = XD_HALF, sum2 = XD_HALF;
                for (ptrdiff_t t = 0; t < taps; t++, pixel += 3) {
                    sum0 += weight[t] * pixel[0];
                    sum1 += weight[t] * pixel[1];
                    sum2 += weight[t] * pixel[2];
                }
                out[3 * x + red] = xd_byte(sum0);
                out[3 * x + 1] = xd_byte(sum1);
                out[3 * x + blue] = xd_byte(sum2);
            }
        }
    }

    static void xd_down(
        const uint8_t* ring, ptrdiff_t pitch, ptrdiff_t lines, ptrdiff_t slot,
        const int32_t* weights, ptrdiff_t taps, uint8_t* out, ptrdiff_t n
    ) {
        enum { BLOCK = 64 };
        for (ptrdiff_t i = 0; i < n; i += BLOCK) {
            const ptrdiff_t size = n - i < BLOCK ? n - i : BLOCK;
            int32_t sums[BLOCK];
            for (ptrdiff_t j = 0; j < size; j++) sums[j] = XD_HALF;
            ptrdiff_t line = slot;
            for (ptrdiff_t t = 0; t < taps; t++) {
                const uint8_t* bytes = ring + line * pitch + i;
                for (ptrdiff_t j = 0; j < size; j++) sums[j] += weights[t] * bytes[j];
                line = line + 1 == lines ? 0 : line + 1;
            }
            for (ptrdiff_t j = 0; j < size; j++) out[i + j] = xd_byte(sums[j]);
        }
    }

    #endif
    """
    enum: XD_LINES
    bint xd_runs_avx2()
    void xd_across(
        const uint8_t* const* lines, uint8_t* out, Py_ssize_t out_pitch, const int32_t* first,
        const int32_t* weights, Py_ssize_t taps, Py_ssize_t width, bint turns
    )
    void xd_down(
        const uint8_t* ring, Py_ssize_t pitch, Py_ssize_t lines, Py_ssize_t slot,
        const int32_t* weights, Py_ssize_t taps, uint8_t* out, Py_ssize_t n
    )


def runs_avx2():
    """Return whether this processor runs code for AVX2 and FMA."""
    return bool(xd_runs_avx2())


def scale(
    const uint8_t[:, :, ::1] pixels,
    const int32_t[::1] column_first,
    const int32_t[:, ::1] column_weights,
    const int32_t[::1] row_first,
    const int32_t[:, ::1] row_weights,
    Py_ssize_t row_taps,
    bint turns,
    Py_ssize_t start,
    Py_ssize_t stop,
    uint8_t[:, :, ::1] frame,
):
    """Make rows of a scaled image, at the left of a frame. Shapes are the caller's to check.

    Args:
        pixels: uint8 ``[h, w, 3]``.
        column_first: int32 ``[width]``, the axis of w.
        column_weights: int32 ``[width, taps]``, taps a multiple of four.
        row_first: int32 ``[height]``, the axis of h.
        row_weights: int32 ``[height, row_taps or more]``.
        row_taps: how many lines one output row reads, at most.
        turns: whether BGR becomes RGB.
        start: the first row to make.
        stop: the first that is not made any more; more than `start`.
        frame: uint8 ``[H, W, 3]``, at least ``[height, width, 3]``.
    """
    cdef Py_ssize_t height = pixels.shape[0], pitch = 3 * pixels.shape[1]
    cdef Py_ssize_t width = column_first.shape[0], taps = column_weights.shape[1]
    cdef Py_ssize_t top = row_first[start], done = top, y, need, place, line, count
    # From the begin of a line: the bytes that its last output reads.
    cdef Py_ssize_t reach = 3 * (column_first[width - 1] + taps) + 4
    # Room for the four bytes that are written where a line's last three belong.
    cdef Py_ssize_t ring_pitch = 3 * width + 1
    # A group of lines that is made must not overwrite one that the row at hand reads.
    cdef Py_ssize_t ring_lines = (row_taps + 2 * XD_LINES - 2) // XD_LINES * XD_LINES
    cdef Py_ssize_t spare_pitch = reach if reach > pitch else pitch
    cdef const uint8_t* end = &pixels[0, 0, 0] + height * pitch
    cdef const uint8_t* source
    cdef const uint8_t* lines[XD_LINES]
    cdef uint8_t* ring = <uint8_t*> calloc(ring_lines, ring_pitch)
    # Copies of lines after whose end too little memory is the image's.
    cdef uint8_t* spare = <uint8_t*> calloc(XD_LINES, spare_pitch)
    if ring == NULL or spare == NULL:
        free(ring)
        free(spare)
        raise MemoryError("there is too little memory to scale an image")
    with nogil:
        for y in range(start, stop):
            count = height - row_first[y]
            if row_taps < count:
                count = row_taps
            need = row_first[y] + count
            while done < need:
                for line in range(XD_LINES):
                    # Lines below the image are made of its last, and read by nothing.
                    place = done + line if done + line < height else height - 1
                    source = &pixels[place, 0, 0]
                    if end - source < reach:
                        memcpy(spare + line * spare_pitch, source, pitch)
                        source = spare + line * spare_pitch
                    lines[line] = source
                xd_across(
                    lines, ring + (done - top) % ring_lines * ring_pitch, ring_pitch,
                    &column_first[0], &column_weights[0, 0], taps, width, turns,
                )
                done += XD_LINES
            xd_down(
                ring, ring_pitch, ring_lines, (row_first[y] - top) % ring_lines,
                &row_weights[y, 0], count, &frame[y, 0, 0], 3 * width,
            )
    free(ring)
    free(spare)
