// SPDX-License-Identifier: Apache-2.0
/* Reading Hugging Face tokenizer.json files of type BPE with byte-level alphabet.
 *
 * Read are the model, the added tokens, the normaliser (none or NFC) and the pre-tokenizer (ByteLevel, Split, Digits,
 * Sequence); anything else is refused with its place in the file. The post-processor is kept for saving but not
 * applied: encoding adds no tokens of its own. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"

#define LARGEST_FILE ((size_t)512 << 20)
#define KINDS_HINT "byte-level BPE tokenizers (GPT-2, Qwen, Llama 3, o200k, our own) are supported"

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static bool truth_of(const json_t *object, const char *key, bool otherwise) {
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static bool absent(const json_t *value) {
    return !value || json_is_null(value);
}

/* ---- vocabulary and merges ---- */

static sgm_status check_model(const json_t *model, sgm_error *error) {
    const char *type = text_of(model, "type");
    if (!json_is_object(model) || (*type && strcmp(type, "BPE") != 0))
        return sgm_fail(error, SGM_EFORMAT, KINDS_HINT, "tokenizer.json: model: type '%.40s' is not supported, BPE is",
                        *type ? type : "(none)");
    if (!json_is_object(json_object_get(model, "vocab")) || !json_is_array(json_object_get(model, "merges")))
        return sgm_fail(error, SGM_EFORMAT, KINDS_HINT,
                        "tokenizer.json: model: vocab (an object) or merges (a list) is missing");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++)
        if (*text_of(model, affixes[i]))
            return sgm_fail(error, SGM_EFORMAT, KINDS_HINT, "tokenizer.json: model.%s is not supported", affixes[i]);
    if (json_number_value(json_object_get(model, "dropout")) > 0)
        return sgm_fail(error, SGM_EFORMAT, "set it to null", "tokenizer.json: model.dropout is not supported");
    return SGM_OK;
}

/* Largest id + 1 over vocabulary and added tokens, all of which are checked to be ids. */
static sgm_status count_ids(const json_t *vocab, const json_t *added, int64_t *vocabulary, sgm_error *error) {
    json_int_t largest = -1;
    size_t count = json_object_size(vocab) + json_array_size(added), index;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)vocab, key, value) {
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return sgm_fail(error, SGM_EFORMAT, NULL, "tokenizer.json: model.vocab: the id of '%.60s' is not a number",
                            key);
        if (json_integer_value(value) > largest)
            largest = json_integer_value(value);
    }
    if (!absent(added) && !json_is_array(added))
        return sgm_fail(error, SGM_EFORMAT, NULL, "tokenizer.json: added_tokens is not a list");
    json_array_foreach(added, index, value) {
        const json_t *id = json_object_get(value, "id");
        if (!json_is_integer(id) || json_integer_value(id) < 0 || !*text_of(value, "content"))
            return sgm_fail(error, SGM_EFORMAT, NULL, "tokenizer.json: added_tokens[%zu] has no id or no content",
                            index);
        if (json_integer_value(id) > largest)
            largest = json_integer_value(id);
    }
    if (largest >= 65536 && (uint64_t)largest / 2 > count) /* memory goes by the largest id */
        return sgm_fail(error, SGM_EFORMAT, NULL, "tokenizer.json: %zu tokens, but an id of %lld", count,
                        (long long)largest);
    *vocabulary = (int64_t)largest + 1;
    return SGM_OK;
}

static sgm_status read_vocabulary(sgm_tokenizer *t, const json_t *vocab, sgm_error *error) {
    size_t room = 0;
    char *bytes = NULL;
    sgm_status status = SGM_OK;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)vocab, key, value) {
        size_t size = strlen(key), count;
        if (size >= room) {
            sgm_free(bytes);
            room = size * 2 + 64;
            bytes = sgm_alloc(room);
            if (!bytes)
                return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for a token of %zu bytes", size);
        }
        int32_t id = (int32_t)json_integer_value(value);
        if (sgm_alphabet_to_bytes(key, size, bytes, &count))
            status = sgm_tokenizer_put(t, id, bytes, count, SGM_TOKEN_MODEL, error);
        else
            status = sgm_tokenizer_put(t, id, key, size, SGM_TOKEN_MODEL | SGM_TOKEN_LITERAL, error);
        if (status)
            break;
    }
    sgm_free(bytes);
    return status ? status : sgm_tokenizer_index(t, error);
}

