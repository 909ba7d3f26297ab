// SPDX-License-Identifier: Apache-2.0
/* Labs: what is measured of a run is what a hand computes, a lab that was interrupted gives the results of one that was not,
 * runs of another experiment are not mixed in, and every experiment that is shipped runs. */
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <sqlite3.h>

#include "base/fault.h"
#include "lab_fixture.h"

static void near(double is, double wanted) {
    if (!(fabs(is - wanted) <= 1e-9 * (1 + fabs(wanted))))
        fail_msg("%.12g, not %.12g", is, wanted);
}

/* ---- measures ------------------------------------------------------------------------------------------------- */

/* Four experts, eight tokens: (4 − 0) / 8 between single experts; in two groups 4 and 4. An idle group counts. */
static void imbalance_by_hand(void **state) {
    (void)state;
    const int64_t count[] = {3, 1, 0, 4}, one[] = {8, 0, 0, 0};
    near(sgm_lab_imbalance(count, 4, 4, 8).score, 0.5);
    near(sgm_lab_imbalance(count, 4, 2, 8).score, 0);
    near(sgm_lab_imbalance(one, 4, 2, 8).score, 1);
    assert_true(isnan(sgm_lab_imbalance(one, 4, 0, 8).score));
}

/* Evaluations at 100 and 200 spent: halfway is the mean, beyond the end the last, before the first nothing is known. */
static void curves_by_hand(void **state) {
    (void)state;
    sgm_lab_point points[] = {{.step = 1, .seconds = 100, .bits_per_byte = 3},
                              {.step = 2, .seconds = 200, .bits_per_byte = 2}};
    const sgm_lab_measures m = {.point = points, .points = 2};
    near(sgm_lab_curve_at(&m, offsetof(sgm_lab_point, seconds), 150), 2.5);
    near(sgm_lab_curve_at(&m, offsetof(sgm_lab_point, seconds), 100), 3);
    near(sgm_lab_curve_at(&m, offsetof(sgm_lab_point, seconds), 200), 2);
    near(sgm_lab_curve_at(&m, offsetof(sgm_lab_point, seconds), 900), 2);
    assert_true(isnan(sgm_lab_curve_at(&m, offsetof(sgm_lab_point, seconds), 50)));
}

/* `computing`: so many of the four experts; `dropped` of the assignments of layer 1. */
static void log_step(sgm_run_log *log, int64_t step, const int64_t (*counts)[4], int computing, int64_t dropped) {
    double probability[2][4] = {{2, 2, 2, 2}, {8, 0, 0, 0}}; /* Σ over 8 tokens */
    sgm_load load[2];
    int64_t copy[2][4], k[2] = {1, 1};
    memcpy(copy, counts, sizeof copy);
    for (int l = 0; l < 2; l++)
        load[l] = (sgm_load){.tokens = 8,
                             .experts = 4,
                             .count = copy[l],
                             .probability = probability[l],
                             .computed = -l * dropped,
                             .entropies = true,
                             .token_entropy = l ? 0 : (int64_t)(8 * M_LN2 * SGM_ENTROPY_UNITS),
                             .token_entropies = 8};
    for (int l = 0; l < 2; l++)
        for (int e = 0; e < computing; e++)
            load[l].computed += counts[l][e];
    const sgm_run_log_step row = {
        .step = step, .tokens = 8 * step, .loss = step > 18 ? 2.0 + (double)step : 9, .seconds = 0.5};
    assert_int_equal(sgm_run_log_add(log, &row, load, k, NULL), SGM_OK);
}

/* At the last evaluation land goes to expert 0 and sea to expert 1 in layer 0: ln 2. In layer 1 land is split in half, sea is not:
 * the mean (3/4, 1/4) has the entropy 0.5623351446, less half of ln 2. The floor: (2 − 1)(1 − 1/2)(1/8 + 1/8) / 4. Three
 * assignments of lake to four experts say nothing, nor does an earlier evaluation. */
