// SPDX-License-Identifier: Apache-2.0
/* Reading JSON. Where memory fails inside a word, jansson drops a character and goes on: it then says "invalid token" of a good
 * file, or returns a value that lacks the character. malloc says so in errno, which jansson clears when a number ends; so the
 * text is given to it in pieces that end where a number may, and errno is looked at before each. */
#include "base/json.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

typedef struct source {
    const char *text;
    size_t left;
    bool no_memory;
} source;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static size_t next_piece(void *buffer, size_t room, void *context) {
    source *from = context;
    from->no_memory = from->no_memory || errno == ENOMEM;
    if (from->no_memory)
        return (size_t)-1;
    size_t most = from->left < room ? from->left : room, n = most > 0;
    while (n < most && !(is_digit(from->text[n - 1]) && !is_digit(from->text[n])))
        n++;
    memcpy(buffer, from->text, n);
    from->text += n;
    from->left -= n;
    return n;
}

sgm_status sgm_json_read(const char *text, size_t size, size_t flags, const char *name, const char *hint, json_t **root,
                         sgm_error *error) {
    json_error_t where;
    source from = {text, size, false};
    errno = 0;
    *root = json_load_callback(next_piece, &from, flags, &where);
    const bool told = !*root && (json_error_code(&where) == json_error_out_of_memory || where.line < 0);
    if (told || from.no_memory || errno == ENOMEM) {
        json_decref(*root);
        *root = NULL;
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to read %s", name);
    }
    if (*root)
        return SGM_OK;
    return sgm_fail(error, SGM_EFORMAT, hint, "%s: this is not JSON: line %d, column %d (byte %d): %s", name,
                    where.line, where.column, where.position, where.text);
}
