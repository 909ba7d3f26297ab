// SPDX-License-Identifier: Apache-2.0
/* Training runs: the loss falls, the bytes do not depend on threads, micro-batches or interruptions, a step allocates
 * nothing, and what can go wrong (NaN, a full disk, damage, a second process) loses nothing. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/model_folder.h"
#include "trainer_fixture.h"

/* ---- every allocation of the process, not only ours ---- */
static atomic_long allocations;
#if !defined(__SANITIZE_ADDRESS__) && defined(__GLIBC__)
#define COUNTS_MALLOC 1
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
void *malloc(size_t size) {
    allocations++;
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    allocations++;
    return __libc_calloc(count, size);
}
void *realloc(void *block, size_t size) {
    allocations++;
    return __libc_realloc(block, size);
}
#endif

/* ---- tests ---- */

/* Enough rows for several tiles a thread. */
#define LARGER_STEPS "model.context=64", "data.tokens_per_step=256"

/* The numbers in the blobs of domain_load, each times `weight` of its place n. */
#define DOMAIN_LOAD(weight)                                                                                            \
    "WITH RECURSIVE i(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < 31), b(step, layer, domain, n, v) AS "   \
    "(SELECT step, layer, domain, n, (16 * (instr('0123456789ABCDEF', substr(hex(counts), 2 * n + 1, 1)) - 1) + "      \
    "instr('0123456789ABCDEF', substr(hex(counts), 2 * n + 2, 1)) - 1) << (8 * (n % 4)) FROM domain_load, i) "         \
    "SELECT total(v * " weight ") FROM b"

/* Untrained, a byte costs log 257 = 5.55 nats. The text's own entropy is about 0.45: 8 random words of 11 in 40 bytes. */
static void the_loss_falls(void **state) {
    (void)state;
    const char *settings[] = {"train.steps=80", "train.eval_every=40", LARGER_STEPS, "train.final_eval_tokens=2000",
                              NULL};
    sgm_trainer *trainer = start("falls", settings);
    sgm_step_report report;
    assert_int_equal(sgm_trainer_step(trainer, &report, NULL), SGM_OK);
    assert_true(fabs(report.loss_nats_per_token - log(257)) < 0.1);
    assert_int_equal(report.step, 1);
    int64_t routed = 0;
    for (int64_t i = 0; i < report.layers * report.experts; i++)
        routed += report.load[i];
    assert_int_equal(routed, 2 * 256); /* two layers, one expert for each of 256 tokens */
    finish(trainer);
    double loss = query("falls", "SELECT loss FROM steps WHERE step = 80");
    if (!(loss < 1.6))
        fail_msg("the loss is %g after 80 steps", loss);
    assert_true(query("falls", "SELECT count(*) FROM steps") == 80);
    assert_true(query("falls", "SELECT count(DISTINCT step) FROM evals") == 2);
    assert_true(query("falls", "SELECT count(*) FROM evals WHERE step = 80") == 3); /* two domains and all */
    assert_true(query("falls", "SELECT bits_per_byte FROM evals WHERE step = 80 AND domain = ''") < 2.4);
    assert_true(query("falls", "SELECT length(counts) FROM load WHERE step = 60 AND layer = 1") == 32);
    assert_true(query("falls", "SELECT count(*) FROM domain_load") == 2 * 2 * 2); /* evaluations, domains, layers */
    assert_true(query("falls", DOMAIN_LOAD("1") " WHERE step = 80") ==
                2 * query("falls", "SELECT tokens FROM evals WHERE step = 80 AND domain = ''"));
    assert_true(query("falls", "SELECT count(*) FROM domain_load JOIN evals USING (step, domain) WHERE "
                               "domain_load.tokens = evals.tokens") == 2 * 2 * 2);
    assert_true(query("falls", "SELECT count(*) FROM samples") == 2);
    assert_true(sgm_path_exists(join(path("falls"), "summary.json")));
    remove_run("falls");
}

