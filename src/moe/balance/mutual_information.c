// SPDX-License-Identifier: Apache-2.0
/* The mutual-information loss of ModuleFormer (arXiv 2306.04640): −I(token; expert) = Σ_i P_i ln P_i − mean over tokens of
 * Σ_i p_ti ln p_ti, with P the mean probability. Experts are used evenly by the batch, and each token is certain: −ln E
 * at best (P even, tokens one-hot), 0 where tokens do not differ. It knows no hard counts.
 *
 * dz_tj = (1/T) p_tj (g_j − Σ_i g_i p_ti) with g_j = ln P_j − ln p_tj. Sums: Σ p (E), then Σ p ln p. */
#include "moe/balance/loss_params.h"

typedef struct mutual_settings {
    sgm_loss_settings loss;
} mutual_settings;

static const sgm_param params[] = {
    SGM_LOSS_PARAMS("; its value is -ln E at best, in nats", SGM_LOSS_SCOPES, SGM_LOSS_SCOPES_HELP)};

static size_t sum_count(const void *settings, int64_t experts) {
    (void)settings;
    return (size_t)experts + 1;
}

static void accumulate(const void *settings, const sgm_routing *record, int64_t item, double *sums, int64_t begin,
                       int64_t end) {
    (void)settings;
    int64_t experts = record->experts;
    sgm_probability_add(record, item, sums, begin, end < experts ? end : experts);
    if (begin > experts || experts >= end)
        return;
    const sgm_real *s = record->probabilities + item * experts;
    double scale = sgm_probability_scale(record, item), sum = 0;
    for (int64_t e = 0; e < experts; e++) {
        double p = (double)s[e] * scale;
        sum += p * sgm_probability_log(p);
    }
    sums[experts] += sum;
}

static double value(const sgm_balance_view *view) {
    return -sgm_probability_entropy(view->sums, view->experts, view->tokens) -
           view->sums[view->experts] / (double)view->tokens;
}

/* ln(P_j / p_tj); 0 where p is: it is multiplied by p. The P of an earlier step may be 0 where p is not. */
static double price(const sgm_balance_view *view, double p, int64_t e) {
    double mean = view->sums[e] / (double)view->tokens;
    return p <= 0 ? 0 : sgm_probability_log(mean) - sgm_probability_log(p);
}

static void gradient(const sgm_balance_view *view, const sgm_routing *record, int64_t item, double pull) {
    const sgm_real *s = record->probabilities + item * view->experts;
    sgm_real *dz = record->d_logits + item * view->experts;
    double scale = sgm_probability_scale(record, item), mean = 0;
    for (int64_t e = 0; e < view->experts; e++) {
        double p = (double)s[e] * scale;
        mean += p * price(view, p, e);
    }
    for (int64_t e = 0; e < view->experts; e++) {
        double p = (double)s[e] * scale;
        dz[e] += (sgm_real)(pull * p * sgm_probability_slope(record, s[e]) * (price(view, p, e) - mean));
    }
}

static const char *const measures[] = {"entropy_of_mean_nats", "mean_entropy_nats", NULL};

static void measure(const sgm_balance_view *view, double *values) {
    values[0] = sgm_probability_entropy(view->sums, view->experts, view->tokens);
    values[1] = -view->sums[view->experts] / (double)view->tokens;
}

extern const sgm_balance_plugin sgm_balance_mutual_information;
const sgm_balance_plugin sgm_balance_mutual_information = {
    .plugin = {.name = "mutual_information",
               .summary = "loss minus the information between token and expert: an even batch of certain tokens",
               .paper = "arXiv 2306.04640",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(mutual_settings)},
    .sum_count = sum_count,
    .scope = sgm_loss_scope,
    .mode = sgm_loss_mode,
    .coefficient = sgm_loss_coefficient,
    .accumulate = accumulate,
    .value = value,
    .gradient = gradient,
    .measures = measures,
    .measure = measure,
};
