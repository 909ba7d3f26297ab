// SPDX-License-Identifier: Apache-2.0
/* Data folders: sources, splitting, the build, shards, and what damage to them says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "data/documents.h"
#include "data/shard.h"
#include "sigmoe/config.h"

static char root[64];

static int make_root(void **state) {
    (void)state;
    strcpy(root, "/tmp/sgm-data-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state) {
    (void)state;
    return sgm_folder_remove(root, NULL);
}

/* A path below the root; a few may be alive at once. */
static const char *at(const char *name) {
    static char paths[8][256];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static void put(const char *name, const char *text, size_t size) {
    char folder[256];
    snprintf(folder, sizeof folder, "%s", at(name));
    *strrchr(folder, '/') = '\0';
    assert_int_equal(sgm_folder_make(folder, NULL), SGM_OK);
    assert_int_equal(sgm_file_write(at(name), text, size, NULL), SGM_OK);
}

static void put_text(const char *name, const char *text) {
    put(name, text, strlen(text));
}

/* ---- text ---- */

static void utf8_is_counted(void **state) {
    (void)state;
    assert_int_equal(sgm_utf8_invalid("plain", 5), 0);
    assert_int_equal(sgm_utf8_invalid("\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80", 9), 0);
    assert_int_equal(sgm_utf8_invalid("a\xFF\xFE z", 5), 2);
    assert_int_equal(sgm_utf8_invalid("\xC0\x80", 2), 2);         /* overlong */
    assert_int_equal(sgm_utf8_invalid("\xED\xA0\x80", 3), 3);     /* a surrogate */
    assert_int_equal(sgm_utf8_invalid("\xF4\x90\x80\x80", 4), 4); /* past U+10FFFF */
    assert_int_equal(sgm_utf8_invalid("\xE4\xB8", 2), 2);         /* cut off */
}

static void cuts_fall_on_lines_and_characters(void **state) {
    (void)state;
    assert_int_equal(sgm_text_cut("one\ntwo\nthree", 13, 10), 8);
    assert_int_equal(sgm_text_cut("short", 5, 10), 5);
    assert_int_equal(sgm_text_cut("abcdefgh", 8, 3), 3);
    assert_int_equal(sgm_text_cut("ab\xE4\xB8\xAD", 5, 4), 2);
    assert_int_equal(sgm_text_cut("\x80\x80\x80\x80\x80\x80\x80\x80", 8, 6), 6); /* not text at all: still moves on */
}

/* ---- sources ---- */

static void path_becomes_domains(void **state) {
    (void)state;
    sgm_data_source *sources;
    size_t found;
    put_text("set/prose/a.txt", "x");
    put_text("set/prose/b.txt", "x");
    put_text("set/my file.v2.txt", "x");
    const char *set = at("set");
    assert_int_equal(sgm_data_sources_from_path(&set, 1, &sources, &found, NULL), SGM_OK);
    assert_int_equal(found, 2);
    assert_string_equal(sources[0].domain, "my_file.v2");
    assert_string_equal(sources[1].domain, "prose");
    assert_null(sources[1].licence);
    sgm_data_sources_free(sources, found);

    put_text("shipped/README.md", "not corpus");
    put_text("shipped/corpus/prose/a.txt", "x");
    put_text("shipped/corpus/code/b.c", "x");
    put_text("shipped/licences/a.txt", "CC0-1.0\n\nlong text");
    const char *shipped = at("shipped");
    assert_int_equal(sgm_data_sources_from_path(&shipped, 1, &sources, &found, NULL), SGM_OK);
    assert_int_equal(found, 2);
    assert_string_equal(sources[0].domain, "code");
    assert_null(sources[0].licence);
    assert_string_equal(sources[1].licence, "CC0-1.0");
    assert_null(sources[1].package);
    sgm_data_sources_free(sources, found);

    /* The record of a fetched recipe names packages; what is no such record, or says nothing whole, is passed over. */
    const struct {
        const char *record, *version;
    } records[] = {
        {"{\"format\": \"sigmoe-recipe\", \"packages\": [7, {\"domain\": \"code\", \"package\": \"a\"}, {\"domain\": "
         "\"prose\","
         " \"package\": \"a\", \"version\": \"1.0-2\", \"sha256\": \"5af\"}]}",
         "1.0-2"},
        {"{\"format\": \"sigmoe-recipe\", \"packages\": [{\"domain\": \"prose\", \"package\": \"a\", \"version\": 1}]}",
         NULL},
        {"{\"format\": \"of another\", \"packages\": [{\"domain\": \"prose\", \"package\": \"a\", \"version\": \"1\","
         " \"sha256\": \"5af\"}]}",
         NULL},
        {"{\"format\": \"sigmoe-recipe\", \"packages\": \"none\"}", NULL},
        {"[\"cut", NULL},
    };
    for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
        put_text("shipped/recipe.json", records[i].record);
        assert_int_equal(sgm_data_sources_from_path(&shipped, 1, &sources, &found, NULL), SGM_OK);
        assert_null(sources[0].package);
        if (records[i].version) {
            assert_string_equal(sources[1].package, "a");
            assert_string_equal(sources[1].version, records[i].version);
            assert_string_equal(sources[1].sha256, "5af");
        } else {
            assert_null(sources[1].package);
        }
        sgm_data_sources_free(sources, found);
    }

    sgm_error error;
    const char *none = at("absent");
    assert_int_equal(sgm_data_sources_from_path(&none, 1, &sources, &found, &error), SGM_ENOTFOUND);
    assert_non_null(strstr(error.message, "absent"));
    assert_int_equal(sgm_folder_make(at("bare"), NULL), SGM_OK);
    none = at("bare");
    assert_int_equal(sgm_data_sources_from_path(&none, 1, &sources, &found, &error), SGM_EARGUMENT);
}

