// SPDX-License-Identifier: Apache-2.0
/* The load-balancing loss E · Σ_i f_i p_i of arXiv 2101.03961 (equation 4), over the scope of one's choice: arXiv
 * 2501.11873 shows that the global batch is the one that lets experts specialise.
 *
 * f_i = c_i / (K T) is a constant, p_i the mean probability; 1 when either is even. Only p carries a gradient:
 * dz_tj = (E / T) p_tj (f_j − Σ_i f_i p_ti). */
#include <stddef.h>

#include "moe/balance/balance.h"
#include "moe/balance/probability.h"

typedef struct loss_settings {
    double coefficient;
    int scope, mode;
} loss_settings;

static const sgm_param params[] = {
    {.name = "coefficient",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(loss_settings, coefficient),
     .fallback = "0.001",
     .min = 0,
     .max = 1e6,
     .unit = "",
     .help = "weight of the loss; its value is 1 at perfect balance"},
    {.name = "scope",
     .type = SGM_PARAM_ENUM,
     .offset = offsetof(loss_settings, scope),
     .fallback = "global",
     .choices = "sequence|micro|global",
     .min = 1,
     .unit = "",
     .help = "tokens that are balanced together: a sequence, a micro-batch, the global batch"},
    {.name = "mode",
     .type = SGM_PARAM_ENUM,
     .offset = offsetof(loss_settings, mode),
     .fallback = "exact",
     .choices = "exact|buffer|lagged",
     .min = 1,
     .unit = "",
     .help = "load of the global batch: counted first (a forward pass more), so far, or of the step before"},
};

static size_t sum_count(const void *settings, int64_t experts) {
    (void)settings;
    return (size_t)experts;
}

static sgm_balance_scope scope(const void *settings) {
    return (sgm_balance_scope)((const loss_settings *)settings)->scope;
}

static sgm_balance_mode mode(const void *settings) {
    return (sgm_balance_mode)((const loss_settings *)settings)->mode;
}

static double coefficient(const void *settings) {
    return ((const loss_settings *)settings)->coefficient;
}

static void accumulate(const void *settings, const sgm_routing *record, int64_t item, double *sums, int64_t begin,
                       int64_t end) {
    (void)settings;
    const sgm_real *p = record->probabilities + item * record->experts;
    if (!record->sigmoid) {
        for (int64_t e = begin; e < end; e++)
            sums[e] += (double)p[e];
        return;
    }
    double scale = sgm_probability_scale(record, item);
    for (int64_t e = begin; e < end; e++)
        sums[e] += (double)p[e] * scale;
}

/* E f_i = this · c_i. */
static double load_scale(const sgm_balance_view *view) {
    return (double)view->experts / ((double)view->slots * (double)view->tokens);
}

static double value(const sgm_balance_view *view) {
    double sum = 0;
    for (int64_t e = 0; e < view->experts; e++)
        sum += view->count[e] * view->sums[e];
    return load_scale(view) * sum / (double)view->tokens;
}

static void gradient(const sgm_balance_view *view, const sgm_routing *record, int64_t item, double pull) {
    const sgm_real *p = record->probabilities + item * record->experts;
    sgm_real *dz = record->d_logits + item * record->experts;
    double p_scale = sgm_probability_scale(record, item), mean = 0;
    for (int64_t e = 0; e < view->experts; e++)
        mean += view->count[e] * (double)p[e];
    mean *= p_scale;
    double factor = pull * load_scale(view) * p_scale;
    for (int64_t e = 0; e < view->experts; e++)
        dz[e] += (sgm_real)(factor * (double)p[e] * sgm_probability_slope(record, p[e]) * (view->count[e] - mean));
}

extern const sgm_balance_plugin sgm_balance_load_balance_loss;
const sgm_balance_plugin sgm_balance_load_balance_loss = {
    .plugin = {.name = "load_balance_loss",
               .summary =
                   "loss E · sum of (load share × mean probability), over a sequence, a micro-batch or the batch",
               .paper = "arXiv 2501.11873",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(loss_settings)},
    .sum_count = sum_count,
    .scope = scope,
    .mode = mode,
    .coefficient = coefficient,
    .accumulate = accumulate,
    .value = value,
    .gradient = gradient,
};
