// SPDX-License-Identifier: Apache-2.0
/* Checkpoints in a folder that people use too: nothing of theirs is lost, and what cannot be tidied up stops no run. */
#include "trainer_fixture.h"

static void write_file(const char *file, const char *text) {
    assert_int_equal(sgm_file_write(file, text, strlen(text), NULL), SGM_OK);
}

static void flip_first_byte(const char *file) {
    FILE *f = fopen(file, "r+");
    assert_non_null(f);
    int byte = fgetc(f);
    rewind(f);
    fputc(byte ^ 4, f);
    fclose(f);
}

/* Whatever its name: a folder that no run finished is nobody's checkpoint, and stays where it is. */
static void a_folder_of_somebody_is_no_damaged_checkpoint(void **state) {
    (void)state;
    sgm_trainer *trainer = start("visited", NULL);
    assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    const char *mine = path("visited/checkpoints/step-900");
    assert_int_equal(sgm_folder_make(mine, NULL), SGM_OK);
    write_file(join(mine, "notes.txt"), "mine");
    sgm_trainer_close(resume("visited", 0));
    assert_true(sgm_path_exists(join(mine, "notes.txt")));
    assert_false(sgm_path_exists(path("visited/checkpoints/.damaged-step-900")));
    assert_non_null(strstr(notes, "step-900"));
    assert_non_null(strstr(notes, "resumed at step 1"));
    remove_run("visited");
}

/* A run whose checkpoints all lost their checksums is not begun anew over them. */
static void unfinished_folders_alone_are_no_fresh_run(void **state) {
    (void)state;
    sgm_trainer_close(start("bare", NULL));
    assert_int_equal(unlink(path("bare/checkpoints/step-000000/state/checksums")), 0);
    sgm_trainer *trainer;
    sgm_error error = {0};
    assert_int_equal(sgm_trainer_resume(path("bare"), 0, 0, NULL, &trainer, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "step-000000"));
    assert_true(error.hint[0]);
    assert_true(sgm_path_exists(path("bare/checkpoints/step-000000/model.safetensors")));
    remove_run("bare");
}

/* The second damaged checkpoint of a step does not push out the first. */
static void what_was_put_aside_stays(void **state) {
    (void)state;
    const char *settings[] = {"train.steps=1", NULL};
    sgm_trainer_close(start("twice", settings));
    for (int time = 0; time < 3; time++) {
        finish(resume("twice", 0));
        flip_first_byte(path("twice/checkpoints/step-000001/config.json"));
    }
    sgm_trainer_close(resume("twice", 0));
    assert_true(sgm_path_exists(path("twice/checkpoints/.damaged-step-000001/config.json")));
    assert_true(sgm_path_exists(path("twice/checkpoints/.damaged-step-000001-2/config.json")));
    assert_true(sgm_path_exists(path("twice/checkpoints/.damaged-step-000001-3/config.json")));
    remove_run("twice");
}

/* Saved is saved: an old checkpoint that cannot be removed, or a `latest` that cannot be moved, is told. */
static void what_cannot_be_tidied_stops_no_run(void **state) {
    (void)state;
    const char *settings[] = {"train.keep_checkpoints=1", "train.checkpoint_every=1", NULL};
    sgm_trainer *trainer = start("cluttered", settings);
    const char *checkpoints = path("cluttered/checkpoints"), *latest = join(checkpoints, "latest");
    write_file(join(checkpoints, ".old-step-000000"), "a file in the way of its removal");
    assert_int_equal(unlink(latest), 0);
    assert_int_equal(sgm_folder_make(join(latest, "in the way"), NULL), SGM_OK);
    assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    sgm_error error = {0};
    if (sgm_trainer_save(trainer, &error))
        fail_msg("%s", error.message);
    assert_int_equal(sgm_checkpoint_verify(join(checkpoints, "step-000001"), NULL), SGM_OK);
    assert_non_null(strstr(notes, "the old checkpoint step-000000 is not removed"));
    assert_non_null(strstr(notes, "latest does not point at step-000001"));
    assert_null(strstr(notes, "not saved"));
    sgm_trainer_close(trainer);
    trainer = resume("cluttered", 0);
    assert_non_null(strstr(notes, ".old-step-000000, left by a crash, stays"));
    assert_non_null(strstr(notes, "resumed at step 1"));
    sgm_trainer_close(trainer);
    remove_run("cluttered");
}