static void the_shipped_corpus_is_read(void **state) {
    (void)state;
    sgm_data_source *sources;
    size_t found;
    const char *path = SGM_SOURCE_DIR "/data";
    assert_int_equal(sgm_data_sources_from_path(&path, 1, &sources, &found, NULL), SGM_OK);
    assert_true(found >= 5);
    for (size_t i = 0; i < found; i++)
        assert_non_null(sources[i].licence); /* each file has its licence beside it */
    sgm_data_sources_free(sources, found);
}

typedef struct seen_list {
    char text[8][64];
    int count;
} seen_list;

static sgm_status see_file(void *context, const char *path, const char *text, size_t size, sgm_error *error) {
    (void)context, (void)path, (void)text, (void)size, (void)error;
    return SGM_OK;
}

static sgm_status see_document(void *context, const char *text, size_t size, sgm_error *error) {
    seen_list *seen = context;
    (void)error;
    snprintf(seen->text[seen->count++], 64, "%.*s", (int)size, text);
    return SGM_OK;
}

static void separators_part_documents(void **state) {
    (void)state;
    put_text("split.txt",
             "<|endoftext|>\none\n<|endoftext|>\r\n \n<|endoftext|>\ntwo <|endoftext|>\nmore\n<|endoftext|>");
    seen_list seen = {.count = 0};
    sgm_source_visitor visitor = {&seen, see_file, see_document};
    sgm_data_source source = {.domain = "d", .path = at("split.txt"), .separator = "<|endoftext|>"};
    assert_int_equal(sgm_source_visit(&source, &visitor, NULL), SGM_OK);
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.text[0], "one\n");
    assert_string_equal(seen.text[1], "two <|endoftext|>\nmore\n");
    source.separator = NULL;
    seen.count = 0;
    assert_int_equal(sgm_source_visit(&source, &visitor, NULL), SGM_OK);
    assert_int_equal(seen.count, 1);
}

/* ---- shards ---- */

static void write_shard(const char *path) {
    static const int32_t first[] = {5, 6, 7, 256}, second[] = {8, 256}, third[] = {9, 10, 256};
    sgm_shard_writer *writer;
    assert_int_equal(sgm_shard_create(path, "prose", SGM_HELDOUT, 257, &writer, NULL), SGM_OK);
    assert_int_equal(sgm_shard_add(writer, first, 4, 3, NULL), SGM_OK);
    assert_int_equal(sgm_shard_add(writer, second, 2, 1, NULL), SGM_OK);
    assert_int_equal(sgm_shard_add(writer, third, 3, 20, NULL), SGM_OK);
    assert_int_equal(sgm_shard_commit(writer, NULL, NULL), SGM_OK);
}

static void shard_comes_back(void **state) {
    (void)state;
    sgm_shard shard;
    write_shard(at("a.sgmd"));
    assert_int_equal(sgm_shard_open(at("a.sgmd"), &shard, NULL), SGM_OK);
    assert_string_equal(shard.domain, "prose");
    assert_int_equal(shard.split, SGM_HELDOUT);
    assert_int_equal(shard.vocabulary, 257);
    assert_int_equal(shard.documents, 3);
    assert_int_equal(shard.tokens, 9);
    assert_int_equal(shard.bytes, 24);
    int64_t count, bytes;
    const int32_t *tokens = sgm_shard_document(&shard, 2, &count, &bytes);
    assert_int_equal(count, 3);
    assert_int_equal(bytes, 20);
    assert_int_equal(tokens[0], 9);
    assert_int_equal(tokens[2], 256);
    tokens = sgm_shard_document(&shard, 0, &count, &bytes);
    assert_int_equal(count, 4);
    assert_int_equal(tokens[3], 256);
    sgm_shard_close(&shard);
}

