// SPDX-License-Identifier: Apache-2.0
/* Caches and placements in a lab: what a list may say, values worked by hand, and that a lab's are those of its runs' routes. */
#include <math.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "lab_fixture.h"
#include "lab/serving.h"

static void near(double is, double wanted) {
    if (!(fabs(is - wanted) <= 1e-9))
        fail_msg("%.12g, not %.12g", is, wanted);
}

/* ---- lists ---------------------------------------------------------------------------------------------------- */

static void lists_are_read(void **state) {
    (void)state;
    sgm_lab_serving s;
    sgm_error error = {0};
    if (sgm_lab_serving_parse("lru 16,  lfu_decay  8 period=32 pool=model decay=0.25 ",
                              "eplb 80 gpus=8 nodes=2 groups=4", "f", &s, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    assert_int_equal(s.uses, 3);
    assert_int_equal(s.values, 4);
    assert_string_equal(s.use[0].name, "lru 16");
    assert_string_equal(s.use[1].name, "lfu_decay 8 period=32 pool=model decay=0.25");
    assert_true(s.use[0].pool == SGM_POOL_LAYER && s.use[1].pool == SGM_POOL_MODEL && s.use[1].size == 8);
    assert_int_equal(s.use[1].settings, 2);
    assert_string_equal(s.use[1].setting[1], "decay=0.25");
    assert_true(s.use[2].placement && s.use[2].size == 80 && s.use[2].gpus == 8);
    assert_true(s.use[2].nodes == 2 && s.use[2].groups == 4);
    static const size_t item[] = {0, 1, 2, 2};
    for (size_t i = 0; i < s.values; i++) {
        bool heldout;
        assert_ptr_equal(sgm_lab_serving_at(&s, i, &heldout), &s.use[item[i]]);
        assert_int_equal(heldout, i == 3);
    }
    assert_int_equal(sgm_lab_serving_check(&s, 64, &error), SGM_OK);
    assert_int_equal(sgm_lab_serving_check(&s, 96, &error), SGM_EARGUMENT); /* more experts than slots */
    assert_non_null(strstr(error.message, "eplb 80"));
    assert_int_equal(sgm_lab_serving_check(&s, 8, &error), SGM_EARGUMENT); /* a cache of 16 */
    assert_non_null(strstr(error.message, "cache lru 16: a layer has 8 experts"));
    sgm_lab_serving_free(&s);
    assert_int_equal(sgm_lab_serving_parse("", "", "f", &s, &error), SGM_OK);
    assert_int_equal(s.uses + s.values, 0);
    sgm_lab_serving_free(&s);
}

static void wrong_lists_are_told(void **state) {
    (void)state;
    static const struct {
        const char *caches, *placements, *says;
    } cases[] = {{"lru", "", "\"lru\" does not say how many experts"},
                 {"lru 0", "", "\"0\" is no number of experts"},
                 {"lru 4x", "", "\"4x\""},
                 {"lru 4,,lfu 4", "", "how many experts"},
                 {"lro 4", "", "lro"},
                 {"lru 4 decay=1", "", "decay"},
                 {"lfu_decay 4 decay=x", "", "decay"},
                 {"lfu_decay 4 decay", "", "decay"},
                 {"lru 4 pool=all", "", "\"all\""},
                 {"lru 4,lru  4", "", "lru 4 is there twice"},
                 {"", "eplb 8", "gpus=N is missing"},
                 {"", "eplb gpus=8", "\"gpus=8\" is no number of slots"},
                 {"", "eplb 8 gpus=0", "\"gpus=0\""},
                 {"lru 4 pool=layer pool=model", "", "pool is there twice"},
                 {"lfu_decay 4 period=3 decay=1 period=4", "", "period is there twice"},
                 {"", "eplb 8 gpus=2 gpus=4", "gpus is there twice"},
                 {"", "eplb 8 gpus=2 pool=model", "a placement has no \"pool=model\""},
                 {"", "eplbb 8 gpus=2", "eplbb"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sgm_lab_serving s;
        sgm_error error = {0};
        sgm_status status = sgm_lab_serving_parse(cases[i].caches, cases[i].placements, "file", &s, &error);
        if (status != SGM_EARGUMENT || !strstr(error.message, cases[i].says) || !*error.hint ||
            strncmp(error.message, "file: ", 6) != 0)
            fail_msg("case %zu: %d, %s (%s)", i, status, error.message, error.hint);
    }
}

/* ---- values by hand ------------------------------------------------------------------------------------------- */

/* One layer; eight tokens go to experts 0 1 0 2 0 1 0 3. The least recently used of two keeps 0: hits at the third, fifth and
 * seventh token. Who knows the future lets 2 pass by and has 1 at the sixth, too. */
static void by_hand(void **state) {
    (void)state;
    static const int64_t one[] = {1}, bytes[] = {100};
    static const int32_t chosen[] = {0, 1, 0, 2, 0, 1, 0, 3};
    const sgm_trace_info about = {.source = SGM_TRACE_EVAL,
                                  .step = -1,
                                  .vocabulary = 10,
                                  .layers = 1,
                                  .experts = 4,
                                  .experts_per_token = one,
                                  .expert_bytes = bytes};
    sgm_trace_writer *writer;
    int64_t domain;
    const float weight = 1;
    assert_int_equal(sgm_trace_create(path("hand.trace"), &about, &writer, NULL), SGM_OK);
    assert_int_equal(sgm_trace_domain(writer, "prose", &domain, NULL), SGM_OK);
    for (int t = 0; t < 8; t++) {
        const sgm_trace_token token = {.domain = domain, .slots = one, .expert = &chosen[t], .weight = &weight};
        assert_int_equal(sgm_trace_add(writer, &token, NULL), SGM_OK);
    }
    assert_int_equal(sgm_trace_commit(writer, NULL, NULL), SGM_OK);
    /* In training 2 : ½ : ½ : 1. In order that is 2.5 and 1.5 on two GPUs, held out (4, 2, 1, 1) 6 and 2. Packed, 0 is with the
     * last that there is room for, 2: 2.5 and 1.5 again, held out 5 and 3. A second replica of 0 on six slots of three GPUs:
     * each has half of it. */
    static const double share[] = {2, 0.5, 0.5, 1};
    sgm_lab_serving s;
    sgm_error error = {0};
    double value[7];
    sgm_lab_routes routes;
    assert_int_equal(sgm_lab_serving_parse("lru 2,optimal 2,lru 2 pool=model",
                                           "contiguous 4 gpus=2,eplb_global 4 gpus=2", "f", &s, &error),
                     SGM_OK);
    if (sgm_lab_serving_measure(&s, path("hand.trace"), -1, share, 1, 4, value, &routes, &error))
        fail_msg("%s", error.message);
    static const double wanted[] = {3.0 / 8, 4.0 / 8, 3.0 / 8, 2 / 2.5, 4.0 / 6, 2 / 2.5, 4.0 / 5};
    for (int i = 0; i < 7; i++)
        near(value[i], wanted[i]);
    /* A layer that had no load in training is planned as if it were even. */
    static const double none[] = {(double)NAN, (double)NAN, (double)NAN, (double)NAN};
    assert_int_equal(sgm_lab_serving_measure(&s, path("hand.trace"), -1, none, 1, 4, value, &routes, &error), SGM_OK);
    near(value[3], 1);
    assert_int_equal(sgm_lab_serving_measure(&s, path("hand.trace"), -1, share, 1, 3, value, &routes, &error),
                     SGM_EFORMAT);
    assert_int_equal(sgm_lab_serving_measure(&s, path("none.trace"), -1, share, 1, 4, value, &routes, &error),
                     SGM_ENOTFOUND);
    assert_int_equal(routes.tokens, 8);
    assert_int_equal(sgm_lab_serving_measure(&s, path("hand.trace"), 7, share, 1, 4, value, &routes, &error),
                     SGM_EFORMAT);
    assert_non_null(strstr(error.message, "no evaluation of the model of step 7"));
    sgm_lab_serving_free(&s);
}

/* ---- in a lab ------------------------------------------------------------------------------------------------- */

static char *with_lists(const char *lists) {
    const char *behind = strstr(two_arms, "groups: 4\n");
    return sgm_format("%.*s%s%s", (int)(behind - two_arms), two_arms, lists, behind);
}

static double value_of(const json_t *all, size_t arm, const char *name) {
    const json_t *run = json_array_get(json_object_get(json_array_get(json_object_get(all, "arms"), arm), "runs"), 1);
    return json_number_value(json_object_get(json_object_get(run, "serving"), name));
}

static double hits_of(const char *file, const char *policy, int64_t experts) {
    sgm_trace *trace;
    sgm_replay *replay;
    sgm_replay_result result;
    const sgm_replay_options options = {.policy = policy, .experts = experts};
    assert_int_equal(sgm_trace_open(file, &trace, NULL), SGM_OK);
    assert_int_equal(sgm_replay_new(trace, &replay, NULL), SGM_OK);
    assert_int_equal(sgm_replay_run(replay, &options, &result, NULL), SGM_OK);
    double hits = result.hit_rate;
    sgm_replay_result_free(&result);
    sgm_replay_free(replay);
    sgm_trace_close(trace);
    return hits;
}

static void labs_measure_them(void **state) {
    (void)state;
    sgm_error error;
    char *lists = with_lists("caches: [lru 2, lfu_decay 2]\nplacements: [contiguous 8 gpus=4]\n");
    char *more = with_lists("caches: [lru 2, lfu_decay 2, lfu 3]\nplacements: [contiguous 8 gpus=4]\n");
    write_file("lists.yaml", lists);
    if (run_lab("lists", "lists.yaml", (sgm_lab_options){.discard_checkpoints = true}, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    char *routes = sgm_format("%s", path("lists/runs/even-seed-2/heldout.trace"));
    assert_false(sgm_path_exists(path("lists/runs/even-seed-2/checkpoints")));
    json_t *all = results("lists");
    near(value_of(all, 1, "hits.lru 2"), hits_of(routes, "lru", 2));
    near(value_of(all, 1, "hits.lfu_decay 2"), hits_of(routes, "lfu_decay", 2));
    const json_t *arm = json_array_get(json_object_get(all, "arms"), 1);
    const json_t *difference =
        json_object_get(json_object_get(arm, "difference_to_baseline"), "placement_heldout.contiguous 8 gpus=4");
    assert_int_equal(json_integer_value(json_object_get(difference, "pairs")), 2);
    char *text = NULL;
    size_t size;
    assert_int_equal(sgm_file_read(path("lists/results.md"), 1 << 20, &text, &size, NULL), SGM_OK);
    assert_non_null(strstr(text, "| lru 2 | lfu_decay 2 |"));
    assert_non_null(strstr(text, "contiguous 8 gpus=4: held out"));
    sgm_free(text);
    assert_int_equal(sgm_file_read(path("lists/report.html"), 1 << 22, &text, &size, NULL), SGM_OK);
    assert_non_null(strstr(text, "For whoever serves them"));
    sgm_free(text);
    json_decref(all);
    /* A list that grows is answered from the routes that are there. */
    write_file("lists.yaml", more);
    assert_int_equal(run_lab("lists", "lists.yaml", (sgm_lab_options){0}, &error), SGM_OK);
    all = results("lists");
    near(value_of(all, 1, "hits.lfu 3"), hits_of(routes, "lfu", 3));
    json_decref(all);
    /* Routes of another run, or cut off, are told. */
    char *bytes[2];
    size_t sizes[2];
    const char *own = "lists/runs/none-seed-1/heldout.trace", *others = "lists/runs/even-seed-1/heldout.trace";
    assert_int_equal(sgm_file_read(path(own), 1 << 26, &bytes[0], &sizes[0], NULL), SGM_OK);
    assert_int_equal(sgm_file_read(path(others), 1 << 26, &bytes[1], &sizes[1], NULL), SGM_OK);
    assert_int_equal(sgm_file_write(path(own), bytes[1], sizes[1], NULL), SGM_OK);
    assert_int_equal(sgm_lab_report(path("lists"), &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "of none, seed 1, and of even, seed 1, are of one model"));
    assert_non_null(strstr(error.hint, "remove both"));
    assert_int_equal(sgm_file_write(path(own), bytes[0], sizes[0] * 2 / 3, NULL), SGM_OK);
    assert_int_equal(sgm_lab_report(path("lists"), &error), SGM_EFORMAT);
    assert_non_null(strstr(error.hint, "the lab makes it again"));
    assert_int_equal(sgm_file_write(path(own), bytes[0], sizes[0], NULL), SGM_OK);
    assert_int_equal(sgm_lab_report(path("lists"), &error), SGM_OK);
    sgm_free(bytes[0]);
    sgm_free(bytes[1]);
    /* Without routes and model there is no value, and the rest stands. */
    assert_int_equal(unlink(routes), 0);
    assert_int_equal(run_lab("lists", "lists.yaml", (sgm_lab_options){0}, &error), SGM_OK);
    all = results("lists");
    assert_true(value_of(all, 1, "hits.lru 2") == 0 && value_of(all, 0, "hits.lru 2") > 0); /* null */
    static const char *const told[] = {"lists/results.md", "lists/report.html"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sgm_file_read(path(told[i]), 1 << 22, &text, &size, NULL), SGM_OK);
        assert_non_null(strstr(text, "nothing of them is in these numbers: even, seed 2."));
        sgm_free(text);
    }
    json_decref(all);
    /* A run that begins anew does not count another's routes. */
    assert_int_equal(sgm_folder_remove(path("lists/runs/even-seed-2"), NULL), SGM_OK);
    stop_after = 1; /* none of seed 1 and 2 trains: this is even's first turn */
    assert_int_equal(run_lab("lists", "lists.yaml", (sgm_lab_options){0}, &error), SGM_EINTERRUPTED);
    stop_after = 0;
    assert_int_equal(sgm_folder_remove(path("lists/runs/even-seed-2/checkpoints"), NULL), SGM_OK);
    assert_int_equal(unlink(path("lists/runs/even-seed-2/run.sqlite")), 0);
    write_file("lists/runs/even-seed-2/heldout.trace", "another's");
    if (run_lab("lists", "lists.yaml", (sgm_lab_options){0}, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    assert_true(hits_of(routes, "lru", 2) > 0);
    /* Routes that are damaged are told by name. */
    write_file("lists/runs/none-seed-1/heldout.trace", "no trace");
    assert_int_equal(run_lab("lists", "lists.yaml", (sgm_lab_options){0}, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "none-seed-1/heldout.trace"));
    assert_int_equal(sgm_folder_remove(path("lists"), NULL), SGM_OK);
    sgm_free(lists);
    sgm_free(more);
    sgm_free(routes);
}

/* A run that cannot be traced, or no held-out text: the others go on, and there are no such values. */
static void what_cannot_be_traced_stops_nothing(void **state) {
    (void)state;
    sgm_error error;
    char *lists = with_lists("caches: [lru 2]\n");
    write_file("later.yaml", two_arms);
    assert_int_equal(run_lab("gone", "later.yaml", (sgm_lab_options){.seeds = 1}, &error), SGM_OK);
    assert_int_equal(sgm_folder_remove(path("gone/runs/none-seed-1/checkpoints"), NULL), SGM_OK);
    assert_int_equal(sgm_folder_make(path("gone/runs/none-seed-1/checkpoints"), NULL), SGM_OK);
    write_file("gone/runs/even-seed-1/heldout.trace.partial-4194305-1", "of a call that was killed");
    write_file("later.yaml", lists);
    if (run_lab("gone", "later.yaml", (sgm_lab_options){.seeds = 2}, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    assert_false(sgm_path_exists(path("gone/runs/even-seed-1/heldout.trace.partial-4194305-1")));
    assert_true(sgm_path_exists(path("gone/runs/even-seed-1/heldout.trace")));
    assert_false(sgm_path_exists(path("gone/runs/none-seed-1/heldout.trace")));
    assert_true(sgm_path_exists(path("gone/runs/none-seed-2/heldout.trace")));
    assert_int_equal(sgm_folder_remove(path("gone"), NULL), SGM_OK);
    const char *nothing[] = {"data.heldout_share=0"};
    if (run_lab("none", "later.yaml", (sgm_lab_options){.settings = nothing, .setting_count = 1}, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    json_t *all = results("none");
    assert_true(json_is_true(json_object_get(all, "complete")));
    json_decref(all);
    assert_int_equal(sgm_folder_remove(path("none"), NULL), SGM_OK);
    sgm_free(lists);
}

/* Two arms that are one end with one model; the routes of both are theirs all the same. Routes of less text are not. */
static void equal_arms_are_no_mixture(void **state) {
    (void)state;
    sgm_error error;
    char *lists = with_lists("caches: [lru 2]\n");
    char *twins = sgm_format("%s  - name: twin\n    inherits: even\n    set: {train.recompute: layer}\n", lists);
    write_file("twins.yaml", twins);
    if (run_lab("twins", "twins.yaml", (sgm_lab_options){0}, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    json_t *all = results("twins");
    assert_true(value_of(all, 1, "hits.lru 2") > 0);
    near(value_of(all, 1, "hits.lru 2"), value_of(all, 2, "hits.lru 2"));
    json_decref(all);
    const char *data[] = {path("twins/data")};
    char *run = sgm_format("%s", path("twins/runs/twin-seed-1")), *routes = sgm_format("%s/heldout.trace", run);
    const sgm_engine_options options = {.threads = 1, .kernels = "ref"};
    sgm_evaluation evaluation;
    assert_int_equal(sgm_trace_evaluate(run, &options, data, 1, 200, routes, &evaluation, &error), SGM_OK);
    sgm_evaluation_free(&evaluation);
    assert_int_equal(sgm_lab_report(path("twins"), &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "of twin, seed 1, are of different numbers of tokens"));
    assert_int_equal(sgm_folder_remove(path("twins"), NULL), SGM_OK);
    sgm_free(run);
    sgm_free(routes);
    sgm_free(twins);
    sgm_free(lists);
}

static int stop_at_routes(const char *call, const char *file) {
    (void)call;
    if (strstr(file, "heldout.trace"))
        __atomic_store_n(&stop_flag, 1, __ATOMIC_RELAXED);
    return 0;
}

static void tracing_can_be_interrupted(void **state) {
    (void)state;
    sgm_error error;
    char *lists = with_lists("caches: [lru 2]\n");
    write_file("lists.yaml", lists);
    const sgm_lab_options options = {.seeds = 1, .discard_checkpoints = true};
    sgm_fault = stop_at_routes;
    assert_int_equal(run_lab("stopped", "lists.yaml", options, &error), SGM_EINTERRUPTED);
    sgm_fault = NULL;
    assert_non_null(strstr(error.message, "every arm is saved"));
    assert_false(sgm_path_exists(path("stopped/runs/none-seed-1/heldout.trace")));
    assert_true(sgm_path_exists(path("stopped/runs/none-seed-1/checkpoints"))); /* it is still needed */
    assert_true(sgm_path_exists(path("stopped/runs/even-seed-1/summary.json")));
    assert_int_equal(run_lab("stopped", "lists.yaml", options, &error), SGM_OK);
    assert_true(sgm_path_exists(path("stopped/runs/none-seed-1/heldout.trace")));
    assert_false(sgm_path_exists(path("stopped/runs/none-seed-1/checkpoints")));
    assert_int_equal(sgm_folder_remove(path("stopped"), NULL), SGM_OK);
    sgm_free(lists);
}

/* As `train --resume RUN --steps 14` would while the first run is traced. */
static int prolong_the_second(const char *call, const char *file) {
    (void)call;
    char text[16384] = "";
    const char *config = path("longer/runs/even-seed-1/config.yaml");
    if (!strstr(file, "none-seed-1/heldout.trace"))
        return 0;
    FILE *stream = fopen(config, "r");
    assert_non_null(stream);
    assert_true(fread(text, 1, sizeof text - 1, stream) > 0);
    (void)fclose(stream);
    char *at = strstr(text, "\n  steps: 12");
    if (at) {
        at[11] = '4';
        stream = fopen(config, "w");
        assert_non_null(stream);
        assert_true(fputs(text, stream) >= 0);
        (void)fclose(stream);
    }
    return 0;
}

static void a_run_of_others_keeps_its_model(void **state) {
    (void)state;
    sgm_error error;
    char *lists = with_lists("caches: [lru 2]\n");
    write_file("lists.yaml", lists);
    sgm_fault = prolong_the_second;
    sgm_status status =
        run_lab("longer", "lists.yaml", (sgm_lab_options){.seeds = 1, .discard_checkpoints = true}, &error);
    sgm_fault = NULL;
    assert_int_equal(status, SGM_EARGUMENT); /* said when results are written: the run is no longer the plan's */
    assert_non_null(strstr(error.message, "even-seed-1 has train.steps = 14"));
    assert_false(sgm_path_exists(path("longer/runs/none-seed-1/checkpoints")));
    assert_true(sgm_path_exists(path("longer/runs/even-seed-1/checkpoints")));
    assert_false(sgm_path_exists(path("longer/runs/even-seed-1/heldout.trace")));
    assert_int_equal(sgm_folder_remove(path("longer"), NULL), SGM_OK);
    sgm_free(lists);
}

/* A lab that ran without lists gets them from the models that it kept; those of experts of two kinds are refused. */
static void lists_may_come_later(void **state) {
    (void)state;
    sgm_error error;
    char *lists = with_lists("caches: [lru 2]\n"), *set = NULL;
    write_file("later.yaml", two_arms);
    assert_int_equal(run_lab("later", "later.yaml", (sgm_lab_options){.seeds = 2}, &error), SGM_OK);
    assert_false(sgm_path_exists(path("later/runs/even-seed-2/heldout.trace")));
    write_file("later.yaml", lists);
    if (run_lab("later", "later.yaml", (sgm_lab_options){0}, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    json_t *all = results("later");
    near(value_of(all, 1, "hits.lru 2"), hits_of(path("later/runs/even-seed-2/heldout.trace"), "lru", 2));
    json_decref(all);
    assert_true(sgm_path_exists(path("later/runs/even-seed-2/checkpoints")));
    assert_int_equal(sgm_folder_remove(path("later"), NULL), SGM_OK);
    set = sgm_format("%s%s", lists, "  - name: two_kinds\n    set: {model.attention_experts: 4}\n");
    write_file("later.yaml", set);
    assert_int_equal(run_lab("later", "later.yaml", (sgm_lab_options){0}, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "arm two_kinds: attention experts"));
    sgm_free(set);
    sgm_free(lists);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read),
        cmocka_unit_test(wrong_lists_are_told),
        cmocka_unit_test(by_hand),
        cmocka_unit_test(labs_measure_them),
        cmocka_unit_test(lists_may_come_later),
        cmocka_unit_test(what_cannot_be_traced_stops_nothing),
        cmocka_unit_test(equal_arms_are_no_mixture),
        cmocka_unit_test(tracing_can_be_interrupted),
        cmocka_unit_test(a_run_of_others_keeps_its_model),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
