// SPDX-License-Identifier: Apache-2.0
/* The base layer: errors, memory, the thread team, random numbers, files. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/system.h"
#include "base/team.h"

/* ---- a folder of our own for each test that writes ---- */

static int folder_setup(void **state) {
    char *path = strdup("/tmp/sigmoe-base-XXXXXX");
    *state = path;
    return path && mkdtemp(path) ? 0 : -1;
}

static int folder_teardown(void **state) {
    int failed = sgm_folder_remove(*state, NULL) != SGM_OK;
    free(*state);
    return failed;
}

static void assert_file(const char *path, const char *expected) {
    char *data;
    size_t size;
    assert_int_equal(sgm_file_read(path, 1 << 20, &data, &size, NULL), SGM_OK);
    assert_int_equal(size, strlen(expected));
    assert_string_equal(data, expected);
    sgm_free(data);
}

/* ---- errors ---- */

static void test_error_record(void **state) {
    (void)state;
    sgm_error error = {0};
    assert_int_equal(sgm_fail(&error, SGM_EIO, "do this", "cannot %s", "that"), SGM_EIO);
    assert_int_equal(error.code, -3);
    assert_string_equal(error.message, "cannot that");
    assert_string_equal(error.hint, "do this");
    /* the record's own text as an argument, and no hint */
    sgm_fail(&error, SGM_EFORMAT, NULL, "outer: %s", error.message);
    assert_string_equal(error.message, "outer: cannot that");
    assert_string_equal(error.hint, "");
    assert_int_equal(sgm_fail(NULL, SGM_EBUSY, NULL, "x"), SGM_EBUSY);
    /* what helps against a lack of memory needs no saying */
    sgm_fail(&error, SGM_EMEMORY, NULL, "not enough memory for that");
    assert_non_null(strstr(error.hint, "close other programs"));
    sgm_fail(&error, SGM_EMEMORY, "take less", "not enough memory for that");
    assert_string_equal(error.hint, "take less");
    assert_string_equal(sgm_status_text(SGM_OK), "done");
    assert_string_equal(sgm_status_text((sgm_status)-999), "unknown status");
}

static void test_error_cut_at_character(void **state) {
    (void)state;
    /* 767 bytes fit. A three-byte character that starts at 765 fits no more, one at 764 does. */
    char text[800];
    sgm_error error;
    for (int start = 762; start <= 768; start++) {
        memset(text, 'a', sizeof text);
        memcpy(text + start, "\xe2\x82\xac and more", 13);
        sgm_fail(&error, SGM_EIO, NULL, "%s", text);
        size_t expected = start <= 764 ? 767 : start <= 767 ? (size_t)start : 767;
        assert_int_equal(strlen(error.message), expected);
    }
}

/* ---- JSON ---- */

static int json_left;                            /* allocations until one fails; negative: none does */
static enum { ONCE, ALWAYS, SAYS_SO } json_then; /* it alone, all after it too, or none though errno says so of each */

static void *json_some_memory(size_t bytes) {
    if (json_then == SAYS_SO) {
        void *block = malloc(bytes);
        errno = json_left-- > 0 ? errno : ENOMEM;
        return block;
    }
    if (json_left == 0) {
        json_left = json_then == ALWAYS ? 0 : -1;
        errno = ENOMEM;
        return NULL;
    }
    json_left -= json_left > 0;
    return malloc(bytes);
}

static sgm_status json_read_with(int left, const char *text, json_t **root, sgm_error *error) {
    json_malloc_t before_malloc;
    json_free_t before_free;
    json_get_alloc_funcs(&before_malloc, &before_free);
    json_set_alloc_funcs(json_some_memory, free);
    json_left = left;
    *error = (sgm_error){0};
    sgm_status status = sgm_json_read(text, strlen(text), 0, "it", "mend it", root, error);
    json_set_alloc_funcs(before_malloc, before_free);
    return status;
}

