// SPDX-License-Identifier: Apache-2.0
/* Experiment files: arms inherit and override, and what is wrong is said with the arm, the line and a hint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "lab/experiment.h"

static char file[64];

static sgm_status open_text(const char *text, sgm_experiment **experiment, sgm_error *error) {
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
    return sgm_experiment_open(file, NULL, 0, experiment, error);
}

static int setup(void **state) {
    (void)state;
    strcpy(file, "/tmp/sgm-experiment-XXXXXX");
    int number = mkstemp(file);
    return number < 0 ? -1 : close(number);
}

static int teardown(void **state) {
    (void)state;
    return unlink(file);
}

static const char *value(const sgm_experiment *experiment, size_t arm, const char *key) {
    return sgm_config_get(experiment->arms[arm].config, key);
}

/* What some editors put before the first character; two keys and a part of the file are read behind it. */
static void a_byte_order_mark_is_passed_by(void **state) {
    (void)state;
    sgm_experiment *e;
    sgm_error error = {0};
    const char *text = "\xef\xbb\xbfname: marked\npreset: pico\nset: {model.layers: 3}\narms:\n- name: größer\n"
                       "  set: {model.experts: 4}\n";
    const char *fine = "\xef\xbb\xbfname: marked\npreset: pico\nset: {model.layers: 3}\narms:\n- name: one\n"
                       "  set: {model.experts: 4}\n";
    if (open_text(fine, &e, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    assert_string_equal(value(e, 0, "model.layers"), "3");
    assert_string_equal(value(e, 0, "model.experts"), "4");
    sgm_experiment_close(e);
    assert_int_equal(open_text(text, &e, &error), SGM_EARGUMENT); /* for its arm's name, on its line */
    assert_non_null(strstr(error.message, ":5: \"größer\""));
}

/* Block and flow style, a comment between, a character of two bytes before a `set`, a parent that comes after its child. */
static void arms_inherit_and_override(void **state) {
    (void)state;
    sgm_experiment *e;
    sgm_error error = {0};
    const char *text = "name: small\n"
                       "claim: größer is not bigger\n"
                       "preset: pico\n"
                       "steps: 100\n"
                       "set:\n"
                       "  model:\n"
                       "    layers: 3\n"
                       "  # about the router\n"
                       "  balance:\n"
                       "    - kind: load_balance_loss\n"
                       "      coefficient: 0.5\n"
                       "\n"
                       "arms:\n"
                       "  - name: child\n"
                       "    description: “quoted”\n"
                       "    inherits: parent\n"
                       "    set: {balance.0.coefficient: 0.25}\n"
                       "  - name: parent\n"
                       "    set:\n"
                       "      balance.0.scope: micro\n"
                       "      model:\n"
                       "        experts: 4\n"
                       "  - name: bare\n";
    if (open_text(text, &e, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    assert_int_equal(e->arm_count, 3);
    assert_string_equal(value(e, 0, "balance.0.coefficient"), "0.25");
    assert_string_equal(value(e, 0, "balance.0.scope"), "micro");
    assert_string_equal(value(e, 0, "model.experts"), "4");
    assert_string_equal(value(e, 1, "balance.0.coefficient"), "0.5");
    assert_string_equal(value(e, 2, "balance.0.scope"), "global");
    assert_string_equal(value(e, 2, "model.layers"), "3");
    assert_string_equal(value(e, 2, "train.steps"), "100");
    assert_string_equal(value(e, 2, "train.eval_every"), "9"); /* 12 times in 100 steps */
    char origin[96];
    snprintf(origin, sizeof origin, "%s:17", file);
    assert_string_equal(sgm_config_origin(e->arms[0].config, "balance.0.coefficient"), origin);
    snprintf(origin, sizeof origin, "%s:22", file);
    assert_string_equal(sgm_config_origin(e->arms[0].config, "model.experts"), origin);
    sgm_experiment_arm arm;
    sgm_experiment_arm_at(e, 0, &arm);
    assert_string_equal(arm.balance, "load_balance_loss 0.25 (micro)");
    sgm_experiment_arm_at(e, 2, &arm);
    assert_string_equal(arm.balance, "load_balance_loss 0.5 (global, exact)");
    sgm_experiment_info info;
    sgm_experiment_describe(e, &info);
    assert_string_equal(info.baseline, "child"); /* the first */
    assert_int_equal(info.seeds, 3);
    sgm_experiment_close(e);
}

static void settings_lie_below_arms(void **state) {
    (void)state;
    sgm_experiment *e;
    sgm_error error = {0};
    const char *settings[] = {"model.layers=5", "model.experts=16"};
    assert_int_equal(open_text("name: s\npreset: pico\nset: {model.layers: 3}\narms:\n"
                               "  - name: a\n    set: {model.experts: 4}\n  - name: b\n",
                               &e, &error),
                     SGM_OK);
    sgm_experiment_close(e);
    assert_int_equal(sgm_experiment_open(file, settings, 2, &e, &error), SGM_OK);
    assert_string_equal(value(e, 0, "model.layers"), "5");
    assert_string_equal(value(e, 0, "model.experts"), "4");
    assert_string_equal(value(e, 1, "model.experts"), "16");
    sgm_experiment_close(e);
    settings[0] = "train.seed=3";
    assert_int_equal(sgm_experiment_open(file, settings, 1, &e, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "train.seed (--set) is decided by the lab"));
    settings[0] = "model.layers";
    assert_int_equal(sgm_experiment_open(file, settings, 1, &e, &error), SGM_EARGUMENT);
}

/* As with --steps: a lab of a few is good for trying an experiment out. */
static void steps_begin_at_one(void **state) {
    (void)state;
    sgm_experiment *e;
    sgm_error error = {0};
    if (open_text("name: s\npreset: pico\nsteps: 1\narms: [{name: a}]\n", &e, &error))
        fail_msg("%s", error.message);
    assert_string_equal(value(e, 0, "train.steps"), "1");
    sgm_experiment_close(e);
}

static void what_is_wrong_is_said(void **state) {
    (void)state;
    static const struct {
        const char *text, *message, *hint;
    } wrong[] = {
        {"", "no arms", "arms"},
        {"name: x\narms: []\n", "no arms", "arms"},
        {"name: x\ndata: []\narms: [{name: a}]\n", ":2: the list is empty", "leave the line out"},
        {"arms: [{name: a}]\n", "no usable name", "name: NAME"},
        {"name: x\nstepz: 3\narms: [{name: a}]\n", ":2: there is no key stepz", "did you mean steps"},
        {"name: x\nmodel: {layers: 3}\narms: [{name: a}]\n", "no key model", ""},
        {"name: x\nlearning_rate: 3\narms: [{name: a}]\n", "no key learning_rate", "below `set:`"},
        {"name: x\nsteps: many\narms: [{name: a}]\n", "steps = many", "whole number"},
        {"name: x\nsteps: 3\nsteps: 4\narms: [{name: a}]\n", "", ""},
        {"name: x\narms:\n  - name: a\n    inherit: b\n", ":4: there is no key inherit of an arm",
         "did you mean inherits"},
        {"name: x\narms: [{name: a}, {name: a}]\n", "two arms a", "rename"},
        {"name: x\narms: [{name: a/b}]\n", "\"a/b\" is no name", "letters"},
        {"name: x\narms: [{name: a, inherits: bases}, {name: basis}]\n", "there is no arm bases", "did you mean basis"},
        {"name: x\narms: [{name: a, inherits: b}, {name: b, inherits: c}, {name: c, inherits: a}]\n",
         ":2: arm a inherits from itself over b c", "leave `inherits` out"},
        {"name: x\narms: [{name: a, inherits: a}]\n", ":2: arm a inherits from itself", ""},
        {"name: x\narms: [{name: d, inherits: b}, {name: a, inherits: b}, {name: b, inherits: a}]\n",
         ":2: arm a inherits from itself over b", ""},
        {"name: x\npreset: pico\narms:\n  - name: good\n  - name: bad\n    set:\n      model.experts_per_token: 9\n",
         "arm bad: ", "model.experts"},
        {"name: x\npreset: pico\narms:\n  - name: bad\n    set:\n      model:\n        layerz: 9\n", ":7)",
         "model.layers"},
        {"name: x\npreset: pico\narms: [{name: a, set: {data.heldout_share: 0.1}}]\n", "arm a: data.heldout_share",
         "all arms read the same data"},
        {"name: x\npreset: pico\narms: [{name: a}, {name: b, set: {data.tokens_per_step: 1024}}]\n",
         "arm b: data.tokens_per_step is 1024", "after the same tokens"},
        {"name: x\npreset: pico\narms: [{name: a}, {name: b, set: {data.mixture: prose=2}}]\n",
         "arm b: data.mixture is prose=2", "all arms read the same data"},
        {"name: x\npreset: pico\ntokens_per_step: 512\nset: {data.tokens_per_step: 1024}\narms: [{name: a}]\n",
         "`tokens_per_step:` is 512, data.tokens_per_step below `set:` is 1024", "keep one"},
        {"name: x\npreset: pico\nvocabulary: 300\nset:\n  model: {vocabulary: 400}\narms: [{name: a}]\n",
         "`vocabulary:` is 300, model.vocabulary below `set:` is 400", "keep one"},
        {"name: x\npreset: pico\narms:\n  - name: a\n    set: {train.steps: 9}\n", "arm a: train.steps", "`steps:`"},
        {"name: x\npreset: pico\narms:\n  - name: a\n    set: {train.seed: 1}\n", ":5) is decided by the lab",
         "`seeds:`"},
        {"name: x\npreset: pico\narms: [{name: a, set: {data.folder: d}}]\n", "arm a: data.folder", "`data:`"},
        {"name: x\npreset: pico\nset: {train.steps: 9}\narms: [{name: a}]\n", ":3) is decided by the lab", "`steps:`"},
        {"name: x\npreset: pico\nset:\n  train: {seed: 9}\narms: [{name: a}]\n", "train.seed", "`seeds:`"},
        {"name: x\npreset: pico\nset: {data.folder: d}\narms: [{name: a}]\n", "data.folder", "`data:`"},
        {"name: x\npreset: pico\nsteps: 0\narms: [{name: a}]\n", "steps = 0", ""},
        {"name: x\npreset: pico\ngroups: 3\narms: [{name: a}]\n", "8 experts cannot be spread evenly over 3 groups",
         ""},
        {"name: x\npreset: pico\nbaseline: b\narms: [{name: a}]\n", "baseline: there is no arm b", "its arms are a"},
        {"name: x\npreset: pico\ncompare: [bits_per_bite]\narms: [{name: a}]\n", "no measure bits_per_bite",
         "did you mean bits_per_byte"},
        {"name: x\npreset: pica\narms: [{name: a}]\n", "preset pica", "pico"},
        {"name: x\narms:\n  - name: a\n    set: 3\n", "no mapping", "sigmoe list config"},
        {"name: x\narms:\n  - &b\n    name: a\n  - *b\n", "aliases", ""},
        {"name: [x\n", "", ""},
        {"- name: x\n", "not one experiment", ""},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sgm_experiment *e;
        sgm_error error = {0};
        assert_int_equal(open_text(wrong[i].text, &e, &error), SGM_EARGUMENT);
        assert_null(e);
        if (!strstr(error.message, wrong[i].message) || !strstr(error.hint, wrong[i].hint) || !*error.hint)
            fail_msg("%s: \"%s\", hint \"%s\"", wrong[i].text, error.message, error.hint);
    }
    sgm_experiment *e;
    sgm_error error = {0};
    assert_int_equal(sgm_experiment_open("/tmp/there-is-no-such.yaml", NULL, 0, &e, &error), SGM_ENOTFOUND);
}

/* Every file that is shipped is valid, and named as it calls itself. */
static void shipped_experiments_are_valid(void **state) {
    (void)state;
    DIR *folder = opendir(SGM_SOURCE_DIR "/lab");
    assert_non_null(folder);
    int found = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[512], name[300];
        size_t size = strlen(entry->d_name);
        if (size < 6 || strcmp(entry->d_name + size - 5, ".yaml") != 0)
            continue;
        snprintf(path, sizeof path, "%s/lab/%s", SGM_SOURCE_DIR, entry->d_name);
        snprintf(name, sizeof name, "%.*s", (int)(size - 5), entry->d_name);
        sgm_experiment *e;
        sgm_error error = {0};
        if (sgm_experiment_open(path, NULL, 0, &e, &error))
            fail_msg("%s: %s (%s)", path, error.message, error.hint);
        sgm_experiment_info info;
        sgm_experiment_describe(e, &info);
        assert_string_equal(info.name, name);
        assert_true(*info.claim && info.arms >= 2 && info.seeds >= 3);
        for (size_t a = 0; a < info.arms; a++)
            assert_true(*e->arms[a].settings.description);
        sgm_experiment_close(e);
        found++;
    }
    closedir(folder);
    assert_true(found >= 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_byte_order_mark_is_passed_by), cmocka_unit_test(arms_inherit_and_override),
        cmocka_unit_test(settings_lie_below_arms),        cmocka_unit_test(steps_begin_at_one),
        cmocka_unit_test(what_is_wrong_is_said),          cmocka_unit_test(shipped_experiments_are_valid),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