/* Both parts of a merge, "a b" or ["a", "b"], as they are spelt. */
static bool merge_parts(const json_t *merge, const char **left, size_t *left_size, const char **right,
                        size_t *right_size) {
    if (json_is_string(merge)) {
        const char *text = json_string_value(merge), *space = strchr(text, ' ');
        if (!space || strchr(space + 1, ' '))
            return false;
        *left = text;
        *left_size = (size_t)(space - text);
        *right = space + 1;
        *right_size = strlen(space + 1);
    } else {
        const json_t *a = json_array_get(merge, 0), *b = json_array_get(merge, 1);
        if (json_array_size(merge) != 2 || !json_is_string(a) || !json_is_string(b))
            return false;
        *left = json_string_value(a);
        *left_size = json_string_length(a);
        *right = json_string_value(b);
        *right_size = json_string_length(b);
    }
    return *left_size && *right_size;
}

static sgm_status read_merges(sgm_tokenizer *t, const json_t *merges, sgm_error *error) {
    size_t index;
    json_t *value;
    sgm_buffer bytes = {0};
    sgm_status status = SGM_OK;
    json_array_foreach(merges, index, value) {
        const char *left, *right;
        size_t left_size, right_size, a = 0, b = 0;
        if (!merge_parts(value, &left, &left_size, &right, &right_size)) {
            status = sgm_fail(error, SGM_EFORMAT, "a merge is \"a b\" or [\"a\", \"b\"]",
                              "tokenizer.json: model.merges[%zu] is no pair of tokens", index);
            break;
        }
        bytes.size = 0;
        if ((status = sgm_buffer_add(&bytes, left, left_size)) != SGM_OK ||
            (status = sgm_buffer_add(&bytes, right, right_size)) != SGM_OK) {
            sgm_fail(error, status, NULL, "not enough memory for merges");
            break;
        }
        sgm_merge merge = {-1, -1, -1}; /* bytes are never more than the characters that spell them: decode in place */
        if (sgm_alphabet_to_bytes(left, left_size, bytes.data, &a) &&
            sgm_alphabet_to_bytes(right, right_size, bytes.data + a, &b))
            merge = (sgm_merge){sgm_tokenizer_word(t, bytes.data, a), sgm_tokenizer_word(t, bytes.data + a, b),
                                sgm_tokenizer_word(t, bytes.data, a + b)};
        if (merge.left < 0 || merge.right < 0 || merge.result < 0) {
            status = sgm_fail(error, SGM_EFORMAT, NULL,
                              "tokenizer.json: model.merges[%zu]: '%.*s' or '%.*s' or both together are not in the "
                              "vocabulary",
                              index, (int)(left_size > 60 ? 60 : left_size), left,
                              (int)(right_size > 60 ? 60 : right_size), right);
            break;
        }
        sgm_pair_table_set(&t->pairs, merge, (uint32_t)index); /* of equal merges the last one counts */
        t->merges[t->merge_count++] = merge;
    }
    sgm_buffer_free(&bytes);
    return status;
}

