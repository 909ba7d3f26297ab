// SPDX-License-Identifier: Apache-2.0
/* Balancers in a run: what run.sqlite keeps of them, runs logged by an older version, and resuming with shuffles, steps that
 * count and running means: the same bytes as without an interruption. */
#include <math.h>

#include "trainer_fixture.h"

static double measured(const char *run, const char *balancer, const char *measure, int step, int layer) {
    char sql[256];
    snprintf(sql, sizeof sql,
             "SELECT value FROM balance WHERE step = %d AND layer = %d AND balancer = '%s' AND measure = '%s'", step,
             layer, balancer, measure);
    return query(run, sql);
}

static void values_are_logged(void **state) {
    (void)state;
    sgm_trainer *trainer = start(
        "logged", (const char *const[]){"balance=loss_free_bias,shinka_loss,shinka_loss", "train.load_every=5", NULL});
    double loss[2], second[2], range = 0, total = 0;
    for (int i = 0; i < 12; i++) {
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
        if (i == 4) /* written out: the rows in memory are used again */
            assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    }
    const sgm_balance_set *set = trainer->stepper->balance;
    sgm_balance_measure m;
    for (int layer = 0; layer < 2; layer++) {
        loss[layer] = sgm_balance_set_value(set, 1, layer);
        second[layer] = sgm_balance_set_value(set, 2, layer);
    }
    for (size_t i = 0; sgm_balance_set_measure(set, i, &m); i++)
        if (!strcmp(m.name, "bias_range"))
            range = m.values[m.stride];
    total = sgm_balance_set_total(set);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    /* Steps 1, 5, 10 and the last; two layers; four measures of the bias, and the value and three more of each loss. */
    assert_true(query("logged", "SELECT count(*) FROM balance") == 4 * 2 * (4 + 4 + 4));
    assert_true(query("logged", "SELECT count(DISTINCT step) FROM balance WHERE step IN (1, 5, 10, 12)") == 4);
    for (int layer = 0; layer < 2; layer++) {
        assert_true(measured("logged", "shinka_loss", "value", 12, layer) == loss[layer]);
        assert_true(measured("logged", "shinka_loss.2", "value", 12, layer) == second[layer]);
    }
    assert_true(measured("logged", "loss_free_bias", "bias_range", 12, 1) == range && range > 0);
    assert_true(measured("logged", "loss_free_bias", "bias_range", 1, 1) == 0);
    /* The steps' sum is made of these: pico's coefficients are the defaults. */
    assert_true(fabs(query("logged", "SELECT balance_loss FROM steps WHERE step = 12") - total) < 1e-15);
    assert_true(fabs(0.001 * (loss[0] + loss[1] + second[0] + second[1]) - total) < 1e-12);
    remove_run("logged");
}

