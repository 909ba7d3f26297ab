// SPDX-License-Identifier: Apache-2.0
/* Parameters and configurations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text_print.h"
#include "config_example.h"
#include "locale_helper.h"

static int setup(void **state) {
    return sgm_config_new_with(&example_schema, (sgm_config **)state, NULL) != SGM_OK;
}

static int teardown(void **state) {
    sgm_config_free(*state);
    return 0;
}

static char *text_of(const sgm_config *config, bool origins) {
    char *text;
    assert_int_equal(sgm_config_text(config, origins, &text, NULL), SGM_OK);
    return text;
}

static void assert_value(const sgm_config *config, const char *key, const char *value) {
    assert_non_null(sgm_config_get(config, key));
    assert_string_equal(sgm_config_get(config, key), value);
}

/* Parsing `yaml` fails, names `part`, hints `hint`, and changes nothing. */
static void assert_refused(sgm_config *config, const char *yaml, const char *part, const char *hint) {
    char *before = text_of(config, true);
    sgm_error error = {0};
    assert_int_equal(sgm_config_parse(config, yaml, strlen(yaml), "t.yaml", &error), SGM_EARGUMENT);
    if (!strstr(error.message, part) || !strstr(error.hint, hint))
        fail_msg("wanted \"%s\" / \"%s\", got \"%s\" / \"%s\"", part, hint, error.message, error.hint);
    char *after = text_of(config, true);
    assert_string_equal(before, after);
    sgm_text_free(before);
    sgm_text_free(after);
}

static void parse(sgm_config *config, const char *yaml) {
    sgm_error error = {0};
    if (sgm_config_parse(config, yaml, strlen(yaml), "t.yaml", &error))
        fail_msg("%s: %s", yaml, error.message);
}

static void test_defaults(void **state) {
    static const char *const keys[] = {
        "model.layers", "model.window",  "model.rate",   "model.tie",    "model.mode",         "model.note",
        "model.steps",  "model.weights", "router.kind",  "router.seed",  "router.coefficient", "router.scope",
        "balance",      "extra",         "extra.0.kind", "extra.1.kind", "extra.1.groups",     "extra.1.coefficient"};
    sgm_config *config = *state;
    assert_int_equal(sgm_config_count(config), sizeof keys / sizeof *keys);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        assert_string_equal(sgm_config_key(config, i), keys[i]);
        assert_string_equal(sgm_config_origin(config, keys[i]), "default");
        assert_non_null(sgm_config_param(config, keys[i]));
    }
    assert_null(sgm_config_key(config, sizeof keys / sizeof *keys));
    assert_null(sgm_config_get(config, "model"));
    assert_null(sgm_config_origin(config, "model.nothing"));
    assert_null(sgm_config_param(config, ""));
    assert_value(config, "balance", "none");
    assert_value(config, "extra", "bare,z_loss");
    assert_int_equal(sgm_config_list_count(config, "balance"), 0);
    assert_int_equal(sgm_config_list_count(config, "extra"), 2);

    example_model a, b;
    assert_int_equal(sgm_config_bind(config, "model", example_model_params, 8, &a, NULL), SGM_OK);
    assert_int_equal(sgm_param_defaults(example_model_params, 8, &b, NULL), SGM_OK);
    for (int i = 0; i < 2; i++) {
        const example_model *m = i ? &b : &a;
        assert_int_equal(m->layers, 8);
        assert_true(m->window == SGM_AUTO);
        assert_true(m->rate == 0.001);
        assert_true(m->tie);
        assert_int_equal(m->mode, 1);
        assert_string_equal(m->note, "");
        assert_int_equal(m->steps.count, 2);
        assert_int_equal(m->steps.items[0], 8);
        assert_int_equal(m->steps.items[1], 2);
        assert_int_equal(m->weights.count, 0);
    }
    sgm_error error;
    assert_int_equal(sgm_config_bind(config, "nothing", example_model_params, 8, &a, &error), SGM_EINTERNAL);
}