/* Every single bit of the file matters, and every length short of the whole is noticed. */
static void damage_is_noticed(void **state) {
    (void)state;
    char *bytes;
    size_t size;
    write_shard(at("b.sgmd"));
    assert_int_equal(sgm_file_read(at("b.sgmd"), 1 << 20, &bytes, &size, NULL), SGM_OK);
    unsigned char *copy = sgm_alloc(size);
    sgm_shard shard;
    sgm_error error;
    for (size_t bit = 0; bit < 8 * size; bit++) {
        memcpy(copy, bytes, size);
        copy[bit / 8] ^= (unsigned char)(1u << bit % 8);
        sgm_status status = sgm_shard_parse(copy, size, "b.sgmd", &shard, &error);
        assert_true(status == SGM_EFORMAT || status == SGM_EUNSUPPORTED);
        assert_non_null(strstr(error.message, "b.sgmd"));
        assert_true(error.hint[0]);
    }
    memcpy(copy, bytes, size);
    for (size_t length = 0; length < size; length++)
        assert_int_equal(sgm_shard_parse(copy, length, "b.sgmd", &shard, NULL), SGM_EFORMAT);
    assert_int_equal(sgm_shard_parse(copy, size, "b.sgmd", &shard, NULL), SGM_OK);
    sgm_free(copy);
    sgm_free(bytes);
}

/* A right checksum does not excuse values that readers would index with. */
static void forged_values_are_refused(void **state) {
    (void)state;
    char *bytes;
    size_t size;
    write_shard(at("c.sgmd"));
    assert_int_equal(sgm_file_read(at("c.sgmd"), 1 << 20, &bytes, &size, NULL), SGM_OK);
    static const struct {
        size_t from_end; /* 0: from the start */
        size_t offset;
        uint64_t value;
    } forged[] = {{0, 24, 0},          {0, 24, 100}, {0, 32, 2},  {48, 0, 2},   {48, 8, UINT64_MAX / 2},
                  {48, 0, UINT64_MAX}, {96, 0, 0},   {96, 0, 99}, {96, 8, 1000}};
    sgm_shard shard;
    for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
        unsigned char *copy = sgm_alloc(size);
        memcpy(copy, bytes, size);
        memcpy(copy + (forged[i].from_end ? size - forged[i].from_end : 0) + forged[i].offset, &forged[i].value, 8);
        uint64_t sum = sgm_checksum(copy, size - 16);
        memcpy(copy + size - 16, &sum, 8);
        assert_int_equal(sgm_shard_parse(copy, size, "c.sgmd", &shard, NULL), SGM_EFORMAT);
        sgm_free(copy);
    }
    sgm_free(bytes);
}

/* ---- building ---- */

static void make_corpus(void) {
    char text[64000], *end = text;
    for (int d = 0; d < 200; d++) {
        end += sprintf(end, "Document %d\n", d);
        for (int line = 0; line < 4; line++)
            end += sprintf(end, "line %d of document %d has its own words\n", line, d);
        end += sprintf(end, "<|endoftext|>\n");
    }
    put_text("in/prose/numbers.txt", text);
    put_text("in/code/a.c", "int main(void) {\n    return 0; /* nothing */\n}\n");
    put_text("in/code/b.c", "int main(void) {\n    return 0; /* nothing */\n}\n"); /* the same again */
    put_text("in/code/c.c", "void f(void) {\n    return 0; /* nothing */\n}\n\xFF\n");
}

static sgm_status build_with(const char *in, const char *out, int64_t vocabulary, sgm_error *error) {
    sgm_data_source *sources;
    size_t found;
    sgm_status status = sgm_data_sources_from_path(&in, 1, &sources, &found, error);
    if (status != SGM_OK)
        return status;
    sgm_data_build_options options = {
        .sources = sources, .source_count = found, .vocabulary = vocabulary, .heldout_share = 0.1, .deduplicate = true};
    status = sgm_data_build(&options, out, error);
    sgm_data_sources_free(sources, found);
    return status;
}

static sgm_status build(const char *in, const char *out, sgm_error *error) {
    return build_with(in, out, 300, error);
}

static char *document_text(const sgm_corpus *corpus, const sgm_tokenizer *tokenizer, sgm_corpus_split split,
                           size_t domain, int64_t document) {
    int64_t count, bytes;
    const int32_t *tokens = sgm_corpus_document(corpus, split, domain, document, &count, &bytes);
    char *text;
    size_t size;
    assert_int_equal(tokens[count - 1], sgm_tokenizer_end_of_text(tokenizer));
    assert_int_equal(sgm_tokenizer_decode(tokenizer, tokens, (size_t)count - 1, true, &text, &size, NULL), SGM_OK);
    assert_int_equal(size, bytes);
    return text;
}