static void threads_and_micro_batches_change_nothing(void **state) {
    (void)state;
    const char *one[] = {"train.threads=1", "train.steps=6", LARGER_STEPS, NULL},
               *two[] = {"train.threads=2", "train.steps=6", "data.micro_batch_tokens=64", LARGER_STEPS, NULL},
               *three[] = {"train.threads=3", "train.steps=6", "data.micro_batch_tokens=192", LARGER_STEPS, NULL};
    train("one", one);
    train("two", two);
    train("three", three);
    same_checkpoint("one", "two", 6);
    same_checkpoint("one", "three", 6);
    same_checkpoint("one", "three", 4);
    static const char places[] = DOMAIN_LOAD("(1 + n / 4) * (1 + layer) * length(domain)");
    assert_true(query("one", places) > 0);
    assert_true(query("two", places) == query("one", places));
    assert_true(query("three", places) == query("one", places));
    remove_run("one");
    remove_run("two");
    remove_run("three");
}

/* A scope that is the whole step is told, once; a step of two micro-batches has something to tell apart. */
static void a_scope_without_effect_is_told(void **state) {
    (void)state;
    const char *micro = "balance.0.scope=micro", *steps = "train.steps=2", *all = "data.micro_batch_tokens=128";
    train("one", (const char *const[]){micro, all, steps, NULL});
    const char *first = strstr(notes, "balance.0.scope (load_balance_loss) does what global does");
    assert_non_null(first);
    assert_null(strstr(first + 1, "balance.0.scope"));
    train("shuffled", (const char *const[]){"balance.0.scope=shuffle", all, steps, NULL});
    assert_non_null(strstr(notes, "balance.0.scope"));
    train("two", (const char *const[]){micro, "data.micro_batch_tokens=64", steps, NULL});
    assert_null(strstr(notes, "balance.0.scope"));
    train("global", (const char *const[]){all, "balance.0.mode=buffer", steps, NULL});
    assert_null(strstr(notes, "balance.0.scope"));
    static const char *const others[] = {"shuffled", "global"}; /* what the note says is so */
    for (int i = 0; i < 2; i++) {
        uint64_t sum[2], size;
        for (int run = 0; run < 2; run++)
            assert_int_equal(
                sgm_file_checksum(join(path(run ? others[i] : "one"), "checkpoints/latest/model.safetensors"),
                                  &sum[run], &size, NULL),
                SGM_OK);
        assert_true(sum[0] == sum[1]);
    }
    remove_run("one"), remove_run("shuffled"), remove_run("two"), remove_run("global");
}

/* With balancers that have state, and experts per token that switch on the way. */
static const char *const stateful[] = {"balance=load_balance_loss,loss_free_bias", "sparsity.kind=progressive",
                                       "sparsity.layers=3,2", "sparsity.switch=0.5", NULL};

static void resuming_continues_bit_for_bit(void **state) {
    (void)state;
    train("through", stateful);
    assert_non_null(strstr(notes, "experts per token by layer: 1×2, before: 3 2"));
    sgm_trainer *trainer = start("broken", stateful);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
        if (i == 4)
            assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    }
    sgm_trainer_close(trainer); /* step 6 is lost */
    trainer = resume("broken", 0);
    assert_true(query("broken", "SELECT max(step) FROM steps") == 5);
    finish(trainer);
    same_checkpoint("through", "broken", 12);
    same_checkpoint("through", "broken", 8);
    assert_true(query("broken", "SELECT count(*) FROM steps") == 12);
    remove_run("through");
    remove_run("broken");
}

/* A byte down a pipe for every step; NULL: none. */
static void tell_step(void *context, const sgm_step_report *report) {
    (void)report;
    if (write(*(const int *)context, "s", 1) != 1)
        _exit(2);
}

/* The run of a child that says when it begins and when a step is done. */
static void run_and_tell(const char *const *settings, int to) {
    sgm_trainer *trainer = NULL;
    const sgm_trainer_events telling = {.context = &to, .step = tell_step};
    const char *data[] = {path("sea.txt"), path("land.txt")};
    tell_step(&to, NULL);
    sgm_status status =
        sgm_path_exists(path("killed"))
            ? sgm_trainer_resume(path("killed"), 0, 0, &telling, &trainer, NULL)
            : sgm_trainer_start(configure(settings), data, 2, path("killed"), &telling, NULL, &trainer, NULL);
    _exit(status || sgm_trainer_run(trainer, NULL, NULL) ? 1 : 0);
}

/* Killed by another process while it starts, or after one step to five: in what comes next, which is now a step, now the
 * saving of a checkpoint. How far it got is counted in steps, not in seconds. Where exactly it dies differs from run to run:
 * test_durability.c goes through every place by itself. */
