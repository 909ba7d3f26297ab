// SPDX-License-Identifier: Apache-2.0
/* The runs of a lab: what diverged stays failed, and what is not of the plan does not enter the results. */
#include "lab_fixture.h"

static void says(const sgm_error *error, const char *message, const char *hint) {
    if (!strstr(error->message, message) || !strstr(error->hint, hint))
        fail_msg("\"%s\", hint \"%s\", not %s and %s", error->message, error->hint, message, hint);
}

/* Each call begins where the arm gave up. Twenty steps are four times the five that may be skipped: were they counted anew in
 * each, the arm would be complete after four. */
static void a_diverged_arm_stays_failed(void **state) {
    (void)state;
    sgm_error error;
    write_file("wild.yaml",
               "name: wild\npreset: pico\nsteps: 20\ntokens_per_step: 128\nseeds: 1\n"
               "set:\n"
               "  model: {context: 32}\n"
               "  train: {kernels: ref, threads: 2, eval_every: 50, eval_tokens: 500, final_eval_tokens: 500}\n"
               "arms:\n"
               "  - name: wild\n"
               "    set: {optimizer.learning_rate: 1000, train.clip: 0}\n"
               "  - name: tame\n");
    for (int call = 0; call < 5; call++) {
        assert_int_equal(run_lab("wild", "wild.yaml", (sgm_lab_options){0}, &error), SGM_ENUMERIC);
        says(&error, "wild, seed 1: 5 steps in a row", "optimizer.learning_rate");
        says(&error, "stopped at step", path("wild/runs/wild-seed-1"));
        assert_null(strstr(error.hint, "--resume")); /* that makes it another run than the plan's */
        assert_false(sgm_path_exists(path("wild/runs/wild-seed-1/summary.json")));
        json_t *all = results("wild");
        assert_int_equal(json_array_size(json_object_get(all, "arms")), 1);
        assert_true(json_is_false(json_object_get(all, "complete")));
        json_decref(all);
    }
    assert_int_equal(sgm_folder_remove(path("wild"), NULL), SGM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_diverged_arm_stays_failed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
