// SPDX-License-Identifier: Apache-2.0
/* results.json; its fields are listed in docs/lab.md. Every name that has to do with time holds the word "second": what is
 * left without them is the same whenever the lab is run. */
#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "lab/results.h"
#include "sigmoe/machine.h"

enum { FORMAT_VERSION = 1 };

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

/* By the names of the measures, which those of all layers have without a prefix. */
static json_t *balance_json(const sgm_lab_balance *b) {
    json_t *object = json_object();
    const size_t begin = offsetof(sgm_lab_measures, region), end = begin + sizeof *b;
    const sgm_lab_metric *metric;
    for (size_t i = 0; (metric = sgm_lab_metric_at(i)); i++)
        if (metric->offset >= begin && metric->offset < end) {
            double value;
            memcpy(&value, (const char *)b + (metric->offset - begin), sizeof value);
            json_object_set_new(object, metric->name, number(value));
        }
    return object;
}

static json_t *curve_json(const sgm_lab_measures *m) {
    json_t *curve = json_array();
    for (size_t i = 0; i < m->points; i++) {
        const sgm_lab_point *p = &m->point[i];
        json_array_append_new(curve, json_pack("{s:I, s:o, s:o, s:o, s:o}", "step", (json_int_t)p->step, "tokens",
                                               number(p->tokens), "active_parameter_tokens",
                                               number(p->active_parameter_tokens), "seconds", number(p->seconds),
                                               "bits_per_byte", number(p->bits_per_byte)));
    }
    return curve;
}

static json_t *run_json(const sgm_lab_measures *m) {
    json_t *run = json_object(), *domains = json_object(), *layers = json_array();
    json_object_set_new(run, "seed", json_integer(m->seed));
    json_object_set_new(run, "threads", m->threads ? json_integer(m->threads) : json_null());
    json_object_set_new(run, "tokens", number(m->tokens));
    const sgm_lab_metric *metric;
    for (size_t i = 0; (metric = sgm_lab_metric_at(i)); i++)
        if (metric->offset < offsetof(sgm_lab_measures, region))
            json_object_set_new(run, metric->name, number(sgm_lab_metric_value(metric, m)));
    for (size_t d = 0; d < m->domains; d++)
        json_object_set_new(domains, m->domain[d].name, number(m->domain[d].bits_per_byte));
    json_object_set_new(run, "bits_per_byte_by_domain", domains);
    json_object_set_new(run, "balance", balance_json(&m->region[SGM_LAB_ALL]));
    json_object_set_new(run, "balance_low_layers", balance_json(&m->region[SGM_LAB_LOW]));
    json_object_set_new(run, "balance_high_layers", balance_json(&m->region[SGM_LAB_HIGH]));
    for (int64_t l = 0; l < m->layers; l++)
        json_array_append_new(layers, balance_json(&m->layer[l]));
    json_object_set_new(run, "layers", layers);
    json_object_set_new(run, "curve", curve_json(m));
    return run;
}

static json_t *arm_json(const sgm_lab_results *results, size_t index) {
    const sgm_lab_arm_results *a = &results->arm[index];
    json_t *runs = json_array(), *mean = json_object(), *deviation = json_object(), *difference = json_object();
    for (size_t i = 0; i < a->runs; i++)
        json_array_append_new(runs, run_json(&a->run[i]));
    const sgm_lab_metric *metric;
    for (size_t i = 0; (metric = sgm_lab_metric_at(i)); i++) {
        sgm_spread spread = sgm_lab_spread(a, metric);
        sgm_paired paired = sgm_lab_difference(results, index, metric);
        json_object_set_new(mean, metric->name, number(spread.mean));
        json_object_set_new(deviation, metric->name, number(spread.deviation));
        json_object_set_new(difference, metric->name,
                            json_pack("{s:I, s:o, s:o, s:o, s:o}", "pairs", (json_int_t)paired.pairs, "mean",
                                      number(paired.mean), "low", number(paired.low), "high", number(paired.high), "p",
                                      number(paired.p)));
    }
    bool compared = results->baseline < results->arms && results->baseline != index;
    if (!compared) {
        json_decref(difference);
        difference = json_null();
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "name", a->arm.name, "description",
                     a->arm.description, "balance", a->arm.balance, "router", a->router, "sparsity", a->sparsity,
                     "total_parameters", (json_int_t)a->total_parameters, "active_parameters",
                     (json_int_t)a->active_parameters, "runs", runs, "mean", mean, "standard_deviation", deviation,
                     "difference_to_baseline", difference);
}

static json_t *missing_json(const sgm_lab_results *results) {
    json_t *list = json_array();
    for (size_t i = 0; i < results->missings; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:s}", "arm", results->missing[i].arm, "seed",
                                        (json_int_t)results->missing[i].seed, "state", results->missing[i].state));
    return list;
}

sgm_status sgm_lab_write_json(const sgm_lab_results *results, const char *path, sgm_error *error) {
    sgm_experiment_info info;
    sgm_experiment_describe(results->experiment, &info);
    json_t *arms = json_array();
    for (size_t a = 0; a < results->arms; a++)
        json_array_append_new(arms, arm_json(results, a));
    json_t *root = json_pack(
        "{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:o, s:s, s:s, s:o}", "format",
        "sigmoe lab results", "version", FORMAT_VERSION, "experiment", info.name, "claim", info.claim, "paper",
        info.paper, "baseline", info.baseline, "window", "the last tenth of the steps", "steps",
        (json_int_t)results->plan->steps, "tokens_per_step", (json_int_t)info.tokens_per_step, "seeds",
        (json_int_t)results->plan->seeds, "groups", (json_int_t)info.groups, "complete", results->missings == 0,
        "missing", missing_json(results), "command", results->command, "sigmoe", sgm_version(), "arms", arms);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) : NULL;
    sgm_status status = text ? sgm_file_write(path, text, strlen(text), error)
                             : sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory, or a text that is not UTF-8", path);
    free(text);
    json_decref(root);
    return status;
}
