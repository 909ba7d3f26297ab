// SPDX-License-Identifier: Apache-2.0
/* Reading a config from YAML.
 *
 * The events of libyaml are flattened to pairs of dotted key and text with their lines; the pairs are then set like
 * flags are. Lists of plug-ins go first and kinds second, because they decide which other keys exist; otherwise the
 * order within a file has no meaning. Anchors, tags and several documents are refused: a config is to be read by
 * people. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/config_internal.h"
#include "base/memory.h"
#include "base/utf8.h"

typedef struct pair {
    char *key, *text;
    size_t line;
    int rank;     /* 0 a list of plug-ins, 1 a kind, 2 anything else, 3 only here to be seen twice */
    bool nothing; /* an empty value or an empty mapping */
} pair;

typedef struct reader {
    yaml_parser_t yaml;
    const char *name, *text;
    size_t size; /* of the text */
    sgm_error *error;
    const sgm_config *config;
    pair *pairs;
    size_t count, capacity;
} reader;

static sgm_status no_memory(reader *r) {
    return sgm_fail(r->error, SGM_EMEMORY, NULL, "no memory for the configuration %s", r->name);
}

static sgm_status bad(reader *r, size_t line, const char *hint, const char *why) {
    return sgm_fail(r->error, SGM_EARGUMENT, hint, "%s:%zu: %s", r->name, line, why);
}

static size_t line_of(const reader *r, size_t offset) {
    size_t line = 1;
    for (size_t i = 0; i < r->size && i < offset; i++)
        line += r->text[i] == '\n';
    return line;
}

static sgm_status next_event(reader *r, yaml_event_t *event) {
    if (!yaml_parser_parse(&r->yaml, event)) {
        size_t line = r->yaml.problem_mark.line + 1;
        if (r->yaml.error == YAML_MEMORY_ERROR)
            return no_memory(r);
        if (r->yaml.error == YAML_READER_ERROR) /* of a byte, found long before its line is looked at */
            return bad(r, line_of(r, r->yaml.problem_offset), "remove that byte: a configuration is text in UTF-8",
                       r->yaml.problem ? r->yaml.problem : "this is not text");
        return bad(r, line, "indent with spaces, write \"key: value\"",
                   r->yaml.problem ? r->yaml.problem : "this is not YAML");
    }
    size_t line = event->start_mark.line + 1;
    const char *why = NULL;
    if (event->type == YAML_ALIAS_EVENT)
        why = "YAML aliases are not supported";
    else if ((event->type == YAML_SCALAR_EVENT && event->data.scalar.anchor) ||
             (event->type == YAML_MAPPING_START_EVENT && event->data.mapping_start.anchor) ||
             (event->type == YAML_SEQUENCE_START_EVENT && event->data.sequence_start.anchor))
        why = "YAML anchors are not supported";
    else if ((event->type == YAML_SCALAR_EVENT && event->data.scalar.tag) ||
             (event->type == YAML_MAPPING_START_EVENT && event->data.mapping_start.tag) ||
             (event->type == YAML_SEQUENCE_START_EVENT && event->data.sequence_start.tag))
        why = "YAML tags are not supported";
    else if (event->type == YAML_SCALAR_EVENT &&
             strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
        why = "a value contains a zero byte";
    if (!why)
        return SGM_OK;
    yaml_event_delete(event);
    return bad(r, line, "write the value out", why);
}

static sgm_status add_pair(reader *r, const char *key, const char *text, size_t line, bool nothing) {
    if (r->count >= SGM_CONFIG_PAIRS)
        return bad(r, line, "is it a configuration? `sigmoe list config` has its keys",
                   "too many values for a configuration");
    if (r->count == r->capacity) {
        size_t capacity = r->capacity ? r->capacity * 2 : 64;
        pair *pairs = sgm_resize(r->pairs, r->count * sizeof *pairs, capacity * sizeof *pairs);
        if (!pairs)
            return no_memory(r);
        r->pairs = pairs;
        r->capacity = capacity;
    }
    const sgm_section *section = sgm_config_section(r->config, key);
    const char *dot = strrchr(key, '.');
    int rank = section && section->shape == SGM_SECTION_PLUGIN_LIST && !dot ? 0
               : dot && strcmp(dot, ".kind") == 0                           ? 1
                                                                            : 2;
    pair fresh = {.key = sgm_strdup(key), .text = sgm_strdup(text), .line = line, .rank = rank, .nothing = nothing};
    if (!fresh.key || !fresh.text) {
        sgm_free(fresh.key);
        sgm_free(fresh.text);
        return no_memory(r);
    }
    r->pairs[r->count++] = fresh;
    return SGM_OK;
}

static sgm_status read_mapping(reader *r, const char *prefix, size_t line, int depth);
static sgm_status read_sequence(reader *r, const char *prefix, size_t line, int depth);

/* The value of `key`, which stands on `line`. */
static sgm_status read_node(reader *r, const char *key, size_t line, yaml_event_t *event, int depth) {
    if (depth > SGM_CONFIG_DEPTH)
        return bad(r, line, "write sections like \"model:\" with keys below", "nested too deeply");
    switch (event->type) {
    case YAML_SCALAR_EVENT: {
        const char *text = (const char *)event->data.scalar.value;
        line = event->start_mark.line + 1;
        return add_pair(r, key, text, line, !*text && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE);
    }
    case YAML_MAPPING_START_EVENT:
        return read_mapping(r, key, line, depth);
    case YAML_SEQUENCE_START_EVENT:
        return read_sequence(r, key, line, depth);
    default:
        return bad(r, line, "write \"key: value\"", "a value is missing");
    }
}

static sgm_status read_mapping(reader *r, const char *prefix, size_t line, int depth) {
    for (size_t n = 0;; n++) {
        yaml_event_t event;
        sgm_status status = next_event(r, &event);
        if (status)
            return status;
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            if (!*prefix)
                return SGM_OK;
            status = add_pair(r, prefix, "", line, true); /* so that a section given twice is seen */
            if (!status && n)
                r->pairs[r->count - 1].rank = 3;
            return status;
        }
        char *key = NULL;
        size_t key_line = event.start_mark.line + 1;
        if (event.type != YAML_SCALAR_EVENT)
            status = bad(r, key_line, "write \"key: value\"", "a key must be a name");
        else if (!(key = sgm_format("%s%s%s", prefix, *prefix ? "." : "", (const char *)event.data.scalar.value)))
            status = no_memory(r);
        yaml_event_delete(&event);
        if (!status)
            status = next_event(r, &event);
        if (!status) {
            status = read_node(r, key, key_line, &event, depth + 1);
            yaml_event_delete(&event);
        }
        sgm_free(key);
        if (status)
            return status;
    }
}

