// SPDX-License-Identifier: Apache-2.0
/* JSON, read by jansson, with an error that tells a lack of memory from a damaged file. */
#ifndef SGM_BASE_JSON_H
#define SGM_BASE_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "sigmoe/error.h"

/* One value from `size` bytes of text; `flags` are jansson's, `name` says whose text it is, `hint` what to do when it is no
 * JSON. *root is the caller's, NULL after a failure: SGM_EFORMAT with line, column and byte, or SGM_EMEMORY. */
sgm_status sgm_json_read(const char *text, size_t size, size_t flags, const char *name, const char *hint, json_t **root,
                         sgm_error *error);

#endif