static void log_domains(sgm_run_log *log) {
    static const struct {
        int64_t step, layer, count[4];
        const char *domain;
    } rows[] = {{10, 0, {2, 2, 2, 2}, "land"}, {10, 0, {2, 2, 2, 2}, "sea"},  {20, 0, {8, 0, 0, 0}, "land"},
                {20, 0, {0, 8, 0, 0}, "sea"},  {20, 1, {4, 4, 0, 0}, "land"}, {20, 1, {8, 0, 0, 0}, "sea"},
                {20, 0, {0, 0, 3, 0}, "lake"}, {20, 1, {0, 0, 0, 3}, "lake"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(
            sgm_run_log_domain_load(log, rows[i].step, rows[i].domain, rows[i].layer, 8, rows[i].count, 4, NULL),
            SGM_OK);
}

static void domains_by_hand(const sgm_lab_measures *m) {
    assert_true(fabs(m->region[SGM_LAB_LOW].domain_divergence - 0.6931471806) < 1e-9);
    assert_true(fabs(m->region[SGM_LAB_HIGH].domain_divergence - 0.2157615543) < 1e-9);
    near(m->region[SGM_LAB_ALL].domain_divergence_noise, 0.03125);
    near(m->domain_share[1 * 2 * 4], 4);     /* land, layer 0, expert 0 */
    near(m->domain_share[2 * 2 * 4 + 1], 4); /* sea, layer 0, expert 1 */
    near(m->domain_share[1 * 2 * 4 + 4], 2); /* land, layer 1 */
    assert_true(isnan(m->domain_share[0]));
}

#define LOG_OF_VERSION_2                                                                                               \
    "DROP TABLE domain_load; ALTER TABLE load DROP COLUMN computed;"                                                   \
    "ALTER TABLE load DROP COLUMN token_entropy_over_log_e; PRAGMA user_version = 2"

/* The run of a version that logged neither the load by domain nor what was computed is measured all the same. */
static void a_log_of_before(const char *run) {
    sqlite3 *db = NULL;
    sgm_lab_measures m;
    char *file = join(path(run), "run.sqlite");
    assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, LOG_OF_VERSION_2, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(sgm_lab_measure(path(run), 2, &m, NULL), SGM_OK);
    assert_true(isnan(m.region[SGM_LAB_ALL].domain_divergence) && isnan(m.layer[0].domain_divergence_noise));
    assert_null(m.domain_share);
    assert_true(isnan(m.region[SGM_LAB_ALL].dropped_share) && isnan(m.layer[0].token_entropy_over_log_e));
    near(m.expert_computations_per_token, 1.5); /* who was dropped is not known */
    near(m.region[SGM_LAB_ALL].max_violation_batch, 1.75);
    sgm_lab_measures_free(&m);
}

/* 20 steps of 8 tokens in 2 layers of 4 experts; steps 19 and 20 are the last tenth. Layer 0 sends [4,0,2,2] and [0,4,2,2]:
 * uneven in each batch (4 / 2 − 1 = 1), even together. Layer 1 sends [8,0,0,0], 8 / 2 − 1 = 3, and [6,0,0,2], 2: 2.5 on average and
 * together, [14,0,0,2], where two are dead and H(f) is −7/8 ln 7/8 − 1/8 ln 1/8 = 0.3767702; two devices, (8 − 0) / 8 and (6 − 2) / 8. In the first
 * ten steps each token had two experts in each layer; later 2 of the 8 assignments of layer 1 are dropped. The entropy of
 * a token's probabilities is half of ln 4 in layer 0 and 0 in layer 1. */
static void a_run_by_hand(void **state) {
    (void)state;
    static const int64_t wide[2][4] = {{4, 4, 4, 4}, {16, 0, 0, 0}}, narrow[2][4] = {{4, 0, 2, 2}, {8, 0, 0, 0}},
                         other[2][4] = {{0, 4, 2, 2}, {6, 0, 0, 2}};
    assert_int_equal(sgm_folder_make(path("hand"), NULL), SGM_OK);
    write_file("hand/config.yaml", "model:\n  layers: 2\n  width: 8\n  heads: 1\n  kv_heads: 1\n  head_size: 8\n"
                                   "  experts: 4\n  expert_width: 4\n  vocabulary: 257\n  context: 8\n"
                                   "data:\n  tokens_per_step: 8\ntrain:\n  steps: 20\n  seed: 7\n");
    sgm_run_log *log;
    assert_int_equal(sgm_run_log_open(path("hand/run.sqlite"), 2, 4, &log, NULL), SGM_OK);
    for (int64_t step = 1; step <= 20; step++)
        log_step(log, step, step <= 10 ? wide : step % 2 ? narrow : other, 4, step <= 10 ? 0 : 2);
    assert_int_equal(sgm_run_log_eval(log, 10, "", 100, 300, 3, 2.5, NULL), SGM_OK);
    assert_int_equal(sgm_run_log_eval(log, 20, "", 100, 300, 3, 2.0, NULL), SGM_OK);
    assert_int_equal(sgm_run_log_eval(log, 20, "sea", 100, 300, 3, 1.5, NULL), SGM_OK);
    assert_int_equal(sgm_run_log_eval(log, 20, "land", 100, 300, 3, 2.5, NULL), SGM_OK);
    assert_int_equal(sgm_run_log_eval(log, 20, "lake", 3, 9, 3, 2.5, NULL), SGM_OK);
    log_domains(log);
    assert_int_equal(sgm_run_log_close(log, NULL), SGM_OK);

    sgm_lab_measures m;
    sgm_error error = {0};
    if (sgm_lab_measure(path("hand"), 2, &m, &error))
        fail_msg("%s", error.message);
    assert_int_equal(m.seed, 7);
    near(m.bits_per_byte, 2);
    assert_int_equal(m.domains, 3);
    assert_string_equal(m.domain[2].name, "sea");
    near(m.domain[2].bits_per_byte, 1.5);
    domains_by_hand(&m);
    near(m.training_loss, 21.5); /* (21 + 22) / 2 */
    near(m.seconds, 10);
    near(m.tokens, 160);
    near(m.tokens_per_second, 16);
    const sgm_lab_balance *low = &m.region[SGM_LAB_LOW], *high = &m.region[SGM_LAB_HIGH];
    near(low->max_violation_batch, 1);
    near(low->max_violation_global, 0);
    near(low->coefficient_of_variation, 0);
    near(low->min_over_mean, 1);
    near(low->dead_experts, 0);
    near(low->entropy_over_log_e, 1);
    near(low->probability_entropy_over_log_e, 1);
    near(low->imbalance_score, 0);
    near(high->max_violation_batch, 2.5);
    near(high->max_violation_global, 2.5);
    near(high->dead_experts, 2);
    assert_true(fabs(high->entropy_over_log_e - 0.3767702 / (2 * M_LN2)) < 1e-6);
    near(high->imbalance_score, 0.75);
    sgm_imbalance chance;
    const int64_t even[] = {2, 2, 2, 2}; /* the floor is of the shape, not of the load */
    assert_int_equal(sgm_imbalance_score(even, 4, 2, 8, &chance, NULL), SGM_OK);
    near(high->imbalance_noise_floor, chance.noise_floor);
    near(m.region[SGM_LAB_ALL].max_violation_batch, 1.75);
    near(m.region[SGM_LAB_ALL].dead_experts, 1);
    /* The floor of one batch is above the floor of both. */
    assert_true(low->noise_floor_batch > low->noise_floor_global && low->noise_floor_global > 0);
    near(m.expert_computations_per_token, 1.4375);
    near(low->dropped_share, 0);
    near(high->dropped_share, 0.25);
    assert_true(fabs(low->token_entropy_over_log_e - 0.5) < 1e-6);
    near(high->token_entropy_over_log_e, 0);
    near(m.share[0], 1);
    near(m.share[4], 3.5);
    /* An expert has 3·8·4 = 96 weights. Others: attention 4·8·8 + 2·8 = 272, gate 32, norms 16 a layer, 8 at the end: 648. */
    double two = 648 + 2 * 2 * 96, one = 648 + 2 * 0.875 * 96;
    near(m.active_parameter_tokens, 10 * 8 * (two + one));
    assert_int_equal(m.points, 2);
    near(m.point[0].active_parameter_tokens, 10 * 8 * two);
    near(m.point[1].active_parameter_tokens, 10 * 8 * (two + one));
    near(m.point[0].seconds, 5);
    near(m.point[1].tokens, 160);
    sgm_lab_measures_free(&m);
    a_log_of_before("hand");
    assert_int_equal(sgm_folder_remove(path("hand"), NULL), SGM_OK);
}

/* The same rows where the last expert is null: two thirds of the work are left in layer 0 and its three experts are even; two of
 * three are dead in layer 1. Computed are 12/8 and 16/8 of the first ten steps, then 6/8 and 8/8: 1.75 and 0.875. */
static void null_experts_are_left_out(void **state) {
    (void)state;
    static const int64_t wide[2][4] = {{4, 4, 4, 4}, {16, 0, 0, 0}}, narrow[2][4] = {{4, 0, 2, 2}, {8, 0, 0, 0}},
                         other[2][4] = {{0, 4, 2, 2}, {8, 0, 0, 0}};
    assert_int_equal(sgm_folder_make(path("null"), NULL), SGM_OK);
    write_file("null/config.yaml",
               "model:\n  layers: 2\n  width: 8\n  heads: 1\n  kv_heads: 1\n  head_size: 8\n"
               "  experts: 4\n  null_experts: 1\n  expert_width: 4\n  vocabulary: 257\n  context: 8\n"
               "data:\n  tokens_per_step: 8\ntrain:\n  steps: 20\n");
    sgm_run_log *log;
    assert_int_equal(sgm_run_log_open(path("null/run.sqlite"), 2, 4, &log, NULL), SGM_OK);
    for (int64_t step = 1; step <= 20; step++)
        log_step(log, step, step <= 10 ? wide : step % 2 ? narrow : other, 3, 0);
    assert_int_equal(sgm_run_log_close(log, NULL), SGM_OK);
    sgm_lab_measures m;
    sgm_error error = {0};
    if (sgm_lab_measure(path("null"), 3, &m, &error))
        fail_msg("%s", error.message);
    assert_int_equal(m.experts, 3);
    near(m.region[SGM_LAB_LOW].max_violation_batch, 1);
    near(m.region[SGM_LAB_LOW].max_violation_global, 0);
    near(m.region[SGM_LAB_HIGH].dead_experts, 2);
    near(m.region[SGM_LAB_HIGH].imbalance_score, 1);
    near(m.expert_computations_per_token, 1.3125);
    /* The parameters as in the run above: 648 beside the experts, 2 layers, 96 in an expert. */
    double wide_use = 648 + 2 * 1.75 * 96, narrow_use = 648 + 2 * 0.875 * 96;
    near(m.active_parameter_tokens, 10 * 8 * (wide_use + narrow_use));
    assert_true(isnan(m.bits_per_byte)); /* it was never evaluated */
    sgm_lab_measures_free(&m);
    assert_int_equal(sgm_folder_remove(path("null"), NULL), SGM_OK);
}

/* ---- labs ----------------------------------------------------------------------------------------------------- */

static void same_results(const char *a, const char *b) {
    json_t *x = results(a), *y = results(b);
    char *one = json_dumps(x, JSON_INDENT(1)), *two = json_dumps(y, JSON_INDENT(1));
    assert_string_equal(one, two);
    free(one);
    free(two);
    json_decref(x);
    json_decref(y);
}

static double number_at(const json_t *all, size_t arm, const char *part, const char *key) {
    return json_number_value(
        json_object_get(json_object_get(json_array_get(json_object_get(all, "arms"), arm), part), key));
}

static void interrupted_gives_the_same(void **state) {
    (void)state;
    sgm_error error;
    write_file("two.yaml", two_arms);
    evals = 0;
    if (run_lab("whole", "two.yaml", (sgm_lab_options){0}, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    assert_int_equal(evals, 2 * 2 * 3); /* at steps 4, 8 and 12 */
    json_t *all = results("whole");
    assert_true(json_is_true(json_object_get(all, "complete")));
    assert_int_equal(json_array_size(json_object_get(all, "arms")), 2);
    assert_true(number_at(all, 0, "mean", "bits_per_byte") > 1);
    assert_true(number_at(all, 0, "mean", "imbalance_score") > 0);
    assert_true(number_at(all, 0, "mean", "domain_divergence_nats") > 0);
    assert_true(number_at(all, 0, "mean", "low.domain_divergence_noise_nats") > 0);
    assert_true(number_at(all, 0, "mean", "token_entropy_over_log_e") > 0.5); /* hardly trained */
    assert_true(number_at(all, 0, "mean", "token_entropy_over_log_e") <
                number_at(all, 0, "mean", "probability_entropy_over_log_e"));
    near(number_at(all, 0, "mean", "dropped_share"), 0);
    assert_true(
        json_is_null(json_object_get(json_array_get(json_object_get(all, "arms"), 0), "difference_to_baseline")));
    const json_t *second = json_array_get(json_object_get(all, "arms"), 1);
    const json_t *difference = json_object_get(json_object_get(second, "difference_to_baseline"), "bits_per_byte");
    near(json_number_value(json_object_get(difference, "mean")),
         number_at(all, 1, "mean", "bits_per_byte") - number_at(all, 0, "mean", "bits_per_byte"));
    assert_int_equal(json_integer_value(json_object_get(difference, "pairs")), 2);
    /* at equal tokens and one expert a token in both, the second budget is the first */
    near(number_at(all, 1, "mean", "bits_per_byte_at_equal_active_parameter_tokens"),
         number_at(all, 1, "mean", "bits_per_byte"));
    json_decref(all);
    static const int stops[] = {1, 5, 11}; /* in the first seed, twice, and in the second */
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        stop_after = stops[i];
        const int64_t jobs = stop_after > 1 ? 2 : 0;
        assert_int_equal(run_lab("parts", "two.yaml", (sgm_lab_options){.jobs = jobs}, &error), SGM_EINTERRUPTED);
        stop_after = 0;
        if (run_lab("parts", "two.yaml", (sgm_lab_options){.jobs = 2 * jobs}, &error))
            fail_msg("%s (%s)", error.message, error.hint);
        same_results("whole", "parts");
        assert_int_equal(sgm_folder_remove(path("parts"), NULL), SGM_OK);
    }
    /* An arm is an ordinary run: train alone gives the same bytes. */
    const char *settings[] = {"balance=none", "train.eval_tokens=500", "train.final_eval_tokens=500", NULL};
    train("alone", settings);
    char a[256], b[256];
    snprintf(a, sizeof a, "%s/checkpoints/step-000012/model.safetensors", path("alone"));
    snprintf(b, sizeof b, "%s/runs/none-seed-1/checkpoints/step-000012/model.safetensors", path("whole"));
    same_file(a, b);
    remove_run("alone");
}

/* Every picture names every arm, holds no number that is none and no colour that only a page knows. */
static void pictures_are_whole(const char *folder) {
    static const char *const names[] = {"curves", "balance", "load", "domains"};
    for (int i = 0; i < 4; i++) {
        char *file = sgm_format("%s/pictures/%s.svg", path(folder), names[i]), *text = NULL;
        size_t size = 0;
        assert_int_equal(sgm_file_read(file, 1 << 20, &text, &size, NULL), SGM_OK);
        assert_true(strncmp(text, "<svg ", 5) == 0 && strcmp(text + size - 7, "</svg>\n") == 0);
        assert_non_null(strstr(text, ">none</text>"));
        assert_non_null(strstr(text, ">even</text>"));
        assert_non_null(strstr(text, ">third</text>"));
        assert_null(strstr(text, "var("));
        assert_null(strstr(text, "nan"));
        assert_null(strstr(text, "inf"));
        if (i == 3) /* the names of the domains stand beside their rows */
            assert_true(strstr(text, ">sea</text>") && strstr(text, ">land</text>"));
        sgm_free(text);
        sgm_free(file);
    }
}

static void a_lab_grows_and_refuses(void **state) {
    (void)state;
    sgm_error error;
    /* More seeds are added; two that are there stay. */
    assert_int_equal(run_lab("whole", "two.yaml", (sgm_lab_options){.seeds = 3}, &error), SGM_OK);
    json_t *all = results("whole");
    assert_int_equal(json_integer_value(json_object_get(all, "seeds")), 3);
    json_decref(all);
    /* Other steps, settings or data are another lab. */
    const char *settings[] = {"model.width=32"}, *data[] = {path("sea.txt")};
    assert_int_equal(run_lab("whole", "two.yaml", (sgm_lab_options){.steps = 13}, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "--steps"));
    assert_int_equal(run_lab("whole", "two.yaml", (sgm_lab_options){.settings = settings, .setting_count = 1}, &error),
                     SGM_EARGUMENT);
    assert_int_equal(run_lab("whole", "two.yaml", (sgm_lab_options){.data = data, .data_count = 1}, &error),
                     SGM_EARGUMENT);
    /* A changed arm is refused by name, an arm that is new is trained beside the old ones. */
    char *changed = sgm_format("%s", two_arms);
    strstr(changed, "0.1}]")[2] = '2';
    write_file("two.yaml", changed);
    sgm_free(changed);
    assert_int_equal(run_lab("whole", "two.yaml", (sgm_lab_options){0}, &error), SGM_EARGUMENT);
    if (!strstr(error.message, "balance.0.coefficient = 0.1") || !strstr(error.message, "even-seed-1"))
        fail_msg("%s", error.message);
    char *more =
        sgm_format("%s  - name: third\n    inherits: even\n    set: {balance.0.coefficient: 0.01}\n", two_arms);
    write_file("again.yaml", more);
    sgm_free(more);
    write_file("whole/experiment.yaml.partial-4194305-1", "of a call that was killed");
    assert_int_equal(run_lab("whole", "again.yaml", (sgm_lab_options){.discard_checkpoints = true}, &error), SGM_OK);
    all = results("whole");
    assert_int_equal(json_array_size(json_object_get(all, "arms")), 3);
    assert_non_null(strstr(json_string_value(json_object_get(all, "command")), "lab run again.yaml "));
    json_decref(all);
    assert_false(sgm_path_exists(path("whole/experiment.yaml.partial-4194305-1")));
    assert_false(sgm_path_exists(path("whole/runs/third-seed-1/checkpoints")));
    assert_true(sgm_path_exists(path("whole/runs/even-seed-1/checkpoints")));
    /* Results can be made again from what there is. */
    assert_int_equal(unlink(path("whole/results.json")), 0);
    assert_int_equal(sgm_folder_remove(path("whole/pictures"), NULL), SGM_OK);
    assert_int_equal(sgm_lab_report(path("whole"), &error), SGM_OK);
    assert_true(sgm_path_exists(path("whole/results.json")) && sgm_path_exists(path("whole/results.md")) &&
                sgm_path_exists(path("whole/report.html")));
    pictures_are_whole("whole");
    char *text = NULL;
    size_t size = 0;
    assert_int_equal(sgm_file_read(path("whole/results.md"), 1 << 20, &text, &size, NULL), SGM_OK);
    assert_non_null(strstr(text, "| H(e\\|x) |")); /* a bar of its own would be another column */
    assert_non_null(strstr(text, "| JS of domains |"));
    sgm_free(text);
    assert_int_equal(sgm_folder_remove(path("whole"), NULL), SGM_OK);
    assert_int_equal(sgm_lab_report(path("whole"), &error), SGM_ENOTFOUND);
}

static void arms_can_be_chosen(void **state) {
    (void)state;
    sgm_error error;
    const char *even[] = {"even"}, *wrong[] = {"evne"}, *none[] = {"none"};
    write_file("two.yaml", two_arms);
    assert_int_equal(run_lab("some", "two.yaml", (sgm_lab_options){.arms = wrong, .arm_count = 1}, &error),
                     SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "did you mean even"));
    assert_false(sgm_path_exists(path("some")));
    assert_int_equal(run_lab("some", "two.yaml", (sgm_lab_options){.arms = even, .arm_count = 1, .seeds = 1}, &error),
                     SGM_OK);
    json_t *all = results("some");
    assert_int_equal(json_array_size(json_object_get(all, "arms")), 1); /* without the baseline: no difference */
    assert_true(
        json_is_null(json_object_get(json_array_get(json_object_get(all, "arms"), 0), "difference_to_baseline")));
    json_decref(all);
    assert_int_equal(run_lab("some", "two.yaml", (sgm_lab_options){.arms = none, .arm_count = 1}, &error), SGM_OK);
    all = results("some");
    assert_int_equal(json_array_size(json_object_get(all, "arms")), 2);
    assert_true(json_is_true(json_object_get(all, "complete")));
    assert_non_null(strstr(json_string_value(json_object_get(all, "command")), "--arms none,even"));
    json_decref(all);
    assert_int_equal(sgm_folder_remove(path("some"), NULL), SGM_OK);
}

/* A call that died before its plan was written decided nothing: text that it tokenised is not what the next call trains on. */
static void a_call_that_died_leaves_no_data(void **state) {
    (void)state;
    sgm_error error;
    const char *sea[] = {path("sea.txt")}, *land[] = {path("land.txt")}, *none[] = {"none"};
    sgm_lab_options first = {.data = sea, .data_count = 1, .seeds = 1, .arms = none, .arm_count = 1};
    sgm_lab_options second = {.data = land, .data_count = 1, .seeds = 1, .arms = none, .arm_count = 1};
    write_file("two.yaml", two_arms);
    assert_int_equal(run_lab("left", "two.yaml", first, &error),
                     SGM_OK); /* what killing it would leave: lock and data */
    assert_int_equal(sgm_folder_remove(path("left/runs"), NULL), SGM_OK);
    assert_int_equal(sgm_folder_remove(path("left/pictures"), NULL), SGM_OK);
    static const char *const later[] = {"lab.json", "experiment.yaml", "results.json", "results.md", "report.html"};
    for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
        char name[64];
        snprintf(name, sizeof name, "left/%s", later[i]);
        assert_int_equal(unlink(path(name)), 0);
    }
    assert_true(sgm_path_exists(path("left/data")));
    assert_int_equal(sgm_folder_make(path("left/data.building"), NULL), SGM_OK);
    assert_int_equal(run_lab("left", "two.yaml", second, &error), SGM_OK);
    assert_int_equal(run_lab("clean", "two.yaml", second, &error), SGM_OK);
    same_results("left", "clean");
    assert_false(sgm_path_exists(path("left/data.building")));
    assert_int_equal(sgm_folder_remove(path("clean"), NULL), SGM_OK);
    assert_int_equal(sgm_folder_remove(path("left"), NULL), SGM_OK);
}

/* One that is refused while it measures takes back what it made, and nothing else: an empty folder stays, and so does what others
 * put there; so does the folder of a lab that has begun. */
static void a_refused_call_leaves_nothing(void **state) {
    (void)state;
    sgm_error error;
    const sgm_lab_options hasty = {.minutes = 1e-6};
    write_file("two.yaml", two_arms);
    assert_int_equal(run_lab("refused", "two.yaml", hasty, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "need at least"));
    assert_non_null(strstr(error.hint, "more minutes"));
    assert_false(sgm_path_exists(path("refused")));
    assert_int_equal(sgm_folder_make(path("refused"), NULL), SGM_OK);
    assert_int_equal(run_lab("refused", "two.yaml", hasty, &error), SGM_EARGUMENT);
    assert_int_equal(rmdir(path("refused")), 0); /* there, and empty */
    assert_int_equal(sgm_folder_make(path("refused/runs/mine"), NULL), SGM_OK);
    write_file("refused/.lock", "");
    assert_int_equal(run_lab("refused", "two.yaml", hasty, &error), SGM_EARGUMENT);
    assert_true(sgm_path_exists(path("refused/runs/mine")) && sgm_path_exists(path("refused/.lock")));
    assert_int_equal(sgm_folder_remove(path("refused"), NULL), SGM_OK);
    assert_int_equal(sgm_folder_make(path("refused"), NULL),
                     SGM_OK); /* what one that was killed left is still a lab's */
    write_file("refused/.lock", "");
    write_file("refused/lab.json.partial-4194305-0", "{");
    assert_int_equal(run_lab("refused", "two.yaml", hasty, &error), SGM_EARGUMENT);
    assert_int_equal(run_lab("refused", "two.yaml", (sgm_lab_options){.steps = 1, .seeds = 1}, &error), SGM_OK);
    assert_int_equal(sgm_folder_remove(path("refused"), NULL), SGM_OK);
    assert_int_equal(run_lab("refused", "two.yaml", (sgm_lab_options){.steps = 2, .seeds = 1}, &error), SGM_OK);
    assert_int_equal(run_lab("refused", "two.yaml", (sgm_lab_options){.steps = 3}, &error), SGM_EARGUMENT);
    assert_true(sgm_path_exists(path("refused/lab.json")) && sgm_path_exists(path("refused/data")));
    assert_int_equal(sgm_folder_remove(path("refused"), NULL), SGM_OK);
}

/* Only what a lab made is removed: no data of somebody's own in a folder without a lab's lock, and no text that was named. */
static void data_of_others_is_kept(void **state) {
    (void)state;
    sgm_error error;
    const char *inside[] = {path("left/data/own.txt")};
    const sgm_lab_options options = {.data = inside, .data_count = 1, .minutes = 1e-6};
    write_file("two.yaml", two_arms);
    assert_int_equal(sgm_folder_make(path("left/data"), NULL), SGM_OK);
    write_file("left/data/own.txt", "The grey sea sleeps.\n");
    assert_int_equal(run_lab("left", "two.yaml", (sgm_lab_options){.minutes = 1e-6}, &error), SGM_EEXISTS);
    assert_non_null(strstr(error.message, "is no lab and holds other things: data"));
    assert_false(sgm_path_exists(path("left/.lock")));
    write_file("left/.lock", "");
    assert_int_equal(run_lab("left", "two.yaml", options, &error), SGM_EARGUMENT);
    if (!strstr(error.message, "own.txt"))
        fail_msg("%s", error.message);
    assert_true(*error.hint && sgm_path_exists(path("left/data/own.txt")));
    assert_int_equal(sgm_folder_remove(path("left"), NULL), SGM_OK);
}

/* Numbers of lab.json and of a caller that no lab can have: refused before there is an array of that many. */
static void numbers_have_bounds(void **state) {
    (void)state;
    static const char *const wrong[] = {"\"seeds\": 576460752303423488, \"steps\": 12",
                                        "\"seeds\": 1001, \"steps\": 12", "\"seeds\": 2, \"steps\": 1000000000001",
                                        "\"seeds\": 0, \"steps\": 12", "\"seeds\": 2, \"steps\": -1"};
    sgm_error error;
    sgm_lab_plan plan;
    write_file("two.yaml", two_arms);
    assert_int_equal(sgm_folder_make(path("numbers"), NULL), SGM_OK);
    write_file("numbers/experiment.yaml", two_arms);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *text = sgm_format("{\"format\": \"sigmoe lab\", \"version\": 1, \"experiment\": \"two.yaml\", %s, "
                                "\"minutes\": null, \"settings\": [], \"data\": [], \"arms\": []}",
                                wrong[i]);
        write_file("numbers/lab.json", text);
        sgm_free(text);
        error = (sgm_error){0};
        assert_int_equal(sgm_lab_plan_read(path("numbers"), &plan, &error), SGM_EFORMAT);
        assert_non_null(strstr(error.message, "seeds"));
        assert_true(*error.hint);
        assert_int_equal(sgm_lab_report(path("numbers"), &error), SGM_EFORMAT);
    }
    assert_int_equal(sgm_folder_remove(path("numbers"), NULL), SGM_OK);
    assert_int_equal(run_lab("numbers", "two.yaml", (sgm_lab_options){.seeds = INT64_C(1) << 59}, &error),
                     SGM_EARGUMENT);
    assert_int_equal(run_lab("numbers", "two.yaml", (sgm_lab_options){.steps = INT64_MAX}, &error), SGM_EARGUMENT);
    assert_false(sgm_path_exists(path("numbers")));
}

