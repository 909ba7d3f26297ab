// SPDX-License-Identifier: Apache-2.0
/* The router z-loss of ST-MoE (arXiv 2202.08906, equation 5): mean over tokens of logsumexp(z)². It keeps the logits
 * small and does not balance by itself. Tokens do not meet in it, so it has neither a scope nor a mode to choose:
 * dz_j = 2 logsumexp(z) softmax(z)_j / T. */
#include <stddef.h>

#include "base/elementary.h"
#include "moe/balance/balance.h"

typedef struct z_settings {
    double coefficient;
} z_settings;

static const sgm_param params[] = {
    {.name = "coefficient",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(z_settings, coefficient),
     .fallback = "0.001",
     .min = 0,
     .max = 1e6,
     .unit = "",
     .help = "weight of the loss"},
};

static size_t sum_count(const void *settings, int64_t experts) {
    (void)settings;
    (void)experts;
    return 1;
}

static sgm_balance_scope scope(const void *settings) {
    (void)settings;
    return SGM_SCOPE_GLOBAL;
}

static sgm_balance_mode mode(const void *settings) {
    (void)settings;
    return SGM_MODE_BUFFER;
}

static double coefficient(const void *settings) {
    return ((const z_settings *)settings)->coefficient;
}

/* Where the scores are a softmax the sum of exponentials is there already: the largest probability is its inverse. */
static double log_sum_exp(const sgm_routing *record, int64_t item) {
    const sgm_real *z = record->logits + item * record->experts;
    int64_t top = 0;
    for (int64_t e = 1; e < record->experts; e++)
        if (z[e] > z[top])
            top = e;
    double most = (double)z[top];
    if (!record->sigmoid)
        return most - sgm_log64((double)record->probabilities[item * record->experts + top]);
    double sum = 0;
    for (int64_t e = 0; e < record->experts; e++)
        sum += (double)sgm_exp(z[e] - z[top]);
    return most + sgm_log64(sum);
}

static void accumulate(const void *settings, const sgm_routing *record, int64_t item, double *sums, int64_t begin,
                       int64_t end) {
    (void)settings;
    if (begin == end)
        return;
    double z = log_sum_exp(record, item);
    sums[0] += z * z;
}

static double value(const sgm_balance_view *view) {
    return view->sums[0] / (double)view->tokens;
}

static void gradient(const sgm_balance_view *view, const sgm_routing *record, int64_t item, double pull) {
    const sgm_real *z = record->logits + item * view->experts, *p = record->probabilities + item * view->experts;
    sgm_real *dz = record->d_logits + item * view->experts;
    double whole = log_sum_exp(record, item), factor = pull * 2 * whole;
    for (int64_t e = 0; e < view->experts; e++)
        dz[e] += (sgm_real)(factor * (record->sigmoid ? sgm_exp64((double)z[e] - whole) : (double)p[e]));
}

extern const sgm_balance_plugin sgm_balance_z_loss;
const sgm_balance_plugin sgm_balance_z_loss = {
    .plugin = {.name = "z_loss",
               .summary = "loss mean of logsumexp(logits)²: keeps the router's logits small",
               .paper = "arXiv 2202.08906",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(z_settings)},
    .sum_count = sum_count,
    .scope = scope,
    .mode = mode,
    .coefficient = coefficient,
    .accumulate = accumulate,
    .value = value,
    .gradient = gradient,
};