/* Words of every length around those at which jansson's buffer grows, last and not last, and a longer text. */
static char *json_sample(int n) {
    static const char digits[] = "12345678901234567890";
    static const char *const forms[] = {"[%.*s]", "[0.%.*s, 1]", "[%.*se5]", "[\"%.*s\", 1]", "{\"%.*s\": \"%.*s\"}"};
    static const int lengths[] = {11, 12, 13, 14, 15, 16, 17};
    const int kinds = sizeof forms / sizeof *forms, lines = sizeof lengths / sizeof *lengths;
    char word[80] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    if (n < kinds * lines) {
        const char *form = forms[n / lines];
        return sgm_format(form, lengths[n % lines], n / lines < 3 ? digits : word, lengths[n % lines], word);
    }
    n -= kinds * lines;
    if (n < 8)
        return sgm_format("[\"%.*s\", 1, {\"%.*s\\n\": true}]", 27 + n, word, 57 + n, word);
    return n > 8 ? NULL
                 : sgm_strdup("{\"a word of many letters, past any first buffer\": [1234567890, true, null, "
                              "0.1234567890123456789012345678901234567890e-12, \"another \\u00e9 of more letters\"], "
                              "\"more\": {\"b\": [[], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]}}");
}

/* Whichever allocation fails, the file is not blamed for it and no value comes back that lacks something. */
static void json_without_memory_is_no_damage(void **state) {
    (void)state;
    sgm_error error;
    char *text;
    int samples = 0;
    for (; (text = json_sample(samples)); samples++) {
        json_t *whole, *root;
        json_then = ONCE;
        assert_int_equal(json_read_with(-1, text, &whole, &error), SGM_OK);
        json_t *plain = json_loads(text, 0, NULL);
        assert_true(json_equal(whole, plain));
        json_decref(plain);
        for (int then = ONCE; then <= ALWAYS; then++) {
            sgm_status status = SGM_EMEMORY;
            int refused = 0;
            json_then = then == ONCE ? ONCE : ALWAYS;
            for (; (status = json_read_with(refused, text, &root, &error)); refused++) {
                assert_int_equal(status, SGM_EMEMORY);
                assert_null(root);
                assert_string_equal(error.message, "not enough memory to read it");
                assert_true(*error.hint);
            }
            assert_true(refused > 5 && json_equal(root, whole));
            json_decref(root);
        }
        json_decref(whole);
        sgm_free(text);
    }
    assert_int_equal(samples, 5 * 7 + 8 + 1);
}

/* A malloc that first asks the system in vain sets errno and succeeds: from there on, that is no failure. */
static void json_of_a_malloc_that_only_complains(void **state) {
    (void)state;
    sgm_error error;
    json_t *root;
    json_then = SAYS_SO;
    assert_int_equal(json_read_with(8, "{\"a\": [1, 2, {\"b\": 3.5}], \"c\": \"d\"}", &root, &error), SGM_OK);
    assert_int_equal(json_array_size(json_object_get(root, "a")), 3);
    json_decref(root);
}

static void json_damage_has_a_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"{\"a\":\n tru}", "it: this is not JSON: line 2, column 4 (byte 10): invalid token near 'tru'"},
        {"{\"a\": [1, 2", "it: this is not JSON: it ends too early"},
        {"{\"a\": \"b", "it: this is not JSON: it ends too early"},
        {"", "it: this is not JSON: it ends too early"},
        {"17", "it: this is not JSON: it is not one list or one object"},
        {"{}, {}", "it: this is not JSON: it is not one list or one object"},
        {"{} {}", "it: this is not JSON: line 1, column 4 (byte 4): ']' expected near '{'"},
        {"{}]", "it: this is not JSON: it closes more than it opens"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sgm_error error = {0};
        json_t *root;
        assert_int_equal(sgm_json_read(bad[i].text, strlen(bad[i].text), 0, "it", "mend it", &root, &error),
                         SGM_EFORMAT);
        assert_null(root);
        assert_string_equal(error.message, bad[i].message);
        assert_string_equal(error.hint, "mend it");
    }
    sgm_error error = {0};
    json_t *root;
    assert_int_equal(sgm_json_read("{\"a\": 1, \"a\": 2}", 16, JSON_REJECT_DUPLICATES, "it", NULL, &root, &error),
                     SGM_EFORMAT);
    assert_int_equal(sgm_json_read("{\"a\": 1, \"a\": 2}", 16, 0, "it", NULL, &root, &error), SGM_OK);
    json_decref(root);
}

/* ---- memory ---- */

