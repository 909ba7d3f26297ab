// SPDX-License-Identifier: Apache-2.0
/* For inner loops in which the address sanitizer would check every element of every pass: the rows are checked once, before
 * them. In builds without gcc's all of it is nothing. */
#ifndef SGM_BASE_SANITIZE_H
#define SGM_BASE_SANITIZE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>

/* Of a function: whoever calls it has checked what it touches. */
#define SGM_ROWS_CHECKED __attribute__((no_sanitize("address,undefined")))

/* Ends with the sanitizer's report if one of the bytes may not be touched. `rows` rows of `bytes`, `stride` bytes apart. */
static inline void sgm_check_rows(const void *first, int64_t rows, size_t bytes, size_t stride) {
    for (int64_t i = 0; i < rows; i++) {
        const volatile char *bad = __asan_region_is_poisoned((char *)first + (size_t)i * stride, bytes);
        if (bad)
            (void)*bad; /* a load that is checked */
    }
}
#else
#define SGM_ROWS_CHECKED
static inline void sgm_check_rows(const void *first, int64_t rows, size_t bytes, size_t stride) {
    (void)first;
    (void)rows;
    (void)bytes;
    (void)stride;
}
#endif

#endif
