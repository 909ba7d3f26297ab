// SPDX-License-Identifier: Apache-2.0
/* The runs of a lab: what diverged stays failed, and what is not of the plan does not enter the results. */
#include <math.h>
#include <sys/stat.h>

#include "lab_fixture.h"
#include "train/run_log_read.h"

static void says(const sgm_error *error, const char *message, const char *hint) {
    if (!strstr(error->message, message) || !strstr(error->hint, hint))
        fail_msg("\"%s\", hint \"%s\", not %s and %s", error->message, error->hint, message, hint);
}

static void holds(const char *name, const char *wanted) {
    char *text;
    size_t size;
    assert_int_equal(sgm_file_read(path(name), 1 << 24, &text, &size, NULL), SGM_OK);
    if (!strstr(text, wanted))
        fail_msg("%s lacks \"%s\"", name, wanted);
    sgm_free(text);
}

/* Each call begins where the arm gave up. Twenty steps are four times the five that may be skipped: were they counted anew in
 * each, the arm would be complete after four. */
static void a_diverged_arm_stays_failed(void **state) {
    (void)state;
    sgm_error error;
    write_file(
        "wild.yaml",
        "name: wild\nclaim: \"a | b\\n\\n# <i>c\\\\|\"\npreset: pico\nsteps: 20\ntokens_per_step: 128\nseeds: 1\n"
        "set:\n"
        "  model: {context: 32}\n"
        "  train: {kernels: ref, threads: 2, eval_every: 50, eval_tokens: 500, final_eval_tokens: 500}\n"
        "arms:\n"
        "  - name: wild\n"
        "    set: {optimizer.learning_rate: 1000, train.clip: 0}\n"
        "  - name: tame\n"
        "    description: \"one | two\\n<b>three\\\\\"\n");
    for (int call = 0; call < 5; call++) {
        assert_int_equal(run_lab("wild", "wild.yaml", (sgm_lab_options){.jobs = call == 1 ? 0 : 2}, &error),
                         SGM_ENUMERIC);
        says(&error, "wild, seed 1: 5 steps in a row", "optimizer.learning_rate");
        says(&error, "stopped at step", path("wild/runs/wild-seed-1"));
        assert_null(strstr(error.hint, "--resume")); /* that makes it another run than the plan's */
        assert_false(sgm_path_exists(path("wild/runs/wild-seed-1/summary.json")));
        json_t *all = results("wild");
        assert_int_equal(json_array_size(json_object_get(all, "arms")), 1);
        assert_true(json_is_false(json_object_get(all, "complete")));
        const json_t *missing = json_object_get(all, "missing");
        assert_int_equal(json_array_size(missing), 1);
        assert_string_equal(json_string_value(json_object_get(json_array_get(missing, 0), "arm")), "wild");
        assert_string_equal(json_string_value(json_object_get(json_array_get(missing, 0), "state")), "failed");
        json_decref(all);
    }
    holds("wild/results.md", "1 arm, 1 seed, 20 steps of 128 tokens.");
    holds("wild/results.md", "- `wild`, seed 1: failed\n");
    /* Words that would break the page or its table are words. */
    holds("wild/results.md", "\n**Claim.** a \\| b  # &lt;i>c\\\\\\|\n\n");
    holds("wild/results.md", "\n| tame | one \\| two &lt;b>three\\\\ |\n");
    holds("wild/report.html", "Missing are the runs wild, seed 1 (failed)</p>");
    /* Gone on with by itself until all of its steps are done, it is complete and yet no run of this arm. */
    sgm_status status = SGM_ENUMERIC;
    for (int i = 0; i < 5 && status; i++) {
        sgm_trainer *trainer = resume("wild/runs/wild-seed-1", 0);
        status = sgm_trainer_run(trainer, NULL, NULL);
        sgm_trainer_close(trainer);
    }
    assert_int_equal(status, SGM_OK);
    assert_int_equal(run_lab("wild", "wild.yaml", (sgm_lab_options){0}, &error), SGM_EARGUMENT);
    says(&error, "wild-seed-1/run.sqlite: at step", "remove this run's folder");
    assert_int_equal(sgm_folder_remove(path("wild"), NULL), SGM_OK);
}