static sgm_status read_added(sgm_tokenizer *t, const json_t *added, const json_t *vocab, sgm_error *error) {
    size_t index;
    json_t *value;
    json_array_foreach(added, index, value) {
        const json_t *content = json_object_get(value, "content");
        int32_t id = (int32_t)json_integer_value(json_object_get(value, "id"));
        const json_t *twin = json_object_get(vocab, json_string_value(content));
        if (twin ? json_integer_value(twin) != id : (t->tokens[id].flags & SGM_TOKEN_MODEL) != 0)
            return sgm_fail(error, SGM_EFORMAT, NULL,
                            "tokenizer.json: added_tokens[%zu] ('%.60s', id %d) contradicts model.vocab", index,
                            json_string_value(content), id);
        sgm_added_token token = {.id = id,
                                 .special = truth_of(value, "special", false),
                                 .left_strip = truth_of(value, "lstrip", false),
                                 .right_strip = truth_of(value, "rstrip", false),
                                 .single_word = truth_of(value, "single_word", false),
                                 .text = json_string_value(content),
                                 .size = json_string_length(content)};
        token.normalized = truth_of(value, "normalized", !token.special);
        sgm_status status = sgm_tokenizer_put_added(t, &token, error);
        if (status)
            return status;
    }
    return SGM_OK;
}

/* ---- normaliser, pre-tokenizer, decoder ---- */

static sgm_status read_normalizer(sgm_tokenizer *t, const json_t *node, int depth, sgm_error *error) {
    const char *type = text_of(node, "type");
    if (absent(node))
        return SGM_OK;
    if (!strcmp(type, "NFC")) {
        t->nfc = true;
        return SGM_OK;
    }
    const json_t *list = json_object_get(node, "normalizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list) || depth > 3)
        return sgm_fail(error, SGM_EFORMAT, "NFC or none is supported",
                        "tokenizer.json: normalizer: type '%.40s' is not supported", type);
    size_t index;
    json_t *value;
    json_array_foreach(list, index, value) {
        sgm_status status = read_normalizer(t, value, depth + 1, error);
        if (status)
            return status;
    }
    return SGM_OK;
}

static sgm_status add_step(sgm_tokenizer *t, sgm_split_step step, sgm_error *error) {
    if (t->step_count == SGM_SPLIT_STEPS) {
        sgm_pattern_free(step.pattern);
        return sgm_fail(error, SGM_EFORMAT, NULL, "tokenizer.json: pre_tokenizer: more than %d steps", SGM_SPLIT_STEPS);
    }
    t->steps[t->step_count++] = step;
    return SGM_OK;
}

static sgm_status add_regex(sgm_tokenizer *t, sgm_split_step step, const char *regex, size_t size, bool literal,
                            sgm_error *error) {
    for (size_t i = 0; !literal && i < sgm_known_pattern_count; i++)
        if (!strcmp(sgm_known_patterns[i].regex, regex))
            step.known = sgm_known_patterns[i].next;
    if (!step.known) {
        sgm_status status = sgm_pattern_new(regex, size, literal, &step.pattern, error);
        if (status)
            return status;
    }
    return add_step(t, step, error);
}

static sgm_status read_split(sgm_tokenizer *t, const json_t *node, sgm_error *error) {
    static const char *const behaviors[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                            "Contiguous"}; /* in the order of the enum */
    sgm_split_step step = {.invert = truth_of(node, "invert", false)};
    size_t kind = 0;
    while (kind < 5 && strcmp(text_of(node, "behavior"), behaviors[kind]) != 0)
        kind++;
    const json_t *pattern = json_object_get(node, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex"), *literal = json_object_get(pattern, "String");
    if (kind == 5 || (!json_is_string(regex) && !json_is_string(literal)))
        return sgm_fail(error, SGM_EFORMAT,
                        "behaviors are Isolated, Removed, MergedWithPrevious, MergedWithNext, "
                        "Contiguous; patterns are {\"Regex\": …} or {\"String\": …}",
                        "tokenizer.json: pre_tokenizer: a Split with unknown behavior or pattern");
    step.behavior = (sgm_split_behavior)kind;
    const json_t *text = regex ? regex : literal;
    return add_regex(t, step, json_string_value(text), json_string_length(text), !regex, error);
}

/* *last: a ByteLevel step came; nothing may follow it, since to others it is in another alphabet. */
static sgm_status read_pre_tokenizer(sgm_tokenizer *t, const json_t *node, int depth, bool *last, sgm_error *error) {
    const char *type = text_of(node, "type");
    if (*last)
        return sgm_fail(error, SGM_EFORMAT, NULL, "tokenizer.json: pre_tokenizer: '%.40s' after ByteLevel", type);
    if (!strcmp(type, "ByteLevel")) {
        *last = true;
        sgm_split_step step = {.prefix_space = truth_of(node, "add_prefix_space", true)};
        if (truth_of(node, "use_regex", true))
            step.known = sgm_known_pattern_named("gpt2")->next;
        return step.known || step.prefix_space ? add_step(t, step, error) : SGM_OK;
    }
    if (!strcmp(type, "Split"))
        return read_split(t, node, error);
    if (!strcmp(type, "Digits")) {
        const char *regex = truth_of(node, "individual_digits", false) ? "\\p{N}" : "\\p{N}+";
        return add_regex(t, (sgm_split_step){0}, regex, strlen(regex), false, error);
    }
    const json_t *list = json_object_get(node, "pretokenizers");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list) || depth > 3)
        return sgm_fail(error, SGM_EFORMAT, "ByteLevel, Split, Digits and Sequences of them are supported",
                        "tokenizer.json: pre_tokenizer: type '%.40s' is not supported", *type ? type : "(none)");
    size_t index;
    json_t *value;
    json_array_foreach(list, index, value) {
        sgm_status status = read_pre_tokenizer(t, value, depth + 1, last, error);
        if (status)
            return status;
    }
    return SGM_OK;
}