/* At no moment between saving a step again and the end of it is the step's first checkpoint out of reach. */
static void saving_a_step_again_never_loses_it(void **state) {
    (void)state;
    const char *settings[] = {"train.keep_checkpoints=1", NULL};
    sgm_trainer *trainer = start("again", settings);
    const char *checkpoints = path("again/checkpoints");
    trainer->saved_step = -1; /* as after a save whose last sync failed */
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    assert_int_equal(sgm_checkpoint_verify(join(checkpoints, "step-000000"), NULL), SGM_OK);
    assert_false(sgm_path_exists(join(checkpoints, ".replaced-step-000000")));
    sgm_trainer_close(trainer);
    /* killed between the two renames */
    const char *aside = join(checkpoints, ".replaced-step-000000"), *name = join(checkpoints, "step-000000");
    assert_int_equal(rename(name, aside), 0);
    assert_int_equal(sgm_folder_make(join(checkpoints, ".tmp-step-000000"), NULL), SGM_OK);
    sgm_trainer_close(resume("again", 0));
    assert_non_null(strstr(notes, "resumed at step 0"));
    assert_int_equal(sgm_checkpoint_verify(name, NULL), SGM_OK);
    assert_false(sgm_path_exists(aside));
    /* and after them */
    assert_int_equal(sgm_folder_make(join(aside, "state"), NULL), SGM_OK);
    sgm_trainer_close(resume("again", 0));
    assert_int_equal(sgm_checkpoint_verify(name, NULL), SGM_OK);
    assert_false(sgm_path_exists(aside));
    remove_run("again");
}

/* Replace `from` by `to` in a run's config.yaml. */
static void edit_config(const char *run, const char *from, const char *to) {
    char *file = join(path(run), "config.yaml"), *text;
    size_t size;
    assert_int_equal(sgm_file_read(file, 1 << 20, &text, &size, NULL), SGM_OK);
    char *at = strstr(text, from);
    assert_non_null(at);
    char *edited = sgm_format("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    write_file(file, edited);
    sgm_free(edited);
    sgm_free(text);
}

static const char loss_free_bias[] = "  - kind: loss_free_bias  # test\n    rate: 0.001  # default\n";

/* A balancer's bias ends with the balancer, at once and not at the next save: when a run saves changes no byte of it. */
static void a_save_changes_nothing_that_is_computed(void **state) {
    (void)state;
    static const char *const seldom[] = {"balance=load_balance_loss,loss_free_bias", "train.checkpoint_every=100",
                                         NULL},
                             *const often[] = {"balance=load_balance_loss,loss_free_bias", "train.checkpoint_every=1",
                                               NULL};
    for (int i = 0; i < 2; i++) {
        const char *run = i ? "often" : "seldom";
        sgm_trainer *trainer = start(run, i ? often : seldom);
        for (int step = 0; step < 8; step++)
            assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
        assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
        sgm_trainer_close(trainer);
        edit_config(run, loss_free_bias, "");
        finish(resume(run, 0));
        assert_non_null(strstr(notes, "balance was load_balance_loss,loss_free_bias"));
    }
    same_checkpoint("seldom", "often", 12);
    remove_run("seldom");
    remove_run("often");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_of_somebody_is_no_damaged_checkpoint),
        cmocka_unit_test(unfinished_folders_alone_are_no_fresh_run),
        cmocka_unit_test(what_was_put_aside_stays),
        cmocka_unit_test(what_cannot_be_tidied_stops_no_run),
        cmocka_unit_test(saving_a_step_again_never_loses_it),
        cmocka_unit_test(a_save_changes_nothing_that_is_computed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
