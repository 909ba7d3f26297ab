// SPDX-License-Identifier: Apache-2.0
/* Tokenizer files: saved and opened again, rank files, what is not supported, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "text_helper.h"

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/sigmoe-text-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    return sgm_folder_remove(folder, NULL) ? -1 : 0;
}

static void same_text_same_tokenizer(void **state) {
    (void)state;
    char *path[2], *json[2];
    for (int i = 0; i < 2; i++) {
        sgm_tokenizer *t = trained("qwen", 900);
        path[i] = sgm_format("%s/same%d", folder, i);
        assert_int_equal(sgm_tokenizer_save(t, path[i], NULL), SGM_OK);
        sgm_tokenizer_close(t);
        char *file = sgm_path_join(path[i], "tokenizer.json");
        size_t size;
        assert_int_equal(sgm_file_read(file, 1 << 24, &json[i], &size, NULL), SGM_OK);
        sgm_free(file);
    }
    assert_string_equal(json[0], json[1]);
    for (int i = 0; i < 2; i++) {
        sgm_free(path[i]);
        sgm_free(json[i]);
    }
}

/* ---- files ---- */

static void same_encoding(const sgm_tokenizer *a, const sgm_tokenizer *b) {
    assert_int_equal(sgm_tokenizer_vocabulary(a), sgm_tokenizer_vocabulary(b));
    assert_int_equal(sgm_tokenizer_end_of_text(a), sgm_tokenizer_end_of_text(b));
    for (int trial = 0; trial < 200; trial++) {
        char text[600];
        int32_t ids[2][2400];
        size_t size = 0, count[2];
        for (uint32_t i = 0, n = below(60); i < n; i++)
            size += random_character(text + size);
        assert_int_equal(sgm_tokenizer_encode(a, text, size, true, ids[0], 2400, &count[0], NULL), SGM_OK);
        assert_int_equal(sgm_tokenizer_encode(b, text, size, true, ids[1], 2400, &count[1], NULL), SGM_OK);
        assert_int_equal(count[0], count[1]);
        assert_memory_equal(ids[0], ids[1], count[0] * sizeof **ids);
    }
}

static void saved_and_opened_again(void **state) {
    (void)state;
    recipe full = {.tokens = {"aa", "\\u0120a"},
                   .merges = "[\"a a\",\"\\u0120 a\"]",
                   .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}",
                   .pre_tokenizer = SPLIT("[\\\\s\\\\w]+?|'", "MergedWithNext"),
                   .added = ADDED(261, "__", ",\"lstrip\":true,\"normalized\":true") "," ADDED(
                       259, "</s>", ",\"special\":true") "," ADDED(260, "\\\"\\n\xC3\xA9", ",\"rstrip\":true")};
    sgm_tokenizer *originals[] = {trained("o200k", 500), made(&full)};
    for (int i = 0; i < 2; i++) {
        char *path = sgm_format("%s/saved%d", folder, i), *file = sgm_path_join(path, "tokenizer.json");
        sgm_error error = {0};
        sgm_tokenizer *again = NULL, *third = NULL;
        if (sgm_tokenizer_save(originals[i], path, &error) || sgm_tokenizer_open(path, &again, &error) ||
            sgm_tokenizer_open(file, &third, &error))
            fail_msg("%s", error.message);
        same_encoding(originals[i], again);
        same_encoding(again, third);
        sgm_tokenizer_close(again);
        sgm_tokenizer_close(third);
        sgm_tokenizer_close(originals[i]);
        sgm_free(path);
        sgm_free(file);
    }
}

