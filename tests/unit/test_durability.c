// SPDX-License-Identifier: Apache-2.0
/* Every change that saving a checkpoint, or resuming over the leftovers of a crash, makes to the file system is once the one
 * before which the process dies, and once the one that fails. Each time a good checkpoint is there, and the run goes on to
 * the same bytes. A loop over moments, not over time: the n-th change is the same in every run of this test. Two hundred
 * times a run goes on, so the model is as small as they come: its files are as many as a large one's. */
#include <errno.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "trainer_fixture.h"

enum { NOT_REACHED = 0, DIED = 42, FAILED = 43, SURVIVED = 44, BROKEN = 45 }; /* how a child ends */

static long changes_left;
static bool dies, hit;

static int at_the_change(const char *call, const char *where) {
    (void)call, (void)where;
    if (--changes_left != 0)
        return 0;
    hit = true;
    if (dies)
        _exit(DIED);
    return EIO;
}

static const char *const settings[] = {"train.threads=1",
                                       "train.keep_checkpoints=1",
                                       "train.sample_tokens=0",
                                       "balance=load_balance_loss,loss_free_bias",
                                       "train.steps=100",
                                       "train.checkpoint_every=0",
                                       "model.width=16",
                                       "model.heads=2",
                                       "model.kv_heads=1",
                                       "model.head_size=8",
                                       "model.expert_width=8",
                                       "data.tokens_per_step=32",
                                       NULL};

static void copy_folder(const char *from, const char *to) {
    char *command = keep(sgm_format("rm -rf '%s' && cp -a '%s' '%s'", to, from, to));
    assert_int_equal(system(command), 0);
}

/* One more step in an open run, and its checkpoint. */
static sgm_status step_and_save(sgm_trainer *trainer) {
    sgm_status status = sgm_trainer_step(trainer, NULL, NULL);
    return status ? status : sgm_trainer_save(trainer, NULL);
}

/* In a child: with the n-th change of a save (or of resuming) a fault. The n-th change alone: afterwards all is well. */
static int live_through(const char *run, bool resuming, long n) {
    pid_t child = fork();
    if (child == 0) {
        sgm_trainer *trainer = NULL;
        changes_left = n;
        sgm_fault = resuming ? at_the_change : NULL;
        sgm_status status = sgm_trainer_resume(path(run), 0, 0, NULL, &trainer, NULL);
        if (!resuming) {
            if (status || sgm_trainer_step(trainer, NULL, NULL))
                _exit(BROKEN);
            sgm_fault = at_the_change;
            status = sgm_trainer_save(trainer, NULL);
        }
        sgm_fault = NULL;
        if (!resuming && status && sgm_trainer_save(trainer, NULL)) /* the disk is well again */
            _exit(BROKEN);
        _exit(!hit ? status ? BROKEN : NOT_REACHED : status ? FAILED : SURVIVED);
    }
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    return WEXITSTATUS(result);
}

static bool is_good(const char *checkpoints, const char *name) {
    return sgm_checkpoint_verify(join(checkpoints, name), NULL) == SGM_OK;
}

/* Resumed without faults the run comes to step 2 with the bytes of one that nothing happened to, and no leftovers. */
static void goes_on(const char *run) {
    sgm_trainer *trainer = NULL;
    sgm_error error = {0};
    if (sgm_trainer_resume(path(run), 0, 0, NULL, &trainer, &error))
        fail_msg("resume: %s", error.message);
    if (trainer->stepper->step == 1)
        assert_int_equal(step_and_save(trainer), SGM_OK);
    assert_int_equal(trainer->stepper->step, 2);
    sgm_trainer_close(trainer);
    same_checkpoint("whole", run, 2);
    char **names;
    size_t count;
    assert_int_equal(sgm_folder_list(join(path(run), "checkpoints"), &names, &count, NULL), SGM_OK);
    for (size_t i = 0; i < count; i++)
        if (names[i][0] == '.' ? strncmp(names[i], ".damaged-", 9) != 0 : strstr(names[i], ".partial-") != NULL)
            fail_msg("%s was left over", names[i]);
    sgm_free(names);
}

/* Loop over the changes of saving or resuming until there is no n-th one; how many there are. */
static long every_change(const char *from, bool resuming) {
    long n = 1;
    for (int end = DIED; end != NOT_REACHED; n++) {
        copy_folder(path(from), path("hit"));
        const char *checkpoints = path("hit/checkpoints");
        end = live_through("hit", resuming, n);
        if (end == BROKEN || (dies && end != DIED && end != NOT_REACHED))
            fail_msg("change %ld: the child ended with %d", n, end);
        if (!is_good(checkpoints, "step-000001") && !is_good(checkpoints, "step-000002") &&
            !is_good(checkpoints, ".replaced-step-000001"))
            fail_msg("change %ld: no good checkpoint is left", n);
        if (!resuming && !is_good(checkpoints, "latest"))
            fail_msg("change %ld: latest leads to none", n);
        if (end == SURVIVED && !resuming)
            assert_true(is_good(checkpoints, "step-000002"));
        goes_on("hit");
    }
    remove_run("hit");
    print_message("%s: %ld changes\n", dies ? "dies" : "fails", n - 2);
    return n - 2;
}

/* One that stopped after a step, and one that never did. */
static void make_runs(void) {
    sgm_trainer *trainer = start("begun", settings);
    assert_int_equal(step_and_save(trainer), SGM_OK);
    sgm_trainer_close(trainer);
    trainer = start("whole", settings);
    for (int step = 0; step < 2; step++)
        assert_int_equal(step_and_save(trainer), SGM_OK);
    sgm_trainer_close(trainer);
}

static void remove_runs(void) {
    remove_run("begun");
    remove_run("whole");
}

static void saving_survives_a_fault_at_every_change(void **state) {
    (void)state;
    make_runs();
    for (int mode = 0; mode < 2; mode++) {
        dies = mode == 0;
        long changes = every_change("begun", false);
        assert_true(changes > 60); /* ten files of open, write, fsync, rename, fsync; then the old ones */
    }
    remove_runs();
}

/* All that crashes can leave at once: attempts, half-removed and replaced checkpoints, a damaged one. */
static void resuming_survives_a_fault_at_every_change(void **state) {
    (void)state;
    make_runs();
    const char *checkpoints = path("begun/checkpoints"), *good = join(checkpoints, "step-000001");
    copy_folder(good, join(checkpoints, ".tmp-step-000002"));
    copy_folder(good, join(checkpoints, ".old-step-000000"));
    copy_folder(good, join(checkpoints, "step-000009"));
    assert_int_equal(truncate(join(checkpoints, "step-000009/model.safetensors"), 100), 0);
    assert_int_equal(rename(good, join(checkpoints, ".replaced-step-000001")), 0);
    assert_int_equal(symlink("step-000009", join(checkpoints, "latest.partial-4194305")), 0);
    for (int mode = 0; mode < 2; mode++) {
        dies = mode == 0;
        long changes = every_change("begun", true);
        assert_true(changes > 25);
    }
    remove_runs();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saving_survives_a_fault_at_every_change),
        cmocka_unit_test(resuming_survives_a_fault_at_every_change),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