/* One mapping in a list: its keys become "balance.1.…", its kind joins the list. */
static sgm_status read_list_item(reader *r, const char *prefix, size_t index, size_t line, int depth,
                                 sgm_buffer *joined) {
    char *key = sgm_format("%s.%zu", prefix, index), *kind = sgm_format("%s.%zu.kind", prefix, index);
    size_t first = r->count;
    sgm_status status = key && kind ? read_mapping(r, key, line, depth + 1) : no_memory(r);
    pair *found = NULL;
    for (size_t i = first; !status && i < r->count && !found; i++)
        if (strcmp(r->pairs[i].key, kind) == 0)
            found = &r->pairs[i];
    if (!status && !found)
        status = bad(r, line, "write \"- kind: NAME\", then its keys below", "this entry of a list has no kind");
    if (!status && found && strchr(found->text, ','))
        status = bad(r, found->line, "write one entry for each kind", "a kind cannot contain a comma");
    if (!status && found) {
        found->rank = 3;
        if (sgm_buffer_add(joined, found->text, strlen(found->text)))
            status = no_memory(r);
    }
    sgm_free(key);
    sgm_free(kind);
    return status;
}

/* [8, 2] is the text "8,2"; a list of mappings is a list of plug-ins. */
static sgm_status read_sequence(reader *r, const char *prefix, size_t line, int depth) {
    sgm_buffer joined = {0};
    sgm_status status = sgm_buffer_add(&joined, "", 0) ? no_memory(r) : SGM_OK;
    for (size_t index = 0; !status; index++) {
        yaml_event_t event;
        status = next_event(r, &event);
        if (status)
            break;
        size_t item_line = event.start_mark.line + 1;
        yaml_event_type_t type = event.type;
        if (type != YAML_SEQUENCE_END_EVENT && index && sgm_buffer_add(&joined, ",", 1))
            status = no_memory(r);
        if (!status && type == YAML_SCALAR_EVENT &&
            sgm_buffer_add(&joined, event.data.scalar.value, event.data.scalar.length))
            status = no_memory(r);
        yaml_event_delete(&event);
        if (status || type == YAML_SCALAR_EVENT)
            continue;
        if (type == YAML_SEQUENCE_END_EVENT) {
            status = add_pair(r, prefix, joined.data, line, false);
            break;
        }
        if (type != YAML_MAPPING_START_EVENT)
            status =
                bad(r, item_line, "write it like [8, 2], or as entries \"- kind: NAME\"", "a list cannot hold a list");
        else if (depth >= SGM_CONFIG_DEPTH)
            status = bad(r, item_line, "write entries \"- kind: NAME\" with their keys below", "nested too deeply");
        else
            status = read_list_item(r, prefix, index, item_line, depth, &joined);
    }
    sgm_buffer_free(&joined);
    return status;
}

