// SPDX-License-Identifier: Apache-2.0
/* What is measured of a run, what follows from all runs of a lab, and the four forms it is written in. */
#ifndef SGM_LAB_RESULTS_H
#define SGM_LAB_RESULTS_H

#include "base/memory.h"
#include "lab/experiment.h"
#include "lab/plan.h"
#include "lab/student.h"
#include "sigmoe/data.h"
#include "sigmoe/stats.h"

/* Balance of one layer, or the mean over some. "Batch" numbers are means over the steps of the last tenth, "global" ones
 * and the rest are of the load added up over it. The floors are what an even router shows at as many tokens. */
typedef struct sgm_lab_balance {
    double max_violation_batch, noise_floor_batch;
    double max_violation_global, noise_floor_global;
    double coefficient_of_variation, min_over_mean, dead_experts;
    double entropy_over_log_e, probability_entropy_over_log_e, correlation;
    double token_entropy_over_log_e; /* mean over tokens of the entropy of their own probabilities; NaN: not kept */
    double dropped_share;            /* of the assignments to experts that compute; NaN: not kept */
    /* (max − min over groups) / tokens, and what even routing shows by chance, means over batches; NaN: no groups */
    double imbalance_score, imbalance_noise_floor;
    /* Of the last evaluation: how differently its domains use the experts, and what domains that are alike would show
     * (sgm_domain_divergence); NaN: the run did not keep it, or fewer than two domains were scored. */
    double domain_divergence, domain_divergence_noise;
} sgm_lab_balance;
enum { SGM_LAB_BALANCES = sizeof(sgm_lab_balance) / sizeof(double) };
typedef enum sgm_lab_region { SGM_LAB_ALL, SGM_LAB_LOW, SGM_LAB_HIGH, SGM_LAB_REGIONS } sgm_lab_region;

/* One evaluation: what had been spent until then, and what came of it. */
typedef struct sgm_lab_point {
    double step, tokens, active_parameter_tokens, seconds, bits_per_byte;
} sgm_lab_point;

typedef struct sgm_lab_domain {
    char *name;
    double bits_per_byte;
} sgm_lab_domain;

typedef struct sgm_lab_measures {
    int64_t seed, threads, layers, experts; /* threads it began with; 0: the numbers do not depend on them */
    double bits_per_byte, training_loss;
    double bits_per_byte_at_equal_active, bits_per_byte_at_equal_seconds;
    double expert_computations_per_token, active_parameter_tokens; /* mean over layers; over the run */
    double tokens, tokens_per_second, seconds, skipped_steps;
    sgm_lab_balance region[SGM_LAB_REGIONS];
    sgm_lab_balance *layer; /* (L) */
    double *share;          /* (L, E) load of the last tenth over the fair share */
    double *domain_share;   /* (domains, L, E) the same of the last evaluation, NaN: not kept; NULL: of none */
    sgm_lab_point *point;
    size_t points;
    sgm_lab_domain *domain;
    size_t domains;
    sgm_lab_routes routes; /* zero: there are none */
    double *serving; /* of the experiment's caches and placements; NaN: no routes were kept. NULL: there are none */
    char corpus[SGM_CORPUS_HASH]; /* the text it was trained on; "": a run from before this was kept */
} sgm_lab_measures;

/* measure.c. Everything but the two "equal" ones, which need the other arms. `groups` 0: none. */
sgm_status sgm_lab_measure(const char *run, int64_t groups, sgm_lab_measures *measures, sgm_error *error);
/* measure_whole.c. Before anything is trained beside it: a run that is complete has all steps and the last evaluation in its
 * log, and any run was trained on the text of that hash (NULL: not known yet). SGM_EFORMAT, SGM_EARGUMENT. */
sgm_status sgm_lab_check_log(const char *run, int64_t steps, const char *corpus, sgm_error *error);
sgm_status sgm_lab_same_corpus(const char *run, const char *has, const char *wanted, sgm_error *error);
/* Whether the last `most` steps of a run, complete or not, were all skipped. false where that cannot be read. */
bool sgm_lab_gave_up(const char *run, int64_t most);
void sgm_lab_measures_free(sgm_lab_measures *measures);
/* bits_per_byte where `offset` (of a field of sgm_lab_point) reaches `budget`: linear between evaluations; the last one's
 * where it is never reached; NaN before the first. */