static void change(const char *name, const char *from, const char *to) {
    char *text, *at;
    size_t size;
    assert_int_equal(sgm_file_read(path(name), 1 << 20, &text, &size, NULL), SGM_OK);
    assert_non_null(at = strstr(text, from));
    char *changed = sgm_format("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    write_file(name, changed);
    sgm_free(changed);
    sgm_free(text);
}

/* Of a lab that is complete: what was done to it since is noticed by lab report, and by lab run. */
static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    sgm_error error;
    write_file("two.yaml", two_arms);
    char *tuned = sgm_format("tuning: one | coefficient\n%s", two_arms);
    write_file("two.yaml", tuned);
    sgm_free(tuned);
    assert_int_equal(run_lab("fit", "two.yaml", (sgm_lab_options){.seeds = 1}, &error), SGM_OK);
    holds("fit/results.md", "\n**Tuning.** one \\| coefficient\n");
    holds("fit/results.md", "\n## Of one seed: the spread is not known\n");
    holds("fit/results.md", "| IS |"); /* it has groups */
    holds("fit/report.html", "<p>Tuning: one | coefficient</p>");
    finish(resume("fit/runs/even-seed-1", 14)); /* made longer */
    assert_int_equal(sgm_lab_report(path("fit"), &error), SGM_EARGUMENT);
    says(&error, "even-seed-1 has train.steps = 14, the lab says 12", "lab.json");
    assert_int_equal(run_lab("fit", "two.yaml", (sgm_lab_options){0}, &error), SGM_EARGUMENT);
    says(&error, "even-seed-1 has train.steps = 14", "remove that run");
    assert_int_equal(sgm_folder_remove(path("fit/runs/even-seed-1"), NULL), SGM_OK);
    assert_int_equal(run_lab("fit", "two.yaml", (sgm_lab_options){0}, &error), SGM_OK);
    change("fit/lab.json", "\"steps\": 12", "\"steps\": 11");
    assert_int_equal(sgm_lab_report(path("fit"), &error), SGM_EARGUMENT);
    says(&error, "none-seed-1 has train.steps = 12, the lab says 11", "lab.json");
    change("fit/lab.json", "\"steps\": 11", "\"steps\": 12");
    change("fit/experiment.yaml", "coefficient: 0.1}", "coefficient: 0.1}, {kind: z_loss, coefficient: 0.1}");
    assert_int_equal(sgm_lab_report(path("fit"), &error), SGM_EARGUMENT);
    says(&error, "even-seed-1 has balance = load_balance_loss, the lab says load_balance_loss,z_loss", "");
    assert_int_equal(run_lab("fit", "two.yaml", (sgm_lab_options){0}, &error), SGM_OK); /* its file is as it was */
    change("fit/lab.json", "\"arms\": []", "\"arms\": [\"even\", \"gone\"]");
    assert_int_equal(sgm_lab_report(path("fit"), &error), SGM_EARGUMENT);
    says(&error, "its lab.json has the arm gone, the experiment has not", "put the arm back");
    assert_int_equal(run_lab("fit", "two.yaml", (sgm_lab_options){0}, &error), SGM_EARGUMENT);
    says(&error, "its lab.json has the arm gone", "take another --out");
    change("fit/lab.json", ", \"gone\"]", "]");
    char *renamed = sgm_format("name: other\n%s", strchr(two_arms, '\n') + 1);
    write_file("other.yaml", renamed);
    sgm_free(renamed);
    assert_int_equal(run_lab("fit", "other.yaml", (sgm_lab_options){0}, &error), SGM_EARGUMENT);
    says(&error, "this lab is of the experiment two, not of other", "another --out");
    /* Something else in a run's place: an empty folder, a link that leads nowhere, a file. */
    const char *run = path("fit/runs/even-seed-1");
    assert_int_equal(sgm_folder_remove(run, NULL), SGM_OK);
    for (int what = 0; what < 3; what++) {
        if (what == 0)
            assert_int_equal(sgm_folder_make(run, NULL), SGM_OK);
        else if (what == 1)
            assert_int_equal(symlink("nowhere", run), 0);
        else
            write_file("fit/runs/even-seed-1", "no run\n");
        assert_int_equal(sgm_lab_report(path("fit"), &error), SGM_EFORMAT);
        says(&error, "even-seed-1 is in a run's place", "remove it");
        assert_int_equal(run_lab("fit", "two.yaml", (sgm_lab_options){0}, &error), SGM_EFORMAT);
        says(&error, what ? "a link that leads nowhere" : "no config.yaml", "remove it");
        assert_int_equal(what ? unlink(run) : rmdir(run), 0);
    }
    assert_int_equal(sgm_folder_remove(path("fit"), NULL), SGM_OK);
}

