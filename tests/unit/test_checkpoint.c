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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_of_somebody_is_no_damaged_checkpoint),
        cmocka_unit_test(unfinished_folders_alone_are_no_fresh_run),
        cmocka_unit_test(what_was_put_aside_stays),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