static void test_memory(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, (1u << 22) - 1, 1u << 22, 5u << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t before = sgm_alloc_count();
        unsigned char *block = sgm_alloc(sizes[i]);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % SGM_ALIGN, 0);
        assert_int_equal(sgm_alloc_count(), before + 1);
        for (size_t j = 0; j < sizes[i]; j++)
            if (block[j])
                fail_msg("byte %zu of %zu is not zero", j, sizes[i]);
        memset(block, 7, sizes[i]);
        block = sgm_resize(block, sizes[i], sizes[i] + 100);
        assert_non_null(block);
        for (size_t j = 0; j < sizes[i] + 100; j++)
            if (block[j] != (j < sizes[i] ? 7 : 0))
                fail_msg("byte %zu after growing from %zu is wrong", j, sizes[i]);
        sgm_free(block);
    }
    assert_null(sgm_alloc(SIZE_MAX));
    assert_null(sgm_alloc(SIZE_MAX - 100));
    assert_null(sgm_alloc(SIZE_MAX / 2));
    sgm_error error;
    assert_true(sgm_memory_available() > 0);
    assert_int_equal(sgm_memory_check(1, "a byte", &error), SGM_OK);
    assert_int_equal(sgm_memory_check(UINT64_MAX - 1, "the whole world", &error), SGM_EMEMORY);
    assert_non_null(strstr(error.message, "the whole world"));
}

static void test_buffer(void **state) {
    (void)state;
    sgm_buffer buffer = {0};
    for (int i = 0; i < 1000; i++)
        assert_int_equal(sgm_buffer_print(&buffer, "%03d", i), SGM_OK);
    assert_int_equal(sgm_buffer_add(&buffer, "end", 3), SGM_OK);
    assert_int_equal(buffer.size, 3003);
    assert_memory_equal(buffer.data, "000001002", 9);
    assert_string_equal(buffer.data + 2997, "999end");
    sgm_buffer_free(&buffer);
    char *text = sgm_format("%d-%s", 5, "x");
    assert_string_equal(text, "5-x");
    sgm_free(text);
}

/* ---- the team ---- */

enum { TASKS = 500, ROUNDS = 2000 };

typedef struct team_case {
    atomic_int taken[TASKS];
    int64_t shared[ROUNDS + 1]; /* plain memory: the barrier must make it visible */
    atomic_int wrong;
    atomic_int runs;
} team_case;

static void team_work(sgm_worker *worker, void *argument) {
    team_case *c = argument;
    atomic_fetch_add(&c->runs, 1);
    for (int64_t i; (i = sgm_task(worker)) < TASKS;)
        atomic_fetch_add(&c->taken[i], 1);
    sgm_barrier(worker);
    for (int64_t i; (i = sgm_task(worker)) < TASKS;) /* numbers start again */
        atomic_fetch_add(&c->taken[i], 1);
    sgm_barrier(worker);
    for (int round = 0; round < ROUNDS; round++) {
        if (round % worker->threads == worker->thread)
            c->shared[round + 1] = c->shared[round] + round;
        sgm_barrier(worker);
        if (c->shared[round + 1] != (int64_t)round * (round + 1) / 2)
            atomic_fetch_add(&c->wrong, 1);
    }
}