static void build_keeps_every_document_once(void **state) {
    (void)state;
    sgm_corpus *corpus;
    sgm_tokenizer *tokenizer;
    make_corpus();
    sgm_error error = {0};
    assert_int_equal(build(at("in"), at("out"), &error), SGM_OK);
    assert_int_equal(sgm_corpus_open(at("out"), &corpus, &error), SGM_OK);
    assert_int_equal(sgm_tokenizer_open(sgm_corpus_tokenizer_path(corpus), &tokenizer, NULL), SGM_OK);
    assert_int_equal(sgm_corpus_domains(corpus), 2);
    assert_string_equal(sgm_corpus_domain(corpus, 0), "code");
    assert_string_equal(sgm_corpus_domain(corpus, 1), "prose");
    int held = (int)sgm_corpus_documents(corpus, SGM_HELDOUT, 1), seen[200] = {0};
    assert_in_range(held, 5, 45); /* 20 expected of 200 */
    for (int s = 0; s < 2; s++)
        for (int64_t i = 0; i < sgm_corpus_documents(corpus, (sgm_corpus_split)s, 1); i++) {
            char *text = document_text(corpus, tokenizer, (sgm_corpus_split)s, 1, i);
            int number = -1;
            assert_int_equal(sscanf(text, "Document %d\n", &number), 1);
            assert_in_range(number, 0, 199);
            seen[number]++;
            sgm_text_free(text);
        }
    for (int d = 0; d < 200; d++)
        assert_int_equal(seen[d], 1); /* in one split, once: held-out and train are disjoint */
    /* Of the code, b.c is a repeated document and c.c has lost the line that a.c had. */
    assert_int_equal(sgm_corpus_documents(corpus, SGM_TRAIN, 0) + sgm_corpus_documents(corpus, SGM_HELDOUT, 0), 2);
    char *manifest;
    size_t size;
    assert_int_equal(sgm_file_read(at("out/manifest.json"), 1 << 20, &manifest, &size, NULL), SGM_OK);
    assert_non_null(strstr(manifest, "\"repeated_documents\": 1"));
    assert_non_null(strstr(manifest, "\"repeated_lines\": 1"));
    assert_non_null(strstr(manifest, "\"invalid_utf8_bytes\": 1"));
    sgm_free(manifest);
    sgm_tokenizer_close(tokenizer);

    /* The same text elsewhere gives the same folder. */
    uint64_t hash = sgm_corpus_hash(corpus);
    sgm_corpus_close(corpus);
    assert_int_equal(build(at("in"), at("again"), &error), SGM_OK);
    assert_int_equal(sgm_corpus_open(at("again"), &corpus, &error), SGM_OK);
    assert_true(sgm_corpus_hash(corpus) == hash);
    sgm_corpus_close(corpus);
    assert_false(sgm_path_exists(at("out.building")));
}

/* Raises its flag when the build comes to a stage, so far. */
typedef struct stage {
    const char *what;
    double share;
    volatile int stop;
} stage;

static void raise_at(void *context, const char *what, double share) {
    stage *at = context;
    at->stop |= strcmp(what, at->what) == 0 && share >= at->share;
}

/* Stopped while reading, in the middle of the merges, and before encoding: an error, and nothing is left. */
static void a_build_can_be_stopped(void **state) {
    (void)state;
    make_corpus();
    stage stages[] = {{"reading", 0, 0}, {"training the tokenizer", 0.5, 0}, {"training the tokenizer", 1, 0}};
    const char *in = at("in");
    sgm_data_source *sources;
    size_t found;
    assert_int_equal(sgm_data_sources_from_path(&in, 1, &sources, &found, NULL), SGM_OK);
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        sgm_data_build_options options = {.sources = sources,
                                          .source_count = found,
                                          .vocabulary = 280,
                                          .progress = raise_at,
                                          .context = &stages[i],
                                          .stop = &stages[i].stop};
        sgm_error error = {0};
        assert_int_equal(sgm_data_build(&options, at("stopped"), &error), SGM_EINTERRUPTED);
        assert_non_null(strstr(error.message, "interrupted"));
        assert_false(sgm_path_exists(at("stopped")));
        assert_false(sgm_path_exists(at("stopped.building")));
    }
    sgm_data_sources_free(sources, found);
}

