// SPDX-License-Identifier: Apache-2.0
/* Tokenizers: merges worked by hand, split patterns against PCRE2, round trips, training, threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text_helper.h"

/* ---- merges ---- */

static void byte_alphabet_is_gpt2s(void **state) {
    (void)state;
    /* from GPT-2's published vocabulary: Ġ is the space, Ċ the newline, ĉ the tab, Ń the soft hyphen */
    const struct {
        int byte;
        uint32_t code;
    } known[] = {{' ', 0x120},  {'\n', 0x10A}, {'\t', 0x109}, {0, 0x100},   {0x7F, 0x121},
                 {0xA0, 0x142}, {0xAD, 0x143}, {'A', 'A'},    {0xA1, 0xA1}, {0xFF, 0xFF}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_int_equal(sgm_alphabet_character((unsigned char)known[i].byte), known[i].code);
    for (int byte = 0; byte < 256; byte++) {
        char c = (char)byte, back;
        size_t n;
        sgm_buffer spelt = {0};
        assert_int_equal(sgm_alphabet_from_bytes(&c, 1, &spelt), SGM_OK);
        assert_true(sgm_alphabet_to_bytes(spelt.data, spelt.size, &back, &n));
        assert_true(n == 1 && back == c);
        sgm_buffer_free(&spelt);
    }
}

static void merges_go_by_rank_then_place(void **state) {
    (void)state;
    /* 256 bc, 257 ab, 258 abc (from a + bc), 259 aa, 260 aaaa */
    recipe r = {.tokens = {"bc", "ab", "abc", "aa", "aaaa"}, .merges = "[\"b c\",\"a b\",\"a bc\",\"a a\",\"aa aa\"]"};
    for (int form = 0; form < 2; form++) {
        if (form)
            r.merges = "[[\"b\",\"c\"],[\"a\",\"b\"],[\"a\",\"bc\"],[\"a\",\"a\"],[\"aa\",\"aa\"]]";
        sgm_tokenizer *t = made(&r);
        ENCODES(t, true, "abc", 258);
        ENCODES(t, true, "abd", 257, 'd');
        ENCODES(t, true, "aaa", 259, 'a');
        ENCODES(t, true, "aaaaaaa", 260, 259, 'a');
        ENCODES(t, true, "aab", 'a', 257);
        ENCODES(t, true, "abcabc x", 258, 258, ' ', 'x');
        assert_int_equal(sgm_tokenizer_vocabulary(t), 261);
        assert_int_equal(sgm_tokenizer_find(t, "abc", 3), 258);
        assert_int_equal(sgm_tokenizer_find(t, "xyz", 3), -1);
        assert_int_equal(sgm_tokenizer_end_of_text(t), -1);
        sgm_tokenizer_close(t);
    }
}

static void ignore_merges_takes_whole_words(void **state) {
    (void)state;
    recipe r = {.tokens = {"bc", "ab", "abc"}, .merges = "[\"b c\",\"a b\",\"ab c\"]"};
    sgm_tokenizer *t = made(&r); /* bc goes first, so the merges never arrive at abc */
    ENCODES(t, true, "abc", 'a', 256);
    sgm_tokenizer_close(t);
    r.model = "\"type\":\"BPE\",\"ignore_merges\":true,";
    t = made(&r);
    ENCODES(t, true, "abc", 258);
    ENCODES(t, true, "abcc", 'a', 256, 'c');
    sgm_tokenizer_close(t);
}

/* The definition, word for word: while any pair has a rank, merge the leftmost of the lowest. */
static size_t merge_by_definition(const sgm_tokenizer *t, const char *bytes, size_t n, int32_t *ids) {
    for (size_t i = 0; i < n; i++)
        ids[i] = (unsigned char)bytes[i];
    for (;;) {
        size_t at = n, rank = SIZE_MAX;
        for (size_t i = 0; i + 1 < n; i++)
            for (size_t m = 0; m < t->merge_count && m < rank; m++)
                if (t->merges[m].left == ids[i] && t->merges[m].right == ids[i + 1]) {
                    rank = m;
                    at = i;
                }
        if (at == n)
            return n;
        ids[at] = t->merges[rank].result;
        for (size_t i = at + 1; i + 1 < n; i++)
            ids[i] = ids[i + 1];
        n--;
    }
}

static void short_and_long_words_follow_the_definition(void **state) {
    (void)state;
    char text[3000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "aaabbc "[below(7)];
    const char *texts[] = {text};
    size_t sizes[] = {sizeof text};
    sgm_tokenizer *t;
    assert_int_equal(sgm_tokenizer_train(&(sgm_tokenizer_training){.vocabulary = 300}, texts, sizes, 1, &t, NULL), 0);
    for (int trial = 0; trial < 300; trial++) {
        char word[200];
        int32_t want[200], got[200];
        size_t n = 1 + below(trial % 2 ? 199 : 47), count;
        for (size_t i = 0; i < n; i++)
            word[i] = "aaabbc"[below(6)];
        size_t want_count = merge_by_definition(t, word, n, want);
        assert_int_equal(sgm_tokenizer_encode(t, word, n, false, got, 200, &count, NULL), SGM_OK);
        assert_int_equal(count, want_count);
        assert_memory_equal(got, want, count * sizeof *got);
    }
    sgm_tokenizer_close(t);
}

static void a_long_run_is_not_quadratic(void **state) {
    (void)state;
    recipe r = {.tokens = {"aa", "aaaa"}, .merges = "[\"a a\",\"aa aa\"]"};
    sgm_tokenizer *t = made(&r);
    size_t n = 1 << 20, count; /* by scanning, 10^12 steps: the test would not end */
    char *text = malloc(n);
    int32_t *ids = malloc(n * sizeof *ids);
    memset(text, 'a', n);
    assert_int_equal(sgm_tokenizer_encode(t, text, n, true, ids, n, &count, NULL), SGM_OK);
    assert_int_equal(count, n / 4);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(ids[i], 257);
    memset(text, ' ', n);
    assert_int_equal(sgm_tokenizer_encode(t, text, n, true, ids, n, &count, NULL), SGM_OK);
    assert_int_equal(count, n);
    sgm_tokenizer_close(t);
    /* a million combining marks in the wrong order, to be normalised */
    t = made(&(recipe){.normalizer = "{\"type\":\"NFC\"}"});
    for (size_t i = 0; i < n; i += 2)
        memcpy(text + i, i < n / 2 ? "\xCC\x81" : "\xCC\xA3", 2); /* above, then below */
    assert_int_equal(sgm_tokenizer_encode(t, text, n, true, ids, n, &count, NULL), SGM_OK);
    assert_int_equal(count, n);
    assert_int_equal(ids[1], 0xA3);
    assert_int_equal(ids[n - 1], 0x81);
    sgm_tokenizer_close(t);
    free(text);
    free(ids);
}

/* ---- splitting ---- */

static sgm_status list_word(void *context, const char *bytes, size_t size) {
    (void)bytes;
    return sgm_buffer_add(context, &size, sizeof size);
}

static void list_words(const sgm_split_step *step, const char *text, size_t size, sgm_buffer *out) {
    sgm_error error = {0};
    sgm_splitter s = {.steps = step, .step_count = 1, .word = list_word, .context = out, .error = &error};
    out->size = 0;
    if (sgm_splitter_run(&s, text, size))
        fail_msg("%s", error.message);
    sgm_splitter_fini(&s);
}

static void known_patterns_equal_pcre2(void **state) {
    (void)state;
    sgm_buffer ours = {0}, theirs = {0};
    for (size_t k = 0; k < sgm_known_pattern_count; k++) {
        const sgm_known_pattern *known = &sgm_known_patterns[k];
        sgm_split_step fast = {.known = known->next}, slow = {0};
        assert_int_equal(sgm_pattern_new(known->regex, strlen(known->regex), false, &slow.pattern, NULL), SGM_OK);
        for (int trial = 0; trial < 4000; trial++) {
            char text[400];
            size_t size = 0;
            for (uint32_t i = 0, n = 1 + below(40); i < n; i++)
                size += random_character(text + size);
            list_words(&fast, text, size, &ours);
            list_words(&slow, text, size, &theirs);
            if (ours.size != theirs.size || memcmp(ours.data, theirs.data, ours.size))
                fail_msg("%s splits '%.*s' in another way", known->name, (int)size, text);
        }
        sgm_pattern_free(slow.pattern);
    }
    sgm_buffer_free(&ours);
    sgm_buffer_free(&theirs);
}

static void split_worked_by_hand(void **state) {
    (void)state;
    const struct {
        const char *pattern, *text;
        size_t sizes[10];
    } cases[] = {{"gpt2", "I'll  go\n\nto 42,  ", {1, 3, 1, 3, 1, 1, 2, 3, 1, 2}},
                 {"qwen", "It's (ok) 12\n", {2, 2, 2, 2, 1, 1, 1, 1, 1}},
                 {"llama3", "a 12345 \n\n b", {1, 1, 3, 2, 3, 2}},
                 {"cl100k", "x \n  ", {1, 4}},
                 {"o200k", "HTTPServer isn't//\n", {10, 6, 3}},
                 {"o200k", "camelCase", {5, 4}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sgm_split_step step = {.known = sgm_known_pattern_named(cases[i].pattern)->next};
        sgm_buffer sizes = {0};
        list_words(&step, cases[i].text, strlen(cases[i].text), &sizes);
        size_t words = sizes.size / sizeof(size_t);
        assert_true(words == 10 || !cases[i].sizes[words]);
        for (size_t k = 0; k < words; k++) {
            size_t size;
            memcpy(&size, sizes.data + k * sizeof size, sizeof size);
            if (size != cases[i].sizes[k])
                fail_msg("%s: '%s': word %zu has %zu bytes", cases[i].pattern, cases[i].text, k, size);
        }
        sgm_buffer_free(&sizes);
    }
}

static void behaviours_of_split(void **state) {
    (void)state;
    /* "-" matches; 256 is "--", 257 "a-", 258 "-a": which of them can form shows who was joined with whom */
    recipe r = {.tokens = {"--", "a-", "-a"}, .merges = "[\"- -\",\"a -\",\"- a\"]"};
    r.pre_tokenizer = SPLIT("-", "Isolated");
    sgm_tokenizer *t = made(&r);
    ENCODES(t, true, "a--a", 'a', '-', '-', 'a');
    sgm_tokenizer_close(t);
    r.pre_tokenizer = SPLIT("-", "Removed");
    t = made(&r);
    ENCODES(t, true, "a--a", 'a', 'a');
    sgm_tokenizer_close(t);
    r.pre_tokenizer = SPLIT("-", "MergedWithPrevious");
    t = made(&r);
    ENCODES(t, true, "a--a", 257, '-', 'a');
    sgm_tokenizer_close(t);
    r.pre_tokenizer = SPLIT("-", "MergedWithNext");
    t = made(&r);
    ENCODES(t, true, "a--a", 'a', '-', 258);
    sgm_tokenizer_close(t);
    r.pre_tokenizer = SPLIT("-", "Contiguous");
    t = made(&r);
    ENCODES(t, true, "a--a", 'a', 256, 'a');
    sgm_tokenizer_close(t);
    r.pre_tokenizer = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}";
    t = made(&r);
    ENCODES(t, true, "a b", ' ', 'a', ' ', 'b');
    ENCODES(t, true, " a", ' ', 'a');
    encodes(t, true, "", 0, NULL, 0);
    sgm_tokenizer_close(t);
}

static void hostile_patterns_end(void **state) {
    (void)state;
    recipe r = {.pre_tokenizer = SPLIT("(?:a+)+[bc]", "Isolated")};
    sgm_tokenizer *t = made(&r);
    char text[2000];
    int32_t ids[2008];
    size_t count;
    sgm_error error = {0};
    memset(text, 'a', sizeof text);
    assert_int_equal(sgm_tokenizer_encode(t, text, sizeof text, true, ids, 2008, &count, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "split pattern"));
    sgm_tokenizer_close(t);
}

/* ---- specials, normalisation, bytes ---- */

static void added_tokens(void **state) {
    (void)state;
    recipe r = {
        .added = ADDED(256, "<|endoftext|>", ",\"special\":true") "," ADDED(257, "<x>", ",\"special\":false,\"normalized\":false") "," ADDED(
            258, "<x><x>",
            ",\"normalized\":false") "," ADDED(259, "<l>",
                                               ",\"lstrip\":true,\"normalized\":false") "," ADDED(260, "<r>",
                                                                                                  ",\"rstrip\":"
                                                                                                  "true") "," ADDED(261,
                                                                                                                    "w"
                                                                                                                    "o",
                                                                                                                    ","
                                                                                                                    "\""
                                                                                                                    "si"
                                                                                                                    "ng"
                                                                                                                    "le"
                                                                                                                    "_w"
                                                                                                                    "or"
                                                                                                                    "d"
                                                                                                                    "\""
                                                                                                                    ":t"
                                                                                                                    "ru"
                                                                                                                    "e")};
    sgm_tokenizer *t = made(&r);
    assert_int_equal(sgm_tokenizer_end_of_text(t), 256);
    assert_int_equal(sgm_tokenizer_vocabulary(t), 262);
    assert_true(sgm_tokenizer_is_special(t, 256));
    assert_false(sgm_tokenizer_is_special(t, 257));
    assert_false(sgm_tokenizer_is_special(t, 'a'));
    assert_false(sgm_tokenizer_is_special(t, -1));
    ENCODES(t, true, "a<|endoftext|>b", 'a', 256, 'b');
    ENCODES(t, false, "<x>", '<', 'x', '>');
    ENCODES(t, true, "<x><x><x>", 258, 257);
    ENCODES(t, true, "a \n<l> b", 'a', 259, ' ', 'b');
    ENCODES(t, true, "a <r> \n b", 'a', ' ', 260, 'b');
    ENCODES(t, true, "wo two wo", 261, ' ', 't', 'w', 'o', ' ', 261);
    ENCODES(t, true, "wo\xC3\xA9", 'w', 'o', 0xC3, 0xA9);
    ENCODES(t, true, "<|endoftext|", '<', '|', 'e', 'n', 'd', 'o', 'f', 't', 'e', 'x', 't', '|');
    char *text;
    size_t size;
    const int32_t ids[] = {'a', 256, 257};
    assert_int_equal(sgm_tokenizer_decode(t, ids, 3, false, &text, &size, NULL), SGM_OK);
    assert_string_equal(text, "a<x>");
    assert_int_equal(size, 4);
    sgm_free(text);
    assert_int_equal(sgm_tokenizer_decode(t, ids, 3, true, &text, &size, NULL), SGM_OK);
    assert_string_equal(text, "a<|endoftext|><x>");
    sgm_free(text);
    sgm_error error = {0};
    assert_int_equal(sgm_tokenizer_decode(t, (const int32_t[]){1, 262}, 2, true, &text, &size, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "262 at position 1"));
    sgm_tokenizer_close(t);
}

static void normal_form_c(void **state) {
    (void)state;
    const struct { /* from the Unicode standard: composition, reordering, exclusions, Hangul, a singleton */
        const char *in, *out;
    } cases[] = {{"e\xCC\x81", "\xC3\xA9"},
                 {"a\xCC\xA3\xCC\x82", "\xE1\xBA\xAD"},
                 {"a\xCC\x82\xCC\xA3", "\xE1\xBA\xAD"},
                 {"\xE1\xB8\x8B\xCC\xA3", "\xE1\xB8\x8D\xCC\x87"},
                 {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"},
                 {"\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"},
                 {"\xE2\x84\xAB", "\xC3\x85"},
                 {"x\xFF"
                  "e\xCC\x81\xCC",
                  "x\xFF\xC3\xA9\xCC"},
                 {"plain \xC3\xA9", "plain \xC3\xA9"}};
    sgm_tokenizer *t = made(&(recipe){.normalizer = "{\"type\":\"NFC\"}"});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t ids[64];
        size_t count, size;
        char *text;
        assert_int_equal(sgm_tokenizer_encode(t, cases[i].in, strlen(cases[i].in), true, ids, 64, &count, NULL), 0);
        assert_int_equal(sgm_tokenizer_decode(t, ids, count, true, &text, &size, NULL), SGM_OK);
        assert_string_equal(text, cases[i].out);
        sgm_free(text);
    }
    sgm_tokenizer_close(t);
}

static void any_bytes_come_back(void **state) {
    (void)state;
    static const char *const patterns[] = {"gpt2", "qwen", "llama3", "cl100k", "o200k", NULL};
    for (size_t p = 0; p < 6; p++) {
        sgm_tokenizer *t = trained(patterns[p], 600);
        comes_back(t, "", 0, true);
        comes_back(t, "\0\0 a\0", 5, true);
        comes_back(t, "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7 e\xCC\x81\r\n\t x \xEF\xBB\xBF", 24, true);
        for (int trial = 0; trial < 400; trial++) {
            char bytes[600];
            size_t size = 0;
            for (uint32_t i = 0, n = below(60); i < n; i++)
                if (trial % 2)
                    size += random_character(bytes + size);
                else
                    bytes[size++] = (char)below(256);
            comes_back(t, bytes, size, trial % 3 == 0);
        }
        sgm_tokenizer_close(t);
    }
    sgm_tokenizer *t;
    assert_int_equal(sgm_tokenizer_bytes(&t, NULL), SGM_OK);
    assert_int_equal(sgm_tokenizer_vocabulary(t), 257);
    assert_int_equal(sgm_tokenizer_end_of_text(t), 256);
    ENCODES(t, true, "h\xFF<|endoftext|>", 'h', 0xFF, 256);
    sgm_tokenizer_close(t);
}

static void too_little_room(void **state) {
    (void)state;
    sgm_tokenizer *t;
    assert_int_equal(sgm_tokenizer_bytes(&t, NULL), SGM_OK);
    int32_t ids[3] = {-7, -7, -7};
    size_t count;
    assert_int_equal(sgm_tokenizer_encode(t, "hello", 5, true, ids, 2, &count, NULL), SGM_ESPACE);
    assert_int_equal(count, 5);
    assert_int_equal(ids[1], 'e');
    assert_int_equal(ids[2], -7);
    assert_int_equal(sgm_tokenizer_encode(t, "hello", 5, true, NULL, 0, &count, NULL), SGM_ESPACE);
    assert_int_equal(count, 5);
    sgm_tokenizer_close(t);
}

/* ---- training ---- */

static void training_worked_by_hand(void **state) {
    (void)state;
    /* "low" 5 times, "lower" twice, "newest" 6 times, "widest" 3 times, each a text of its own, so without spaces.
     * es 9 and st 9: the tie goes to e (lower id); then est 9; lo 7 and ow 7: l < o, then low 7; then n+e 6, e+w 6 and
     * w+est 6: e; then n+ew 6 and ew+est 6: n, since ew is 260. */
    const char *texts[16] = {"lower", "lower", "widest", "widest", "widest"};
    size_t sizes[16] = {5, 5, 6, 6, 6};
    for (int i = 0; i < 5; i++) {
        texts[5 + i] = "low";
        sizes[5 + i] = 3;
    }
    for (int i = 0; i < 6; i++) {
        texts[10 + i] = "newest";
        sizes[10 + i] = 6;
    }
    sgm_tokenizer *t;
    sgm_tokenizer_training options = {.vocabulary = 256 + 6 + 1};
    assert_int_equal(sgm_tokenizer_train(&options, texts, sizes, 16, &t, NULL), SGM_OK);
    static const char *const want[] = {"es", "est", "lo", "low", "ew", "new", "<|endoftext|>"};
    for (int i = 0; i < 7; i++) {
        size_t size;
        const char *bytes = sgm_tokenizer_bytes_of(t, 256 + i, &size);
        assert_int_equal(size, strlen(want[i]));
        assert_memory_equal(bytes, want[i], size);
    }
    assert_int_equal(sgm_tokenizer_end_of_text(t), 262);
    ENCODES(t, true, "lowest", 259, 257);
    sgm_tokenizer_close(t);
    /* a run: aaaaaa -> aa twice over -> aaaa */
    const char *run[] = {"aaaaaaa<|s|>aa"};
    size_t run_size[] = {14};
    const char *specials[] = {"<|s|>"};
    options = (sgm_tokenizer_training){.vocabulary = 259, .specials = specials, .special_count = 1};
    assert_int_equal(sgm_tokenizer_train(&options, run, run_size, 1, &t, NULL), SGM_OK);
    ENCODES(t, true, "aaaa<|s|>a", 257, 258, 'a');
    sgm_tokenizer_close(t);
}

static void training_refuses(void **state) {
    (void)state;
    const char *texts[] = {"ab ab ab"};
    size_t sizes[] = {8};
    sgm_tokenizer *t;
    sgm_error error = {0};
    sgm_tokenizer_training options = {.vocabulary = 1000};
    assert_int_equal(sgm_tokenizer_train(&options, texts, sizes, 1, &t, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "gives only 259 tokens")); /* 256 bytes, ab, " ab", end of text */
    options.vocabulary = 256;
    assert_int_equal(sgm_tokenizer_train(&options, texts, sizes, 1, &t, &error), SGM_EARGUMENT);
    options = (sgm_tokenizer_training){.vocabulary = 258, .pattern = "gtp2"};
    assert_int_equal(sgm_tokenizer_train(&options, texts, sizes, 1, &t, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "gpt2"));
}

/* ---- threads ---- */

static void *encode_much(void *argument) {
    const sgm_tokenizer *t = argument;
    int32_t ids[64];
    size_t count, total = 0;
    for (int i = 0; i < 300; i++) {
        char text[64];
        int size = snprintf(text, sizeof text, "number %d is-the number, isn't it?", i);
        if (sgm_tokenizer_encode(t, text, (size_t)size, true, ids, 64, &count, NULL))
            return NULL;
        for (size_t k = 0; k < count; k++)
            total = total * 31 + (size_t)ids[k];
    }
    return (void *)total;
}

static void threads_share_a_tokenizer(void **state) {
    (void)state;
    char *json = json_of(&(recipe){.tokens = {"er", "is"},
                                   .merges = "[\"e r\",\"i s\"]",
                                   .pre_tokenizer = SPLIT("\\\\w+|\\\\W", "Isolated"),
                                   .normalizer = "{\"type\":\"NFC\"}"});
    sgm_tokenizer *t;
    assert_int_equal(sgm_tokenizer_parse(json, strlen(json), &t, NULL), SGM_OK);
    sgm_free(json);
    void *alone = encode_much(t), *together;
    assert_non_null(alone);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_much, t), 0);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], &together);
        assert_ptr_equal(together, alone);
    }
    sgm_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_alphabet_is_gpt2s),
        cmocka_unit_test(merges_go_by_rank_then_place),
        cmocka_unit_test(ignore_merges_takes_whole_words),
        cmocka_unit_test(short_and_long_words_follow_the_definition),
        cmocka_unit_test(a_long_run_is_not_quadratic),
        cmocka_unit_test(known_patterns_equal_pcre2),
        cmocka_unit_test(split_worked_by_hand),
        cmocka_unit_test(behaviours_of_split),
        cmocka_unit_test(hostile_patterns_end),
        cmocka_unit_test(added_tokens),
        cmocka_unit_test(normal_form_c),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(too_little_room),
        cmocka_unit_test(training_worked_by_hand),
        cmocka_unit_test(training_refuses),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
