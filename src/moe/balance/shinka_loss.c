// SPDX-License-Identifier: Apache-2.0
/* The load-balancing loss that an evolutionary search found (ShinkaEvolve, arXiv 2509.19349, equation 1):
 *
 *   E · Σ_i f_i P_i + w · s(P) · Σ_i max(0, τ − f_i),   s(P) = 0.5 + (1 − H(P) / ln E)
 *
 * f_i = c_i / Σ c a constant, P_i the mean probability, H the entropy of P (not of single tokens): s is 0.5 where P is
 * even and 1.5 where one expert has it all. τ = `threshold` / E. 1 at perfect balance, where no expert is under τ. The
 * paper averages over the layers, here they are summed: its λ is L times our coefficient.
 *
 * Two things the sources leave open are settings. The threshold: 0.064 in the formula, 0.64 in a published listing (by one
 * account of it). And what the hinge pulls on, for f has no gradient:
 *   literal            the formula as it stands: the hinge acts through s alone, towards a more even P
 *   surrogate          of experts with f_i < τ the hinge is max(0, τ − P_i): no pull where P_i ≥ τ already
 *   straight_through   value as literal; backwards P_i stands for f_i, so every expert with f_i < τ is pulled up */
#include "moe/balance/loss_params.h"

enum { LITERAL, SURROGATE, STRAIGHT_THROUGH };

typedef struct shinka_settings {
    sgm_loss_settings loss;
    double weight, threshold;
    int hinge;
} shinka_settings;

static const sgm_param params[] = {
    SGM_LOSS_PARAMS("; its value is 1 at perfect balance", SGM_LOSS_SCOPES "|shuffle",
                    SGM_LOSS_SCOPES_HELP "; shuffle: as many tokens as a micro-batch has, from the whole batch"),
    {.name = "weight",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(shinka_settings, weight),
     .fallback = "0.1",
     .min = 0,
     .max = 1e6,
     .unit = "",
     .help = "of the hinge beside the load-balancing term"},
    {.name = "threshold",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(shinka_settings, threshold),
     .fallback = "0.064",
     .min = 0,
     .max = 1,
     .unit = "",
     .help = "share of the fair load below which the hinge acts; 0.064 in the paper's formula, 0.64 in a listing"},
    {.name = "hinge",
     .type = SGM_PARAM_ENUM,
     .offset = offsetof(shinka_settings, hinge),
     .fallback = "literal",
     .choices = "literal|surrogate|straight_through",
     .min = 1,
     .unit = "",
     .help = "what it pulls on: the entropy alone, probabilities under the threshold, those of experts under it"},
};

static double share(const sgm_balance_view *view, int64_t e) {
    return view->assigned > 0 ? view->count[e] / view->assigned : 0;
}

static double threshold(const sgm_balance_view *view) {
    return ((const shinka_settings *)view->settings)->threshold / (double)view->experts;
}

/* 1 / ln E; one expert is even by definition. */
static double per_log(const sgm_balance_view *view) {
    return view->experts > 1 ? 1 / sgm_log64((double)view->experts) : 0;
}

static double urgency(const sgm_balance_view *view) {
    double entropy = sgm_probability_entropy(view->sums, view->experts, view->tokens);
    return view->experts > 1 ? 1.5 - entropy * per_log(view) : 0.5;
}

/* The hinge's sum, and whether an expert's P is what it pulls on. */
static double short_by(const sgm_balance_view *view, int64_t e, bool *pulled) {
    const shinka_settings *own = view->settings;
    double tau = threshold(view), f = share(view, e), p = view->sums[e] / (double)view->tokens;
    *pulled = own->hinge != LITERAL && f < tau && (own->hinge == STRAIGHT_THROUGH || p < tau);
    if (own->hinge == SURROGATE)
        return *pulled ? tau - p : 0;
    return f < tau ? tau - f : 0;
}

static double hinge(const sgm_balance_view *view) {
    double sum = 0;
    bool pulled;
    for (int64_t e = 0; e < view->experts; e++)
        sum += short_by(view, e, &pulled);
    return sum;
}

static double value(const sgm_balance_view *view) {
    const shinka_settings *own = view->settings;
    double even = 0;
    for (int64_t e = 0; e < view->experts; e++)
        even += share(view, e) * view->sums[e];
    return (double)view->experts * even / (double)view->tokens + own->weight * urgency(view) * hinge(view);
}

/* ∂/∂P_i: E f_i + w (∂s/∂P_i · hinge − s · [pulled]),   ∂s/∂P_i = (ln P_i + 1) / ln E. */
static void price(const sgm_balance_view *view, double *price) {
    const shinka_settings *own = view->settings;
    double s = urgency(view), lack = hinge(view);
    for (int64_t e = 0; e < view->experts; e++) {
        bool pulled;
        short_by(view, e, &pulled);
        double slope = (sgm_probability_log(view->sums[e] / (double)view->tokens) + 1) * per_log(view);
        price[e] = (double)view->experts * share(view, e) + own->weight * (slope * lack - (pulled ? s : 0));
    }
}

static const char *const measures[] = {"experts_under_threshold", "hinge", "urgency", NULL};

static void measure(const sgm_balance_view *view, double *values) {
    values[0] = 0;
    for (int64_t e = 0; e < view->experts; e++)
        values[0] += share(view, e) < threshold(view);
    values[1] = hinge(view);
    values[2] = urgency(view);
}

extern const sgm_balance_plugin sgm_balance_shinka_loss;
const sgm_balance_plugin sgm_balance_shinka_loss = {
    .plugin = {.name = "shinka_loss",
               .summary = "load_balance_loss plus a hinge on experts far below their share: a loss found by search",
               .paper = "arXiv 2509.19349",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(shinka_settings)},
    .sum_count = sgm_loss_sum_per_expert,
    .scope = sgm_loss_scope,
    .mode = sgm_loss_mode,
    .coefficient = sgm_loss_coefficient,
    .accumulate = sgm_loss_add_probabilities,
    .value = value,
    .price = price,
    .measures = measures,
    .measure = measure,
};