static void killing_at_any_moment_changes_nothing(void **state) {
    (void)state;
    const char *settings[] = {"train.steps=24", "train.checkpoint_every=2", "train.sample_tokens=0", NULL};
    train("whole", settings);
    bool complete = false;
    int kills = 0;
    for (int attempt = 0; attempt < 60 && !complete; attempt++) {
        int ends[2], result;
        char byte;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            run_and_tell(settings, ends[1]);
        }
        close(ends[1]);
        int told = 0;
        while (told <= attempt % 6 && read(ends[0], &byte, 1) == 1)
            told++;
        complete = told <= attempt % 6; /* it came to its end before */
        if (!complete)
            kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &result, 0), child);
        close(ends[0]);
        if (WIFEXITED(result)) /* also by itself, when it was as good as done */
            assert_int_equal(WEXITSTATUS(result), 0);
        complete = complete || WIFEXITED(result);
        kills += !complete;
    }
    assert_true(complete);
    assert_true(kills >= 1); /* more where the parent is not held up */
    same_checkpoint("whole", "killed", 24);
    assert_true(query("killed", "SELECT count(*) FROM steps") == 24);
    remove_run("whole");
    remove_run("killed");
}

/* Turns of 3 and of 5 steps: the bytes and rows of runs that went through alone. */
static void runs_can_take_turns(void **state) {
    (void)state;
    const char *settings[] = {"train.eval_every=3", NULL}, *other[] = {"train.eval_every=3", "train.seed=2", NULL};
    train("alone", settings);
    train("alone-2", other);
    sgm_trainer *trainers[] = {start("turns", settings), start("turns-2", other)};
    const int64_t steps[] = {3, 5};
    bool done[2] = {false, false};
    int turns = 0;
    for (; !done[0] || !done[1]; turns++)
        for (int i = 0; i < 2; i++)
            if (!done[i])
                assert_int_equal(sgm_trainer_advance(trainers[i], steps[i], NULL, &done[i], NULL), SGM_OK);
    assert_int_equal(turns, 4); /* 12 steps by 3; by 5 it takes 3 turns */
    sgm_trainer_close(trainers[0]);
    sgm_trainer_close(trainers[1]);
    same_checkpoint("alone", "turns", 12);
    same_checkpoint("alone-2", "turns-2", 12);
    assert_true(query("turns", "SELECT count(DISTINCT step) FROM evals") == 4);
    assert_true(query("turns", "SELECT sum(loss) FROM evals") == query("alone", "SELECT sum(loss) FROM evals"));
    assert_true(sgm_path_exists(join(path("turns-2"), "summary.json")));
    const char *names[] = {"alone", "alone-2", "turns", "turns-2"};
    for (int i = 0; i < 4; i++)
        remove_run(names[i]);
}

static void a_run_can_be_made_longer(void **state) {
    (void)state;
    const char *settings[] = {"schedule.kind=constant", "schedule.warmup_steps=2", NULL},
               *longer[] = {"schedule.kind=constant", "schedule.warmup_steps=2", "train.steps=16", NULL};
    train("short", settings);
    train("long", longer);
    sgm_error error;
    sgm_trainer *trainer;
    assert_int_equal(sgm_trainer_resume(path("short"), 8, 0, NULL, &trainer, &error), SGM_EARGUMENT);
    assert_true(sgm_path_exists(path("short/summary.json")));
    assert_int_equal(sgm_file_write(path("short/config.yaml.partial-4194305-0"), "x", 1, NULL),
                     SGM_OK); /* of a killed process */
    assert_int_equal(sgm_folder_make(path("short/traces"), NULL), SGM_OK);
    assert_int_equal(sgm_file_write(path("short/traces/step-000004.trace.partial-4194305-8"), "x", 1, NULL), SGM_OK);
    trainer = resume("short", 16);
    assert_false(sgm_path_exists(path("short/traces/step-000004.trace.partial-4194305-8")));
    assert_null(strstr(notes, "run.sqlite"));
    assert_false(sgm_path_exists(path("short/config.yaml.partial-4194305-0")));
    assert_false(sgm_path_exists(path("short/summary.json"))); /* it told of a run of 12 steps */
    finish(trainer);
    assert_true(sgm_path_exists(path("short/summary.json")));
    same_checkpoint("long", "short", 16);
    assert_int_equal(sgm_trainer_resume(path("short"), 0, 0, NULL, &trainer, &error), SGM_OK);
    assert_int_equal(sgm_trainer_step(trainer, NULL, &error), SGM_EARGUMENT); /* complete: 16 was remembered */
    sgm_trainer_close(trainer);
    assert_int_equal(unlink(path("short/run.sqlite")), 0);
    sgm_trainer_close(resume("short", 17));
    assert_non_null(strstr(notes, "run.sqlite has 0 of the 16 steps before"));
    remove_run("short");
    remove_run("long");
}

