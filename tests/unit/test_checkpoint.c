// SPDX-License-Identifier: Apache-2.0
/* Checkpoints in a folder that people use too: nothing of theirs is lost, and what cannot be tidied up stops no run. */
#include "format/safetensors.h"
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

/* A disk that fails while a checkpoint is verified. Reading the first byte of /proc/self/mem is an I/O error to anyone. */
static void a_failing_disk_is_not_damage(void **state) {
    (void)state;
    train("sector", NULL);
    const char *folder = path("sector/checkpoints/step-000012"), *weights = join(folder, "model.safetensors"),
               *away = path("sector/away");
    assert_int_equal(rename(weights, away), 0);
    assert_int_equal(symlink("/proc/self/mem", weights), 0);
    sgm_trainer *trainer;
    sgm_error error = {0};
    assert_int_equal(sgm_checkpoint_verify(folder, &error), SGM_EIO);
    assert_int_equal(sgm_trainer_resume(path("sector"), 0, 0, NULL, &trainer, &error), SGM_EIO);
    assert_int_equal(unlink(weights), 0);
    assert_int_equal(rename(away, weights), 0);
    sgm_trainer_close(resume("sector", 0));
    assert_non_null(strstr(notes, "resumed at step 12"));
    remove_run("sector");
}

static void save_a_step(sgm_trainer *trainer, int64_t skipped_in_row) {
    assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    trainer->stepper->skipped_in_row = skipped_in_row;
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
}

