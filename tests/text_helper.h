// SPDX-License-Identifier: Apache-2.0
/* What the tests of tokenizers share: small tokenizer.json files made by hand, random text. Include after cmocka.h. */
#ifndef SGM_TESTS_TEXT_HELPER_H
#define SGM_TESTS_TEXT_HELPER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "sigmoe/text.h"
#include "text/tokenizer.h"
#include "text/character_class.h"

static uint32_t seed = 12345;
static inline uint32_t below(uint32_t n) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

/* ---- tokenizer.json by hand: bytes are their own ids, `tokens` follow from 256, spelt in the byte alphabet ---- */

#define GPT2 "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define BYTES_ONLY "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define SPLIT(pattern, behavior)                                                                                       \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" pattern                  \
    "\"},\"behavior\":\"" behavior "\",\"invert\":false}," BYTES_ONLY "]}"

typedef struct recipe {
    const char *tokens[12];
    const char *merges; /* JSON list */
    const char *pre_tokenizer, *normalizer, *added, *model;
} recipe;

static inline char *json_of(const recipe *r) {
    sgm_buffer out = {0};
    sgm_buffer_print(&out, "{\"added_tokens\":[%s],\"normalizer\":%s,\"pre_tokenizer\":%s,\"model\":{%s\"vocab\":{",
                     r->added ? r->added : "", r->normalizer ? r->normalizer : "null",
                     r->pre_tokenizer ? r->pre_tokenizer : GPT2, r->model ? r->model : "\"type\":\"BPE\",");
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        sgm_buffer_print(&out, byte ? ",\"" : "\"");
        if (c == '"' || c == '\\')
            sgm_buffer_print(&out, "\\");
        sgm_alphabet_from_bytes(&c, 1, &out);
        sgm_buffer_print(&out, "\":%d", byte);
    }
    for (int i = 0; i < 12 && r->tokens[i]; i++)
        sgm_buffer_print(&out, ",\"%s\":%d", r->tokens[i], 256 + i);
    sgm_buffer_print(&out, "},\"merges\":%s},\"decoder\":{\"type\":\"ByteLevel\"}}", r->merges ? r->merges : "[]");
    return out.data;
}

static inline sgm_tokenizer *made(const recipe *r) {
    char *json = json_of(r);
    sgm_tokenizer *t;
    sgm_error error = {0};
    if (sgm_tokenizer_parse(json, strlen(json), &t, &error))
        fail_msg("%s", error.message);
    sgm_free(json);
    return t;
}

#define ENCODES(t, specials, text, ...)                                                                                \
    encodes(t, specials, text, sizeof text - 1, (const int32_t[]){__VA_ARGS__},                                        \
            sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))
static inline void encodes(const sgm_tokenizer *t, bool specials, const char *text, size_t size, const int32_t *want,
                           size_t want_count) {
    int32_t ids[256];
    size_t count;
    sgm_error error = {0};
    if (sgm_tokenizer_encode(t, text, size, specials, ids, 256, &count, &error))
        fail_msg("%s", error.message);
    for (size_t i = 0; i < want_count && i < count; i++)
        if (ids[i] != want[i])
            fail_msg("'%s': token %zu is %d, not %d", text, i, ids[i], want[i]);
    assert_int_equal(count, want_count);
}

static inline void comes_back(const sgm_tokenizer *t, const char *bytes, size_t size, bool specials) {
    int32_t *ids = malloc((size + 8) * sizeof *ids);
    size_t count, back_size;
    char *back;
    assert_int_equal(sgm_tokenizer_encode(t, bytes, size, specials, ids, size + 8, &count, NULL), SGM_OK);
    assert_int_equal(sgm_tokenizer_decode(t, ids, count, true, &back, &back_size, NULL), SGM_OK);
    assert_int_equal(back_size, size);
    assert_memory_equal(back, bytes, size);
    sgm_free(back);
    free(ids);
}

/* Characters that every version of Unicode in use classes alike. */
static inline size_t random_character(char *out) {
    static const char *const tricky[] = {"'",
                                         "'s",
                                         "'LL",
                                         "'\xC5\xBF",
                                         " ",
                                         "  ",
                                         "\n",
                                         "\r\n",
                                         "\t",
                                         "/",
                                         "_",
                                         "-",
                                         "a",
                                         "Z",
                                         "7",
                                         "\xC2\xA0",
                                         "\xC2\x85",
                                         "\xE3\x80\x80",
                                         "\xE1\xA0\x8E",
                                         "\xCC\x81",
                                         "\xC7\x85",
                                         "\xCA\xB0",
                                         "\xE2\x85\xA7",
                                         "\xFF",
                                         "\xC3",
                                         "\xED\xA0\x80"};
    static const uint32_t ranges[][2] = {{0x21, 0x7E},     {0xA1, 0x24F},    {0x300, 0x34E},     {0x391, 0x3A1},
                                         {0x410, 0x44F},   {0x660, 0x669},   {0x904, 0x939},     {0x2010, 0x2027},
                                         {0x4E00, 0x9FA5}, {0xAC00, 0xD7A3}, {0x1F600, 0x1F64F}, {0x1D400, 0x1D454}};
    if (below(2)) {
        const char *s = tricky[below(sizeof tricky / sizeof *tricky)];
        memcpy(out, s, strlen(s));
        return strlen(s);
    }
    const uint32_t *range = ranges[below(12)];
    return sgm_utf8_encode(range[0] + below(range[1] - range[0] + 1), out);
}

#define ADDED(id, content, more) "{\"id\":" #id ",\"content\":\"" content "\"" more "}"

static inline sgm_tokenizer *trained(const char *pattern, int64_t vocabulary) {
    char *path = sgm_path_join(SGM_SOURCE_DIR, "data/corpus/reference/jargon.txt"), *text;
    size_t size;
    assert_int_equal(sgm_file_read(path, 1 << 24, &text, &size, NULL), SGM_OK);
    if (size > 200000)
        size = 200000;
    const char *texts[] = {text};
    sgm_tokenizer *t;
    sgm_error error = {0};
    sgm_tokenizer_training options = {.vocabulary = vocabulary, .pattern = pattern};
    if (sgm_tokenizer_train(&options, texts, &size, 1, &t, &error))
        fail_msg("%s", error.message);
    sgm_free(text);
    sgm_free(path);
    return t;
}

#endif