static void execute(const char *run, const char *sql) {
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path(run), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* A log that lacks rows, or is another run's, would be a number without a word. A pipe in its place would be waited for. */
static void a_log_that_is_not_the_whole_run_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *sql, *message;
    } cases[] = {
        {"DELETE FROM evals WHERE step = 12", "its last evaluation is of step 11, the run has 12 steps"},
        {"DELETE FROM steps WHERE step = 12", "it has 11 steps up to step 11, the run has 12"},
        {"DELETE FROM steps WHERE step = 5", "it has 11 steps up to step 12"},
        {"UPDATE steps SET step = step + 100", "it has 12 steps up to step 112"},
        {"UPDATE evals SET bits_per_byte = 'nan' WHERE step = 12 AND domain = ''",
         "1 of its evaluations have no number"},
        {"UPDATE evals SET bits_per_byte = -1", "evaluations have no number of bits per byte, or one below 0"},
        {"UPDATE evals SET bits_per_byte = 1 WHERE domain = ''", "has 1.000000 bits per byte, summary.json beside it"},
        {"DELETE FROM evals", "it lacks the last evaluation, which summary.json beside it tells of"},
        {"DELETE FROM evals WHERE domain = '' AND step = 12", "it lacks the last evaluation"},
        {"UPDATE evals SET bits_per_byte = NULL WHERE domain = ''", "it lacks the last evaluation"},
        {"DELETE FROM load WHERE step = 12 AND layer = 1", "in the last tenth"},
        {"UPDATE load SET computed = -1e300", "that cannot be"},
        {"UPDATE load SET tokens = -1", "of -1 tokens"},
        {"UPDATE load SET tokens = 1", "that cannot be"},
        {"UPDATE load SET counts = zeroblob(32)", "0 assignments"},
        {"UPDATE steps SET seconds = -1", "12 of its steps"},
        {"UPDATE steps SET skipped = -3 WHERE step = 3", "1 of its steps"},
        {"UPDATE steps SET loss = 'abc' WHERE step = 3", "1 of its steps"},
    };
    sgm_error error;
    write_file("two.yaml", two_arms);
    stop_after = 3; /* said before it is trained to its end */
    assert_int_equal(run_lab("whole", "two.yaml", (sgm_lab_options){.seeds = 1}, &error), SGM_EINTERRUPTED);
    stop_after = 0;
    assert_int_equal(unlink(path("whole/runs/none-seed-1/run.sqlite")), 0);
    assert_int_equal(run_lab("whole", "two.yaml", (sgm_lab_options){0}, &error), SGM_EFORMAT);
    says(&error, "none-seed-1/run.sqlite has 0 of the ", "remove this run's folder");
    assert_int_equal(sgm_folder_remove(path("whole/runs/none-seed-1"), NULL), SGM_OK);
    assert_int_equal(run_lab("whole", "two.yaml", (sgm_lab_options){0}, &error), SGM_OK);
    const char *logs[] = {"whole/runs/none-seed-1/run.sqlite", "whole/runs/even-seed-1/run.sqlite"};
    char *bytes[2];
    size_t size[2];
    execute(logs[0], "INSERT OR REPLACE INTO evals SELECT 11, domain, tokens, bytes, loss, bits_per_byte FROM evals "
                     "WHERE step = 12");
    for (int i = 0; i < 2; i++)
        assert_int_equal(sgm_file_read(path(logs[i]), 1 << 26, &bytes[i], &size[i], NULL), SGM_OK);
    assert_int_equal(sgm_lab_report(path("whole"), &error), SGM_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        execute(logs[0], cases[i].sql);
        assert_int_equal(sgm_lab_report(path("whole"), &error), SGM_EFORMAT);
        says(&error, cases[i].message, "remove this run's folder");
        assert_int_equal(sgm_file_write(path(logs[0]), bytes[0], size[0], NULL), SGM_OK);
    }
    assert_int_equal(sgm_lab_report(path("whole"), &error), SGM_OK);
    /* Another text: told where the run says what it was trained on. */
    execute(logs[0], "UPDATE meta SET value = '0123456789abcdef' WHERE key = 'corpus'");
    static const char other[] = "none-seed-1 was trained on another text (hash 0123456789abcdef) than this lab's";
    assert_int_equal(sgm_lab_report(path("whole"), &error), SGM_EARGUMENT);
    says(&error, other, "remove this run");
    assert_int_equal(run_lab("whole", "two.yaml", (sgm_lab_options){.seeds = 2}, &error), SGM_EARGUMENT);
    says(&error, other, "remove this run");
    assert_false(sgm_path_exists(path("whole/runs/none-seed-2"))); /* said before the second seed is trained */
    execute(logs[0], "DELETE FROM meta WHERE key = 'corpus'");
    assert_int_equal(sgm_lab_report(path("whole"), &error), SGM_OK);
    change("whole/lab.json", "\"corpus\": \"", "\"corpus\": \"0");
    assert_int_equal(run_lab("whole", "two.yaml", (sgm_lab_options){.seeds = 2}, &error), SGM_EARGUMENT);
    says(&error, "the text has changed since this lab began", "take another --out");
    change("whole/lab.json", "\"corpus\": \"0", "\"corpus\": \"");
    for (int i = 0; i < 2; i++) /* exchanged */
        assert_int_equal(sgm_file_write(path(logs[i]), bytes[1 - i], size[1 - i], NULL), SGM_OK);
    assert_int_equal(sgm_lab_report(path("whole"), &error), SGM_EFORMAT);
    says(&error, "one of them is of another run", "");
    assert_int_equal(unlink(path(logs[0])), 0);
    assert_int_equal(mkfifo(path(logs[0]), 0600), 0);
    assert_int_equal(sgm_lab_report(path("whole"), &error), SGM_EFORMAT);
    says(&error, "none-seed-1/run.sqlite is no file", "remove this run's folder");
    sgm_trainer *trainer = NULL;
    assert_int_equal(sgm_trainer_resume(path("whole/runs/none-seed-1"), 14, 0, NULL, &trainer, &error), SGM_EFORMAT);
    says(&error, "run.sqlite is no file", "move it away");
    for (int i = 0; i < 2; i++)
        sgm_free(bytes[i]);
    assert_int_equal(sgm_folder_remove(path("whole"), NULL), SGM_OK);
}

