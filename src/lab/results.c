// SPDX-License-Identifier: Apache-2.0
/* From the runs of a lab to what they say together: budgets that all arms can pay, spreads, paired differences. */
#include "lab/results.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text_print.h"
#include "lab/measure.h"
#include "sigmoe/model.h"

/* ---- metrics -------------------------------------------------------------------------------------------------- */

#define OF(field) offsetof(sgm_lab_measures, field)
#define REGION(prefix, word, index)                                                                                    \
    {prefix "max_violation_batch", word "MaxVio, batch", OF(region[index].max_violation_batch), 2, false},             \
        {prefix "noise_floor_batch", word "its floor", OF(region[index].noise_floor_batch), 2, false},                 \
        {prefix "max_violation_global", word "MaxVio, global", OF(region[index].max_violation_global), 2, false},      \
        {prefix "noise_floor_global", word "its floor", OF(region[index].noise_floor_global), 2, false},               \
        {prefix "coefficient_of_variation", word "CV", OF(region[index].coefficient_of_variation), 2, false},          \
        {prefix "min_over_mean", word "min/mean", OF(region[index].min_over_mean), 2, false},                          \
        {prefix "dead_experts", word "dead", OF(region[index].dead_experts), 1, false},                                \
        {prefix "entropy_over_log_e", word "H(f)", OF(region[index].entropy_over_log_e), 3, false},                    \
        {prefix "probability_entropy_over_log_e", word "H(p)", OF(region[index].probability_entropy_over_log_e), 3,    \
         false},                                                                                                       \
        {prefix "token_entropy_over_log_e", word "H(e|x)", OF(region[index].token_entropy_over_log_e), 3, false},      \
        {prefix "dropped_share", word "dropped", OF(region[index].dropped_share), 3, false},                           \
        {prefix "correlation", word "corr(f, p)", OF(region[index].correlation), 2, false},                            \
        {prefix "imbalance_score", word "IS", OF(region[index].imbalance_score), 3, false},                            \
        {prefix "imbalance_noise_floor", word "its floor", OF(region[index].imbalance_noise_floor), 3, false},         \
        {prefix "domain_divergence_nats", word "JS of domains", OF(region[index].domain_divergence), 3, false}, {      \
        prefix "domain_divergence_noise_nats", word "its floor", OF(region[index].domain_divergence_noise), 3, false   \
    }

static const sgm_lab_metric metrics[] = {
    {"bits_per_byte", "bits per byte", OF(bits_per_byte), 4, false},
    {"bits_per_byte_at_equal_active_parameter_tokens", "bits per byte, equal active parameter-tokens",
     OF(bits_per_byte_at_equal_active), 4, false},
    {"bits_per_byte_at_equal_seconds", "bits per byte, equal seconds", OF(bits_per_byte_at_equal_seconds), 4, false},
    {"training_loss_nats_per_token", "training loss", OF(training_loss), 4, false},
    {"expert_computations_per_token", "experts per token", OF(expert_computations_per_token), 3, false},
    {"active_parameter_tokens", "active parameter-tokens", OF(active_parameter_tokens), 0, false},
    {"tokens_per_second", "tokens/s", OF(tokens_per_second), 0, false},
    {"seconds", "seconds", OF(seconds), 1, false},
    {"skipped_steps", "skipped steps", OF(skipped_steps), 0, false},
    REGION("", "", SGM_LAB_ALL),
    REGION("low.", "low: ", SGM_LAB_LOW),
    REGION("high.", "high: ", SGM_LAB_HIGH),
};
enum { METRICS = sizeof metrics / sizeof *metrics };
static const char usual[] =
    "bits_per_byte,bits_per_byte_at_equal_active_parameter_tokens,bits_per_byte_at_equal_seconds,"
    "low.max_violation_global,high.max_violation_global,max_violation_batch,dead_experts,"
    "entropy_over_log_e,probability_entropy_over_log_e,token_entropy_over_log_e,imbalance_score,tokens_per_second";

const sgm_lab_metric *sgm_lab_metric_at(size_t index) {
    return index < METRICS ? &metrics[index] : NULL;
}

const sgm_lab_metric *sgm_lab_metric_find(const char *name, size_t size) {
    for (size_t i = 0; i < METRICS; i++)
        if (strlen(metrics[i].name) == size && memcmp(metrics[i].name, name, size) == 0)
            return &metrics[i];
    return NULL;
}