static void one_book_is_cut(void **state) {
    (void)state;
    char text[9000], *end = text;
    for (int line = 0; line < 200; line++)
        end += sprintf(end, "line number %d of the only book\n", line);
    put_text("book.txt", text);
    sgm_data_source *sources;
    size_t found;
    const char *path = at("book.txt");
    assert_int_equal(sgm_data_sources_from_path(&path, 1, &sources, &found, NULL), SGM_OK);
    sgm_data_build_options options = {.sources = sources,
                                      .source_count = found,
                                      .vocabulary = 260,
                                      .heldout_share = 0.1,
                                      .document_limit_bytes = 1000};
    assert_int_equal(sgm_data_build(&options, at("book"), NULL), SGM_OK);
    sgm_data_sources_free(sources, found);
    sgm_corpus *corpus;
    assert_int_equal(sgm_corpus_open(at("book"), &corpus, NULL), SGM_OK);
    int64_t train = sgm_corpus_bytes(corpus, SGM_TRAIN, 0), held = sgm_corpus_bytes(corpus, SGM_HELDOUT, 0);
    assert_int_equal(train + held, end - text);
    assert_in_range(held, 600, 800);
    assert_in_range(sgm_corpus_documents(corpus, SGM_TRAIN, 0), 6, 8);
    sgm_corpus_close(corpus);
}

static void build_with_copies(const char *in, const char *out, double share) {
    sgm_data_source *sources;
    size_t found;
    assert_int_equal(sgm_data_sources_from_path(&in, 1, &sources, &found, NULL), SGM_OK);
    sgm_data_build_options options = {
        .sources = sources, .source_count = found, .vocabulary = 257, .heldout_share = share};
    assert_int_equal(sgm_data_build(&options, out, NULL), SGM_OK);
    sgm_data_sources_free(sources, found);
}

/* Threads of this process; 0 where no file says so. */
static int64_t threads_now(void) {
    char **names;
    size_t threads;
    if (sgm_folder_list("/proc/self/task", &names, &threads, NULL))
        return 0;
    sgm_free(names);
    return (int64_t)threads;
}

/* The most that were seen while text was encoded. */
static void count_threads(void *context, const char *what, double share) {
    int64_t *most = context, now = strcmp(what, "encoding") == 0 ? threads_now() : 0;
    (void)share;
    *most = now > *most ? now : *most;
}