/* Not at the end of a long run: with its next turn. The other arm goes on. */
static void a_run_that_loses_rows_fails_at_once(void **state) {
    (void)state;
    sgm_error error;
    write_file("two.yaml", two_arms);
    stop_after = 1;
    assert_int_equal(run_lab("full", "two.yaml", (sgm_lab_options){.seeds = 1, .jobs = 1}, &error), SGM_EINTERRUPTED);
    stop_after = 0;
    execute("full/runs/none-seed-1/run.sqlite",
            "CREATE TRIGGER full BEFORE INSERT ON steps BEGIN SELECT RAISE(FAIL, 'no room'); END");
    assert_int_equal(run_lab("full", "two.yaml", (sgm_lab_options){.jobs = 1}, &error), SGM_EIO);
    says(&error, "none, seed 1: rows of its log were lost up to step 8", "remove this run's folder");
    assert_false(sgm_path_exists(path("full/runs/none-seed-1/summary.json")));
    assert_true(sgm_path_exists(path("full/runs/even-seed-1/summary.json")));
    /* As the hint says. */
    assert_int_equal(sgm_folder_remove(path("full/runs/none-seed-1"), NULL), SGM_OK);
    assert_int_equal(run_lab("full", "two.yaml", (sgm_lab_options){.jobs = 1}, &error), SGM_OK);
    assert_int_equal(sgm_folder_remove(path("full"), NULL), SGM_OK);
}

