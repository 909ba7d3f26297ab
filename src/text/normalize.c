// SPDX-License-Identifier: Apache-2.0
/* Unicode normal form C by utf8proc's tables.
 *
 * Only stretches that can change are worked on: everything below U+0300 is normal as it stands, and an ASCII character
 * never changes what stands before it. Marks are put in order by a stable merge sort, since text may be hostile and
 * hold a million of them in a row. */
#include <string.h>
#include <utf8proc.h>

#include "text/tokenizer.h"
#include "text/character_class.h"

#define FIRST_LEAD 0xCC /* lead byte of U+0300 */

bool sgm_nfc_needed(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] >= FIRST_LEAD)
            return true;
    return false;
}

typedef struct ranked {
    utf8proc_int32_t code;
    int32_t order; /* canonical combining class */
} ranked;

static void sort_marks(ranked *marks, ranked *other, size_t n) {
    if (n < 2)
        return;
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            ranked m = marks[i];
            size_t at = i;
            for (; at > 0 && marks[at - 1].order > m.order; at--)
                marks[at] = marks[at - 1];
            marks[at] = m;
        }
        return;
    }
    size_t half = n / 2, a = 0, b = half, k = 0;
    sort_marks(marks, other, half);
    sort_marks(marks + half, other, n - half);
    memcpy(other, marks, n * sizeof *marks);
    while (a < half && b < n)
        marks[k++] = other[b].order < other[a].order ? other[b++] : other[a++];
    while (a < half)
        marks[k++] = other[a++];
    while (b < n)
        marks[k++] = other[b++];
}

/* One stretch of valid UTF-8. */
static sgm_status stretch(const char *text, size_t size, sgm_buffer *out) {
    /* No decomposition is longer than 18 characters, canonical ones not longer than 4. */
    size_t room = size * 2 + 32, n = 0;
    utf8proc_int32_t *codes = sgm_alloc(room * sizeof *codes);
    ranked *marks = NULL;
    sgm_status status = codes ? SGM_OK : SGM_EMEMORY;
    for (size_t i = 0, length; !status && i < size; i += length) {
        utf8proc_int32_t code = (utf8proc_int32_t)sgm_utf8_decode(text + i, &length);
        if (room - n < 32) {
            utf8proc_int32_t *more = sgm_resize(codes, n * sizeof *codes, room * 2 * sizeof *codes);
            if (!more) {
                status = SGM_EMEMORY;
                break;
            }
            codes = more;
            room *= 2;
        }
        utf8proc_ssize_t added = utf8proc_decompose_char(code, codes + n, (utf8proc_ssize_t)(room - n),
                                                         UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, NULL);
        if (added < 0)
            status = SGM_EINTERNAL;
        else
            n += (size_t)added;
    }
    if (!status && !(marks = sgm_alloc((2 * n + 1) * sizeof *marks)))
        status = SGM_EMEMORY;
    for (size_t i = 0; !status && i < n;) {
        size_t run = 0;
        for (; i + run < n; run++) {
            int32_t order = utf8proc_get_property(codes[i + run])->combining_class;
            if (!order)
                break;
            marks[run] = (ranked){codes[i + run], order};
        }
        sort_marks(marks, marks + n, run);
        for (size_t k = 0; k < run; k++)
            codes[i + k] = marks[k].code;
        i += run + 1;
    }
    if (!status) {
        utf8proc_ssize_t left =
            utf8proc_normalize_utf32(codes, (utf8proc_ssize_t)n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        for (utf8proc_ssize_t i = 0; !status && i < left; i++) {
            char utf8[4];
            status = sgm_buffer_add(out, utf8, sgm_utf8_encode((uint32_t)codes[i], utf8));
        }
    }
    sgm_free(codes);
    sgm_free(marks);
    return status;
}

static sgm_status valid_run(const char *text, size_t size, sgm_buffer *out) {
    sgm_status status = SGM_OK;
    for (size_t i = 0; !status && i < size;) {
        size_t j = i;
        while (j < size && (unsigned char)text[j] < FIRST_LEAD)
            j++;
        size_t begin = j; /* the character before may join with what follows */
        if (j < size && j > i)
            for (begin = j - 1; ((unsigned char)text[begin] & 0xC0) == 0x80;)
                begin--;
        if (begin > i)
            status = sgm_buffer_add(out, text + i, begin - i);
        size_t end = j;
        while (end < size && ((unsigned char)text[end] >= 0x80))
            end++;
        if (!status && j < size)
            status = stretch(text + begin, end - begin, out);
        i = end;
    }
    return status;
}

sgm_status sgm_nfc(const char *text, size_t size, sgm_buffer *out) {
    sgm_status status = SGM_OK;
    for (size_t i = 0; !status && i < size;) {
        size_t run = sgm_utf8_run(text + i, size - i);
        status = run ? valid_run(text + i, run, out) : sgm_buffer_add(out, text + i, 1);
        i += run ? run : 1;
    }
    return status;
}