/* Half a second more than ten steps need gives some; a thousandth of a minute gives none. */
static void minutes_become_steps(void **state) {
    (void)state;
    sgm_error error;
    sgm_lab_plan plan;
    assert_int_equal(run_lab("quick", "two.yaml", (sgm_lab_options){.minutes = 1e-6}, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "more minutes"));
    assert_int_equal(run_lab("quick", "two.yaml", (sgm_lab_options){.minutes = 1, .steps = 20}, &error), SGM_EARGUMENT);
    sgm_status status = SGM_EARGUMENT; /* how fast this machine is must not matter: more minutes until it fits */
    for (double minutes = 0.02; status == SGM_EARGUMENT && minutes < 10; minutes *= 2)
        status = run_lab("quick", "two.yaml", (sgm_lab_options){.minutes = minutes, .seeds = 1, .jobs = 2}, &error);
    assert_int_equal(status, SGM_OK);
    assert_int_equal(sgm_lab_plan_read(path("quick"), &plan, &error), SGM_OK);
    assert_true(plan.steps >= 10 && plan.steps % 10 == 0 && isfinite(plan.minutes));
    assert_false(sgm_path_exists(path("quick/.probe")));
    int64_t steps = plan.steps;
    sgm_lab_plan_free(&plan);
    /* Once fixed, it stays. */
    assert_int_equal(run_lab("quick", "two.yaml", (sgm_lab_options){.minutes = 9}, &error), SGM_OK);
    assert_int_equal(sgm_lab_plan_read(path("quick"), &plan, &error), SGM_OK);
    assert_int_equal(plan.steps, steps);
    sgm_lab_plan_free(&plan);
    assert_int_equal(sgm_folder_remove(path("quick"), NULL), SGM_OK);
}