double sgm_lab_curve_at(const sgm_lab_measures *measures, size_t offset, double budget);
/* sgm_imbalance_score of a batch; score and floor are NaN where the experts are in no groups. */
sgm_imbalance sgm_lab_imbalance(const int64_t *count, int64_t experts, int64_t groups, int64_t tokens);

/* ---- metrics -------------------------------------------------------------------------------------------------- */

typedef struct sgm_lab_metric {
    const char *name, *title;
    size_t offset; /* in sgm_lab_measures */
    int digits;
    bool serving; /* `offset` is a place in sgm_lab_measures.serving */
} sgm_lab_metric;
/* Metric `index`; NULL past the last. Those of regions are "low.dead_experts" and so on. */
const sgm_lab_metric *sgm_lab_metric_at(size_t index);
const sgm_lab_metric *sgm_lab_metric_find(const char *name, size_t size);
double sgm_lab_metric_value(const sgm_lab_metric *metric, const sgm_lab_measures *measures);
/* A comma-separated list of them; "" is fine. SGM_EARGUMENT with the nearest name. */
sgm_status sgm_lab_metrics_check(const char *list, sgm_error *error);

/* ---- all runs ------------------------------------------------------------------------------------------------- */

typedef struct sgm_lab_arm_results {
    sgm_experiment_arm arm;
    int64_t total_parameters, active_parameters; /* active at the target k */
    const char *router, *sparsity;
    sgm_lab_measures *run; /* complete ones, by seed */
    size_t runs;
} sgm_lab_arm_results;

/* A run of the plan that is not complete. */
typedef struct sgm_lab_missing {
    const char *arm; /* borrowed from the experiment */
    int64_t seed;
    const char *state; /* "not begun", "not finished", or "failed": its last steps, as many as may be, were skipped */
} sgm_lab_missing;

typedef struct sgm_lab_results {
    const sgm_experiment *experiment;
    const sgm_lab_plan *plan;
    sgm_lab_arm_results *arm; /* those with a complete run */
    size_t arms, baseline;    /* baseline: SIZE_MAX where it has none */
    const sgm_lab_metric **compare;
    size_t compared;
    sgm_lab_metric *serving; /* (servings) of the experiment's caches and placements; names and titles are heap */
    size_t servings;
    const sgm_lab_metric **known_serving; /* those that any run has: `caches` of caches, then of placements */
    size_t caches, known_servings;
    char *without_routes; /* "none, seed 2; even, seed 1": in no value of theirs; NULL: none lacks them */
    sgm_lab_missing *missing;
    size_t missings;
    char *command;
} sgm_lab_results;

sgm_status sgm_lab_results_gather(const char *folder, const sgm_experiment *experiment, const sgm_lab_plan *plan,
                                  sgm_lab_results *results, sgm_error *error);
void sgm_lab_results_free(sgm_lab_results *results);
static inline const char *sgm_lab_plural(int64_t count) {
    return count == 1 ? "" : "s";
}
/* "An even router's MaxVio by chance: 0.58 a batch, 0.05 over the window." from the least to the greatest of all runs. */
void sgm_lab_floors(const sgm_lab_results *results, char *text, size_t room);
/* Of the arm with most of them. */
static inline size_t sgm_lab_seeds_there(const sgm_lab_results *results) {
    size_t most = 0;
    for (size_t a = 0; a < results->arms; a++)
        most = results->arm[a].runs > most ? results->arm[a].runs : most;
    return most;
}
sgm_spread sgm_lab_spread(const sgm_lab_arm_results *arm, const sgm_lab_metric *metric);
/* Whether any run has it: there is no imbalance score without groups, and no divergence of one domain. */
bool sgm_lab_known(const sgm_lab_results *results, const sgm_lab_metric *metric);
/* arm − baseline over the seeds that both have. */
sgm_paired sgm_lab_difference(const sgm_lab_results *results, size_t arm, const sgm_lab_metric *metric);

/* results_json.c, results_text.c, lab_page.c, lab_pictures.c: curves.svg, balance.svg, load.svg and, where it is known what domains
 * use, domains.svg in a folder that is made */
sgm_status sgm_lab_write_json(const sgm_lab_results *results, const char *path, sgm_error *error);
sgm_status sgm_lab_write_text(const sgm_lab_results *results, const char *path, sgm_error *error);
sgm_status sgm_lab_write_page(const sgm_lab_results *results, const char *path, sgm_error *error);
sgm_status sgm_lab_write_pictures(const sgm_lab_results *results, const char *folder, sgm_error *error);

#endif