static void a_step_allocates_nothing(void **state) {
    (void)state;
    const char *settings[] = {"data.micro_batch_tokens=32", NULL};
    sgm_trainer *trainer = start("lean", settings);
    assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    uint64_t ours = sgm_alloc_count();
    long all = atomic_load(&allocations);
    for (int i = 0; i < 8; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_alloc_count() - ours, 0);
#ifdef COUNTS_MALLOC
    assert_true(all > 0);
    assert_int_equal(atomic_load(&allocations) - all, 0);
#else
    (void)all;
#endif
    sgm_trainer_close(trainer);
    remove_run("lean");
}

static void a_loss_that_is_not_finite_is_skipped(void **state) {
    (void)state;
    const char *settings[] = {"train.max_skipped_steps=3", "balance=loss_free_bias,phi_balancing", NULL};
    sgm_trainer *trainer = start("poisoned", settings);
    sgm_step_report report;
    assert_int_equal(sgm_trainer_step(trainer, &report, NULL), SGM_OK);
    const sgm_balance_set *balance = trainer->stepper->balance;
    const size_t states = (size_t)sgm_balance_set_state_count(balance) * sizeof(double);
    double *state_before = malloc(states), *state_after = malloc(states);
    sgm_balance_set_state_get(balance, state_before);
    sgm_model *model = trainer->stepper->model;
    size_t bytes = (size_t)model->elements * sizeof(sgm_real);
    sgm_real *before = malloc(bytes), good = model->layers[1].o->data[5];
    model->layers[1].o->data[5] = NAN;
    memcpy(before, model->data, bytes);
    assert_int_equal(sgm_trainer_step(trainer, &report, NULL), SGM_OK);
    assert_true(report.skipped);
    assert_int_equal(report.step, 2);
    assert_memory_equal(before, model->data, bytes);
    sgm_balance_set_state_get(balance, state_after);
    assert_memory_equal(state_before, state_after, states);
    assert_non_null(strstr(notes, "step 2 skipped"));
    model->layers[1].o->data[5] = good; /* the guard left nothing behind: training goes on */
    assert_int_equal(sgm_trainer_step(trainer, &report, NULL), SGM_OK);
    assert_false(report.skipped);
    assert_true(isfinite(report.loss_nats_per_token));
    sgm_balance_set_state_get(balance, state_after);
    assert_memory_not_equal(state_before, state_after, states);
    free(state_before);
    free(state_after);
    model->layers[1].o->data[5] = NAN;
    sgm_error error;
    assert_int_equal(sgm_trainer_run(trainer, NULL, &error), SGM_ENUMERIC);
    assert_non_null(strstr(error.message, "step 6"));
    sgm_trainer_close(trainer);
    assert_true(sgm_path_exists(join(path("poisoned"), "checkpoints/step-000006")));
    free(before);
    remove_run("poisoned");
}

/* The trainer tells the balancers how many tokens a micro-batch has: with four of them a random quarter of the batch has another
 * load than the whole. */
static void the_shuffle_control_is_not_the_global_loss(void **state) {
    (void)state;
    const char *settings[] = {"balance=load_balance_loss,load_balance_loss", "balance.0.scope=shuffle",
                              "balance.1.scope=global", "data.micro_batch_tokens=32", NULL};
    sgm_trainer *trainer = start("shuffled", settings);
    assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    const sgm_balance_set *balance = trainer->stepper->balance;
    double shuffled = sgm_balance_set_value(balance, 0, 0), global = sgm_balance_set_value(balance, 1, 0);
    assert_true(isfinite(shuffled) && fabs(shuffled - global) > 1e-9);
    sgm_trainer_close(trainer);
    remove_run("shuffled");
}

