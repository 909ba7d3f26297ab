// SPDX-License-Identifier: Apache-2.0
/* Reading JSON. jansson keeps the word that it reads in a buffer which grows with it, and where memory fails there it drops the
 * character and goes on: a good file is then an "invalid token", a value lacks a letter, or the end of a word is not found.
 * So its buffer is made to grow before the text, on a word of ours that is longer than all in it: the text is read as the second
 * item of a list, `["www…",` TEXT `]`. Of that word every character is asked after, in errno, before the next is given, and
 * its last one never meets a full buffer. */
#include "base/json.h"

#include <errno.h>
#include <string.h>

#include "base/memory.h"

typedef struct source {
    size_t word; /* bytes of our word with its quotes */
    const char *text;
    size_t size;
    size_t given; /* of all there is */
} source;

static bool is_in_words(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || memchr("+-.", c, 3);
}

/* What jansson may take for one word of the text at most: a string with its quotes (it ends at a control character, too), or a
 * run of letters, digits, signs and points. */
static size_t longest_word(const char *text, size_t size) {
    size_t longest = 0, from = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        if (quoted && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            quoted = !quoted;
            if (quoted)
                from = i;
        } else if (quoted ? (unsigned char)text[i] < 0x20 : !is_in_words(text[i])) {
            quoted = false;
            from = i + 1;
        }
        size_t end = i < size ? i + 1 : size;
        if (end > from && end - from > longest)
            longest = end - from;
    }
    return longest;
}

/* Longer, and no power of two: at those the buffer grows. */
static size_t our_word(size_t longest) {
    size_t bytes = longest < 30 ? 33 : longest + 3;
    return bytes & (bytes - 1) ? bytes : bytes + 1;
}

static char before_text(const source *from, size_t at) {
    if (at == 0)
        return '[';
    if (at == 1 || at == from->word)
        return '"';
    return at <= from->word ? 'w' : at == from->word + 1 ? ',' : '\n';
}

static size_t next_piece(void *buffer, size_t room, void *context) {
    source *from = context;
    const size_t before = from->word + 3;
    char *to = buffer;
    size_t n = 1;
    if (from->given < before) {
        if (errno == ENOMEM)
            return (size_t)-1;
        *to = before_text(from, from->given);
    } else if (from->given < before + from->size) {
        const size_t at = from->given - before;
        n = from->size - at < room ? from->size - at : room;
        memcpy(to, from->text + at, n);
    } else if (from->given == before + from->size) {
        *to = ']';
    } else {
        n = 0;
    }
    from->given += n;
    return n;
}

static sgm_status no_memory(const char *name, sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to read %s", name);
}

sgm_status sgm_json_read(const char *text, size_t size, size_t flags, const char *name, const char *hint, json_t **root,
                         sgm_error *error) {
    json_error_t where;
    source from = {.word = our_word(longest_word(text, size)), .text = text, .size = size};
    *root = NULL;
    /* The heap has grown by then, or will not: a malloc that has to ask for more may set errno and yet succeed. */
    void *room = sgm_alloc(4 * from.word);
    if (!room)
        return no_memory(name, error);
    sgm_free(room);
    errno = 0;
    json_t *list = json_load_callback(next_piece, &from, flags, &where);
    if (!list && (where.line < 0 || errno == ENOMEM || json_error_code(&where) == json_error_out_of_memory))
        return no_memory(name, error);
    const size_t items = json_array_size(list), before = from.word + 3;
    json_t *value = json_array_get(list, 1);
    if (items == 2 && (json_is_object(value) || json_is_array(value)))
        *root = json_incref(value);
    json_decref(list);
    if (*root)
        return SGM_OK;
    if (list)
        return sgm_fail(error, SGM_EFORMAT, hint, "%s: this is not JSON: it is not one list or one object", name);
    const size_t at = where.position > 0 ? (size_t)where.position : 0;
    if (at > before + size &&
        json_error_code(&where) == json_error_end_of_input_expected) /* the text closed our list */
        return sgm_fail(error, SGM_EFORMAT, hint, "%s: this is not JSON: it closes more than it opens", name);
    if (at > before + size)
        return sgm_fail(error, SGM_EFORMAT, hint, "%s: this is not JSON: it ends too early", name);
    return sgm_fail(error, SGM_EFORMAT, hint, "%s: this is not JSON: line %d, column %d (byte %zu): %s", name,
                    where.line - 1, where.column, at > before ? at - before : 0, where.text);
}

const char *sgm_json_text(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

bool sgm_json_whole(const json_t *object, const char *key, int64_t *value) {
    const json_t *number = json_object_get(object, key);
    *value = json_integer_value(number);
    return json_is_integer(number);
}

void sgm_json_set(json_t *object, const char *key, json_t *value, bool *failed) {
    if (json_object_set_new(object, key, value) != 0)
        *failed = true;
}

void sgm_json_append(json_t *array, json_t *value, bool *failed) {
    if (json_array_append_new(array, value) != 0)
        *failed = true;
}

json_t *sgm_json_or_null(json_t *value, bool failed) {
    if (!failed)
        return value;
    json_decref(value);
    return NULL;
}
