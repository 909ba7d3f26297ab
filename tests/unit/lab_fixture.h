// SPDX-License-Identifier: Apache-2.0
/* Labs in a folder of a test's own: an experiment of two arms, running it, reading its results. */
#ifndef SGM_TESTS_LAB_FIXTURE_H
#define SGM_TESTS_LAB_FIXTURE_H

#include <jansson.h>

#include "lab/results.h"
#include "trainer_fixture.h"

static inline void write_file(const char *name, const char *text) {
    assert_int_equal(sgm_file_write(path(name), text, strlen(text), NULL), SGM_OK);
}

static const char two_arms[] =
    "name: two\n"
    "preset: pico\n"
    "steps: 12\n"
    "tokens_per_step: 128\n"
    "seeds: 2\n"
    "groups: 4\n"
    "set:\n"
    "  model: {context: 32}\n"
    "  train: {kernels: ref, threads: 2, eval_every: 4, eval_tokens: 500, final_eval_tokens: 500}\n"
    "arms:\n"
    "  - name: none\n"
    "    set: {balance: none}\n"
    "  - name: even\n"
    "    set:\n"
    "      balance: [{kind: load_balance_loss, coefficient: 0.1}]\n";

static volatile int stop_flag;
static int turns, stop_after, evals;
static sgm_lab_row last_rows[2]; /* of the first arms */

static inline void on_turn(void *context, const sgm_lab_row *rows, size_t count, double done) {
    (void)context;
    assert_true(count >= 1 && rows[0].seed >= 1 && done > 0 && done <= 1);
    for (size_t i = 0; i < count && i < 2; i++)
        last_rows[i] = rows[i];
    if (stop_after && ++turns == stop_after)
        __atomic_store_n(&stop_flag, 1, __ATOMIC_RELAXED); /* other jobs may be reading it */
}

static inline void on_eval(void *context, const sgm_lab_row *row) {
    (void)context;
    assert_true(row->bits_per_byte > 0 && row->step > 0);
    evals++;
}

static const sgm_lab_events lab_events = {.turn = on_turn, .eval = on_eval};

static inline sgm_status run_lab(const char *folder, const char *experiment, sgm_lab_options options,
                                 sgm_error *error) {
    const char *data[] = {path("sea.txt"), path("land.txt")};
    options.folder = path(folder);
    options.label = experiment;
    if (!options.data) {
        options.data = data;
        options.data_count = 2;
    }
    stop_flag = turns = 0;
    *error = (sgm_error){0};
    return sgm_lab_run(path(experiment), &options, &lab_events, &stop_flag, error);
}

/* Everything but what has to do with time. */
static inline void strip_times(json_t *value) {
    const char *key;
    json_t *item;
    void *next;
    size_t index;
    json_object_foreach_safe(value, next, key, item) {
        if (strstr(key, "second"))
            json_object_del(value, key);
        else
            strip_times(item);
    }
    json_array_foreach(value, index, item) strip_times(item);
}

static inline json_t *results(const char *folder) {
    json_error_t where;
    json_t *all = json_load_file(join(path(folder), "results.json"), 0, &where);
    if (!all)
        fail_msg("%s", where.text);
    strip_times(all);
    return all;
}

#endif