static void as_many_threads_encode_as_are_asked_for(void **state) {
    (void)state;
    make_corpus();
    const char *in = at("in");
    sgm_data_source *sources;
    size_t found, size[2];
    char *bytes[2];
    assert_int_equal(sgm_data_sources_from_path(&in, 1, &sources, &found, NULL), SGM_OK);
    for (int i = 0; i < 2; i++) {
        const char *out = i ? "threads-3" : "threads-1",
                   *shard = at(i ? "threads-3/train-prose-0000.sgmd" : "threads-1/train-prose-0000.sgmd");
        int64_t before = threads_now(), most = 0;
        sgm_data_build_options options = {.sources = sources,
                                          .source_count = found,
                                          .vocabulary = 300,
                                          .threads = i ? 3 : 1,
                                          .progress = count_threads,
                                          .context = &most};
        assert_int_equal(sgm_data_build(&options, at(out), NULL), SGM_OK);
        assert_int_equal(most, before ? before - 1 + options.threads : 0);
        assert_int_equal(sgm_file_read(shard, 1 << 20, &bytes[i], &size[i], NULL), SGM_OK);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    sgm_free(bytes[0]);
    sgm_free(bytes[1]);
    sgm_data_build_options none = {.sources = sources, .source_count = found, .vocabulary = 300, .threads = -1};
    assert_int_equal(sgm_data_build(&none, at("threads-none"), NULL), SGM_EARGUMENT);
    assert_false(sgm_path_exists(at("threads-none")));
    sgm_data_sources_free(sources, found);
}

/* No held-out document of any domain is part of one that is trained on; every domain has something to train on. */
static int64_t held_out_apart(const char *folder) {
    sgm_corpus *corpus;
    assert_int_equal(sgm_corpus_open(folder, &corpus, NULL), SGM_OK);
    int64_t held = 0, size, other;
    for (size_t d = 0; d < sgm_corpus_domains(corpus); d++) {
        assert_true(sgm_corpus_documents(corpus, SGM_TRAIN, d) > 0);
        for (int64_t i = 0; i < sgm_corpus_documents(corpus, SGM_HELDOUT, d); i++) {
            const int32_t *document = sgm_corpus_document(corpus, SGM_HELDOUT, d, i, &size, NULL);
            held++;
            for (size_t e = 0; e < sgm_corpus_domains(corpus); e++)
                for (int64_t j = 0; j < sgm_corpus_documents(corpus, SGM_TRAIN, e); j++) {
                    const int32_t *train = sgm_corpus_document(corpus, SGM_TRAIN, e, j, &other, NULL);
                    for (int64_t k = 0; k + size <= other; k++)
                        assert_true(memcmp(train + k, document, (size_t)size * sizeof *train) != 0);
                }
        }
    }
    sgm_corpus_close(corpus);
    return held;
}

/* Without de-duplication: whatever way something is held out, no copy of it is left to train on. */
static void copies_share_a_split(void **state) {
    (void)state;
    static char text[40000];
    for (int kind = 0; kind < 2;
         kind++) { /* many small documents, one large one; each three times and in two domains */
        char *end = text, name[32];
        for (int d = 0; d < 3 * (kind ? 1 : 7); d++) {
            for (int line = 0; line < (kind ? 200 : 2); line++)
                end += sprintf(end, "line %d of document %d\n", line, kind ? 0 : d % 7);
            end += sprintf(end, "<|endoftext|>\n");
        }
        put_text("copies/one/a.txt", text);
        put_text("copies/two/a.txt", text);
        snprintf(name, sizeof name, "copied%d", kind);
        build_with_copies(at("copies"), at(name), 0.05);
        assert_true(held_out_apart(at(name)) > 0);
    }
}

/* A domain whose only text was held out gets it back, and then it is trained on wherever it stands: alone in another
 * domain ("two"), beside other text ("three"). Half of the texts are held out at first, so eight of each kind show it. */
static void copies_are_taken_back_together(void **state) {
    (void)state;
    static char text[20000];
    int64_t held = 0;
    for (int kind = 0; kind < 16; kind++) {
        char *end = text, in[32], out[32], name[64];
        for (int line = 0; line < (kind % 2 ? 300 : 2); line++)
            end += sprintf(end, "line %d of text %d\n", line, kind);
        snprintf(in, sizeof in, "same%d", kind);
        snprintf(out, sizeof out, "apart%d", kind);
        for (int domain = 0; domain < (kind < 8 ? 2 : 3); domain++) {
            static const char *const domains[] = {"one", "two", "three"};
            snprintf(name, sizeof name, "%s/%s/a.txt", in, domains[domain]);
            put_text(name, text);
        }
        snprintf(name, sizeof name, "%s/three/b.txt", in);
        if (kind >= 8)
            put_text(name, "the third domain has more than one text\n");
        build_with_copies(at(in), at(out), 0.5);
        held += held_out_apart(at(out));
    }
    assert_true(held > 0);
}

/* NFC writes a musical half note (4 bytes) as two characters (8 bytes): more tokens than the text has bytes. */
static void normalising_may_lengthen(void **state) {
    (void)state;
    char text[1601], *json, *changed;
    for (int i = 0; i < 400; i++)
        memcpy(text + 4 * i, "\xF0\x9D\x85\x9E", 5);
    put_text("notes/a.txt", text);
    sgm_tokenizer *bytes;
    size_t size;
    assert_int_equal(sgm_tokenizer_bytes(&bytes, NULL), SGM_OK);
    assert_int_equal(sgm_tokenizer_save(bytes, at("nfc"), NULL), SGM_OK);
    sgm_tokenizer_close(bytes);
    assert_int_equal(sgm_file_read(at("nfc/tokenizer.json"), 1 << 20, &json, &size, NULL), SGM_OK);
    char *none = strstr(json, "\"normalizer\""), *end = none ? strstr(none, "null") : NULL;
    assert_non_null(end);
    changed = sgm_format("%.*s\"normalizer\": {\"type\": \"NFC\"}%s", (int)(none - json), json, end + 4);
    put_text("nfc/tokenizer.json", changed);
    sgm_free(json);
    sgm_free(changed);
    sgm_data_source source = {.domain = "notes", .path = at("notes/a.txt")};
    sgm_data_build_options options = {.sources = &source, .source_count = 1, .tokenizer_path = at("nfc")};
    sgm_error error = {0};
    if (sgm_data_build(&options, at("scored"), &error))
        fail_msg("%s", error.message);
    sgm_corpus *corpus;
    assert_int_equal(sgm_corpus_open(at("scored"), &corpus, NULL), SGM_OK);
    assert_int_equal(sgm_corpus_tokens(corpus, SGM_TRAIN, 0), 2 * 1600 + 1);
    assert_int_equal(sgm_corpus_bytes(corpus, SGM_TRAIN, 0), 1600);
    sgm_corpus_close(corpus);
}

static void bad_input_is_explained(void **state) {
    (void)state;
    sgm_error error;
    put_text("empty/a.txt", " \n\n");
    assert_int_equal(build(at("empty"), at("e"), &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "empty"));
    put("binary/a.txt", "text\0more", 9);
    assert_int_equal(build(at("binary"), at("e"), &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "a.txt"));
    assert_true(error.hint[0]);
    assert_false(sgm_path_exists(at("e")));
    assert_false(sgm_path_exists(at("e.building")));
    put_text("full/a.txt", "x");
    put_text("small/a.txt", "some text\n");
    assert_int_equal(build(at("small"), at("full"), &error), SGM_EEXISTS);
    sgm_corpus *corpus;
    assert_int_equal(sgm_corpus_open(at("nowhere"), &corpus, &error), SGM_ENOTFOUND);
    assert_int_equal(sgm_corpus_open(at("small"), &corpus, &error), SGM_ENOTFOUND);
}

/* FOLDER.building may be another build's that goes on, a dead one's, or somebody's own. */
static void unfinished_work_is_told_from_others(void **state) {
    (void)state;
    sgm_error error = {0};
    put_text("words/a.txt", "a few words of text to build from\n");
    put_text("busy.building/spool", "of the build that goes on");
    sgm_lock *lock;
    assert_int_equal(sgm_lock_take(at("busy.building/.unfinished"), &lock, &error), SGM_OK);
    assert_int_equal(build_with(at("words"), at("busy"), 257, &error), SGM_EBUSY);
    assert_true(error.hint[0]);
    assert_true(sgm_path_exists(at("busy.building/spool")));
    sgm_lock_drop(lock);
    assert_int_equal(build_with(at("words"), at("busy"), 257, &error), SGM_OK); /* now it is a dead one's */
    assert_false(sgm_path_exists(at("busy.building")));
    assert_false(sgm_path_exists(at("busy/.unfinished")));
    assert_false(sgm_path_exists(at("busy/spool")));

    put_text("own.building/house.txt", "plans of a house");
    assert_int_equal(build_with(at("words"), at("own"), 257, &error), SGM_EEXISTS);
    assert_non_null(strstr(error.message, "own.building"));
    assert_true(error.hint[0]);
    assert_true(sgm_path_exists(at("own.building/house.txt")));
    assert_false(sgm_path_exists(at("own.building/.unfinished")));
}

static void damaged_folder_is_explained(void **state) {
    (void)state;
    sgm_error error;
    sgm_corpus *corpus;
    put_text("tiny/a/x.txt", "a few words of text to build from\n");
    assert_int_equal(build_with(at("tiny"), at("d"), 257, &error), SGM_OK);
    assert_int_equal(sgm_corpus_open(at("d"), &corpus, &error), SGM_OK);
    sgm_corpus_close(corpus);
    char *bytes;
    size_t size;
    const char *shard = at("d/train-a-0000.sgmd");
    assert_int_equal(sgm_file_read(shard, 1 << 20, &bytes, &size, NULL), SGM_OK);
    assert_int_equal(truncate(shard, (off_t)size - 1), 0);
    assert_int_equal(sgm_corpus_open(at("d"), &corpus, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "train-a-0000.sgmd"));
    assert_non_null(strstr(error.hint, "sigmoe data build"));
    write_shard(at("d/train-a-0000.sgmd")); /* a good shard of other data */
    assert_int_equal(sgm_corpus_open(at("d"), &corpus, &error), SGM_EFORMAT);
    assert_int_equal(unlink(at("d/train-a-0000.sgmd")), 0);
    assert_int_equal(sgm_corpus_open(at("d"), &corpus, &error), SGM_ENOTFOUND);
    assert_int_equal(sgm_file_write(at("d/train-a-0000.sgmd"), bytes, size, NULL), SGM_OK);
    sgm_free(bytes);
    assert_int_equal(sgm_corpus_open(at("d"), &corpus, &error), SGM_OK);
    sgm_corpus_close(corpus);
    put_text("d/tokenizer/tokenizer.json", "{}");
    assert_int_equal(sgm_corpus_open(at("d"), &corpus, &error), SGM_EFORMAT);
    put_text("d/manifest.json", "{\"format\": \"sigmoe-data\", ");
    assert_int_equal(sgm_corpus_open(at("d"), &corpus, &error), SGM_EFORMAT);
    put_text("d/manifest.json", "{\"format\": \"sigmoe-data\", \"version\": 2}");
    assert_int_equal(sgm_corpus_open(at("d"), &corpus, &error), SGM_EUNSUPPORTED);
}

/* A manifest that was edited is believed in nothing that its shards can contradict. */
static void an_edited_manifest_is_refused(void **state) {
    (void)state;
    sgm_error error;
    sgm_corpus *corpus;
    char *text, *edited;
    size_t size;
    put_text("few/a/x.txt", "a few words of text to build from\n<|endoftext|>\nand some more of them\n");
    put_text("few/b/x.txt", "other words\n<|endoftext|>\nthat nobody reads\n");
    assert_int_equal(build_with(at("few"), at("edited"), 257, &error), SGM_OK);
    assert_int_equal(sgm_file_read(at("edited/manifest.json"), 1 << 20, &text, &size, NULL), SGM_OK);
    static const char *const numbers[] = {"documents", "tokens", "bytes", "file_bytes"};
    int edits = 0;
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) {
        char *key = sgm_format("\"%s\": ", numbers[n]);
        const char *end = strstr(text, "\"domains\": ["); /* what sources had has no second record */
        for (const char *found = strstr(end, key); found; found = strstr(found + 1, key)) {
            const char *value = found + strlen(key);
            edited = sgm_format("%.*s1%s", (int)(value - text), text, value); /* a digit more */
            put_text("edited/manifest.json", edited);
            error = (sgm_error){0};
            assert_int_equal(sgm_corpus_open(at("edited"), &corpus, &error), SGM_EFORMAT);
            assert_null(corpus);
            assert_true(*error.hint);
            sgm_free(edited);
            edits++;
        }
        sgm_free(key);
    }
    assert_int_equal(edits, 3 * 4 + 4 * 4); /* two domains and two splits; four shards */
    put_text("edited/manifest.json", text);
    assert_int_equal(sgm_corpus_open(at("edited"), &corpus, &error), SGM_OK);
    sgm_corpus_close(corpus);
    static const char *const rest[] = {"heldout_share", "document_limit_bytes", "repeated_lines", "end_of_text"};
    for (size_t n = 0; n < sizeof rest / sizeof *rest; n++) {
        char *key = sgm_format("\"%s\": ", rest[n]), *value = strstr(text, key) + strlen(key);
        edited = sgm_format("%.*s1e308%s", (int)(value - text), text, value + strcspn(value, ",\n"));
        put_text("edited/manifest.json", edited);
        assert_int_equal(sgm_corpus_open(at("edited"), &corpus, &error), SGM_EFORMAT);
        assert_non_null(strstr(error.message, rest[n]));
        sgm_free(edited);
        sgm_free(key);
    }
    char *share = strstr(text, "\"heldout_share\": ");
    edited = sgm_format("%.*s\"heldout_share\": null%s", (int)(share - text), text, share + strcspn(share, ",\n"));
    put_text("edited/manifest.json", edited);
    assert_int_equal(sgm_corpus_open(at("edited"), &corpus, &error), SGM_EFORMAT);
    sgm_free(edited);
    /* A shard that is left out, whole. */
    char *shards = strstr(text, "\"shards\": ["), *first = strstr(shards, "{"), *second = strstr(first + 1, "{");
    edited = sgm_format("%.*s%s", (int)(first - text), text, second);
    put_text("edited/manifest.json", edited);
    assert_int_equal(sgm_corpus_open(at("edited"), &corpus, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "of its shards"));
    sgm_free(edited);
    sgm_free(text);
}

