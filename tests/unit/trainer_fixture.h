// SPDX-License-Identifier: Apache-2.0
/* Training runs in a folder of a test's own: text, configurations, starting, resuming, comparing checkpoints. */
#ifndef SGM_TESTS_TRAINER_FIXTURE_H
#define SGM_TESTS_TRAINER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/file.h"
#include "base/memory.h"
#include "train/trainer.h"

static char root[64];

/* Strings that live until the end of the program. */
static struct {
    char **items;
    size_t count;
} kept;

static inline char *keep(char *text) {
    kept.items = realloc(kept.items, (kept.count + 1) * sizeof *kept.items);
    assert_non_null(kept.items);
    return kept.items[kept.count++] = text;
}

static inline char *join(const char *folder, const char *name) {
    return keep(sgm_path_join(folder, name));
}

static inline char *path(const char *name) {
    return join(root, name);
}

static inline void remove_run(const char *name) {
    assert_int_equal(sgm_folder_remove(path(name), NULL), SGM_OK);
}

/* Two domains of sentences from a small grammar: enough structure for pico to learn. */
static inline void write_text(const char *name, uint32_t seed) {
    static const char *const words[] = {"the",  "old", "sea", "sleeps", "under", "a",
                                        "grey", "sky", "and", "winds",  "sing"};
    FILE *file = fopen(path(name), "w");
    assert_non_null(file);
    for (int sentence = 0; sentence < 700; sentence++) {
        for (int word = 0; word < 7; word++) {
            seed = seed * 1664525u + 1013904223u;
            fprintf(file, "%s ", words[(seed >> 24) % 11]);
        }
        fprintf(file, "at night.\n");
    }
    fclose(file);
}

static inline int setup(void **state) {
    (void)state;
    /* in memory where there is such a place: every checkpoint is fsynced */
    strcpy(root, access("/dev/shm", W_OK) == 0 ? "/dev/shm/sigmoe-trainer-XXXXXX" : "/tmp/sigmoe-trainer-XXXXXX");
    if (!mkdtemp(root))
        return -1;
    write_text("sea.txt", 1);
    write_text("land.txt", 2);
    return 0;
}

static inline int teardown(void **state) {
    (void)state;
    while (kept.count)
        sgm_free(kept.items[--kept.count]);
    free(kept.items);
    return sgm_folder_remove(root, NULL) == SGM_OK ? 0 : -1;
}

/* pico on reference kernels, a step of four short windows, with "key=value" settings on top: what most tests ask is answered
 * as well by little work, and the sanitizers make reference products thirty times as slow. */
static inline sgm_config *configure(const char *const *settings) {
    static const char *const always[] = {"train.kernels=ref",
                                         "train.steps=12",
                                         "train.eval_every=0",
                                         "train.checkpoint_every=4",
                                         "train.sample_tokens=8",
                                         "train.threads=2",
                                         "model.context=32",
                                         "data.tokens_per_step=128",
                                         "train.final_eval_tokens=500",
                                         NULL};
    sgm_config *config;
    sgm_error error = {0};
    assert_int_equal(sgm_config_new(&config, &error), SGM_OK);
    assert_int_equal(sgm_config_preset(config, "pico", &error), SGM_OK);
    for (int i = 0; i < 2; i++)
        for (const char *const *at = i ? settings : always; at && *at; at++) {
            char key[64] = {0};
            const char *equals = strchr(*at, '=');
            memcpy(key, *at, (size_t)(equals - *at));
            if (sgm_config_set(config, key, equals + 1, "test", &error))
                fail_msg("%s: %s", *at, error.message);
        }
    return config;
}

static char notes[8192];
static inline void take_note(void *context, const char *text) {
    (void)context;
    size_t used = strlen(notes);
    snprintf(notes + used, sizeof notes - used, "%s\n", text);
}
static const sgm_trainer_events events = {.note = take_note};

static inline sgm_trainer *start(const char *run, const char *const *settings) {
    const char *data[] = {path("sea.txt"), path("land.txt")};
    sgm_config *config = configure(settings);
    sgm_trainer *trainer;
    sgm_error error = {0};
    notes[0] = '\0';
    if (sgm_trainer_start(config, data, 2, path(run), &events, NULL, &trainer, &error))
        fail_msg("start: %s (%s)", error.message, error.hint);
    sgm_config_free(config);
    return trainer;
}

static inline sgm_trainer *resume(const char *run, int64_t steps) {
    sgm_trainer *trainer;
    sgm_error error = {0};
    notes[0] = '\0';
    if (sgm_trainer_resume(path(run), steps, 0, &events, &trainer, &error))
        fail_msg("resume: %s (%s)", error.message, error.hint);
    return trainer;
}

static inline void finish(sgm_trainer *trainer) {
    sgm_error error = {0};
    if (sgm_trainer_run(trainer, NULL, &error))
        fail_msg("run: %s (%s)", error.message, error.hint);
    sgm_trainer_close(trainer);
}

static inline void train(const char *run, const char *const *settings) {
    finish(start(run, settings));
}

static inline void same_file(const char *a, const char *b) {
    char *x, *y;
    size_t n, m;
    assert_int_equal(sgm_file_read(a, 1 << 26, &x, &n, NULL), SGM_OK);
    if (sgm_file_read(b, 1 << 26, &y, &m, NULL))
        fail_msg("%s is missing", b);
    if (n != m || memcmp(x, y, n) != 0)
        fail_msg("%s and %s differ", a, b);
    sgm_free(x);
    sgm_free(y);
}

/* Every file of a folder, and of its state/. */
static inline size_t same_folder(const char *a, const char *b) {
    char **names, **others;
    size_t count, other_count, files = 0;
    assert_int_equal(sgm_folder_list(a, &names, &count, NULL), SGM_OK);
    assert_int_equal(sgm_folder_list(b, &others, &other_count, NULL), SGM_OK);
    assert_int_equal(count, other_count);
    for (size_t i = 0; i < count; i++) {
        char *x = join(a, names[i]), *y = join(b, names[i]);
        if (sgm_path_is_folder(x)) {
            files += same_folder(x, y);
        } else {
            same_file(x, y);
            files++;
        }
    }
    sgm_free(names);
    sgm_free(others);
    return files;
}

static inline void same_checkpoint(const char *run_a, const char *run_b, int step) {
    char a[256], b[256];
    snprintf(a, sizeof a, "%s/checkpoints/step-%06d", path(run_a), step);
    snprintf(b, sizeof b, "%s/checkpoints/step-%06d", path(run_b), step);
    assert_true(same_folder(a, b) >= 6); /* config, weights, tokenizer, state, moments, checksums */
}

static inline double query(const char *run, const char *sql) {
    sqlite3 *db;
    sqlite3_stmt *statement;
    char *file = join(path(run), "run.sqlite");
    assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    double value = sqlite3_column_double(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
}

#endif