static void test_layers_and_origins(void **state) {
    sgm_config *config = *state;
    sgm_error error;
    assert_int_equal(sgm_config_preset(config, "nano", &error), SGM_OK);
    assert_value(config, "model.layers", "12");
    assert_string_equal(sgm_config_origin(config, "model.layers"), "preset nano");
    assert_value(config, "router.groups", "8");
    assert_null(sgm_config_get(config, "router.scope")); /* belonged to the other kind */
    assert_int_equal(sgm_config_preset(config, "giga", &error), SGM_ENOTFOUND);

    char folder[] = "/tmp/sigmoe-config-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *path = sgm_path_join(folder, "run.yaml");
    const char *yaml = "# comment\nmodel:\n  layers: 6\n\n  tie: false # why\nrouter: {groups: 2, kind: z_loss}\n";
    assert_int_equal(sgm_file_write(path, yaml, strlen(yaml), &error), SGM_OK);
    assert_int_equal(sgm_config_load(config, path, &error), SGM_OK);
    char origin[100];
    snprintf(origin, sizeof origin, "%s:5", path);
    assert_string_equal(sgm_config_origin(config, "model.tie"), origin);
    assert_value(config, "model.layers", "6");
    assert_value(config, "router.groups", "2");
    const char *marked = "\xef\xbb\xbfmodel:\n  layers: 4\nrouter: {groups: 3}\n"; /* as some editors save it */
    parse(config, marked);
    assert_value(config, "model.layers", "4");
    assert_string_equal(sgm_config_origin(config, "router.groups"), "t.yaml:3");
    parse(config, yaml);
    assert_int_equal(sgm_config_load(config, "/no/such.yaml", &error), SGM_ENOTFOUND);
    sgm_free(path);
    assert_int_equal(sgm_folder_remove(folder, NULL), SGM_OK);

    assert_int_equal(sgm_config_set(config, "model.layers", " 1e1 ", "--set", &error), SGM_OK);
    assert_value(config, "model.layers", "10");
    assert_string_equal(sgm_config_origin(config, "model.layers"), "--set");
    assert_int_equal(sgm_config_check(config, &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "model.layers", "7", "--set", &error), SGM_OK);
    assert_int_equal(sgm_config_check(config, &error), SGM_EARGUMENT);
    /* the same kind again keeps its values, another kind brings its own */
    assert_int_equal(sgm_config_set(config, "router.kind", "z_loss", "--set", &error), SGM_OK);
    assert_value(config, "router.groups", "2");
    assert_int_equal(sgm_config_set(config, "router.seed", "5", "--set", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "router.kind", "load_loss", "--set", &error), SGM_OK);
    assert_value(config, "router.coefficient", "0.01");
    assert_value(config, "router.seed", "5");
    assert_null(sgm_config_get(config, "router.groups"));
}

