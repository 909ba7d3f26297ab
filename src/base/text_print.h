// SPDX-License-Identifier: Apache-2.0
/* Text that means the same in every locale. The program that the library is part of may have set one with a decimal comma;
 * what goes into a file, or is read from one, has a point all the same. sgm_format, sgm_buffer_print and sgm_fail print so
 * too; snprintf and strtod are for text without fractions. */
#ifndef SGM_BASE_TEXT_PRINT_H
#define SGM_BASE_TEXT_PRINT_H

#include <stdarg.h>
#include <stddef.h>

/* snprintf, vsnprintf and strtod in the C locale. */
int sgm_text_print(char *text, size_t room, const char *format, ...) __attribute__((format(printf, 3, 4)));
int sgm_text_vprint(char *text, size_t room, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
double sgm_text_real(const char *text, char **end);

#endif