/* However often a diverged run is resumed as it is: the checkpoint from before it diverged stays, and the hint names what
 * to remove to get back to it. */
static void a_diverged_run_keeps_its_good_checkpoint(void **state) {
    (void)state;
    const char *settings[] = {"train.max_skipped_steps=2", "train.keep_checkpoints=1", "train.checkpoint_every=1",
                              "train.steps=40", NULL};
    sgm_error error;
    sgm_trainer *trainer = start("diverged", settings);
    const char *checkpoints = join(path("diverged"), "checkpoints");
    assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    assert_false(sgm_path_exists(join(checkpoints, "step-000000")));
    for (int i = 0; i < 3; i++) {
        trainer->stepper->model->layers[1].o->data[5] = NAN;
        assert_int_equal(sgm_trainer_run(trainer, NULL, &error), SGM_ENUMERIC);
        assert_true(sgm_path_exists(join(checkpoints, "step-000001")));
        sgm_trainer_close(trainer);
        assert_int_equal(sgm_trainer_resume(path("diverged"), 0, 1, NULL, &trainer, NULL), SGM_OK);
    }
    sgm_trainer_close(trainer);
    assert_non_null(strstr(error.hint, path("diverged")));
    assert_non_null(strstr(error.hint, "step-000001"));
    /* As the hint says: with the later ones gone it goes on from the good one, and old ones are pruned again. */
    char **names;
    size_t count;
    assert_int_equal(sgm_folder_list(checkpoints, &names, &count, NULL), SGM_OK);
    for (size_t i = 0; i < count; i++)
        if (strncmp(names[i], "step-", 5) == 0 && strcmp(names[i], "step-000001") != 0)
            assert_int_equal(sgm_folder_remove(join(checkpoints, names[i]), NULL), SGM_OK);
    sgm_free(names);
    assert_int_equal(sgm_trainer_resume(path("diverged"), 0, 1, NULL, &trainer, NULL), SGM_OK);
    assert_int_equal(trainer->stepper->step, 1);
    assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    assert_false(sgm_path_exists(join(checkpoints, "step-000001")));
    sgm_trainer_close(trainer);
    remove_run("diverged");
}

/* Pruning takes what a run made and nothing else; a link in the place of `checkpoints` leads nowhere. */
static void what_is_no_checkpoint_is_left_alone(void **state) {
    (void)state;
    const char *settings[] = {"train.keep_checkpoints=1", NULL};
    sgm_error error;
    sgm_trainer *trainer = start("foreign", settings);
    const char *checkpoints = join(path("foreign"), "checkpoints"), *mine = join(checkpoints, "step-000000000");
    assert_int_equal(sgm_folder_make(mine, NULL), SGM_OK);
    assert_int_equal(sgm_file_write(join(mine, "notes.txt"), "mine", 4, NULL), SGM_OK);
    assert_int_equal(symlink("step-000000", join(checkpoints, "step-0")), 0);
    assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, &error), SGM_OK);
    assert_false(sgm_path_exists(join(checkpoints, "step-000000")));
    assert_true(sgm_path_exists(join(mine, "notes.txt")));
    assert_true(sgm_path_exists(join(checkpoints, "step-0")));

    const char *elsewhere = path("elsewhere");
    assert_int_equal(rename(checkpoints, elsewhere), 0);
    assert_int_equal(symlink(elsewhere, checkpoints), 0);
    assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, checkpoints));
    assert_true(error.hint[0]);
    assert_false(sgm_path_exists(join(elsewhere, "step-000002")));
    sgm_trainer_close(trainer);
    assert_int_equal(sgm_trainer_resume(path("foreign"), 0, 1, NULL, &trainer, &error), SGM_EARGUMENT);
    remove_run("foreign");
    remove_run("elsewhere");
}

static void only_the_latest_checkpoints_stay(void **state) {
    (void)state;
    const char *settings[] = {"train.checkpoint_every=2", "train.keep_checkpoints=2", NULL};
    train("few", settings);
    char **names, target[64] = {0};
    size_t count;
    assert_int_equal(sgm_folder_list(path("few/checkpoints"), &names, &count, NULL), SGM_OK);
    assert_int_equal(count, 3);
    assert_string_equal(names[0], "latest");
    assert_string_equal(names[1], "step-000010");
    assert_string_equal(names[2], "step-000012");
    assert_true(readlink(path("few/checkpoints/latest"), target, sizeof target - 1) > 0);
    assert_string_equal(target, "step-000012");
    sgm_free(names);
    remove_run("few");
}

