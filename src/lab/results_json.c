// SPDX-License-Identifier: Apache-2.0
/* results.json; its fields are listed in docs/lab.md. Every name that has to do with time holds the word "second": what is
 * left without them is the same whenever the lab is run. */
#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "lab/results.h"
#include "sigmoe/machine.h"

enum { FORMAT_VERSION = 1 };

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

/* By the names of the measures, which those of all layers have without a prefix. */
static json_t *balance_json(const sgm_lab_balance *b) {
    bool failed = false;
    json_t *object = json_object();
    const size_t begin = offsetof(sgm_lab_measures, region), end = begin + sizeof *b;
    const sgm_lab_metric *metric;
    for (size_t i = 0; (metric = sgm_lab_metric_at(i)); i++)
        if (metric->offset >= begin && metric->offset < end) {
            double value;
            memcpy(&value, (const char *)b + (metric->offset - begin), sizeof value);
            sgm_json_set(object, metric->name, number(value), &failed);
        }
    return sgm_json_or_null(object, failed);
}

static json_t *curve_json(const sgm_lab_measures *m) {
    bool failed = false;
    json_t *curve = json_array();
    for (size_t i = 0; i < m->points; i++) {
        const sgm_lab_point *p = &m->point[i];
        sgm_json_append(curve,
                        json_pack("{s:I, s:o, s:o, s:o, s:o}", "step", (json_int_t)p->step, "tokens", number(p->tokens),
                                  "active_parameter_tokens", number(p->active_parameter_tokens), "seconds",
                                  number(p->seconds), "bits_per_byte", number(p->bits_per_byte)),
                        &failed);
    }
    return sgm_json_or_null(curve, failed);
}

/* Measures of a metric over an arm's runs, under its name in each object. */
typedef struct summary {
    json_t *mean, *deviation, *difference;
} summary;

static void summarise(const sgm_lab_results *results, size_t arm, const sgm_lab_metric *metric, const summary *to,
                      bool *failed) {
    sgm_spread spread = sgm_lab_spread(&results->arm[arm], metric);
    sgm_paired paired = sgm_lab_difference(results, arm, metric);
    sgm_json_set(to->mean, metric->name, number(spread.mean), failed);
    sgm_json_set(to->deviation, metric->name, number(spread.deviation), failed);
    sgm_json_set(to->difference, metric->name,
                 json_pack("{s:I, s:o, s:o, s:o, s:o}", "pairs", (json_int_t)paired.pairs, "mean", number(paired.mean),
                           "low", number(paired.low), "high", number(paired.high), "p", number(paired.p)),
                 failed);
}

static json_t *serving_json(const sgm_lab_results *results, const sgm_lab_measures *m) {
    bool failed = false;
    json_t *object = json_object();
    for (size_t i = 0; i < results->servings; i++)
        sgm_json_set(object, results->serving[i].name, number(sgm_lab_metric_value(&results->serving[i], m)), &failed);
    return sgm_json_or_null(object, failed);
}

static json_t *run_json(const sgm_lab_results *results, const sgm_lab_measures *m) {
    bool failed = false;
    json_t *run = json_object(), *domains = json_object(), *layers = json_array();
    sgm_json_set(run, "seed", json_integer(m->seed), &failed);
    sgm_json_set(run, "threads", m->threads ? json_integer(m->threads) : json_null(), &failed);
    sgm_json_set(run, "tokens", number(m->tokens), &failed);
    const sgm_lab_metric *metric;
    for (size_t i = 0; (metric = sgm_lab_metric_at(i)); i++)
        if (metric->offset < offsetof(sgm_lab_measures, region))
            sgm_json_set(run, metric->name, number(sgm_lab_metric_value(metric, m)), &failed);
    for (size_t d = 0; d < m->domains; d++)
        sgm_json_set(domains, m->domain[d].name, number(m->domain[d].bits_per_byte), &failed);
    sgm_json_set(run, "bits_per_byte_by_domain", domains, &failed);
    sgm_json_set(run, "balance", balance_json(&m->region[SGM_LAB_ALL]), &failed);
    sgm_json_set(run, "balance_low_layers", balance_json(&m->region[SGM_LAB_LOW]), &failed);
    sgm_json_set(run, "balance_high_layers", balance_json(&m->region[SGM_LAB_HIGH]), &failed);
    for (int64_t l = 0; l < m->layers; l++)
        sgm_json_append(layers, balance_json(&m->layer[l]), &failed);
    sgm_json_set(run, "layers", layers, &failed);
    sgm_json_set(run, "serving", serving_json(results, m), &failed);
    sgm_json_set(run, "curve", curve_json(m), &failed);
    return sgm_json_or_null(run, failed);
}