double sgm_lab_metric_value(const sgm_lab_metric *metric, const sgm_lab_measures *measures) {
    double value;
    if (metric->serving)
        return measures->serving ? measures->serving[metric->offset] : (double)NAN;
    memcpy(&value, (const char *)measures + metric->offset, sizeof value);
    return value;
}

/* The metrics of a list, one after another; `use` NULL: only look. */
static sgm_status each_metric(const char *list, const sgm_lab_metric **found, size_t *count, sgm_error *error) {
    *count = 0;
    while (*list) {
        list += strspn(list, " ,");
        size_t size = strcspn(list, " ,");
        if (!size)
            break;
        const sgm_lab_metric *metric = sgm_lab_metric_find(list, size);
        if (!metric) {
            const char *names[METRICS + 1] = {NULL};
            char wrong[64], hint[256];
            snprintf(wrong, sizeof wrong, "%.*s", (int)(size < 63 ? size : 63), list);
            for (size_t i = 0; i < METRICS; i++)
                names[i] = metrics[i].name;
            const char *near = sgm_nearest(wrong, names);
            snprintf(hint, sizeof hint, near ? "did you mean %s?" : "docs/lab.md lists them; bits_per_byte is one%s",
                     near ? near : "");
            return sgm_fail(error, SGM_EARGUMENT, hint, "compare: there is no measure %s", wrong);
        }
        if (*count >= METRICS)
            return sgm_fail(error, SGM_EARGUMENT, "name each once", "compare: more measures than there are");
        if (found)
            found[*count] = metric;
        ++*count;
        list += size;
    }
    return SGM_OK;
}

sgm_status sgm_lab_metrics_check(const char *list, sgm_error *error) {
    size_t count;
    return each_metric(list, NULL, &count, error);
}

/* ---- gathering ------------------------------------------------------------------------------------------------ */

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the results of a lab");
}

static sgm_status add_missing(sgm_lab_results *results, const sgm_experiment_arm *arm, int64_t seed, const char *run,
                              sgm_error *error) {
    size_t old = results->missings * sizeof *results->missing;
    sgm_lab_missing *grown = sgm_resize(results->missing, old, old + sizeof *grown);
    if (!grown)
        return no_memory(error);
    const char *most = sgm_config_get(arm->config, "train.max_skipped_steps");
    bool begun = sgm_path_exists(run), failed = begun && sgm_lab_gave_up(run, strtoll(most, NULL, 10));
    results->missing = grown;
    grown[results->missings++] = (sgm_lab_missing){.arm = arm->name,
                                                   .seed = seed,
                                                   .state = failed  ? "failed"
                                                            : begun ? "not finished"
                                                                    : "not begun"};
    return SGM_OK;
}

/* Of one run: NaN where it left no routes. */
static sgm_status measure_serving(const sgm_experiment *experiment, const char *run, int64_t steps, sgm_lab_measures *m,
                                  sgm_error *error) {
    const sgm_lab_serving *serving = &experiment->serving;
    char *routes = sgm_path_join(run, SGM_LAB_ROUTES);
    m->serving = sgm_alloc((serving->values + 1) * sizeof *m->serving);
    sgm_status status = routes && m->serving ? SGM_OK : no_memory(error);
    for (size_t i = 0; i < serving->values && !status; i++)
        m->serving[i] = (double)NAN;
    if (!status && serving->values && sgm_path_exists(routes))
        status = sgm_lab_serving_measure(serving, routes, steps, m->share, m->layers, m->experts, m->serving,
                                         &m->routes, error);
    sgm_free(routes);
    return status;
}