static void test_team(void **state) {
    (void)state;
    static const int sizes[] = {1, 2, 3, 7};
    for (int s = 0; s < 4; s++) {
        sgm_team *team;
        assert_int_equal(sgm_team_new(sizes[s], &team, NULL), SGM_OK);
        assert_int_equal(sgm_team_threads(team), sizes[s]);
        for (int repeat = 1; repeat <= 3; repeat++) {
            static team_case c;
            memset(&c, 0, sizeof c);
            uint64_t before = sgm_alloc_count();
            sgm_team_run(team, team_work, &c);
            assert_int_equal(sgm_alloc_count(), before);
            assert_int_equal(c.runs, sizes[s]);
            assert_int_equal(c.wrong, 0);
            for (int i = 0; i < TASKS; i++)
                assert_int_equal(c.taken[i], 2);
        }
        sgm_team_free(team);
    }
    sgm_error error;
    sgm_team *team;
    assert_int_equal(sgm_team_new(0, &team, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_team_new(1 << 20, &team, &error), SGM_EARGUMENT);
    sgm_team_free(NULL);
}

static void test_team_idle_free(void **state) {
    (void)state;
    for (int i = 0; i < 50; i++) { /* made and freed without work: no lost wake-up */
        sgm_team *team;
        assert_int_equal(sgm_team_new(1 + i % 5, &team, NULL), SGM_OK);
        sgm_team_free(team);
    }
}

static void test_split(void **state) {
    (void)state;
    for (int threads = 1; threads <= 7; threads++)
        for (int64_t n = 0; n < 70; n++)
            for (int64_t grain = 1; grain <= 16; grain += 5) {
                int64_t next = 0;
                for (int t = 0; t < threads; t++) {
                    int64_t begin, end;
                    sgm_worker worker = {.thread = t, .threads = threads};
                    sgm_split(&worker, n, grain, &begin, &end);
                    assert_int_equal(begin, next);
                    assert_true(end >= begin && (end == n || end % grain == 0));
                    next = end;
                }
                assert_int_equal(next, n);
            }
}

/* ---- random numbers ---- */

/* Known answers of philox4x32-10 from Random123's published kat_vectors. Our block number is words 0 and 1, the stream
 * words 2 and 3, the seed the key. */
static void test_rng_known_answers(void **state) {
    (void)state;
    sgm_rng zero = sgm_rng_at(0, 0, 0);
    assert_int_equal(sgm_rng_u32(&zero), 0x6627e8d5u);
    assert_int_equal(sgm_rng_u32(&zero), 0xe169c58du);
    assert_int_equal(sgm_rng_u32(&zero), 0xbc57ac4cu);
    assert_int_equal(sgm_rng_u32(&zero), 0x9b00dbd8u);
    assert_int_equal(zero.counter, 4);
    sgm_rng again = sgm_rng_at(0, 0, 2);
    assert_int_equal(sgm_rng_u32(&again), 0xbc57ac4cu);
    again = sgm_rng_at(0, 0, 0);
    double expected = (double)(0x6627e8d5e169c58du >> 11) / 9007199254740992.0;
    assert_true(sgm_rng_uniform(&again) == expected);
    assert_int_equal(again.counter, 2);
    again = sgm_rng_at(0, 0, 0);
    assert_int_equal(sgm_rng_below(&again, 1000), 399); /* 0x6627e8d5… / 2^64 = 0.39904… */

    /* Counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0 gives d16cfe09 94fdcceb 5001e420 24126ea1;
     * its block number has the top bit set, so it is the block of a pair of normal deviates. */
    uint64_t stream = 0x0370734413198a2eu, seed = 0x299f31d0a4093822u, index = 0x05a308d3243f6a88u * 2;
    double u = ((double)(0xd16cfe0994fdccebu >> 11) + 1) * 0x1p-53, v = (double)(0x5001e42024126ea1u >> 11) * 0x1p-53;
    double radius = sqrt(-2 * log(u)), angle = 2 * acos(-1.0) * v;
    assert_true(fabs(sgm_rng_normal_at(seed, stream, index) - radius * cos(angle)) < 1e-14);
    assert_true(fabs(sgm_rng_normal_at(seed, stream, index + 1) - radius * sin(angle)) < 1e-14);
    /* all ones: 408f276d 41c83b0e a20bc7c6 6d5451fd */
    u = ((double)(0x408f276d41c83b0eu >> 11) + 1) * 0x1p-53, v = (double)(0xa20bc7c66d5451fdu >> 11) * 0x1p-53;
    radius = sqrt(-2 * log(u)), angle = 2 * acos(-1.0) * v;
    assert_true(fabs(sgm_rng_normal_at(UINT64_MAX, UINT64_MAX, UINT64_MAX - 1) - radius * cos(angle)) < 1e-14);
}

static void test_rng_runs_of_normals(void **state) {
    (void)state;
    double run[9];
    for (uint64_t first = 0; first < 3; first++)
        for (size_t count = 0; count <= 9; count++) {
            for (size_t i = 0; i < 9; i++)
                run[i] = 77;
            sgm_rng_normals(11, 12, first, count, run);
            for (size_t i = 0; i < 9; i++)
                assert_true(run[i] == (i < count ? sgm_rng_normal_at(11, 12, first + i) : 77));
        }
}

static void test_rng_any_position(void **state) {
    (void)state;
    /* Uniforms from odd positions straddle blocks: they must equal the two draws they are made of. */
    for (uint64_t counter = 0; counter < 9; counter++) {
        sgm_rng a = sgm_rng_at(5, 6, counter), b = a;
        uint64_t high = sgm_rng_u32(&a), low = sgm_rng_u32(&a);
        assert_true(sgm_rng_uniform(&b) == (double)((high << 32 | low) >> 11) * 0x1p-53);
        assert_int_equal(a.counter, b.counter);
    }
    sgm_rng rng = sgm_rng_at(1, 2, 3);
    for (int i = 0; i < 1000; i++) {
        assert_true(sgm_rng_below(&rng, 7) < 7);
        assert_int_equal(sgm_rng_below(&rng, 1), 0);
        assert_true(sgm_rng_below(&rng, UINT64_MAX) < UINT64_MAX);
    }
}

static void test_rng_moments(void **state) {
    (void)state;
    enum { N = 100000 };
    double sum[5] = {0}, uniform = 0;
    sgm_rng rng = sgm_rng_at(42, sgm_rng_stream("moments", 0), 0);
    for (uint64_t i = 0; i < N; i++) {
        double x = sgm_rng_normal_at(42, 7, i), p = 1;
        for (int k = 0; k < 5; k++, p *= x)
            sum[k] += p;
        uniform += sgm_rng_uniform(&rng);
    }
    /* Four standard errors of the mean, variance, third and fourth moment of N(0, 1), and of a uniform mean. */
    double root = sqrt(N);
    assert_true(fabs(sum[1] / N) < 4 / root);
    assert_true(fabs(sum[2] / N - 1) < 4 * sqrt(2) / root);
    assert_true(fabs(sum[3] / N) < 4 * sqrt(15) / root);
    assert_true(fabs(sum[4] / N - 3) < 4 * sqrt(96) / root);
    assert_true(fabs(uniform / N - 0.5) < 4 * sqrt(1.0 / 12) / root);
    assert_true(sgm_rng_stream("a", 0) != sgm_rng_stream("a", 1));
    assert_true(sgm_rng_stream("a", 0) != sgm_rng_stream("b", 0));
}

/* ---- files ---- */

static void test_file_write_read(void **state) {
    char *path = sgm_path_join(*state, "file"), *missing = sgm_path_join(*state, "no/file");
    sgm_error error;
    char *data;
    size_t size;
    assert_int_equal(sgm_file_write(path, "first", 5, &error), SGM_OK);
    assert_file(path, "first");
    assert_int_equal(sgm_file_read(path, 5, &data, &size, &error), SGM_OK);
    sgm_free(data);
    assert_int_equal(sgm_file_read(path, 4, &data, &size, &error), SGM_EFORMAT);
    assert_int_equal(sgm_file_read(missing, 4, &data, &size, &error), SGM_ENOTFOUND);
    assert_int_equal(sgm_file_read(*state, 4, &data, &size, &error), SGM_EARGUMENT);

    /* Nobody will ever write into this pipe: it is refused, not waited for. Devices have no end. */
    char *pipe = sgm_path_join(*state, "pipe");
    sgm_mapping none;
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(sgm_file_read(pipe, 4, &data, &size, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "not a regular file"));
    assert_int_equal(sgm_map_open(pipe, &none, &error), SGM_EFORMAT);
    assert_int_equal(sgm_file_read("/dev/zero", 4, &data, &size, &error), SGM_EFORMAT);
    assert_int_equal(unlink(pipe), 0);
    sgm_free(pipe);
    assert_int_equal(sgm_file_write(missing, "x", 1, &error), SGM_EIO); /* no input is missing */
    assert_non_null(strstr(error.message, missing));
    assert_int_equal(sgm_file_write(*state, "x", 1, &error), SGM_EARGUMENT);
    assert_int_equal(sgm_file_write("", "x", 1, &error), SGM_EARGUMENT);

    /* A rename would replace what is no file: a device, a pipe, a link. */
    struct stat special;
    char *other = sgm_path_join(*state, "other");
    assert_int_equal(mkfifo(other, 0600), 0);
    assert_int_equal(sgm_file_write(other, "x", 1, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "not a regular file"));
    assert_true(error.hint[0]);
    assert_true(lstat(other, &special) == 0 && S_ISFIFO(special.st_mode));
    assert_int_equal(unlink(other), 0);
    assert_int_equal(symlink(path, other), 0);
    assert_int_equal(sgm_file_write(other, "x", 1, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "a link"));
    assert_true(lstat(other, &special) == 0 && S_ISLNK(special.st_mode));
    assert_int_equal(unlink(other), 0);
    sgm_free(other);
    assert_file(path, "first");

    /* Until the commit the old file stands; large and small pieces keep their order. */
    sgm_writer *writer;
    assert_int_equal(sgm_writer_open(path, &writer, &error), SGM_OK);
    size_t large = 300000;
    char *block = malloc(large);
    memset(block, 'b', large);
    assert_int_equal(sgm_writer_add(writer, "a", 1, &error), SGM_OK);
    assert_int_equal(sgm_writer_add(writer, block, large, &error), SGM_OK);
    assert_int_equal(sgm_writer_add(writer, "c", 1, &error), SGM_OK);
    assert_int_equal(sgm_writer_position(writer), large + 2);
    assert_file(path, "first");
    assert_int_equal(sgm_writer_commit(writer, &error), SGM_OK);
    sgm_mapping mapping;
    assert_int_equal(sgm_map_open(path, &mapping, &error), SGM_OK);
    assert_int_equal(mapping.size, large + 2);
    sgm_map_cached(mapping.data + 5000, large - 10000); /* any part, and it may be asked for again */
    sgm_map_cached(mapping.data, mapping.size);
    sgm_map_cached(mapping.data, 0);
    assert_int_equal(mapping.data[0], 'a');
    assert_memory_equal(mapping.data + 1, block, large);
    assert_int_equal(mapping.data[large + 1], 'c');
    sgm_map_close(&mapping);
    free(block);

    assert_int_equal(sgm_writer_open(path, &writer, &error), SGM_OK);
    sgm_writer_abandon(writer);
    sgm_writer_abandon(NULL);
    char **names;
    size_t count;
    assert_int_equal(sgm_folder_list(*state, &names, &count, &error), SGM_OK);
    assert_int_equal(count, 1); /* no partial file is left */
    sgm_free(names);

    assert_int_equal(sgm_file_write(path, "", 0, &error), SGM_OK);
    assert_int_equal(sgm_map_open(path, &mapping, &error), SGM_OK);
    assert_int_equal(mapping.size, 0);
    assert_non_null(mapping.data);
    sgm_map_close(&mapping);
    assert_int_equal(sgm_map_open(missing, &mapping, &error), SGM_ENOTFOUND);
    assert_int_equal(sgm_map_open(*state, &mapping, &error), SGM_EARGUMENT);
    sgm_free(path);
    sgm_free(missing);
}

/* Write 8 MiB over `path` in pieces and check that the failure is told once and sticks. */
static void write_too_much(const char *path, const char *reason) {
    static char piece[1 << 16];
    sgm_writer *writer;
    sgm_error error = {0};
    sgm_status status = sgm_writer_open(path, &writer, &error);
    assert_int_equal(status, SGM_OK);
    for (int i = 0; i < 128 && !status; i++)
        status = sgm_writer_add(writer, piece, sizeof piece, &error);
    assert_int_equal(status, SGM_EIO);
    assert_non_null(strstr(error.message, path));
    assert_non_null(strstr(error.message, reason));
    assert_true(error.hint[0]);
    assert_int_equal(sgm_writer_add(writer, "x", 1, &error), SGM_EIO);
    assert_int_equal(sgm_writer_commit(writer, &error), SGM_EIO);
}

static void assert_old_file_alone(const char *folder, const char *path) {
    char **names;
    size_t count;
    assert_file(path, "old");
    assert_int_equal(sgm_folder_list(folder, &names, &count, NULL), SGM_OK);
    assert_int_equal(count, 1);
    sgm_free(names);
}

static void test_file_limit(void **state) {
    char *path = sgm_path_join(*state, "file");
    assert_int_equal(sgm_file_write(path, "old", 3, NULL), SGM_OK);
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 1 << 20;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    write_too_much(path, "larger than");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_old_file_alone(*state, path);
    sgm_free(path);
}

static void test_file_disk_full(void **state) {
    sgm_error error;
    assert_int_equal(sgm_fail_errno(&error, ENOSPC, "write", "/x/y"), SGM_EIO);
    assert_string_equal(error.message, "cannot write /x/y: the disk is full");
    if (mount("tmpfs", *state, "tmpfs", 0, "size=1m") < 0)
        return; /* needs root; test_file_limit walks the same path */
    char *path = sgm_path_join(*state, "file");
    assert_int_equal(sgm_file_write(path, "old", 3, NULL), SGM_OK);
    uint64_t space = sgm_disk_free(*state);
    assert_true(space > 900000 && space <= 1 << 20);
    write_too_much(path, "the disk is full");
    assert_old_file_alone(*state, path);
    sgm_free(path);
}

/* Also after a failed assertion the small disk must go. */
static int disk_teardown(void **state) {
    umount(*state);
    return folder_teardown(state);
}

static void test_folders(void **state) {
    sgm_error error;
    char *deep = sgm_path_join(*state, "a//b/c/"), *file = sgm_path_join(*state, "a/b/file");
    char *a = sgm_path_join(*state, "a"), *z = sgm_path_join(*state, "z"), *link = sgm_path_join(*state, "link");
    assert_int_equal(sgm_folder_make(deep, &error), SGM_OK);
    assert_int_equal(sgm_folder_make(deep, &error), SGM_OK);
    assert_true(sgm_path_is_folder(deep));
    assert_int_equal(sgm_file_write(file, "x", 1, &error), SGM_OK);
    char *under = sgm_path_join(file, "d");
    assert_int_equal(sgm_folder_make(file, &error), SGM_EEXISTS);
    assert_int_equal(sgm_folder_make(under, &error), SGM_EEXISTS);
    assert_int_equal(sgm_folder_make("", &error), SGM_EARGUMENT);

    assert_int_equal(sgm_folder_make(z, &error), SGM_OK);
    assert_int_equal(sgm_folder_rename(a, z, &error), SGM_EEXISTS); /* even an empty folder is in the way */
    assert_int_equal(sgm_link_replace("a", link, &error), SGM_OK);
    assert_int_equal(sgm_link_replace("z", link, &error), SGM_OK);
    char target[16] = "";
    assert_int_equal(readlink(link, target, sizeof target - 1), 1);
    assert_string_equal(target, "z");
    char **names;
    size_t count;
    assert_int_equal(sgm_folder_list(*state, &names, &count, &error), SGM_OK);
    assert_int_equal(count, 3);
    assert_string_equal(names[0], "a");
    assert_string_equal(names[1], "link");
    assert_string_equal(names[2], "z");
    sgm_free(names);
    assert_int_equal(sgm_folder_list(file, &names, &count, &error), SGM_ENOTFOUND);

    assert_int_equal(sgm_folder_remove(z, &error), SGM_OK);
    assert_true(sgm_path_exists(link)); /* dangling */
    assert_int_equal(sgm_folder_rename(a, z, &error), SGM_OK);
    assert_false(sgm_path_exists(a));
    assert_int_equal(sgm_folder_remove(link, &error), SGM_EARGUMENT); /* a link is not followed */
    assert_int_equal(sgm_folder_remove(z, &error), SGM_OK);
    assert_int_equal(sgm_folder_remove(z, &error), SGM_OK);
    assert_int_equal(sgm_folder_rename(a, z, &error), SGM_ENOTFOUND);
    assert_true(sgm_disk_free(*state) > 0);
    assert_int_equal(sgm_disk_free(z), 0);
    assert_int_equal(sgm_disk_check(under, 1, &error), SGM_OK); /* of what is not there, the disk it would be on */
    assert_int_equal(sgm_disk_check("not there", 1, &error), SGM_OK);
    assert_int_equal(sgm_disk_check(under, UINT64_MAX, &error), SGM_EIO);
    assert_non_null(strstr(error.message, "not enough room on the disk"));
    assert_true(*error.hint);
    char *joined[] = {deep, file, a, z, link, under};
    for (size_t i = 0; i < sizeof joined / sizeof *joined; i++)
        sgm_free(joined[i]);
}

static void test_lock(void **state) {
    char *path = sgm_path_join(*state, "lock");
    sgm_lock *lock, *other;
    sgm_error error;
    assert_int_equal(sgm_lock_take(path, &lock, &error), SGM_OK);
    assert_int_equal(sgm_lock_take(path, &other, &error), SGM_EBUSY);
    char number[32];
    snprintf(number, sizeof number, "process %ld", (long)getpid());
    assert_non_null(strstr(error.message, number));
    sgm_lock_drop(lock);
    /* A process that dies with the lock leaves it free. */
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        if (sgm_lock_take(path, &lock, NULL) || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(sgm_lock_take(path, &other, &error), SGM_EBUSY);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(sgm_lock_take(path, &other, &error), SGM_OK);
    sgm_lock_drop(other);
    sgm_lock_drop(NULL);
    close(ready[0]);
    close(ready[1]);
    sgm_free(path);
}

/* XXH3's published value of the empty input with seed 0, and that pieces make the whole. */
/* Read in blocks: the same as of the whole, on either side of a block's end. */
static void test_file_checksum(void **state) {
    enum { MOST = (1 << 21) + 1 };
    static unsigned char bytes[MOST];
    for (size_t i = 0; i < MOST; i++)
        bytes[i] = (unsigned char)(i * 31 + i / 7);
    const size_t sizes[] = {0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, MOST};
    char *file = sgm_path_join(*state, "summed"), *absent = sgm_path_join(*state, "absent");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t checksum, size;
        assert_int_equal(sgm_file_write(file, bytes, sizes[i], NULL), SGM_OK);
        assert_int_equal(sgm_file_checksum(file, &checksum, &size, NULL), SGM_OK);
        assert_int_equal(size, sizes[i]);
        assert_true(checksum == sgm_checksum(bytes, sizes[i]));
    }
    sgm_reader *reader;
    sgm_error error;
    unsigned char some[100];
    assert_int_equal(sgm_reader_open(file, &reader, NULL), SGM_OK);
    assert_int_equal(sgm_reader_size(reader), MOST);
    assert_int_equal(sgm_reader_at(reader, MOST - 100, some, 100, NULL), SGM_OK);
    assert_memory_equal(some, bytes + MOST - 100, 100);
    assert_int_equal(sgm_reader_at(reader, MOST - 99, some, 100, &error), SGM_EFORMAT);
    sgm_reader_close(reader);
    assert_int_equal(sgm_file_checksum(absent, &(uint64_t){0}, &(uint64_t){0}, NULL), SGM_ENOTFOUND);
    sgm_free(file);
    sgm_free(absent);
}

static void test_checksum(void **state) {
    (void)state;
    assert_true(sgm_checksum("", 0) == 0x2d06800538d394c2u);
    static unsigned char bytes[10000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 31 + i / 7);
    sgm_checksum_state *sum = sgm_checksum_new();
    assert_non_null(sum);
    sgm_checksum_add(sum, NULL, 0);
    for (size_t i = 0, n = 1; i < sizeof bytes; i += n, n = n * 2 < sizeof bytes - i ? n * 2 : sizeof bytes - i) {
        sgm_checksum_add(sum, bytes + i, n);
        if (i + n >= sizeof bytes)
            break;
    }
    uint64_t whole = sgm_checksum(bytes, sizeof bytes);
    assert_true(sgm_checksum_end(sum) == whole);
    bytes[5000] ^= 1;
    assert_true(sgm_checksum(bytes, sizeof bytes) != whole);
}

/* A limit on addresses counts as one on memory. */
static void a_limited_address_space_is_seen(void **state) {
    (void)state;
    const uint64_t room = 512u << 20;
    struct rlimit before, limit;
    uint64_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file)
        skip();
    assert_int_equal(fscanf(file, "%" SCNu64, &pages), 1);
    fclose(file);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limit = before;
    limit.rlim_cur = pages * (uint64_t)sysconf(_SC_PAGESIZE) + room;
    const rlim_t wanted = limit.rlim_cur;
    if (wanted > before.rlim_max || setrlimit(RLIMIT_AS, &limit) != 0)
        skip();
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur != wanted) /* an emulator does not limit itself */
        skip();
    uint64_t left = sgm_memory_available();
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_true(left <= room && left > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limited_address_space_is_seen),
        cmocka_unit_test(test_error_record),
        cmocka_unit_test(test_error_cut_at_character),
        cmocka_unit_test(json_without_memory_is_no_damage),
        cmocka_unit_test(json_of_a_malloc_that_only_complains),
        cmocka_unit_test(json_damage_has_a_place),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_team),
        cmocka_unit_test(test_team_idle_free),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_rng_known_answers),
        cmocka_unit_test(test_rng_runs_of_normals),
        cmocka_unit_test(test_rng_any_position),
        cmocka_unit_test(test_rng_moments),
        cmocka_unit_test_setup_teardown(test_file_write_read, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(test_file_limit, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(test_file_disk_full, folder_setup, disk_teardown),
        cmocka_unit_test_setup_teardown(test_folders, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(test_lock, folder_setup, folder_teardown),
        cmocka_unit_test(test_checksum),
        cmocka_unit_test_setup_teardown(test_file_checksum, folder_setup, folder_teardown),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
