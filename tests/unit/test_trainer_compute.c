// SPDX-License-Identifier: Apache-2.0
/* Training in bf16: the same bytes for any number of threads and after an interruption, a loss that falls as in f32, and
 * no run that changes its numbers on the way. */
#include "train/checkpoint_state.h"
#include "trainer_fixture.h"

/* The checkpoints of 12 steps with `kernels`, on 1, 2, 3 threads and once more. */
static void same_for_any_threads(const char *kernels, const char *compute) {
    char table[64], numbers[64], threads[64];
    snprintf(table, sizeof table, "train.kernels=%s", kernels);
    snprintf(numbers, sizeof numbers, "train.compute=%s", compute);
    const char *settings[] = {
        table, numbers, threads, "sparsity.kind=progressive", "sparsity.layers=3,2", "sparsity.switch=0.5", NULL};
    for (int i = 1; i <= 4; i++) {
        snprintf(threads, sizeof threads, "train.threads=%d", i < 4 ? i : 1);
        train(i == 1 ? "one" : "more", settings);
        if (i == 1)
            continue;
        same_checkpoint("one", "more", 12);
        remove_run("more");
    }
    remove_run("one");
}

static void bf16_gives_the_same_bytes_for_any_threads(void **state) {
    (void)state;
    for (size_t k = 0; sgm_kernels_at(k); k++)
        if (sgm_kernels_at(k)->usable())
            same_for_any_threads(sgm_kernels_at(k)->name, "bf16");
}

/* The same bound as in f32 (test_trainer.c): the text's own entropy is about 0.45 nats. */
static void the_loss_falls_in_bf16(void **state) {
    (void)state;
    const char *bf16[] = {"train.kernels=auto", "train.compute=bf16", "train.steps=80", NULL},
               *f32[] = {"train.kernels=auto", "train.steps=80", NULL};
    train("bf16", bf16);
    train("f32", f32);
    double loss = query("bf16", "SELECT loss FROM steps WHERE step = 80");
    double exact = query("f32", "SELECT loss FROM steps WHERE step = 80");
    if (!(loss < 1.6) || loss == exact)
        fail_msg("the loss is %g after 80 steps, %g in f32", loss, exact);
    double first = query("bf16", "SELECT loss FROM steps WHERE step = 1");
    exact = query("f32", "SELECT loss FROM steps WHERE step = 1");
    assert_true(first - exact < 0.01 && exact - first < 0.01);
    assert_true(query("bf16", "SELECT bits_per_byte FROM evals WHERE step = 80 AND domain = ''") < 2.4);
    remove_run("bf16");
    remove_run("f32");
}

static void bf16_resumes_bit_for_bit(void **state) {
    (void)state;
    const char *settings[] = {"train.kernels=auto", "train.compute=bf16", NULL};
    train("through", settings);
    sgm_trainer *trainer = start("broken", settings);
    for (int i = 0; i < 6; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    finish(resume("broken", 0));
    same_checkpoint("through", "broken", 12);
    remove_run("through");
    remove_run("broken");
}

/* Replace `was` by `is` in a file. */
static void edit(const char *from, const char *to, const char *was, const char *is) {
    char *text, edited[65536];
    size_t size;
    assert_int_equal(sgm_file_read(from, sizeof edited / 2, &text, &size, NULL), SGM_OK);
    char *found = strstr(text, was);
    if (!found)
        fail_msg("%s does not say \"%s\"", from, was);
    int length = snprintf(edited, sizeof edited, "%.*s%s%s", (int)(found - text), text, is, found + strlen(was));
    assert_int_equal(sgm_file_write(to, edited, (size_t)length, NULL), SGM_OK);
    sgm_free(text);
}

static void a_run_keeps_its_compute(void **state) {
    (void)state;
    const char *settings[] = {"train.compute=bf16", NULL};
    train("kept", settings);
    const char *config = path("kept/config.yaml");
    edit(config, config, "compute: bf16", "compute: f32");
    sgm_trainer *trainer;
    sgm_error error = {0};
    assert_int_equal(sgm_trainer_resume(path("kept"), 0, 0, NULL, &trainer, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "train.compute"));
    assert_non_null(strstr(error.hint, "config.yaml"));
    edit(config, config, "compute: f32", "compute: bf16");
    trainer = resume("kept", 0);
    /* A checkpoint from before there was that key was made in f32. */
    edit(path("kept/checkpoints/latest/state/state.json"), path("state.json"), "\"train.compute\": \"bf16\"",
         "\"train.former\": \"\"");
    assert_int_equal(sgm_checkpoint_state_read(root, trainer->stepper, trainer->loader,
                                               sgm_corpus_hash(trainer->corpus), &(sgm_notes){0}, &error),
                     SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "train.compute"));
    sgm_trainer_close(trainer);
    remove_run("kept");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_gives_the_same_bytes_for_any_threads),
        cmocka_unit_test(the_loss_falls_in_bf16),
        cmocka_unit_test(bf16_resumes_bit_for_bit),
        cmocka_unit_test(a_run_keeps_its_compute),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