static void test_lists_of_plugins(void **state) {
    sgm_config *config = *state;
    sgm_error error;
    assert_int_equal(sgm_config_set(config, "balance", "load_loss, z_loss", "--set", &error), SGM_OK);
    assert_int_equal(sgm_config_list_count(config, "balance"), 2);
    assert_value(config, "balance", "load_loss,z_loss");
    assert_value(config, "balance.0.scope", "sequence");
    assert_int_equal(sgm_config_set(config, "balance.0.scope", "global", "--set", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "balance.1.coefficient", "2", "--set", &error), SGM_OK);
    example_kind first = {0}, second = {0};
    assert_int_equal(sgm_config_bind(config, "balance.0", example_first_params, 2, &first, &error), SGM_OK);
    assert_int_equal(sgm_config_bind(config, "balance.1", example_second_params, 2, &second, &error), SGM_OK);
    assert_int_equal(first.scope, 2);
    assert_true(first.coefficient == 0.01 && second.coefficient == 2);
    assert_int_equal(second.groups, 4);
    assert_int_equal(sgm_config_set(config, "balance.0.kind", "bare", "--set", &error), SGM_OK);
    assert_value(config, "balance", "bare,z_loss");
    assert_null(sgm_config_get(config, "balance.0.scope"));
    assert_value(config, "balance.1.coefficient", "2");
    assert_value(config, "extra.1.groups", "4");
    assert_int_equal(sgm_config_set(config, "balance", "none", "--set", &error), SGM_OK);
    assert_int_equal(sgm_config_list_count(config, "balance"), 0);
    assert_int_equal(sgm_config_set(config, "balance", "a,", "--set", &error), SGM_EARGUMENT);
    assert_int_equal(sgm_config_set(config, "balance", "bare,", "--set", &error), SGM_EARGUMENT);

    parse(config, "balance:\n  - scope: global\n    kind: load_loss\n  - z_loss\n  - {kind: bare}\n");
    assert_value(config, "balance", "load_loss,z_loss,bare");
    assert_value(config, "balance.0.scope", "global");
    assert_string_equal(sgm_config_origin(config, "balance.0.scope"), "t.yaml:2");
    parse(config, "balance: [z_loss, load_loss]\nextra: none\n");
    assert_value(config, "balance.1.scope", "sequence"); /* a list is made anew */
    assert_int_equal(sgm_config_list_count(config, "extra"), 0);
    parse(config, "balance.1.scope: micro\nextra: []\n");
    assert_value(config, "balance.1.scope", "micro");
    char many[3000] = "bare";
    for (int i = 0; i < 256; i++)
        strcat(many, ",bare");
    assert_int_equal(sgm_config_set(config, "balance", many, "--set", &error), SGM_EARGUMENT);
}

static void test_values(void **state) {
    static const struct {
        const char *key, *text, *canonical;
    } good[] = {
        {"model.layers", "+7", "7"},
        {"model.layers", "5e2", "500"},
        {"model.window", "auto", "auto"},
        {"model.rate", ".5", ".5"},
        {"model.rate", "1", "1"},
        {"model.tie", "false", "false"},
        {"model.mode", "lagged", "lagged"},
        {"model.steps", "[1, 2 ,3]", "1,2,3"},
        {"model.steps", "auto", "auto"},
        {"model.steps", "", ""},
        {"model.weights", "0.1,1e3", "0.1,1e+03"},
        {"model.note", " a ", " a "},
    };
    static const struct {
        const char *key, *text, *why, *hint;
    } bad[] = {
        {"model.layers", "0", "out of range", "1 to 512"},
        {"model.layers", "513", "out of range", "(layers)"},
        {"model.layers", "1.5", "not a whole number", "whole number"},
        {"model.layers", "auto", "not a whole number", "whole number"},
        {"model.layers", "", "not a whole number", "whole number"},
        {"model.layers", "9999999999999999999", "out of range", ""},
        {"model.layers", "9e18k", "not a whole number", ""},
        {"model.layers", "9k9", "not a whole number", ""},
        {"model.layers", "k", "not a whole number", ""},
        {"model.layers", "9999999999999999G", "out of range", ""},
        {"model.window", "x", "not a whole number", "or auto"},
        {"model.window", "-9223372036854775808", "not a whole number", "or auto"},
        {"model.rate", "nan", "not a number", "0 to 1"},
        {"model.rate", "inf", "not a number", ""},
        {"model.rate", "0x1", "not a number", ""},
        {"model.rate", "1e999", "not a number", ""},
        {"model.rate", "-0.1", "out of range", ""},
        {"model.tie", "maybe", "neither true nor false", "true or false"},
        {"model.mode", "exac", "not one of its choices", "exact|buffer|lagged"},
        {"model.mode", "exact|buffer", "not one of its choices", ""},
        {"model.mode", "", "not one of its choices", ""},
        {"model.steps", "1,,2", "an item is not a whole number", "8,2"},
        {"model.steps", "1,65", "an item is out of range", "1 to 64"},
        {"model.weights", "-1", "an item is out of range", "at least 0"},
        {"model.note", "\xff", "not valid UTF-8", ""},
        {"model.note", "\xed\xa0\x80", "not valid UTF-8", ""},
        {"router.kind", "zloss", "there is no router", "z_loss"},
        {"balance", "[z_loss", "there is no balance", "z_loss"},
        {"balance", "z_loss]", "there is no balance", "z_loss"},
    };
    sgm_config *config = *state;
    sgm_error error;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(sgm_config_set(config, good[i].key, good[i].text, "--set", &error), SGM_OK);
        assert_value(config, good[i].key, good[i].canonical);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *before = text_of(config, true), *after;
        assert_int_equal(sgm_config_set(config, bad[i].key, bad[i].text, "--set", &error), SGM_EARGUMENT);
        if (!strstr(error.message, bad[i].why) || !strstr(error.hint, bad[i].hint) ||
            !strstr(error.message, bad[i].key))
            fail_msg("%s = %s: got \"%s\" / \"%s\"", bad[i].key, bad[i].text, error.message, error.hint);
        after = text_of(config, true);
        assert_string_equal(before, after);
        sgm_text_free(before);
        sgm_text_free(after);
    }
}

