// SPDX-License-Identifier: Apache-2.0
/* JSON, read and written with jansson, with what it leaves to its callers where memory is short: a reader that neither blames
 * the file nor drops a character, and additions to arrays and objects that cannot be lost unseen. */
#ifndef SGM_BASE_JSON_H
#define SGM_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sigmoe/error.h"

/* One array or object from `size` bytes of text; `flags` are jansson's, `name` says whose text it is, `hint` what to do when it
 * is none. *root is the caller's, NULL after a failure: SGM_EFORMAT with line, column and byte, or SGM_EMEMORY. */
sgm_status sgm_json_read(const char *text, size_t size, size_t flags, const char *name, const char *hint, json_t **root,
                         sgm_error *error);

/* What jansson says too, but takes no memory to say. */
const char *sgm_json_text(const json_t *object, const char *key);           /* NULL: not there, or no text */
bool sgm_json_whole(const json_t *object, const char *key, int64_t *value); /* false: not there, or no whole number */

/* Set or append, taking the reference; *failed becomes true when there was no memory for it, or value is NULL. */
void sgm_json_set(json_t *object, const char *key, json_t *value, bool *failed);
void sgm_json_append(json_t *array, json_t *value, bool *failed);
json_t *sgm_json_or_null(json_t *value, bool failed); /* the value; after a failure NULL, and the value is gone */

#endif