static sgm_status check_decoder(const json_t *node, int depth, sgm_error *error) {
    const char *type = text_of(node, "type");
    if (absent(node) || !strcmp(type, "ByteLevel") || (depth && !strcmp(type, "Fuse")))
        return SGM_OK;
    const json_t *list = json_object_get(node, "decoders");
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list) || depth > 3)
        return sgm_fail(error, SGM_EFORMAT, KINDS_HINT,
                        "tokenizer.json: decoder: type '%.40s' is not supported, ByteLevel is", type);
    size_t index;
    json_t *value;
    json_array_foreach(list, index, value) {
        sgm_status status = check_decoder(value, depth + 1, error);
        if (status)
            return status;
    }
    return SGM_OK;
}

/* ---- the whole ---- */

static sgm_status keep(const json_t *node, char **text, sgm_error *error) {
    if (absent(node))
        return SGM_OK;
    size_t size = json_dumpb(node, NULL, 0, JSON_COMPACT);
    *text = sgm_alloc(size + 1);
    if (!*text || !size)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory for tokenizer.json");
    json_dumpb(node, *text, size, JSON_COMPACT);
    return SGM_OK;
}

static sgm_status read_pipeline(sgm_tokenizer *t, const json_t *root, sgm_error *error) {
    bool byte_level = false;
    sgm_status status = read_normalizer(t, json_object_get(root, "normalizer"), 0, error);
    if (!status)
        status = read_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), 0, &byte_level, error);
    if (!status && !byte_level)
        status = sgm_fail(error, SGM_EFORMAT, KINDS_HINT, "tokenizer.json: pre_tokenizer: no ByteLevel in it");
    if (!status)
        status = check_decoder(json_object_get(root, "decoder"), 0, error);
    struct {
        const char *key;
        char **text;
    } kept[] = {{"normalizer", &t->normalizer},
                {"pre_tokenizer", &t->pre_tokenizer},
                {"post_processor", &t->post_processor},
                {"decoder", &t->decoder}};
    for (size_t i = 0; !status && i < 4; i++)
        status = keep(json_object_get(root, kept[i].key), kept[i].text, error);
    return status;
}