static int json_left; /* jansson's allocations until one fails */
static void *json_some_memory(size_t bytes) {
    if (json_left-- > 0)
        return malloc(bytes);
    json_left = INT_MAX;
    errno = ENOMEM;
    return NULL;
}

/* Without memory for its manifest a data folder is not damaged. */
static void a_manifest_without_memory_is_no_damage(void **state) {
    (void)state;
    sgm_corpus *corpus;
    json_malloc_t before_malloc;
    json_free_t before_free;
    put_text("lean/a/x.txt", "a few words of text to build from\n");
    assert_int_equal(build_with(at("lean"), at("lean-data"), 257, &(sgm_error){0}), SGM_OK);
    json_get_alloc_funcs(&before_malloc, &before_free);
    sgm_status status = SGM_EMEMORY;
    int refused = 0;
    for (; status; refused++) {
        sgm_error error = {0};
        json_set_alloc_funcs(json_some_memory, free);
        json_left = refused;
        status = sgm_corpus_open(at("lean-data"), &corpus, &error);
        json_set_alloc_funcs(before_malloc, before_free);
        assert_true(status == SGM_OK || (status == SGM_EMEMORY && *error.hint));
    }
    assert_true(refused > 100);
    sgm_corpus_close(corpus);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_is_counted),
        cmocka_unit_test(cuts_fall_on_lines_and_characters),
        cmocka_unit_test(path_becomes_domains),
        cmocka_unit_test(the_shipped_corpus_is_read),
        cmocka_unit_test(separators_part_documents),
        cmocka_unit_test(shard_comes_back),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(forged_values_are_refused),
        cmocka_unit_test(build_keeps_every_document_once),
        cmocka_unit_test(a_build_can_be_stopped),
        cmocka_unit_test(as_many_threads_encode_as_are_asked_for),
        cmocka_unit_test(one_book_is_cut),
        cmocka_unit_test(copies_share_a_split),
        cmocka_unit_test(copies_are_taken_back_together),
        cmocka_unit_test(normalising_may_lengthen),
        cmocka_unit_test(bad_input_is_explained),
        cmocka_unit_test(unfinished_work_is_told_from_others),
        cmocka_unit_test(damaged_folder_is_explained),
        cmocka_unit_test(an_edited_manifest_is_refused),
        cmocka_unit_test(a_manifest_without_memory_is_no_damage),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