static void tiktoken_files(void **state) {
    (void)state;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    sgm_buffer out = {0};
    for (int b = 0; b < 256; b++) /* one byte: two digits, two pads */
        sgm_buffer_print(&out, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    /* ab 256, abc 257 (ab + c), xyz 258: made of no two tokens, so only as a whole word; ba 259 */
    sgm_buffer_print(&out, "YWI= 256\nYWJj 257\neHl6 258\nYmE= 259\n");
    char *path = sgm_path_join(folder, "ranks.tiktoken");
    assert_int_equal(sgm_file_write(path, out.data, out.size, NULL), SGM_OK);
    sgm_tokenizer *t;
    sgm_error error = {0};
    if (sgm_tokenizer_open_tiktoken(path, "r50k", &t, &error))
        fail_msg("%s", error.message);
    ENCODES(t, true, "abc bab", 257, ' ', 'b', 256);
    ENCODES(t, true, "xyz", 258);
    ENCODES(t, true, "xyzz", 'x', 'y', 'z', 'z');
    ENCODES(t, true, "<|endoftext|>", 50256);
    sgm_tokenizer_close(t);
    assert_int_equal(sgm_tokenizer_open_tiktoken(path, "r51k", &t, &error), SGM_EARGUMENT);
    out.data[out.size - 3] = '?';
    assert_int_equal(sgm_file_write(path, out.data, out.size, NULL), SGM_OK);
    assert_int_equal(sgm_tokenizer_open_tiktoken(path, "r50k", &t, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "line 260"));
    sgm_buffer_free(&out);
    sgm_free(path);
}

static void refused(const recipe *r, const char *word) {
    char *json = json_of(r);
    sgm_tokenizer *t;
    sgm_error error = {0};
    assert_int_equal(sgm_tokenizer_parse(json, strlen(json), &t, &error), SGM_EFORMAT);
    assert_null(t);
    if (!strstr(error.message, word))
        fail_msg("'%s' does not say '%s'", error.message, word);
    sgm_free(json);
}

static void unsupported_files_are_refused(void **state) {
    (void)state;
    refused(&(recipe){.model = "\"type\":\"Unigram\","}, "Unigram");
    refused(&(recipe){.model = "\"type\":\"BPE\",\"continuing_subword_prefix\":\"##\","}, "continuing_subword_prefix");
    refused(&(recipe){.model = "\"type\":\"BPE\",\"dropout\":0.1,"}, "dropout");
    refused(&(recipe){.normalizer = "{\"type\":\"Lowercase\"}"}, "Lowercase");
    refused(&(recipe){.pre_tokenizer = "{\"type\":\"Metaspace\"}"}, "Metaspace");
    refused(&(recipe){.pre_tokenizer = "null"}, "pre_tokenizer");
    refused(&(recipe){.pre_tokenizer = SPLIT("(", "Isolated")}, "does not compile");
    refused(&(recipe){.pre_tokenizer = SPLIT("a", "Sideways")}, "behavior");
    refused(&(recipe){.pre_tokenizer = SPLIT("\\\\C", "Isolated")}, "\\C");
    refused(&(recipe){.merges = "[\"a b\"]"}, "merges[0]");
    refused(&(recipe){.merges = "[\"a\"]"}, "merges[0]");
    refused(&(recipe){.merges = "[[\"a\",7]]"}, "merges[0]");
    refused(&(recipe){.tokens = {"ab"}, .added = ADDED(256, "x<", "")}, "added_tokens[0]");
    refused(&(recipe){.added = ADDED(99999999, "x<", "")}, "99999999");
    refused(&(recipe){.added = ADDED(-1, "x<", "")}, "added_tokens[0]");
    sgm_tokenizer *t;
    sgm_error error = {0};
    static const char no_bytes[] = "{\"pre_tokenizer\":" GPT2 ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}";
    assert_int_equal(sgm_tokenizer_parse(no_bytes, sizeof no_bytes - 1, &t, &error), SGM_EFORMAT);
    assert_int_equal(sgm_tokenizer_open("/nonexistent/tokenizer.json", &t, &error), SGM_ENOTFOUND);
}

static void damaged_files_are_refused(void **state) {
    (void)state;
    char *json = json_of(&(recipe){.tokens = {"ab"}, .merges = "[\"a b\"]", .added = ADDED(257, "<x>", "")});
    size_t size = strlen(json);
    sgm_tokenizer *t;
    for (size_t cut = 0; cut < size; cut += 1 + cut / 40) {
        sgm_error error = {0};
        assert_int_equal(sgm_tokenizer_parse(json, cut, &t, &error), SGM_EFORMAT);
        assert_null(t);
        assert_true(strstr(error.message, "line ") || strstr(error.message, "ends too early"));
    }
    for (int trial = 0; trial < 3000; trial++) { /* refused or usable, never a crash */
        size_t at = below((uint32_t)size);
        char old = json[at];
        json[at] = (char)(old ^ (1 << below(8)));
        if (sgm_tokenizer_parse(json, size, &t, NULL) == SGM_OK) {
            int32_t ids[32];
            size_t count;
            assert_int_equal(sgm_tokenizer_encode(t, "ab<x>\xFF", 6, true, ids, 32, &count, NULL), SGM_OK);
            assert_true(count >= 3);
            sgm_tokenizer_close(t);
        }
        json[at] = old;
    }
    sgm_free(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_text_same_tokenizer),
        cmocka_unit_test(saved_and_opened_again),
        cmocka_unit_test(tiktoken_files),
        cmocka_unit_test(unsupported_files_are_refused),
        cmocka_unit_test(damaged_files_are_refused),
    };
    return cmocka_run_group_tests_name("text files", tests, make_folder, remove_folder);
}