/* An arm that is trained alone in a call, or last, has what it has beside others: times could not be compared. */
static void threads_are_those_of_all_jobs(void **state) {
    (void)state;
    sgm_error error;
    const char *none[] = {"none"};
    write_file("two.yaml", two_arms);
    assert_int_equal(
        run_lab("alone", "two.yaml", (sgm_lab_options){.seeds = 1, .jobs = 2, .arms = none, .arm_count = 1}, &error),
        SGM_OK);
    int share = sgm_usable_cores() / 2;
    char *wanted = sgm_format("threads: %d  # --jobs\n", share > 1 ? share : 1);
    holds("alone/runs/none-seed-1/config.yaml", wanted);
    sgm_free(wanted);
    /* What lab.json cannot hold is said before anything is done. */
    const char *odd[] = {"t\xffx"};
    assert_int_equal(run_lab("odd", "two.yaml", (sgm_lab_options){.data = odd, .data_count = 1}, &error),
                     SGM_EARGUMENT);
    says(&error, "is not valid UTF-8", "another name");
    assert_false(sgm_path_exists(path("odd")));
    /* Another process's file that is still being written, and one that only looks like it, stay. */
    char *alive = sgm_format("alone/lab.json.partial-%ld-7", (long)getpid());
    static const char killed[] = "alone/lab.json.partial-4194305-7", looks[] = "alone/my.partial-looks.txt";
    write_file(alive, "x");
    write_file(killed, "x");
    write_file(looks, "x");
    assert_int_equal(run_lab("alone", "two.yaml", (sgm_lab_options){.arms = none, .arm_count = 1}, &error), SGM_OK);
    assert_true(sgm_path_exists(path(alive)) && sgm_path_exists(path(looks)));
    assert_false(sgm_path_exists(path(killed)));
    sgm_free(alive);
    assert_int_equal(sgm_folder_remove(path("alone"), NULL), SGM_OK);
}