/* Whoever begins to be measured first gets memory; who comes second is refused once. */
static pthread_t first_asked;
static int asked, refused;
static const char *probes; /* the folder; path() is for one thread */
static uint64_t room_for_one(void) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    if (!sgm_path_exists(probes))
        return UINT64_MAX;
    pthread_mutex_lock(&mutex);
    if (asked++ == 0)
        first_asked = pthread_self();
    bool refuse = !pthread_equal(first_asked, pthread_self()) && refused == 0;
    refused += refuse;
    pthread_mutex_unlock(&mutex);
    return refuse ? 1 << 20 : UINT64_MAX;
}

/* Two jobs, memory for one: the second arm waits for the first; what is missing is minutes, not memory. */
static void an_arm_that_does_not_fit_is_measured_later(void **state) {
    (void)state;
    sgm_error error;
    probes = path("narrow/.probe");
    sgm_status status = SGM_EARGUMENT;
    for (double minutes = 0.02; status == SGM_EARGUMENT && minutes < 10;
         minutes *= 2) { /* however fast this machine is */
        asked = refused = 0;
        sgm_fault_memory = room_for_one;
        status = run_lab("narrow", "two.yaml", (sgm_lab_options){.minutes = minutes, .seeds = 1, .jobs = 2}, &error);
        sgm_fault_memory = NULL;
        assert_int_equal(refused, 1);
        assert_non_null(status ? strstr(error.hint, "more minutes") : "");
    }
    assert_int_equal(status, SGM_OK);
    assert_int_equal(sgm_folder_remove(path("narrow"), NULL), SGM_OK);
    /* What a call left that was killed while it measured goes with the next one. */
    assert_int_equal(sgm_folder_make(path("narrow/.probe"), NULL), SGM_OK);
    write_file("narrow/.lock", "");
    assert_int_equal(sgm_folder_make(path("narrow/.probe/none"), NULL), SGM_OK);
    assert_int_equal(run_lab("narrow", "two.yaml", (sgm_lab_options){.steps = 1, .seeds = 1}, &error), SGM_OK);
    assert_false(sgm_path_exists(path("narrow/.probe")));
    assert_int_equal(sgm_folder_remove(path("narrow"), NULL), SGM_OK);
}

