// SPDX-License-Identifier: Apache-2.0
/* Status texts and the caller-owned error record. */
#include "sigmoe/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text_print.h"

#undef sgm_fail /* see the header */

const char *sgm_status_text(sgm_status status) {
    switch (status) {
#define XX(name, value, text)                                                                                          \
    case SGM_##name:                                                                                                   \
        return text;
        SGM_STATUS_MAP(XX)
#undef XX
    }
    return "unknown status";
}

/* Cut a text that did not fit at the start of the character it broke. */
static void cut_at_character(char *text, size_t capacity) {
    size_t n = strlen(text);
    if (n + 1 < capacity)
        return;
    size_t start = n;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (n - (start - 1) < need)
        text[start - 1] = '\0';
}

static const char memory_hint[] = "close other programs, or let this one have more (`ulimit -v`)";

sgm_status sgm_fail(sgm_error *error, sgm_status code, const char *hint, const char *format, ...) {
    if (!error)
        return code;
    /* The arguments may point into the record itself ("%s" of an inner error's message). */
    sgm_error filled = {.code = code};
    va_list arguments;
    va_start(arguments, format);
    sgm_text_vprint(filled.message, sizeof filled.message, format, arguments);
    va_end(arguments);
    cut_at_character(filled.message, sizeof filled.message);
    if (!hint)
        hint = code == SGM_EMEMORY ? memory_hint : "";
    snprintf(filled.hint, sizeof filled.hint, "%s", hint);
    cut_at_character(filled.hint, sizeof filled.hint);
    *error = filled;
    return code;
}