static void test_unknown_keys(void **state) {
    sgm_config *config = *state;
    assert_refused(config, "model:\n  layer: 3\n", "t.yaml:2", "did you mean model.layers?");
    assert_refused(config, "modle: {layers: 3}\n", "unknown key modle.layers", "did you mean model.layers?");
    assert_refused(config, "layers: 3\n", "unknown key layers", "did you mean model.layers?");
    assert_refused(config, "model:\n  xyzzy: 3\n", "model.xyzzy", "model has model.layers model.window");
    assert_refused(config, "q: 3\n", "unknown key q", "the sections are model router balance extra");
    assert_refused(config, "q: {}\n", "unknown key q", "sections");
    assert_refused(config, "balance.7.xyzzyxyzzyxyzzy: 3\n", "balance.7", "balance has 0 entries");
    assert_refused(config, "router: {scop: micro}\n", "router.scop", "router.scope");
    assert_refused(config, "router: {groups: 1}\n", "router.groups",
                   "groups is a key of z_loss; router.kind is load_loss");
    assert_refused(config, "balance: [load_loss]\nbalance.0.groups: 1\n", "balance.0.groups",
                   "groups is a key of z_loss");
    assert_refused(config, "balance: [load_loss]\nbalance.1.kind: z_loss\n", "balance.1.kind", "balance has 1 entry;");
    assert_refused(config, "router: z_loss\n", "router is a section", "kind: NAME");
    assert_refused(config, "model: 5\n", "model is a section", "below");
    assert_refused(config, "'': 5\n", "unknown key \"\"", "sections");
    assert_refused(config, "model: {layers: 3, rate: 5}\n", "model.rate = 5 (t.yaml:1): out of range", "0 to 1");
}