/* The newest checkpoint of a finite step is kept whatever `keep` says, also where it cannot be read that it is one. */
static void what_cannot_be_read_is_not_pruned(void **state) {
    (void)state;
    const char *settings[] = {"train.keep_checkpoints=1", "train.checkpoint_every=1000", NULL};
    sgm_trainer *trainer = start("pruned", settings);
    const char *finite = path("pruned/checkpoints/step-000001"), *file = join(finite, "state/state.json");
    save_a_step(trainer, 0);
    assert_false(sgm_path_exists(path("pruned/checkpoints/step-000000")));
    save_a_step(trainer, 1);
    save_a_step(trainer, 2);
    assert_true(sgm_path_exists(finite));
    assert_false(sgm_path_exists(path("pruned/checkpoints/step-000002")));
    assert_int_equal(sgm_checkpoint_last_finite(path("pruned")), 1);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(symlink("/proc/self/mem", file), 0);
    save_a_step(trainer, 3);
    assert_true(sgm_path_exists(finite));
    assert_non_null(strstr(notes, "old checkpoints are not removed: "));
    assert_int_equal(unlink(file), 0); /* damaged for certain */
    write_file(file, "{}");
    save_a_step(trainer, 4);
    assert_false(sgm_path_exists(finite));
    sgm_trainer_close(trainer);
    remove_run("pruned");
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

static const char loss_free_bias[] =
    "  - kind: loss_free_bias  # test\n    rate: 0.001  # default\n"
    "    rule: sign  # default\n    centre: false  # default\n    until: 1  # default\n";

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

/* Six steps with `balance`, then the text `from` of config.yaml becomes `to`, and the run is resumed. */
static sgm_trainer *rebalanced(const char *run, const char *balance, const char *from, const char *to) {
    const char *settings[] = {balance, NULL};
    sgm_trainer *trainer = start(run, settings);
    for (int step = 0; step < 6; step++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    edit_config(run, from, to);
    return resume(run, 0);
}

/* Balancers come and go between two stretches of a run: state is found by the balancer's name, what is new starts afresh. */
static void balancers_may_change(void **state) {
    (void)state;
    sgm_trainer *trainer =
        rebalanced("added", "balance=z_loss", "  - kind: z_loss", "  - kind: loss_free_bias\n  - kind: z_loss");
    assert_non_null(strstr(notes, "no loss_free_bias.state that fits; it starts afresh"));
    assert_non_null(strstr(notes, "resumed at step 6"));
    const sgm_balance_set *set = trainer->stepper->balance;
    for (int64_t i = 0; i < 2 * 8; i++)
        assert_true(sgm_balance_set_bias(set)[i] == 0);
    finish(trainer);

    trainer = rebalanced("moved", "balance=loss_free_bias", "  - kind: loss_free_bias",
                         "  - kind: load_balance_loss\n    mode: lagged\n  - kind: loss_free_bias");
    assert_null(strstr(notes, "loss_free_bias.state"));
    assert_non_null(strstr(notes, "no load_balance_loss.sums that fits"));
    int64_t moved = 0;
    for (int64_t i = 0; i < 2 * 8; i++)
        moved += sgm_balance_set_bias(trainer->stepper->balance)[i] != 0;
    assert_true(moved > 8);
    finish(trainer);

    trainer = rebalanced("gone", "balance=z_loss,loss_free_bias", loss_free_bias, "");
    assert_non_null(strstr(notes, "loss_free_bias.state is not used any more"));
    finish(trainer);
    remove_run("added");
    remove_run("moved");
    remove_run("gone");
}

/* A run that cannot be resumed keeps its configuration as it was. */
static void a_refused_resume_changes_no_config(void **state) {
    (void)state;
    sgm_trainer_close(start("refused", NULL));
    edit_config("refused", "  normalise: false", "  normalise: true");
    char *before, *after;
    size_t size, after_size;
    const char *config = path("refused/config.yaml");
    assert_int_equal(sgm_file_read(config, 1 << 20, &before, &size, NULL), SGM_OK);
    sgm_trainer *trainer;
    assert_int_equal(sgm_trainer_resume(path("refused"), 20, 0, NULL, &trainer, NULL), SGM_EARGUMENT);
    assert_int_equal(sgm_file_read(config, 1 << 20, &after, &after_size, NULL), SGM_OK);
    assert_string_equal(before, after);
    sgm_free(before);
    sgm_free(after);
    remove_run("refused");
}

/* With another seed the saved position would be one in another order of the documents. */
static void the_seed_stays(void **state) {
    (void)state;
    sgm_trainer_close(start("seeded", NULL));
    edit_config("seeded", "  seed: 1", "  seed: 2");
    sgm_trainer *trainer;
    sgm_error error = {0};
    assert_int_equal(sgm_trainer_resume(path("seeded"), 0, 0, NULL, &trainer, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "train.seed"));
    assert_non_null(strstr(error.hint, "config.yaml"));
    remove_run("seeded");
}

/* Version 1: the state as one tensor without names. */
static void older_balance_state_is_read(void **state) {
    (void)state;
    sgm_trainer *trainer = start("old", (const char *const[]){"balance=loss_free_bias", NULL});
    for (int step = 0; step < 6; step++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    sgm_real saved[2 * 8];
    const sgm_balance_set *set = trainer->stepper->balance;
    memcpy(saved, sgm_balance_set_bias(set), sizeof saved);
    assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_memory_not_equal(sgm_balance_set_bias(set), saved, sizeof saved);

    const char *folder = path("old/checkpoints/step-000006"), *file = join(folder, "state/balance.safetensors");
    sgm_safetensors *tensors;
    sgm_safetensors_writer *writer;
    assert_int_equal(sgm_safetensors_open(file, &tensors, NULL), SGM_OK);
    const sgm_tensor_entry *entry = sgm_safetensors_find(tensors, "loss_free_bias.state");
    assert_non_null(entry);
    assert_int_equal(sgm_safetensors_writer_new(file, &writer, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_declare(writer, "state1", SGM_F64, 1, entry->shape, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_add(writer, entry->data, entry->bytes, NULL), SGM_OK);
    assert_int_equal(sgm_safetensors_writer_commit(writer, NULL), SGM_OK);
    sgm_safetensors_close(tensors);
    sgm_notes none = {0};
    sgm_error error = {0};
    if (sgm_checkpoint_load(folder, trainer->stepper, trainer->loader, trainer->corpus, &none, &error))
        fail_msg("%s", error.message);
    assert_memory_equal(sgm_balance_set_bias(set), saved, sizeof saved);
    sgm_trainer_close(trainer);
    remove_run("old");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_of_somebody_is_no_damaged_checkpoint),
        cmocka_unit_test(unfinished_folders_alone_are_no_fresh_run),
        cmocka_unit_test(what_was_put_aside_stays),
        cmocka_unit_test(what_cannot_be_tidied_stops_no_run),
        cmocka_unit_test(saving_a_step_again_never_loses_it),
        cmocka_unit_test(a_failing_disk_is_not_damage),
        cmocka_unit_test(what_cannot_be_read_is_not_pruned),
        cmocka_unit_test(a_save_changes_nothing_that_is_computed),
        cmocka_unit_test(balancers_may_change),
        cmocka_unit_test(a_refused_resume_changes_no_config),
        cmocka_unit_test(the_seed_stays),
        cmocka_unit_test(older_balance_state_is_read),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