static sgm_status read_document(reader *r) {
    for (bool seen = false;;) {
        yaml_event_t event;
        sgm_status status = next_event(r, &event);
        if (status)
            return status;
        size_t line = event.start_mark.line + 1;
        bool empty = event.type == YAML_SCALAR_EVENT && !event.data.scalar.length;
        yaml_event_type_t type = event.type;
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT)
            return SGM_OK;
        if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_END_EVENT || empty)
            continue;
        if (type == YAML_DOCUMENT_START_EVENT) {
            if (seen)
                return bad(r, line, "put everything into one document", "a second YAML document begins here");
            seen = true;
            continue;
        }
        if (type != YAML_MAPPING_START_EVENT)
            return bad(r, line, "write sections like \"model:\" with keys below", "the file is not a list of keys");
        status = read_mapping(r, "", line, 0);
        if (status)
            return status;
    }
}

/* ---- setting what was read ---- */

static int by_key(const void *a, const void *b) {
    const pair *x = *(pair *const *)a, *y = *(pair *const *)b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

static sgm_status refuse_duplicates(reader *r) {
    pair **sorted = sgm_alloc(r->count * sizeof *sorted + 1);
    if (!sorted)
        return no_memory(r);
    for (size_t i = 0; i < r->count; i++)
        sorted[i] = &r->pairs[i];
    qsort(sorted, r->count, sizeof *sorted, by_key);
    sgm_status status = SGM_OK;
    for (size_t i = 1; i < r->count && !status; i++)
        if (strcmp(sorted[i]->key, sorted[i - 1]->key) == 0)
            status = sgm_fail(r->error, SGM_EARGUMENT, "keep one of them", "%s:%zu: %s is set twice, first on line %zu",
                              r->name, sorted[i]->line, sorted[i]->key, sorted[i - 1]->line);
    sgm_free(sorted);
    return status;
}

static sgm_status set_pair(reader *r, sgm_config *config, const pair *p, bool lines) {
    const sgm_section *section = sgm_config_section(config, p->key);
    bool whole = section && strcmp(section->name, p->key) == 0;
    if (whole && p->nothing) /* "model:" with nothing below: says nothing */
        return SGM_OK;
    if (whole && section->shape != SGM_SECTION_PLUGIN_LIST)
        return sgm_fail(r->error, SGM_EARGUMENT,
                        section->shape == SGM_SECTION_PLUGIN ? "write \"kind: NAME\" below it"
                                                             : "write its keys below it",
                        "%s:%zu: %s is a section, not a value", r->name, p->line, p->key);
    char *origin = lines ? sgm_format("%s:%zu", r->name, p->line) : sgm_strdup(r->name);
    if (!origin)
        return no_memory(r);
    sgm_status status = sgm_config_apply(config, p->key, p->text, origin, r->error);
    sgm_free(origin);
    return status;
}

sgm_status sgm_config_parse_lines(sgm_config *config, const char *yaml, size_t size, const char *name, bool lines,
                                  sgm_error *error) {
    if (size > SGM_CONFIG_BYTES)
        return sgm_fail(error, SGM_EARGUMENT, "is it the file that was meant?",
                        "%s is larger than %d bytes: not a configuration", name, SGM_CONFIG_BYTES);
    size_t mark = sgm_byte_order_mark(yaml, size);
    yaml += mark;
    size -= mark;
    reader r = {.name = name, .text = yaml, .size = size, .error = error, .config = config};
    if (!yaml_parser_initialize(&r.yaml))
        return no_memory(&r);
    yaml_parser_set_encoding(&r.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.yaml, (const unsigned char *)yaml, size);
    sgm_status status = read_document(&r);
    yaml_parser_delete(&r.yaml);
    if (!status)
        status = refuse_duplicates(&r);
    sgm_config *copy = NULL;
    if (!status)
        status = sgm_config_copy(config, &copy, error);
    for (int rank = 0; rank < 3 && !status; rank++)
        for (size_t i = 0; i < r.count && !status; i++)
            if (r.pairs[i].rank == rank)
                status = set_pair(&r, copy, &r.pairs[i], lines);
    if (!status)
        sgm_config_swap(config, copy);
    sgm_config_free(copy);
    for (size_t i = 0; i < r.count; i++) {
        sgm_free(r.pairs[i].key);
        sgm_free(r.pairs[i].text);
    }
    sgm_free(r.pairs);
    return status;
}