static void test_yaml_errors(void **state) {
    sgm_config *config = *state;
    assert_refused(config, "model:\n  layers: 3\n  tie: true\n  layers: 4\n",
                   "t.yaml:4: model.layers is set twice, first on line 2", "keep one");
    assert_refused(config, "model.layers: 3\nmodel: {layers: 4}\n", "set twice", "");
    assert_refused(config, "model: {layers: 3}\nmodel: {rate: 1}\n", "t.yaml:2: model is set twice, first on line 1",
                   "");
    assert_refused(config, "model:\nmodel:\n", "t.yaml:2: model is set twice", "");
    assert_refused(config, "model: {layers: 3\n", "t.yaml:", "");
    assert_refused(config, "model:\n\tlayers: 3\n", "t.yaml:2", "spaces");
    assert_refused(config, "- a\n", "not a list of keys", "sections");
    assert_refused(config, "hello\n", "not a list of keys", "");
    assert_refused(config, "model: &a {layers: 3}\n", "anchors", "");
    assert_refused(config, "model: *a\n", "aliases", "");
    assert_refused(config, "model: {layers: !!int 3}\n", "tags", "");
    assert_refused(config, "model: {layers: 3}\n---\nmodel: {layers: 4}\n", "t.yaml:2: a second YAML document", "");
    assert_refused(config, "model: {note: \"a\\0b\"}\n", "zero byte", "");
    assert_refused(config, "model: {[a]: b}\n", "a key must be a name", "");
    assert_refused(config, "balance: [{scope: global}]\n", "has no kind", "- kind: NAME");
    assert_refused(config, "balance: [[bare]]\n", "a list cannot hold a list", "");
    assert_refused(config, "balance: [{kind: 'bare,bare'}]\n", "comma", "");
    assert_refused(config, "model: {layers: \xff}\n", "t.yaml:", "");
    char deep[400] = "";
    for (int i = 0; i < 40; i++)
        strcat(deep, "{a: ");
    assert_refused(config, deep, "nested too deeply", "");
    strcpy(deep, "a: ");
    for (int i = 0; i < 40; i++)
        strcat(deep, "[{a: ");
    assert_refused(config, deep, "nested too deeply", "");
    size_t size = (1 << 20) + 1;
    char *large = sgm_alloc(size);
    memset(large, '\n', size);
    sgm_error error;
    assert_int_equal(sgm_config_parse(config, large, size, "t.yaml", &error), SGM_EARGUMENT);
    sgm_free(large);
    sgm_buffer many = {0};
    for (int i = 0; i < 10001; i++)
        sgm_buffer_print(&many, "a%d: 1\n", i);
    assert_refused(config, many.data, "too many values", "");
    sgm_buffer_free(&many);
    parse(config, "");
    parse(config, "# nothing\n");
    parse(config, "---\n");
    parse(config, "model:\nrouter: {}\n");
}

static void test_text_reloads(void **state) {
    sgm_config *config = *state, *other;
    sgm_error error;
    const char *note = "a \"b\" \\ \t\n# \x01 \x7f \xc3\xa9 \xc2\x85 \xe2\x80\xa8 \xef\xbb\xbf \xf0\x9f\x98\x80 : - {";
    assert_int_equal(sgm_config_set(config, "model.note", note, "--set \xff\n# x", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "model.steps", "4,2,1", "caf\xc3\xa9.yaml:1", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "model.weights", "0.1,0.30000000000000004", "x", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "balance", "z_loss,load_loss", "--set", &error), SGM_OK);
    assert_int_equal(sgm_config_set(config, "extra", "none", "--set", &error), SGM_OK);
    for (int origins = 0; origins < 2; origins++) {
        char *text = text_of(config, origins);
        assert_int_equal(sgm_config_new_with(&example_schema, &other, NULL), SGM_OK);
        parse(other, text);
        assert_int_equal(sgm_config_count(other), sgm_config_count(config));
        for (size_t i = 0; i < sgm_config_count(config); i++) {
            const char *key = sgm_config_key(config, i);
            assert_string_equal(sgm_config_key(other, i), key);
            assert_string_equal(sgm_config_get(other, key), sgm_config_get(config, key));
        }
        if (origins) {
            assert_non_null(strstr(text, "\n  steps: [4, 2, 1]  # caf\xc3\xa9.yaml:1\n"));
            assert_non_null(strstr(text, "# --set ??# x\n"));
            assert_non_null(strstr(text, "\nbalance:  # --set\n  - kind: z_loss  # --set\n    groups: 4  # default\n"));
        } else {
            assert_non_null(strstr(text, "\nextra: none\n"));
            assert_null(strstr(text, "default"));
        }
        sgm_text_free(text);
        sgm_config_free(other);
    }
    assert_int_equal(sgm_config_copy(config, &other, NULL), SGM_OK);
    assert_int_equal(sgm_config_set(other, "model.layers", "2", "x", NULL), SGM_OK);
    assert_value(config, "model.layers", "8");
    assert_string_equal(sgm_config_origin(other, "balance"), "--set");
    sgm_config_free(other);
}

