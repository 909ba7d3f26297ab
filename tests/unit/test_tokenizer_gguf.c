// SPDX-License-Identifier: Apache-2.0
/* Tokenizers in GGUF files: the keys as llama.cpp reads them, the same encodings after a round trip, files by others, and
 * what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text_helper.h"
#include "text/tokenizer_gguf.h"

static char test_folder[64];

static int make_test_folder(void **state) {
    (void)state;
    strcpy(test_folder, "/tmp/sigmoe-test-XXXXXX");
    return mkdtemp(test_folder) ? 0 : -1;
}

static int remove_test_folder(void **state) {
    (void)state;
    return sgm_folder_remove(test_folder, NULL) ? -1 : 0;
}

static const char *in_folder(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    return path;
}

/* A file with what `fill` puts into it and one small tensor. */
static sgm_gguf *written(void (*fill)(sgm_gguf_writer *writer, const void *context), const void *context) {
    sgm_gguf_writer *writer;
    sgm_gguf *file = NULL;
    sgm_error error = {0};
    const char *path = in_folder("tokenizer.gguf");
    static const float one = 1;
    if (sgm_gguf_writer_new(path, &writer, &error))
        fail_msg("%s", error.message);
    fill(writer, context);
    sgm_gguf_put_tensor(writer, "one", SGM_TYPE_F32, 1, (const int64_t[]){1});
    if (sgm_gguf_writer_begin(writer, &error) || sgm_gguf_writer_data(writer, &one, sizeof one, &error) ||
        sgm_gguf_writer_end(writer, &error) || sgm_gguf_open(path, &file, &error))
        fail_msg("%s", error.message);
    return file;
}

static void put_tokenizer(sgm_gguf_writer *writer, const void *context) {
    const sgm_tokenizer *t = context;
    sgm_error error = {0};
    if (sgm_tokenizer_put_gguf(t, sgm_tokenizer_vocabulary(t) + 3, writer, &error))
        fail_msg("%s", error.message);
}

static bool has_text(const sgm_gguf *file, const char *key, const char *want) {
    const char *text;
    size_t size;
    return sgm_gguf_get_text(file, key, &text, &size) && size == strlen(want) && memcmp(text, want, size) == 0;
}

static bool element_is(const sgm_gguf *file, const char *key, int64_t index, const char *want) {
    const char *text;
    size_t size;
    return sgm_gguf_array_text(file, key, index, &text, &size) && size == strlen(want) && memcmp(text, want, size) == 0;
}

static bool has_json(const sgm_gguf *file) {
    const char *text;
    size_t size;
    return sgm_gguf_get_text(file, "tokenizer.huggingface.json", &text, &size);
}

static void same_ids(const sgm_tokenizer *a, const sgm_tokenizer *b, const char *text, size_t size, bool specials) {
    int32_t *ids[2] = {malloc((2 * size + 8) * sizeof **ids), malloc((2 * size + 8) * sizeof **ids)};
    size_t count[2];
    assert_int_equal(sgm_tokenizer_encode(a, text, size, specials, ids[0], 2 * size + 8, &count[0], NULL), SGM_OK);
    assert_int_equal(sgm_tokenizer_encode(b, text, size, specials, ids[1], 2 * size + 8, &count[1], NULL), SGM_OK);
    assert_int_equal(count[0], count[1]);
    assert_memory_equal(ids[0], ids[1], count[0] * sizeof **ids);
    free(ids[0]), free(ids[1]);
}

/* The same tokens, and the same ids for a page of the corpus and for random text with special tokens in it. */
static void same_tokenizer(const sgm_tokenizer *a, const sgm_tokenizer *b) {
    assert_int_equal(sgm_tokenizer_vocabulary(a), sgm_tokenizer_vocabulary(b));
    assert_int_equal(sgm_tokenizer_end_of_text(a), sgm_tokenizer_end_of_text(b));
    for (int32_t id = 0; id < sgm_tokenizer_vocabulary(a); id++) {
        size_t sizes[2];
        const char *bytes[2] = {sgm_tokenizer_bytes_of(a, id, &sizes[0]), sgm_tokenizer_bytes_of(b, id, &sizes[1])};
        assert_int_equal(sizes[0], sizes[1]);
        assert_true(!bytes[0] == !bytes[1] && (!bytes[0] || memcmp(bytes[0], bytes[1], sizes[0]) == 0));
        assert_int_equal(sgm_tokenizer_is_special(a, id), sgm_tokenizer_is_special(b, id));
    }
    char *path = sgm_path_join(SGM_SOURCE_DIR, "data/corpus/reference/jargon.txt"), *page;
    size_t size;
    assert_int_equal(sgm_file_read(path, 1 << 24, &page, &size, NULL), SGM_OK);
    same_ids(a, b, page, size < 100000 ? size : 100000, true);
    sgm_free(page);
    sgm_free(path);
    for (int round = 0; round < 400; round++) {
        char text[2048];
        size_t at = 0;
        for (uint32_t n = below(100) + 1; n > 0; n--) {
            at += random_character(text + at);
            if (below(20) == 0) {
                memcpy(text + at, "<|endoftext|>", 13);
                at += 13;
            }
        }
        same_ids(a, b, text, at, round % 2 == 0);
    }
}