static void flip(const char *file, long offset) {
    FILE *f = fopen(file, "r+");
    assert_non_null(f);
    fseek(f, offset, offset < 0 ? SEEK_END : SEEK_SET);
    int byte = fgetc(f);
    fseek(f, -1, SEEK_CUR);
    fputc(byte ^ 4, f);
    fclose(f);
}

static void a_damaged_checkpoint_is_put_aside(void **state) {
    (void)state;
    train("clean", NULL);
    train("hurt", NULL);
    flip(path("hurt/checkpoints/step-000012/model.safetensors"), -9);
    flip(path("hurt/checkpoints/step-000008/state/checksums"), 30);
    sgm_trainer *trainer = resume("hurt", 0);
    assert_non_null(strstr(notes, "model.safetensors is damaged"));
    assert_non_null(strstr(notes, "resumed at step 4"));
    assert_true(sgm_path_exists(path("hurt/checkpoints/.damaged-step-000012")));
    finish(trainer);
    same_checkpoint("clean", "hurt", 12);
    /* none left */
    flip(path("hurt/checkpoints/step-000012/config.json"), 3);
    flip(path("hurt/checkpoints/step-000008/state/state.json"), 3);
    assert_int_equal(truncate(path("hurt/checkpoints/step-000004/state/checksums"), 40), 0);
    sgm_error error;
    for (int again = 0; again < 2; again++) { /* nothing is renamed, and the second try begins nothing anew either */
        assert_int_equal(sgm_trainer_resume(path("hurt"), 0, 0, NULL, &trainer, &error), SGM_EFORMAT);
        assert_true(sgm_path_exists(path("hurt/checkpoints/step-000012")));
    }
    remove_run("clean");
    remove_run("hurt");
}

/* What cannot be read now may be fine: it must not lose its name, nor the run its steps. */
static void an_unreadable_checkpoint_is_not_damaged(void **state) {
    (void)state;
    train("shut", NULL);
    const char *weights = path("shut/checkpoints/step-000012/model.safetensors"), *away = path("shut/away");
    assert_int_equal(rename(weights, away), 0);
    assert_int_equal(symlink("model.safetensors", weights), 0); /* a loop: open fails, for root too */
    sgm_trainer *trainer;
    sgm_error error;
    assert_int_equal(sgm_trainer_resume(path("shut"), 0, 0, NULL, &trainer, &error), SGM_EIO);
    assert_int_equal(unlink(weights), 0);
    assert_int_equal(rename(away, weights), 0);
    trainer = resume("shut", 0);
    assert_non_null(strstr(notes, "resumed at step 12"));
    sgm_trainer_close(trainer);
    remove_run("shut");
}

/* Training needs the checkpoints only: whoever does as the hint says goes on. */
static void a_damaged_run_log_is_told(void **state) {
    (void)state;
    train("torn", NULL);
    char junk[4096];
    memset(junk, 'x', sizeof junk);
    assert_int_equal(sgm_file_write(path("torn/run.sqlite"), junk, sizeof junk, NULL), SGM_OK);
    sgm_trainer *trainer;
    sgm_error error;
    assert_int_equal(sgm_trainer_resume(path("torn"), 0, 0, NULL, &trainer, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.hint, "move it away"));
    assert_int_equal(unlink(path("torn/run.sqlite")), 0);
    sgm_trainer_close(resume("torn", 0));
    remove_run("torn");
}

