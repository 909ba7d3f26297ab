// SPDX-License-Identifier: Apache-2.0
/* The load-balancing loss E · Σ_i f_i p_i of arXiv 2101.03961 (equation 4), over the scope of one's choice: arXiv
 * 2501.11873 shows that the global batch is the one that lets experts specialise.
 *
 * f_i = c_i / Σ c (Σ c = K T where every slot is used) is a constant, p_i the mean probability; 1 when either is even. Only p carries a gradient:
 * dz_tj = (E / T) p_tj (f_j − Σ_i f_i p_ti). What other papers mean by f: docs/notation.md.
 *
 * With `null_average` (arXiv 2406.13233, equation 6) the f of each null expert is the mean of all null experts': they are
 * alike, so which of them a token takes is left free, and how many take one is balanced. p stays each expert's own. */
#include <stddef.h>

#include "moe/balance/balance.h"
#include "moe/balance/loss_params.h"
#include "moe/balance/probability.h"

typedef struct load_balance_settings {
    sgm_loss_settings loss;
    bool null_average;
} load_balance_settings;

static const sgm_param params[] = {
    SGM_LOSS_PARAMS("; its value is 1 at perfect balance", SGM_LOSS_SCOPES "|shuffle",
                    SGM_LOSS_SCOPES_HELP "; shuffle: as many tokens as a micro-batch has, from the whole batch"),
    {.name = "null_average",
     .type = SGM_PARAM_BOOL,
     .offset = offsetof(load_balance_settings, null_average),
     .fallback = "false",
     .min = 1,
     .unit = "",
     .help = "null experts count as equally loaded: their mean load stands for each"},
};

static sgm_status check(const void *settings, int64_t null_experts, sgm_error *error) {
    if (!((const load_balance_settings *)settings)->null_average || null_experts > 0)
        return SGM_OK;
    return sgm_fail(error, SGM_EARGUMENT, "leave null_average out, or set model.null_experts",
                    "balancer load_balance_loss: null_average without null experts: there is no load to average");
}

/* The load of null experts, and the first expert it stands for: E where there are none, or each has its own. */
typedef struct load_view {
    const double *count;
    int64_t first_null;
    double null_count;
} load_view;

static load_view load_of(const sgm_balance_view *view) {
    const load_balance_settings *own = view->settings;
    load_view load = {.count = view->count, .first_null = view->experts};
    if (!own->null_average || view->null_experts == 0)
        return load;
    load.first_null -= view->null_experts;
    for (int64_t e = load.first_null; e < view->experts; e++)
        load.null_count += view->count[e];
    load.null_count /= (double)view->null_experts;
    return load;
}

static inline double count_of(const load_view *load, int64_t e) {
    return e < load->first_null ? load->count[e] : load->null_count;
}

/* E f_i = this · c_i. */
static double load_scale(const sgm_balance_view *view) {
    return view->assigned > 0 ? (double)view->experts / view->assigned : 0;
}

static double value(const sgm_balance_view *view) {
    load_view load = load_of(view);
    double sum = 0;
    for (int64_t e = 0; e < view->experts; e++)
        sum += count_of(&load, e) * view->sums[e];
    return load_scale(view) * sum / (double)view->tokens;
}

static void gradient(const sgm_balance_view *view, const sgm_routing *record, int64_t item, double pull) {
    const sgm_real *p = record->probabilities + item * record->experts;
    sgm_real *dz = record->d_logits + item * record->experts;
    load_view load = load_of(view);
    double p_scale = sgm_probability_scale(record, item), mean = 0;
    for (int64_t e = 0; e < view->experts; e++)
        mean += count_of(&load, e) * (double)p[e];
    mean *= p_scale;
    double factor = pull * load_scale(view) * p_scale;
    for (int64_t e = 0; e < view->experts; e++)
        dz[e] += (sgm_real)(factor * (double)p[e] * sgm_probability_slope(record, p[e]) * (count_of(&load, e) - mean));
}

extern const sgm_balance_plugin sgm_balance_load_balance_loss;
const sgm_balance_plugin sgm_balance_load_balance_loss = {
    .plugin = {.name = "load_balance_loss",
               .summary =
                   "loss E · sum of (load share × mean probability), over a sequence, a micro-batch or the batch",
               .paper = "arXiv 2501.11873",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(load_balance_settings)},
    .check = check,
    .sum_count = sgm_loss_sum_per_expert,
    .scope = sgm_loss_scope,
    .mode = sgm_loss_mode,
    .coefficient = sgm_loss_coefficient,
    .accumulate = sgm_loss_add_probabilities,
    .value = value,
    .gradient = gradient,
};