static void round_trip(sgm_tokenizer *t, const char *pre, bool json) {
    sgm_gguf *file = written(put_tokenizer, t);
    sgm_tokenizer *back;
    sgm_error error = {0};
    assert_true(has_text(file, "tokenizer.ggml.model", "gpt2"));
    assert_true(has_text(file, "tokenizer.ggml.pre", pre));
    assert_int_equal(has_json(file), json);
    if (sgm_tokenizer_from_gguf(file, &back, &error))
        fail_msg("%s", error.message);
    same_tokenizer(t, back);
    sgm_tokenizer_close(back);
    sgm_tokenizer_close(t);
    sgm_gguf_close(file);
}

static void trained_tokenizers_come_back(void **state) {
    (void)state;
    round_trip(trained(NULL, 600), "qwen2", false); /* our own */
    round_trip(trained("qwen", 400), "qwen2", false);
    round_trip(trained("gpt2", 400), "gpt-2", false);
    round_trip(trained("llama3", 400), "dbrx", false); /* Llama 3's pattern without its ignore_merges */
    round_trip(trained("cl100k", 400), "dbrx", true);  /* near, not the same: the file holds tokenizer.json */
    round_trip(trained("o200k", 400), "gpt-4o", true);
    sgm_tokenizer *bytes;
    assert_int_equal(sgm_tokenizer_bytes(&bytes, NULL), SGM_OK);
    round_trip(bytes, "gpt-2", false);
}

/* What the keys cannot say goes into the file as tokenizer.json. */
static void what_keys_cannot_say_is_kept(void **state) {
    (void)state;
    const char *end = ADDED(258, "<|endoftext|>", ",\"special\":true");
    round_trip(made(&(recipe){.tokens = {"ab", "abc"}, .merges = "[\"a b\",\"ab c\"]", .added = end}), "gpt-2", false);
    round_trip(
        made(&(recipe){
            .tokens = {"ab", "abc"}, .merges = "[\"a b\",\"ab c\"]", .normalizer = "{\"type\":\"NFC\"}", .added = end}),
        "gpt-2", true);
    round_trip(made(&(recipe){.tokens = {"ab", "abc"},
                              .merges = "[\"a b\",\"ab c\"]",
                              .added = ADDED(258, "<|endoftext|>", ",\"special\":true,\"lstrip\":true")}),
               "gpt-2", true);
    round_trip(
        made(&(recipe){.tokens = {"abc", "xy"}, .model = "\"type\":\"BPE\",\"ignore_merges\":true,", .added = end}),
        "gpt-2", true);
    /* A word may become the very token that is also an added one. */
    round_trip(made(&(recipe){.tokens = {"ab", "abc"},
                              .merges = "[\"a b\",\"ab c\"]",
                              .added = ADDED(257, "abc", ",\"special\":true") "," ADDED(258, "<|endoftext|>",
                                                                                        ",\"special\":true")}),
               "gpt-2", true);
}