static void execute(const char *run, const char *sql) {
    sqlite3 *db;
    char *file = join(path(run), "run.sqlite");
    assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* A run logged by version 1 gets the tables it lacks and keeps its rows; a newer version is refused. */
static void an_older_log_is_taken_on(void **state) {
    (void)state;
    sgm_trainer *trainer = start("older", (const char *const[]){"train.load_every=1", NULL});
    for (int i = 0; i < 6; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    execute("older", "DROP TABLE balance; DROP TABLE domain_load; ALTER TABLE load DROP COLUMN computed;"
                     "ALTER TABLE load DROP COLUMN token_entropy_over_log_e; PRAGMA user_version = 1");
    finish(resume("older", 0));
    assert_true(query("older", "PRAGMA user_version") == SGM_RUN_LOG_VERSION);
    assert_true(query("older", "SELECT count(*) FROM domain_load") > 0); /* of the evaluation at the end */
    assert_true(query("older", "SELECT count(*) FROM steps") == 12);
    assert_true(query("older", "SELECT count(DISTINCT step) FROM balance") == 6);
    assert_true(query("older", "SELECT min(step) FROM balance") == 7);
    assert_true(query("older", "SELECT count(*) FROM load WHERE computed IS NULL") == 6 * 2);
    assert_true(query("older", "SELECT count(*) FROM load WHERE computed > 0 AND token_entropy_over_log_e > 0") ==
                6 * 2);
    execute("older", "PRAGMA user_version = 1000");
    sgm_error error = {0};
    assert_int_equal(sgm_trainer_resume(path("older"), 20, 0, NULL, &trainer, &error), SGM_EFORMAT);
    remove_run("older");
}

/* Rows after the checkpoint go when a run is resumed from it, those of balancers too. */
static void later_rows_go(void **state) {
    (void)state;
    sgm_trainer *trainer = start("later", (const char *const[]){"train.load_every=1", NULL});
    for (int i = 0; i < 4; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    execute("later", "INSERT INTO balance VALUES (5, 0, 'load_balance_loss', 'value', 7);"
                     "INSERT INTO domain_load VALUES (5, 'lake', 0, 1, x'01000000')");
    sgm_trainer_close(resume("later", 0));
    assert_true(query("later", "SELECT count(*) FROM balance WHERE step > 4") == 0);
    assert_true(query("later", "SELECT count(*) FROM balance WHERE step <= 4") == 4 * 2);
    assert_true(query("later", "SELECT count(*) FROM domain_load") == 0);
    remove_run("later");
}

/* Everything that lasts from step to step: n of a 1/n rule and the sums behind the regret, a running mean, the number of the
 * step that a shuffle is dealt by, the share of the run after which a bias rests; with micro-batches of half the batch. */
static void resumes_to_the_same_bytes(void **state) {
    (void)state;
    static const char *const settings[] = {"balance=loss_free_bias,phi_balancing,load_balance_loss",
                                           "balance.0.rule=inverse",
                                           "balance.0.centre=true",
                                           "balance.0.until=0.7",
                                           "balance.1.mode=lagged",
                                           "balance.2.scope=shuffle",
                                           "data.micro_batch_tokens=128",
                                           "train.load_every=1",
                                           NULL};
    train("through", settings);
    sgm_trainer *trainer = start("halved", settings);
    for (int i = 0; i < 5; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    finish(resume("halved", 0));
    same_checkpoint("through", "halved", 12);
    for (int layer = 0; layer < 2; layer++) {
        static const char *const names[][2] = {
            {"load_balance_loss", "value"}, {"loss_free_bias", "mean_regret_bound"}, {"phi_balancing", "potential"}};
        for (int i = 0; i < 3; i++)
            assert_true(measured("through", names[i][0], names[i][1], 12, layer) ==
                        measured("halved", names[i][0], names[i][1], 12, layer));
        /* The bias and its tally rest after the ninth step, the last below 0.7 · 12: what the tenth saw the twelfth sees. */
        double seen[13];
        for (int step = 1; step <= 12; step++)
            seen[step] = measured("through", "loss_free_bias", "mean_regret_bound", step, layer);
        assert_true(seen[10] == seen[12] && seen[9] != seen[10] && seen[8] != seen[9]);
    }
    remove_run("through");
    remove_run("halved");
}

/* Threads do not matter to any of it. */
static void threads_do_not_matter(void **state) {
    (void)state;
    const char *settings[] = {"balance=loss_free_bias,shinka_loss,mutual_information,load_balance_loss",
                              "balance.0.rule=proportional",
                              "balance.1.hinge=straight_through",
                              "balance.1.threshold=0.64",
                              "balance.3.scope=shuffle",
                              "data.micro_batch_tokens=128",
                              "train.steps=4",
                              NULL,
                              NULL};
    settings[7] = "train.threads=1";
    train("one", settings);
    settings[7] = "train.threads=3";
    train("three", settings);
    char a[256], b[256];
    snprintf(a, sizeof a, "%s/checkpoints/step-000004/state/balance.safetensors", path("one"));
    snprintf(b, sizeof b, "%s/checkpoints/step-000004/state/balance.safetensors", path("three"));
    same_file(a, b);
    snprintf(a, sizeof a, "%s/checkpoints/step-000004/model.safetensors", path("one"));
    snprintf(b, sizeof b, "%s/checkpoints/step-000004/model.safetensors", path("three"));
    same_file(a, b);
    remove_run("one");
    remove_run("three");
}

/* The model says which experts are null, and the loss hears of it: their averaged load is another loss where they are loaded
 * differently. */
static void null_experts_reach_the_loss(void **state) {
    (void)state;
    const char *settings[] = {
        "model.experts_per_token=2", "train.steps=3", "train.load_every=1", "model.null_experts=3", NULL, NULL};
    double value[2];
    for (int average = 0; average < 2; average++) {
        settings[4] = average ? "balance.0.null_average=true" : "balance.0.null_average=false";
        train("nulls", settings);
        value[average] = measured("nulls", "load_balance_loss", "value", 1, 0);
        assert_true(value[average] > 0.9);
        remove_run("nulls");
    }
    assert_true(fabs(value[0] - value[1]) > 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_logged),     cmocka_unit_test(an_older_log_is_taken_on),
        cmocka_unit_test(later_rows_go),         cmocka_unit_test(resumes_to_the_same_bytes),
        cmocka_unit_test(threads_do_not_matter), cmocka_unit_test(null_experts_reach_the_loss),
    };
    return cmocka_run_group_tests_name("balancers in a run", tests, setup, teardown);
}