/* Mean over feed-forward layers of the last step's MaxVio and dead experts among the first `computing` of its log. */
static void by_log(const char *run, bool with_attention, int64_t computing, double *violation, double *dead) {
    sqlite3 *db = NULL;
    sqlite3_stmt *row = NULL;
    int layers = 0;
    *violation = *dead = 0;
    assert_int_equal(sqlite3_open(path(run), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT layer, counts FROM load WHERE step = 12", -1, &row, NULL),
                     SQLITE_OK);
    while (sqlite3_step(row) == SQLITE_ROW) {
        if (with_attention && sqlite3_column_int64(row, 0) % 2 == 0) /* attention, feed-forward, attention, … */
            continue;
        const unsigned char *bytes = sqlite3_column_blob(row, 1);
        double most = 0, sum = 0;
        for (int64_t e = 0; e < computing; e++) {
            double count = (double)sgm_run_log_u32(bytes + 4 * e);
            most = count > most ? count : most;
            sum += count;
        }
        for (int64_t e = 0; e < computing; e++)
            *dead += (double)sgm_run_log_u32(bytes + 4 * e) < 0.01 * sum / (double)computing;
        *violation += most * (double)computing / sum - 1;
        layers++;
    }
    sqlite3_finalize(row);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_true(layers >= 2);
    *violation /= layers;
    *dead /= layers;
}

/* A null expert and attention experts would be the busiest of all, or the idlest. */
static void live_balance_is_that_of_results(void **state) {
    (void)state;
    sgm_error error;
    write_file("live.yaml", "name: live\npreset: pico\nsteps: 12\ntokens_per_step: 128\nseeds: 1\n"
                            "set:\n"
                            "  model: {context: 32, experts: 8}\n"
                            "  train: {kernels: ref, threads: 1, eval_every: 0, final_eval_tokens: 500}\n"
                            "arms:\n"
                            "  - name: null\n"
                            "    set: {balance: none, model.null_experts: 3, model.experts_per_token: 4}\n"
                            "  - name: attention\n"
                            "    set: {balance: none, model.attention_experts: 4}\n");
    if (run_lab("live", "live.yaml", (sgm_lab_options){0}, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    static const char *const logs[] = {"live/runs/null-seed-1/run.sqlite", "live/runs/attention-seed-1/run.sqlite"};
    for (int i = 0; i < 2; i++) {
        double violation, dead;
        by_log(logs[i], i == 1, i ? 8 : 5, &violation, &dead);
        assert_true(fabs(last_rows[i].max_violation - violation) < 1e-9);
        assert_true(fabs(last_rows[i].dead_experts - dead) < 1e-9);
    }
    assert_int_equal(sgm_folder_remove(path("live"), NULL), SGM_OK);
}

/* `data:` of the experiment decides the text when the lab begins, as --data does, and not later. */
static void data_of_the_file_are_kept_to(void **state) {
    (void)state;
    sgm_error error;
    char *text = sgm_format("data: [sea.txt]\n%s", two_arms);
    write_file("named.yaml", text);
    sgm_free(text);
    const sgm_lab_options options = {.folder = path("named"), .seeds = 1, .default_data = path("land.txt")};
    assert_int_equal(sgm_lab_run(path("named.yaml"), &options, NULL, NULL, &error), SGM_OK);
    change("named.yaml", "[sea.txt]", "[sea.txt, land.txt]");
    assert_int_equal(sgm_lab_run(path("named.yaml"), &options, NULL, NULL, &error), SGM_EARGUMENT);
    says(&error, "begun with other data: `data:` was sea.txt, in the experiment it is sea.txt,land.txt",
         "another --out");
    change("named.yaml", "data: [sea.txt, land.txt]\n", "");
    assert_int_equal(sgm_lab_run(path("named.yaml"), &options, NULL, NULL, &error), SGM_EARGUMENT);
    says(&error, "`data:` was sea.txt", "another --out");
    change("named.yaml", "name:", "data: sea.txt\nname:");
    assert_int_equal(sgm_lab_run(path("named.yaml"), &options, NULL, NULL, &error), SGM_OK);
    assert_int_equal(sgm_folder_remove(path("named"), NULL), SGM_OK);
    /* With --data the file's say nothing. */
    assert_int_equal(run_lab("named", "named.yaml", (sgm_lab_options){.seeds = 1}, &error), SGM_OK);
    change("named.yaml", "data: sea.txt", "data: land.txt");
    assert_int_equal(run_lab("named", "named.yaml", (sgm_lab_options){.seeds = 1}, &error), SGM_OK);
    assert_int_equal(sgm_folder_remove(path("named"), NULL), SGM_OK);
}

static void is_not_begun_again(const char *run, const char *message) {
    sgm_trainer *trainer;
    sgm_error error = {0};
    double rows = query(run, "SELECT count(*) FROM steps"),
           planned = query(run, "SELECT value FROM meta WHERE key = 'steps'");
    for (int longer = 0; longer < 2; longer++) {
        assert_int_equal(sgm_trainer_resume(path(run), longer ? 50 : 0, 0, NULL, &trainer, &error), SGM_EEXISTS);
        says(&error, message, "remove its run.sqlite and summary.json");
        assert_null(trainer);
    }
    assert_true(rows > 0 && query(run, "SELECT count(*) FROM steps") == rows);
    assert_true(query(run, "SELECT value FROM meta WHERE key = 'steps'") == planned);
    assert_false(sgm_path_exists(join(path(run), "checkpoints")));
}

/* Without its checkpoints a run cannot be gone on with, and to begin it anew would wipe what is left of it. */
static void discarded_checkpoints_end_a_run(void **state) {
    (void)state;
    sgm_error error;
    const char *none[] = {"none"};
    const sgm_lab_options options = {.seeds = 1, .arms = none, .arm_count = 1, .discard_checkpoints = true};
    write_file("two.yaml", two_arms);
    assert_int_equal(run_lab("light", "two.yaml", options, &error), SGM_OK);
    is_not_begun_again("light/runs/none-seed-1", "is complete and its checkpoints were discarded");
    assert_int_equal(run_lab("light", "two.yaml", options, &error), SGM_OK);
    /* Not complete: its rows tell. The lab says so too. */
    assert_int_equal(unlink(path("light/runs/none-seed-1/summary.json")), 0);
    is_not_begun_again("light/runs/none-seed-1", "was trained, but its checkpoints are gone");
    assert_int_equal(run_lab("light", "two.yaml", options, &error), SGM_EEXISTS);
    says(&error, "none-seed-1", "remove");
    /* As the hint says. */
    assert_int_equal(unlink(path("light/runs/none-seed-1/run.sqlite")), 0);
    assert_int_equal(run_lab("light", "two.yaml", options, &error), SGM_OK);
    assert_int_equal(sgm_folder_remove(path("light"), NULL), SGM_OK);
}

/* An archive that only root could write to: its runs are read, the results have no place. Damage alone asks for the run's removal. */
static void what_is_not_damaged_is_not_removed(void **state) {
    (void)state;
    sgm_error error;
    sgm_lab_measures m;
    const char *none[] = {"none"};
    write_file("two.yaml", two_arms);
    assert_int_equal(run_lab("kept", "two.yaml", (sgm_lab_options){.seeds = 1, .arms = none, .arm_count = 1}, &error),
                     SGM_OK);
    const char *folders[] = {root, path("kept"), path("kept/runs"), path("kept/runs/none-seed-1")};
    for (int i = 0; i < 4; i++)
        assert_int_equal(chmod(folders[i], i ? 0555 : 0755), 0);
    bool is_root = geteuid() == 0;
    assert_true(!is_root || seteuid(65534) == 0);
    error = (sgm_error){0};
    sgm_status measured = sgm_lab_measure(path("kept/runs/none-seed-1"), 0, &m, &error);
    sgm_error written = {0};
    sgm_status report = sgm_lab_report(path("kept"), &written);
    assert_true(!is_root || seteuid(0) == 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(chmod(folders[i], 0755), 0);
    if (measured)
        fail_msg("%s", error.message);
    assert_true(m.bits_per_byte > 0);
    sgm_lab_measures_free(&m);
    assert_int_equal(report, SGM_EIO);
    says(&written, "results.json", "");
    assert_null(strstr(written.hint, "remove"));
    static const char *const damage[] = {"no database at all, and long enough to be one", NULL};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(unlink(path("kept/runs/none-seed-1/run.sqlite")), 0);
        if (damage[i])
            write_file("kept/runs/none-seed-1/run.sqlite", damage[i]);
        assert_int_equal(sgm_lab_report(path("kept"), &error), SGM_EFORMAT);
        says(&error, "none-seed-1/run.sqlite", "remove this run's folder");
    }
    assert_int_equal(sgm_folder_remove(path("kept"), NULL), SGM_OK);
}

/* A lab that was stopped names the runs that are not there; its command is one that a shell takes as it is. */
static void results_name_what_is_missing(void **state) {
    (void)state;
    sgm_error error;
    const char *name = "it's two.yaml", *data[] = {path("the sea.txt"), path("land.txt")},
               *set[] = {"train.sample_prompt=a $b"};
    write_file(name, two_arms);
    write_text("the sea.txt", 1);
    stop_after = 7; /* the first seed is complete, and the second has begun */
    const sgm_lab_options options = {.data = data, .data_count = 2, .settings = set, .setting_count = 1, .seeds = 3};
    assert_int_equal(run_lab("cut", name, options, &error), SGM_EINTERRUPTED);
    stop_after = 0;
    assert_int_equal(sgm_lab_report(path("cut"), &error), SGM_OK);
    holds("cut/results.md", "- `none`, seed 2: not finished\n- `none`, seed 3: not begun\n"
                            "- `even`, seed 2: not finished\n- `even`, seed 3: not begun\n");
    json_t *all = results("cut");
    char *command = sgm_format("sigmoe lab run 'it'\\''s two.yaml' --seeds 3 --steps 12 --data '%s' %s --set "
                               "'train.sample_prompt=a $b'",
                               data[0], data[1]);
    assert_string_equal(json_string_value(json_object_get(all, "command")), command);
    sgm_free(command);
    json_decref(all);
    assert_int_equal(sgm_folder_remove(path("cut"), NULL), SGM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_diverged_arm_stays_failed),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(a_log_that_is_not_the_whole_run_is_refused),
        cmocka_unit_test(a_run_that_loses_rows_fails_at_once),
        cmocka_unit_test(threads_are_those_of_all_jobs),
        cmocka_unit_test(live_balance_is_that_of_results),
        cmocka_unit_test(data_of_the_file_are_kept_to),
        cmocka_unit_test(discarded_checkpoints_end_a_run),
        cmocka_unit_test(what_is_not_damaged_is_not_removed),
        cmocka_unit_test(results_name_what_is_missing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