/* The lists, element by element. */
static void keys_are_as_the_format_has_them(void **state) {
    (void)state;
    sgm_tokenizer *t = made(&(recipe){
        .tokens = {"\xC4\xA0"
                   "a",
                   "bc"}, /* U+0120 is the space */
        .merges = "[\"\xC4\xA0 a\",\"b c\"]",
        .added = ADDED(258, "<|endoftext|>", ",\"special\":true") "," ADDED(260, "<x>", ",\"special\":false")});
    sgm_gguf *file = written(put_tokenizer, t);
    int64_t count, value;
    bool flag = true;
    assert_true(sgm_gguf_array_length(file, "tokenizer.ggml.tokens", &count) && count == 264);
    assert_true(sgm_gguf_array_length(file, "tokenizer.ggml.token_type", &count) && count == 264);
    assert_true(sgm_gguf_array_length(file, "tokenizer.ggml.merges", &count) && count == 2);
    static const struct {
        int64_t id, type;
        const char *text;
    } want[] = {{'A', 1, "A"},
                {32, 1, "\xC4\xA0"},
                {256, 1,
                 "\xC4\xA0"
                 "a"},
                {257, 1, "bc"},
                {258, 3, "<|endoftext|>"},
                {259, 5, "[PAD259]"},
                {260, 4, "<x>"},
                {263, 5, "[PAD263]"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_true(element_is(file, "tokenizer.ggml.tokens", want[i].id, want[i].text));
        assert_true(sgm_gguf_array_int(file, "tokenizer.ggml.token_type", want[i].id, &value) && value == want[i].type);
    }
    assert_true(element_is(file, "tokenizer.ggml.merges", 0, "\xC4\xA0 a"));
    assert_true(element_is(file, "tokenizer.ggml.merges", 1, "b c"));
    static const char *const ends[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.padding_token_id"};
    for (int i = 0; i < 3; i++)
        assert_true(sgm_gguf_get_int(file, ends[i], &value) && value == 258);
    assert_true(sgm_gguf_get_bool(file, "tokenizer.ggml.add_bos_token", &flag) && !flag);
    sgm_gguf_close(file);
    sgm_tokenizer_close(t);
}

/* ---- files by others ---- */

typedef struct foreign {
    const char *model, *pre; /* NULL: no such key */
    const char *tokens[6];   /* from 256 on */
    int32_t types[6];        /* 0: the list ends */
    const char *merges[4];
    int64_t eos; /* -1: none */
    bool no_types;
} foreign;

static void put_foreign(sgm_gguf_writer *writer, const void *context) {
    const foreign *f = context;
    char spelt[256][4];
    const char *texts[262];
    size_t sizes[262];
    int32_t types[262];
    int64_t count = 0, merges = 0;
    for (; count < 256; count++) {
        sizes[count] = sgm_utf8_encode(sgm_alphabet_character((unsigned char)count), spelt[count]);
        texts[count] = spelt[count];
        types[count] = 1;
    }
    for (int i = 0; i < 6 && f->types[i]; i++, count++) {
        texts[count] = f->tokens[i];
        sizes[count] = strlen(f->tokens[i]);
        types[count] = f->types[i];
    }
    if (f->model)
        sgm_gguf_put_text(writer, "tokenizer.ggml.model", f->model);
    if (f->pre)
        sgm_gguf_put_text(writer, "tokenizer.ggml.pre", f->pre);
    sgm_gguf_put_texts(writer, "tokenizer.ggml.tokens", count, texts, sizes);
    if (!f->no_types)
        sgm_gguf_put_i32s(writer, "tokenizer.ggml.token_type", count, types);
    size_t merge_sizes[4];
    for (; merges < 4 && f->merges[merges]; merges++)
        merge_sizes[merges] = strlen(f->merges[merges]);
    sgm_gguf_put_texts(writer, "tokenizer.ggml.merges", merges, f->merges, merge_sizes);
    if (f->eos >= 0)
        sgm_gguf_put_u32(writer, "tokenizer.ggml.eos_token_id", (uint32_t)f->eos);
}

static void files_by_others_are_read(void **state) {
    (void)state;
    foreign f = {.model = "gpt2",
                 .pre = "qwen2",
                 .tokens = {"ab",
                            "\xC4\xA0"
                            "ab",
                            "<|im_end|>", "<tool>", "[PAD260]"},
                 .types = {1, 1, 3, 4, 5},
                 .merges = {"a b", "\xC4\xA0 ab"},
                 .eos = 258};
    sgm_tokenizer *t;
    sgm_error error = {0};
    sgm_gguf *file = written(put_foreign, &f);
    if (sgm_tokenizer_from_gguf(file, &t, &error))
        fail_msg("%s", error.message);
    assert_int_equal(sgm_tokenizer_vocabulary(t), 260); /* padding is no token */
    assert_int_equal(sgm_tokenizer_end_of_text(t), 258);
    ENCODES(t, true, "ab ab<|im_end|><tool>12", 256, 257, 258, 259, '1', '2');
    ENCODES(t, false, "<tool>", '<', 't', 'o', 'o', 'l', '>');
    assert_true(sgm_tokenizer_is_special(t, 258) && !sgm_tokenizer_is_special(t, 259));
    sgm_tokenizer_close(t);
    sgm_gguf_close(file);

    /* Llama 3's name implies ignore_merges: a word that is a token is that token, whatever the merges say. */
    f.pre = "llama-bpe";
    f.merges[0] = NULL;
    file = written(put_foreign, &f);
    assert_int_equal(sgm_tokenizer_from_gguf(file, &t, &error), SGM_OK);
    ENCODES(t, true, "ab abc", 256, ' ', 'a', 'b', 'c');
    sgm_tokenizer_close(t);
    sgm_gguf_close(file);

    f.no_types = true; /* then all are ordinary */
    file = written(put_foreign, &f);
    assert_int_equal(sgm_tokenizer_from_gguf(file, &t, &error), SGM_OK);
    assert_int_equal(sgm_tokenizer_vocabulary(t), 261);
    assert_false(sgm_tokenizer_is_special(t, 258));
    sgm_tokenizer_close(t);
    sgm_gguf_close(file);
}

static void refused(const foreign *f, sgm_status want, const char *says) {
    sgm_gguf *file = written(put_foreign, f);
    sgm_tokenizer *t;
    sgm_error error = {0};
    assert_int_equal(sgm_tokenizer_from_gguf(file, &t, &error), want);
    assert_null(t);
    if (!strstr(error.message, says) || !error.hint[0])
        fail_msg("'%s' with hint '%s'", error.message, error.hint);
    sgm_gguf_close(file);
}

static void what_is_refused(void **state) {
    (void)state;
    const foreign good = {
        .model = "gpt2", .pre = "gpt-2", .tokens = {"ab"}, .types = {1}, .merges = {"a b"}, .eos = -1};
    foreign f = good;
    f.model = NULL;
    refused(&f, SGM_ENOTFOUND, "no tokenizer");
    f.model = "llama";
    refused(&f, SGM_EUNSUPPORTED, "kind 'llama'");
    f = good, f.pre = "tekken";
    refused(&f, SGM_EUNSUPPORTED, "'tekken'");
    f = good, f.pre = NULL;
    refused(&f, SGM_EUNSUPPORTED, "(none)");
    static const char *const merges[] = {"ab", " b", "a ", "", "b a", "a b c", "a \xE2\x82\xAC"};
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) {
        f = good, f.merges[0] = merges[i];
        refused(&f, SGM_EFORMAT, "merges[0]");
    }
    f = good, f.types[0] = 3, f.tokens[0] = "";
    refused(&f, SGM_EFORMAT, "tokens[256]");

    /* A pattern without a name, and a model that is smaller than its tokenizer. */
    sgm_gguf_writer *writer;
    sgm_error error = {0};
    sgm_tokenizer *t = made(&(recipe){.pre_tokenizer = SPLIT("[a-z]+", "Isolated")});
    assert_int_equal(sgm_gguf_writer_new(in_folder("none.gguf"), &writer, &error), SGM_OK);
    assert_int_equal(sgm_tokenizer_put_gguf(t, 300, writer, &error), SGM_EUNSUPPORTED);
    sgm_tokenizer_close(t);
    t = trained("gpt2", 400);
    assert_int_equal(sgm_tokenizer_put_gguf(t, 399, writer, &error), SGM_EARGUMENT);
    sgm_tokenizer_close(t);
    sgm_gguf_writer_abandon(writer);
}

/* Damage anywhere in a file is refused, or leaves a tokenizer that can be used. */
static void damage_is_survived(void **state) {
    (void)state;
    const foreign f = {.model = "gpt2",
                       .pre = "qwen2",
                       .tokens = {"ab", "abc", "<|im_end|>", "<tool>", "[PAD260]"},
                       .types = {1, 1, 3, 4, 5},
                       .merges = {"a b", "ab c"},
                       .eos = 258};
    sgm_gguf_close(written(put_foreign, &f));
    char *bytes;
    size_t size;
    int refusals = 0, uses = 0;
    assert_int_equal(sgm_file_read(in_folder("tokenizer.gguf"), 1 << 20, &bytes, &size, NULL), SGM_OK);
    for (int round = 0; round < 3000; round++) {
        char *copy = malloc(size);
        sgm_gguf *file;
        sgm_tokenizer *t;
        assert_non_null(copy);
        memcpy(copy, bytes, size);
        for (uint32_t n = 1 + below(3); n > 0;
             n--) /* half of the time where the keys are not mere bytes of the alphabet */
            copy[below(2) ? below((uint32_t)size) : (uint32_t)size - 1 - below(1700)] = (char)below(256);
        bool good = !sgm_gguf_parse((const unsigned char *)copy, size, &file, NULL);
        if (good && !sgm_tokenizer_from_gguf(file, &t, NULL)) {
            comes_back(t, "ab abc 12<|im_end|>", 19, round % 2 == 0);
            sgm_tokenizer_close(t);
            uses++;
        } else {
            refusals++;
        }
        if (good)
            sgm_gguf_close(file);
        free(copy);
    }
    assert_true(refusals > 100 && uses > 100);
    sgm_free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trained_tokenizers_come_back),
        cmocka_unit_test(what_keys_cannot_say_is_kept),
        cmocka_unit_test(keys_are_as_the_format_has_them),
        cmocka_unit_test(files_by_others_are_read),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(damage_is_survived),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