/* A decimal comma of the program's locale must not change what numbers mean, in configs and in messages. */
static void test_locale(void **state) {
    sgm_config *config = *state;
    char folder[] = "/tmp/sigmoe-locale-XXXXXX", real[32];
    assert_non_null(mkdtemp(folder));
    set_comma_locale(folder);
    sgm_error error = {0}, range = {0};
    sgm_status status = sgm_config_set(config, "model.weights", "0.25,1.5", "x", &error);
    sgm_fail(&range, SGM_EARGUMENT, NULL, "%.2f", 0.25);
    sgm_text_print(real, sizeof real, "%g", sgm_text_real("0.25", NULL));
    snprintf(error.hint, sizeof error.hint, "%g", 0.25); /* and the program's own locale is as it was */
    setlocale(LC_NUMERIC, "C");
    assert_int_equal(status, SGM_OK);
    assert_value(config, "model.weights", "0.25,1.5");
    assert_string_equal(range.message, "0.25");
    assert_string_equal(real, "0.25");
    assert_string_equal(error.hint, "0,25");
    assert_int_equal(sgm_folder_remove(folder, NULL), SGM_OK);
}

/* A value changed in one of two structs is seen, and printed as it would be written. */
static void test_values_in_settings(void **state) {
    (void)state;
    enum { COUNT = sizeof example_model_params / sizeof *example_model_params };
    static const char *const defaults[COUNT] = {"8", "auto", "0.001", "true", "buffer", "", "8,2", ""};
    static const char *const others[COUNT] = {"9", "7", "0.5", "false", "lagged", "x", "8,3", "0.5,1"};
    static const int64_t steps[] = {8, 3};
    static const double weights[] = {0.5, 1};
    example_model a = {0};
    assert_int_equal(sgm_param_defaults(example_model_params, COUNT, &a, NULL), SGM_OK);
    example_model b = a;
    for (int i = 0; i < COUNT; i++) {
        char text[32];
        assert_true(sgm_param_same(&example_model_params[i], &a, &b));
        sgm_param_print(&example_model_params[i], &a, text, sizeof text);
        assert_string_equal(text, defaults[i]);
    }
    b = (example_model){9, 7, 0.5, false, 2, "x", {steps, 2}, {weights, 2}};
    for (int i = 0; i < COUNT; i++) {
        char text[32];
        assert_false(sgm_param_same(&example_model_params[i], &a, &b));
        sgm_param_print(&example_model_params[i], &b, text, sizeof text);
        assert_string_equal(text, others[i]);
        assert_true(sgm_param_same(&example_model_params[i], &b, &b));
        sgm_param_print(&example_model_params[i], &b, text, 2); /* cut off, not written over */
        assert_true(strlen(text) < 2);
    }
    a.rate = b.rate = (double)NAN; /* auto */
    assert_true(sgm_param_same(&example_model_params[2], &a, &b));
    b.weights.count = 1;
    a.weights = (sgm_real_list){weights, 2};
    assert_false(sgm_param_same(&example_model_params[7], &a, &b));
}

static void test_nearest(void **state) {
    (void)state;
    const char *const names[] = {"adamw", "muon", "load_balance_loss", "z_loss", "loss_free_bias", "none", NULL};
    assert_string_equal(sgm_nearest("adam", names), "adamw");
    assert_string_equal(sgm_nearest("amdaw", names), "adamw");
    assert_string_equal(sgm_nearest("AdamW", names), "adamw");
    assert_string_equal(sgm_nearest("load_balance", names), "load_balance_loss"); /* its beginning */
    assert_string_equal(sgm_nearest("lod_balanse_loss", names), "load_balance_loss");
    assert_string_equal(sgm_nearest("zloss", names), "z_loss");
    assert_string_equal(sgm_nearest("non", names), "none");
    assert_null(sgm_nearest("xyzzy", names));
    assert_null(sgm_nearest("", names));
    char huge[1000];
    memset(huge, 'a', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    assert_null(sgm_nearest(huge, names));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_layers_and_origins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists_of_plugins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_yaml_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text_reloads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_locale, setup, teardown),
        cmocka_unit_test(test_values_in_settings),
        cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
