// SPDX-License-Identifier: Apache-2.0
/* Markup to plain text, for the recipe's sources: HTML and manual pages. Good enough to read and to learn from; layout
 * (tables, columns) is not kept. Any bytes are legal input. */
#ifndef SGM_DATA_STRIP_H
#define SGM_DATA_STRIP_H

#include "base/memory.h"

/* Append the plain text of `size` bytes to `out`. Only lack of memory fails. */
typedef sgm_status (*sgm_strip)(const char *text, size_t size, sgm_buffer *out);
sgm_status sgm_strip_none(const char *text, size_t size, sgm_buffer *out);
sgm_status sgm_strip_html(const char *text, size_t size, sgm_buffer *out);
sgm_status sgm_strip_roff(const char *text, size_t size, sgm_buffer *out);

#endif
