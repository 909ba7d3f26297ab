// SPDX-License-Identifier: Apache-2.0
/* Printing and reading numbers in the C locale. uselocale changes the calling thread alone, and glibc's newlocale hands out
 * its own object for "C": nothing is allocated, and nothing can fail. */
#include "base/text_print.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

int sgm_text_vprint(char *text, size_t room, const char *format, va_list arguments) {
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = uselocale(c_locale);
    int size = vsnprintf(text, room, format, arguments);
    uselocale(before);
    if (c_locale)
        freelocale(c_locale);
    return size;
}

int sgm_text_print(char *text, size_t room, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int size = sgm_text_vprint(text, room, format, arguments);
    va_end(arguments);
    return size;
}

double sgm_text_real(const char *text, char **end) {
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    double value = c_locale ? strtod_l(text, end, c_locale) : strtod(text, end);
    if (c_locale)
        freelocale(c_locale);
    return value;
}