static sgm_status gather_arm(const char *folder, const sgm_experiment *experiment, const sgm_lab_plan *plan,
                             size_t index, sgm_lab_results *results, sgm_error *error) {
    sgm_lab_arm_results *arm = &results->arm[results->arms];
    *arm = (sgm_lab_arm_results){.run = sgm_alloc((size_t)plan->seeds * sizeof *arm->run)};
    if (!arm->run)
        return no_memory(error);
    sgm_experiment_arm_at(experiment, index, &arm->arm);
    sgm_status status = SGM_OK;
    for (int64_t seed = 1; seed <= plan->seeds && !status; seed++) {
        char *run = sgm_lab_run_folder(folder, arm->arm.name, seed);
        if (!run) {
            status = no_memory(error);
        } else if (sgm_lab_run_complete(run)) {
            status = sgm_lab_measure(run, experiment->frame.groups, &arm->run[arm->runs], error);
            sgm_lab_measures *m = &arm->run[arm->runs];
            if (!status && ((status = sgm_lab_same_corpus(run, m->corpus, plan->corpus, error)) ||
                            (status = measure_serving(experiment, run, plan->steps, m, error))))
                sgm_lab_measures_free(m);
            arm->runs += !status;
        } else if (sgm_lab_plan_wants(plan, arm->arm.name)) {
            status = add_missing(results, &arm->arm, seed, run, error);
        }
        sgm_free(run);
    }
    sgm_model_settings model;
    sgm_model_counts counts;
    if (!status)
        status = sgm_model_settings_from_config(arm->arm.config, &model, error);
    if (status || arm->runs == 0) {
        for (size_t i = 0; i < arm->runs; i++)
            sgm_lab_measures_free(&arm->run[i]);
        sgm_free(arm->run);
        return status;
    }
    sgm_model_count(&model, (double)model.experts_per_token, model.context, &counts);
    arm->total_parameters = counts.total_parameters;
    arm->active_parameters = counts.active_parameters;
    arm->router = sgm_config_get(arm->arm.config, "router.kind");
    arm->sparsity = sgm_config_get(arm->arm.config, "sparsity.kind");
    if (strcmp(arm->arm.name, experiment->frame.baseline) == 0)
        results->baseline = results->arms;
    results->arms++;
    return SGM_OK;
}

/* Of each seed: what the thriftiest arm spent is what every arm can be asked about. */
static void compare_budgets(sgm_lab_results *results, int64_t seed) {
    double active = (double)INFINITY, seconds = (double)INFINITY;
    for (int pass = 0; pass < 2; pass++)
        for (size_t a = 0; a < results->arms; a++)
            for (size_t i = 0; i < results->arm[a].runs; i++) {
                sgm_lab_measures *m = &results->arm[a].run[i];
                if (m->seed != seed)
                    continue;
                if (pass == 0) {
                    active = fmin(active, m->active_parameter_tokens);
                    seconds = fmin(seconds, m->seconds);
                    continue;
                }
                m->bits_per_byte_at_equal_active =
                    sgm_lab_curve_at(m, offsetof(sgm_lab_point, active_parameter_tokens), active);
                m->bits_per_byte_at_equal_seconds = sgm_lab_curve_at(m, offsetof(sgm_lab_point, seconds), seconds);
            }
}

/* One word of a shell's command. */
static sgm_status add_word(sgm_buffer *text, const char *before, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%";
    sgm_status status = sgm_buffer_print(text, "%s", before);
    if (!status && *word && !word[strspn(word, plain)])
        return sgm_buffer_print(text, "%s", word);
    if (!status)
        status = sgm_buffer_add(text, "'", 1);
    for (; *word && !status; word++)
        status = *word == '\'' ? sgm_buffer_add(text, "'\\''", 4) : sgm_buffer_add(text, word, 1);
    return status ? status : sgm_buffer_add(text, "'", 1);
}

/* What repeats it. */
static char *command_of(const sgm_lab_plan *plan, int64_t threads) {
    sgm_buffer text = {0};
    sgm_status status = add_word(&text, "sigmoe lab run ", plan->experiment);
    if (!status)
        status = sgm_buffer_print(&text, " --seeds %" PRId64 " --steps %" PRId64, plan->seeds, plan->steps);
    for (size_t i = 0; i < plan->data_count && !status; i++)
        status = add_word(&text, i ? " " : " --data ", plan->data[i]);
    for (size_t i = 0; i < plan->setting_count && !status; i++)
        status = add_word(&text, i ? " " : " --set ", plan->settings[i]);
    for (size_t i = 0; i < plan->arm_count && !status; i++)
        status = sgm_buffer_print(&text, "%s%s", i ? "," : " --arms ", plan->arms[i]); /* names need no quotes */
    if (!status && threads > 0)
        status = sgm_buffer_print(&text, " --threads %" PRId64, threads);
    if (status)
        sgm_buffer_free(&text);
    return text.data;
}

/* Of every run where they matter; 0 where they differ, or matter nowhere. */
static int64_t common_threads(const sgm_lab_results *results) {
    int64_t threads = 0;
    for (size_t a = 0; a < results->arms; a++)
        for (size_t i = 0; i < results->arm[a].runs; i++) {
            int64_t own = results->arm[a].run[i].threads;
            if (own && threads && own != threads)
                return 0;
            threads = own ? own : threads;
        }
    return threads;
}