/* No file may grow beyond a limit: what a full disk does to a checkpoint. */
static void a_full_disk_loses_nothing(void **state) {
    (void)state;
    sgm_trainer *trainer = start("full", NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 300000; /* weights are 560 KB */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    sgm_error error = {0};
    sgm_status status = sgm_trainer_save(trainer, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(status, SGM_EIO);
    assert_true(error.message[0]);
    assert_false(sgm_path_exists(path("full/checkpoints/step-000006")));
    assert_false(sgm_path_exists(path("full/checkpoints/.tmp-step-000006")));
    assert_int_equal(sgm_checkpoint_verify(path("full/checkpoints/step-000004"), &error), SGM_OK);
    assert_int_equal(sgm_checkpoint_verify(path("full/checkpoints/latest"), &error), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK); /* there is room again */
    sgm_trainer_close(trainer);
    remove_run("full");
}

static void wrong_starts_leave_nothing(void **state) {
    (void)state;
    sgm_trainer *trainer = start("taken", NULL), *second;
    sgm_error error;
    const char *data[] = {path("sea.txt")}, *missing[] = {path("nothing.txt")};
    sgm_config *config = configure(NULL);
    assert_int_equal(sgm_trainer_start(config, data, 1, path("taken"), NULL, NULL, &second, &error), SGM_EEXISTS);
    assert_int_equal(sgm_trainer_resume(path("taken"), 0, 0, NULL, &second, &error), SGM_EBUSY);
    sgm_trainer_close(trainer);
    assert_int_equal(sgm_trainer_resume(path("elsewhere"), 0, 0, NULL, &second, &error), SGM_ENOTFOUND);
    assert_int_not_equal(sgm_trainer_start(config, missing, 1, path("new"), NULL, NULL, &second, &error), SGM_OK);
    assert_int_equal(sgm_trainer_start(config, NULL, 0, path("new"), NULL, NULL, &second, &error), SGM_EARGUMENT);
    sgm_config_set(config, "model.width", "65536", "test", NULL);
    sgm_config_set(config, "model.expert_width", "262144", "test", NULL);
    assert_int_equal(sgm_trainer_start(config, data, 1, path("new"), NULL, NULL, &second, &error), SGM_EMEMORY);
    assert_false(sgm_path_exists(path("new")));
    assert_false(sgm_path_exists(path(".new.starting")));
    sgm_config_free(config);
    remove_run("taken");
}

static void stopping_saves(void **state) {
    (void)state;
    sgm_trainer *trainer = start("stopped", NULL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    volatile int stop = 1;
    assert_int_equal(sgm_trainer_run(trainer, &stop, NULL), SGM_EINTERRUPTED);
    sgm_trainer_close(trainer);
    assert_int_equal(sgm_checkpoint_verify(path("stopped/checkpoints/step-000003"), NULL), SGM_OK);
    finish(resume("stopped", 0));
    train("unstopped", NULL);
    same_checkpoint("unstopped", "stopped", 12);
    remove_run("stopped");
    remove_run("unstopped");
}

/* A flag that is raised when training comes to a step. */
static volatile int stop_flag;
static int64_t stop_at;
static void stop_at_step(void *context, const sgm_step_report *report) {
    (void)context;
    stop_flag = report->step == stop_at;
}

/* Stopped in an evaluation: the run that goes on makes it, and its log is that of a run without a break. */
static void stopping_breaks_off_an_evaluation(void **state) {
    (void)state;
    const char *settings[] = {"train.eval_every=4", NULL};
    sgm_error error = {0};
    sgm_trainer *trainer = start("cut", settings);
    train("uncut", settings);
    trainer->events.step = stop_at_step;
    stop_at = 8;
    assert_int_equal(sgm_trainer_run(trainer, &stop_flag, &error), SGM_EINTERRUPTED);
    assert_int_equal(trainer->stepper->step, 8);
    assert_true(query("cut", "SELECT count(*) FROM evals WHERE step = 4") > 0);
    assert_true(query("cut", "SELECT count(*) FROM evals WHERE step = 8") == 0);
    sgm_trainer_close(trainer);
    trainer = resume("cut", 0);
    trainer->events.step = stop_at_step;
    stop_at = 12;
    stop_flag = 0;
    assert_int_equal(sgm_trainer_run(trainer, &stop_flag, &error), SGM_EINTERRUPTED); /* in the last evaluation */
    assert_non_null(strstr(error.message, "last evaluation"));
    assert_false(sgm_path_exists(path("cut/summary.json")));
    sgm_trainer_close(trainer);
    finish(resume("cut", 0));
    assert_true(sgm_path_exists(path("cut/summary.json")));
    same_checkpoint("uncut", "cut", 12);
    static const char sum[] = "SELECT sum(loss * tokens * step) FROM evals";
    assert_true(query("uncut", sum) > 0);
    assert_true(query("uncut", sum) == query("cut", sum));
    remove_run("cut");
    remove_run("uncut");
}

static void stopping_a_start_leaves_nothing(void **state) {
    (void)state;
    const char *data[] = {path("sea.txt")};
    sgm_config *config = configure(NULL);
    sgm_trainer *trainer;
    sgm_error error = {0};
    volatile int stop = 1;
    assert_int_equal(sgm_trainer_start(config, data, 1, path("never"), NULL, &stop, &trainer, &error),
                     SGM_EINTERRUPTED);
    assert_non_null(strstr(error.message, "interrupted"));
    assert_false(sgm_path_exists(path("never")));
    assert_false(sgm_path_exists(path(".never.starting")));
    sgm_config_free(config);
}

/* What balances the choice of experts in training goes with the model, and with a resumed run. */
static void a_bias_on_selection_is_saved(void **state) {
    (void)state;
    static const char *const settings[] = {"balance=loss_free_bias", NULL};
    train("whole", settings);
    sgm_trainer *trainer = start("cut", settings);
    for (int i = 0; i < 6; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    finish(resume("cut", 0));
    same_checkpoint("whole", "cut", 12);
    sgm_model *model;
    sgm_error error = {0};
    if (sgm_model_folder_load(path("whole/checkpoints/latest"), false, &model, NULL, &error))
        fail_msg("%s", error.message);
    assert_non_null(model->selection_bias);
    int64_t moved = 0;
    for (int64_t i = 0; i < model->settings.layers * model->settings.experts; i++)
        moved += model->selection_bias[i] != 0;
    assert_true(moved > model->settings.experts);
    sgm_model_free(model);
    remove_run("whole");
    remove_run("cut");
}

/* A data folder made once serves several runs, and must not change under one. */
static void a_data_folder_is_used_in_place(void **state) {
    (void)state;
    sgm_trainer_close(start("first", NULL));
    const char *data[] = {path("first/data")};
    sgm_config *config = configure(NULL);
    sgm_trainer *trainer;
    sgm_error error = {0};
    if (sgm_trainer_start(config, data, 1, path("second"), NULL, NULL, &trainer, &error))
        fail_msg("%s", error.message);
    assert_false(sgm_path_exists(path("second/data")));
    finish(trainer);
    sgm_config_set(config, "model.vocabulary", "200", "test", NULL);
    assert_int_equal(sgm_trainer_start(config, data, 1, path("third"), NULL, NULL, &trainer, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "257"));
    assert_false(sgm_path_exists(path("third")));
    sgm_config_free(config);
    remove_run("first");
    assert_int_equal(sgm_trainer_resume(path("second"), 0, 0, NULL, &trainer, &error), SGM_ENOTFOUND);
    remove_run("second");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_loss_falls),
        cmocka_unit_test(threads_and_micro_batches_change_nothing),
        cmocka_unit_test(a_scope_without_effect_is_told),
        cmocka_unit_test(resuming_continues_bit_for_bit),
        cmocka_unit_test(killing_at_any_moment_changes_nothing),
        cmocka_unit_test(runs_can_take_turns),
        cmocka_unit_test(a_run_can_be_made_longer),
        cmocka_unit_test(a_step_allocates_nothing),
        cmocka_unit_test(a_loss_that_is_not_finite_is_skipped),
        cmocka_unit_test(the_shuffle_control_is_not_the_global_loss),
        cmocka_unit_test(a_diverged_run_keeps_its_good_checkpoint),
        cmocka_unit_test(what_is_no_checkpoint_is_left_alone),
        cmocka_unit_test(only_the_latest_checkpoints_stay),
        cmocka_unit_test(a_damaged_checkpoint_is_put_aside),
        cmocka_unit_test(an_unreadable_checkpoint_is_not_damaged),
        cmocka_unit_test(a_damaged_run_log_is_told),
        cmocka_unit_test(a_full_disk_loses_nothing),
        cmocka_unit_test(wrong_starts_leave_nothing),
        cmocka_unit_test(stopping_saves),
        cmocka_unit_test(stopping_breaks_off_an_evaluation),
        cmocka_unit_test(stopping_a_start_leaves_nothing),
        cmocka_unit_test(a_bias_on_selection_is_saved),
        cmocka_unit_test(a_data_folder_is_used_in_place),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