static sgm_status build(const json_t *root, sgm_tokenizer **tokenizer, sgm_error *error) {
    const json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
    if (absent(model))
        return sgm_fail(error, SGM_EFORMAT, KINDS_HINT, "tokenizer.json: it has no model: not a tokenizer");
    sgm_status status = check_model(model, error);
    if (status)
        return status;
    const json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    int64_t vocabulary = 0;
    if ((status = count_ids(vocab, added, &vocabulary, error)) != SGM_OK)
        return status;
    sgm_tokenizer *t;
    status = sgm_tokenizer_new(vocabulary, json_array_size(merges), json_array_size(added), &t, error);
    if (status)
        return status;
    t->ignore_merges = truth_of(model, "ignore_merges", false);
    status = read_pipeline(t, root, error);
    if (!status)
        status = read_vocabulary(t, vocab, error);
    if (!status)
        status = read_merges(t, merges, error);
    if (!status)
        status = read_added(t, added, vocab, error);
    if (!status)
        status = sgm_tokenizer_finish(t, error);
    if (status) {
        sgm_tokenizer_close(t);
        return status;
    }
    *tokenizer = t;
    return SGM_OK;
}

static const char damaged_hint[] = "the file is damaged or cut off: fetch or make it again";

sgm_status sgm_tokenizer_parse(const char *json, size_t size, sgm_tokenizer **tokenizer, sgm_error *error) {
    *tokenizer = NULL;
    json_t *root;
    sgm_status status = sgm_json_read(json, size, JSON_REJECT_DUPLICATES, "tokenizer.json", damaged_hint, &root, error);
    if (!status)
        status = build(root, tokenizer, error);
    json_decref(root);
    return status;
}

/* The tokenizer_config.json beside it is kept word for word (it may hold a chat template); its end-of-text token counts
 * where the tokenizer has none of the usual names. */
static sgm_status read_config(sgm_tokenizer *t, const char *folder, sgm_error *error) {
    char *path = sgm_path_join(folder, "tokenizer_config.json"), *text = NULL;
    size_t size;
    sgm_status status = SGM_OK;
    if (!path)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to open %s", folder);
    if (sgm_path_exists(path)) {
        json_t *root = NULL;
        status = sgm_file_read(path, LARGEST_FILE, &text, &size, error);
        if (!status)
            status = sgm_json_read(text, size, 0, path, damaged_hint, &root, error);
        const json_t *end = json_object_get(root, "eos_token");
        const char *name = json_is_object(end) ? text_of(end, "content") : json_string_value(end);
        if (!status && t->end_of_text < 0 && name)
            t->end_of_text = sgm_tokenizer_find(t, name, strlen(name));
        json_decref(root);
        if (status)
            sgm_free(text);
        else
            t->config = text;
    }
    sgm_free(path);
    return status;
}

/* What parsing says, of "tokenizer.json" or of a vocabulary, is about the file that was given. */
static void name_file(const char *file, sgm_error *error) {
    static const char general[] = "tokenizer.json: ";
    if (!error || error->code == SGM_EMEMORY)
        return;
    size_t skipped = strncmp(error->message, general, strlen(general)) == 0 ? strlen(general) : 0;
    char hint[sizeof error->hint];
    snprintf(hint, sizeof hint, "%s", *error->hint ? error->hint : "the file is damaged: fetch or make it again");
    sgm_fail(error, error->code, hint, "%s: %s", file, error->message + skipped);
}

sgm_status sgm_tokenizer_open(const char *path, sgm_tokenizer **tokenizer, sgm_error *error) {
    *tokenizer = NULL;
    bool folder = sgm_path_is_folder(path);
    char *file = folder ? sgm_path_join(path, "tokenizer.json") : sgm_strdup(path), *json = NULL;
    if (!file)
        return sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to open %s", path);
    size_t size;
    sgm_status status = sgm_file_read(file, LARGEST_FILE, &json, &size, error);
    if (!status && (status = sgm_tokenizer_parse(json, size, tokenizer, error)) != SGM_OK)
        name_file(file, error);
    sgm_free(file);
    sgm_free(json);
    if (!status && folder && (status = read_config(*tokenizer, path, error)) != SGM_OK) {
        sgm_tokenizer_close(*tokenizer);
        *tokenizer = NULL;
    }
    return status;
}