/* The routes of two runs: of one text, and of two models, or of one where both runs came to it (two arms may be one). */
static sgm_status compare_routes(const char *folder, const sgm_lab_arm_results *a, const sgm_lab_measures *m,
                                 const sgm_lab_arm_results *b, const sgm_lab_measures *n, sgm_error *error) {
    bool same = m->routes.model_hash == n->routes.model_hash && m->routes.model_hash != 0 &&
                m->bits_per_byte != n->bits_per_byte;
    if (!m->routes.tokens || !n->routes.tokens || (!same && m->routes.tokens == n->routes.tokens))
        return SGM_OK;
    return sgm_fail(error, SGM_EFORMAT, "remove both: the lab makes them again where the runs' checkpoints are there",
                    "%s: " SGM_LAB_ROUTES " of %s, seed %" PRId64 ", and of %s, seed %" PRId64 ", are of %s", folder,
                    a->arm.name, m->seed, b->arm.name, n->seed, same ? "one model" : "different numbers of tokens");
}

static sgm_status compare_all_routes(const char *folder, const sgm_lab_results *results, sgm_error *error) {
    sgm_status status = SGM_OK;
    for (size_t a = 0; a < results->arms; a++)
        for (size_t i = 0; i < results->arm[a].runs; i++)
            for (size_t b = 0; b <= a; b++)
                for (size_t j = 0; j < (b < a ? results->arm[b].runs : i) && !status; j++)
                    status = compare_routes(folder, &results->arm[b], &results->arm[b].run[j], &results->arm[a],
                                            &results->arm[a].run[i], error);
    return status;
}

static void list_uses(sgm_lab_results *results) {
    for (size_t i = 0; i < results->servings; i++) {
        bool heldout;
        const sgm_lab_use *use = sgm_lab_serving_at(&results->experiment->serving, i, &heldout);
        if (!sgm_lab_known(results, &results->serving[i]))
            continue;
        results->caches += !use->placement;
        results->known_serving[results->known_servings++] = &results->serving[i];
    }
}

/* Spreads and differences are of fewer seeds then. */
static sgm_status name_those_without_routes(sgm_lab_results *results, sgm_error *error) {
    sgm_buffer text = {0};
    sgm_status status = SGM_OK;
    for (size_t a = 0; a < results->arms; a++)
        for (size_t i = 0; i < results->arm[a].runs && !status; i++)
            if (!results->arm[a].run[i].routes.tokens)
                status = sgm_buffer_print(&text, "%s%s, seed %" PRId64, text.size ? "; " : "", results->arm[a].arm.name,
                                          results->arm[a].run[i].seed);
    results->without_routes = text.data;
    return status ? no_memory(error) : SGM_OK;
}

static void drop_unknown(sgm_lab_results *results) {
    size_t known = 0;
    for (size_t i = 0; i < results->compared; i++)
        if (sgm_lab_known(results, results->compare[i]))
            results->compare[known++] = results->compare[i];
    results->compared = known;
}

/* "hits.lru 16", "placement.eplb 80 gpus=8" and "placement_heldout.eplb 80 gpus=8". */
static sgm_status name_servings(sgm_lab_results *results, sgm_error *error) {
    const sgm_lab_serving *serving = &results->experiment->serving;
    results->serving = sgm_alloc((serving->values + 1) * sizeof *results->serving);
    results->known_serving = sgm_alloc((serving->values + 1) * sizeof *results->known_serving);
    if (!results->serving || !results->known_serving)
        return no_memory(error);
    for (size_t i = 0; i < serving->values; i++) {
        bool heldout;
        const sgm_lab_use *use = sgm_lab_serving_at(serving, i, &heldout);
        const char *prefix = !use->placement ? "hits" : heldout ? "placement_heldout" : "placement";
        const char *suffix = !use->placement ? "" : heldout ? ": held out" : ": planned for";
        sgm_lab_metric *metric = &results->serving[results->servings++];
        *metric = (sgm_lab_metric){.name = sgm_format("%s.%s", prefix, use->name),
                                   .title = sgm_format("%s%s", use->name, suffix),
                                   .offset = i,
                                   .digits = 3,
                                   .serving = true};
        if (!metric->name || !metric->title)
            return no_memory(error);
    }
    return SGM_OK;
}