static json_t *arm_json(const sgm_lab_results *results, size_t index) {
    bool failed = false;
    const sgm_lab_arm_results *a = &results->arm[index];
    json_t *runs = json_array(), *mean = json_object(), *deviation = json_object(), *difference = json_object();
    for (size_t i = 0; i < a->runs; i++)
        sgm_json_append(runs, run_json(results, &a->run[i]), &failed);
    const sgm_lab_metric *metric;
    const summary to = {mean, deviation, difference};
    for (size_t i = 0; (metric = sgm_lab_metric_at(i)); i++)
        summarise(results, index, metric, &to, &failed);
    for (size_t i = 0; i < results->servings; i++)
        summarise(results, index, &results->serving[i], &to, &failed);
    bool compared = results->baseline < results->arms && results->baseline != index;
    if (!compared) {
        json_decref(difference);
        difference = json_null();
    }
    return sgm_json_or_null(json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "name", a->arm.name,
                                      "description", a->arm.description, "balance", a->arm.balance, "router", a->router,
                                      "sparsity", a->sparsity, "total_parameters", (json_int_t)a->total_parameters,
                                      "active_parameters", (json_int_t)a->active_parameters, "runs", runs, "mean", mean,
                                      "standard_deviation", deviation, "difference_to_baseline", difference),
                            failed);
}

static json_t *missing_json(const sgm_lab_results *results) {
    bool failed = false;
    json_t *list = json_array();
    for (size_t i = 0; i < results->missings; i++)
        sgm_json_append(list,
                        json_pack("{s:s, s:I, s:s}", "arm", results->missing[i].arm, "seed",
                                  (json_int_t)results->missing[i].seed, "state", results->missing[i].state),
                        &failed);
    return sgm_json_or_null(list, failed);
}

/* Names of the experiment's caches, or of its placements. */
static json_t *uses_json(const sgm_lab_serving *serving, bool placements, bool *failed) {
    json_t *list = json_array();
    for (size_t i = 0; i < serving->uses; i++)
        if (serving->use[i].placement == placements)
            sgm_json_append(list, json_string(serving->use[i].name), failed);
    return list;
}

sgm_status sgm_lab_write_json(const sgm_lab_results *results, const char *path, sgm_error *error) {
    bool failed = false;
    sgm_experiment_info info;
    sgm_experiment_describe(results->experiment, &info);
    const sgm_lab_serving *serving = &results->experiment->serving;
    json_t *arms = json_array();
    for (size_t a = 0; a < results->arms; a++)
        sgm_json_append(arms, arm_json(results, a), &failed);
    json_t *root =
        json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:b, s:o, s:s, s:s, s:o}",
                  "format", "sigmoe lab results", "version", FORMAT_VERSION, "experiment", info.name, "claim",
                  info.claim, "paper", info.paper, "tuning", info.tuning, "baseline", info.baseline, "window",
                  "the last tenth of the steps", "steps", (json_int_t)results->plan->steps, "tokens_per_step",
                  (json_int_t)info.tokens_per_step, "seeds", (json_int_t)results->plan->seeds, "groups",
                  (json_int_t)info.groups, "caches", uses_json(serving, false, &failed), "placements",
                  uses_json(serving, true, &failed), "complete", results->missings == 0, "missing",
                  missing_json(results), "command", results->command, "sigmoe", sgm_version(), "arms", arms);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) : NULL;
    sgm_status status = text && !failed
                            ? sgm_file_write(path, text, strlen(text), error)
                            : sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory, or a text that is not UTF-8", path);
    free(text);
    json_decref(root);
    return status;
}
