// SPDX-License-Identifier: Apache-2.0
/* A locale with a decimal comma, on machines that have none installed. Include after cmocka.h. */
#ifndef SGM_TESTS_LOCALE_HELPER_H
#define SGM_TESTS_LOCALE_HELPER_H

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* glibc's compiled LC_NUMERIC of `decimal_point ","`, `thousands_sep ""`, `grouping -1`, as localedef writes it. */
static const unsigned char comma_lc_numeric[] = {0x14, 0x11, 0x03, 0x20, 0x06, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00,
                                                 0x22, 0x00, 0x00, 0x00, 0x23, 0x00, 0x00, 0x00, 0x24, 0x00, 0x00, 0x00,
                                                 0x28, 0x00, 0x00, 0x00, 0x2c, 0x00, 0x00, 0x00, 0x2c, 0x00, 0x00, 0x00,
                                                 0x2c, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x41, 0x4e, 0x53, 0x49,
                                                 0x5f, 0x58, 0x33, 0x2e, 0x34, 0x2d, 0x31, 0x39, 0x36, 0x38, 0x00};

/* From here on numbers are printed with a comma (or the test is skipped: another C library). setlocale(LC_NUMERIC, "C")
 * ends it. `folder` is a folder of the test's own. */
static inline void set_comma_locale(const char *folder) {
    char path[512], number[16];
    snprintf(path, sizeof path, "%s/locales/comma", folder);
    assert_int_equal(sgm_folder_make(path, NULL), SGM_OK);
    snprintf(path, sizeof path, "%s/locales/comma/LC_NUMERIC", folder);
    assert_int_equal(sgm_file_write(path, comma_lc_numeric, sizeof comma_lc_numeric, NULL), SGM_OK);
    snprintf(path, sizeof path, "%s/locales", folder);
    assert_int_equal(setenv("LOCPATH", path, 1), 0);
    const char *set = setlocale(LC_NUMERIC, "comma");
    unsetenv("LOCPATH");
    if (!set)
        skip();
    snprintf(number, sizeof number, "%.1f", 1.5);
    assert_string_equal(number, "1,5");
}

#endif