sgm_status sgm_lab_results_gather(const char *folder, const sgm_experiment *experiment, const sgm_lab_plan *plan,
                                  sgm_lab_results *results, sgm_error *error) {
    *results = (sgm_lab_results){.experiment = experiment, .plan = plan, .baseline = SIZE_MAX};
    results->arm = sgm_alloc(experiment->arm_count * sizeof *results->arm);
    results->compare = sgm_alloc(METRICS * sizeof *results->compare);
    sgm_status status = results->arm && results->compare ? name_servings(results, error) : no_memory(error);
    for (size_t i = 0; i < experiment->arm_count && !status; i++)
        status = gather_arm(folder, experiment, plan, i, results, error);
    const char *list = *experiment->frame.compare ? experiment->frame.compare : usual;
    if (!status)
        status = each_metric(list, results->compare, &results->compared, error);
    if (!status && results->arms == 0)
        status =
            sgm_fail(error, SGM_ENOTFOUND, "`sigmoe lab run` goes on with it", "%s: no run is complete yet", folder);
    results->command = status ? NULL : command_of(plan, common_threads(results));
    if (!status && !results->command)
        status = no_memory(error);
    for (int64_t seed = 1; seed <= plan->seeds && !status; seed++)
        compare_budgets(results, seed);
    if (!status)
        status = compare_all_routes(folder, results, error);
    if (!status)
        list_uses(results);
    if (!status && results->known_servings)
        status = name_those_without_routes(results, error);
    if (!status && list == usual) /* without groups there is no imbalance score, and so on */
        drop_unknown(results);
    if (status)
        sgm_lab_results_free(results);
    return status;
}

void sgm_lab_results_free(sgm_lab_results *results) {
    for (size_t a = 0; a < results->arms; a++) {
        for (size_t i = 0; i < results->arm[a].runs; i++)
            sgm_lab_measures_free(&results->arm[a].run[i]);
        sgm_free(results->arm[a].run);
    }
    sgm_free(results->arm);
    for (size_t i = 0; i < results->servings; i++) {
        sgm_free((char *)results->serving[i].name);
        sgm_free((char *)results->serving[i].title);
    }
    sgm_free(results->serving);
    sgm_free(results->known_serving);
    sgm_free(results->without_routes);
    sgm_free(results->compare);
    sgm_free(results->missing);
    sgm_free(results->command);
    *results = (sgm_lab_results){0};
}

sgm_spread sgm_lab_spread(const sgm_lab_arm_results *arm, const sgm_lab_metric *metric) {
    double values[1024];
    size_t count = 0;
    for (size_t i = 0; i < arm->runs && count < 1024; i++)
        values[count++] = sgm_lab_metric_value(metric, &arm->run[i]);
    return sgm_spread_of(values, count);
}

void sgm_lab_floors(const sgm_lab_results *results, char *text, size_t room) {
    double low[2] = {(double)INFINITY, (double)INFINITY}, high[2] = {0, 0};
    for (size_t a = 0; a < results->arms; a++)
        for (size_t i = 0; i < results->arm[a].runs; i++) {
            const sgm_lab_balance *all = &results->arm[a].run[i].region[SGM_LAB_ALL];
            const double floors[] = {all->noise_floor_batch, all->noise_floor_global};
            for (int f = 0; f < 2; f++) {
                low[f] = fmin(low[f], floors[f]);
                high[f] = fmax(high[f], floors[f]);
            }
        }
    char range[2][48];
    for (int f = 0; f < 2; f++)
        if (high[f] - low[f] < 0.005)
            sgm_text_print(range[f], sizeof range[f], "%.2f", high[f]);
        else
            sgm_text_print(range[f], sizeof range[f], "%.2f to %.2f", low[f], high[f]);
    snprintf(text, room, "An even router's MaxVio by chance: %s a batch, %s over the window.", range[0], range[1]);
}

bool sgm_lab_known(const sgm_lab_results *results, const sgm_lab_metric *metric) {
    bool known = false;
    for (size_t a = 0; a < results->arms && !known; a++)
        for (size_t i = 0; i < results->arm[a].runs && !known; i++)
            known = isfinite(sgm_lab_metric_value(metric, &results->arm[a].run[i]));
    return known;
}

sgm_paired sgm_lab_difference(const sgm_lab_results *results, size_t arm, const sgm_lab_metric *metric) {
    double values[1024];
    size_t count = 0;
    const sgm_lab_arm_results *a = &results->arm[arm];
    const sgm_lab_arm_results *b = results->baseline < results->arms ? &results->arm[results->baseline] : NULL;
    for (size_t i = 0; b && i < a->runs; i++)
        for (size_t j = 0; j < b->runs && count < 1024; j++)
            if (a->run[i].seed == b->run[j].seed)
                values[count++] = sgm_lab_metric_value(metric, &a->run[i]) - sgm_lab_metric_value(metric, &b->run[j]);
    return sgm_paired_of(values, count);
}