/* Every shipped experiment, all arms, two steps, in a size that takes no time. */
static void shipped_experiments_run(void **state) {
    (void)state;
    static const char *const tiny[] = {"model.width=16",    "model.heads=2",           "model.kv_heads=1",
                                       "model.head_size=8", "model.expert_width=4",    "model.vocabulary=257",
                                       "model.context=16",  "data.tokens_per_step=64", "data.micro_batch_tokens=32",
                                       "data.mixture=",     "train.eval_tokens=200",   "train.final_eval_tokens=200",
                                       "train.threads=1"};
    DIR *folder = opendir(SGM_SOURCE_DIR "/lab");
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char file[512];
        size_t size = strlen(entry->d_name);
        if (size < 6 || strcmp(entry->d_name + size - 5, ".yaml") != 0)
            continue;
        snprintf(file, sizeof file, "%s/lab/%s", SGM_SOURCE_DIR, entry->d_name);
        const char *data[] = {path("sea.txt"), path("land.txt")};
        const sgm_lab_options options = {.folder = path("shipped"),
                                         .settings = tiny,
                                         .setting_count = sizeof tiny / sizeof *tiny,
                                         .data = data,
                                         .data_count = 2,
                                         .seeds = 1,
                                         .steps = 2,
                                         .discard_checkpoints = true};
        sgm_error error = {0};
        if (sgm_lab_run(file, &options, NULL, NULL, &error))
            fail_msg("%s: %s (%s)", file, error.message, error.hint);
        json_t *all = results("shipped");
        assert_true(json_is_true(json_object_get(all, "complete")));
        json_decref(all);
        assert_int_equal(sgm_folder_remove(path("shipped"), NULL), SGM_OK);
    }
    closedir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(imbalance_by_hand),
        cmocka_unit_test(curves_by_hand),
        cmocka_unit_test(a_run_by_hand),
        cmocka_unit_test(null_experts_are_left_out),
        cmocka_unit_test(interrupted_gives_the_same),
        cmocka_unit_test(a_lab_grows_and_refuses),
        cmocka_unit_test(arms_can_be_chosen),
        cmocka_unit_test(a_call_that_died_leaves_no_data),
        cmocka_unit_test(a_refused_call_leaves_nothing),
        cmocka_unit_test(data_of_others_is_kept),
        cmocka_unit_test(numbers_have_bounds),
        cmocka_unit_test(minutes_become_steps),
        cmocka_unit_test(an_arm_that_does_not_fit_is_measured_later),
        cmocka_unit_test(shipped_experiments_run),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
