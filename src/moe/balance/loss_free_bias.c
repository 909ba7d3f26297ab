// SPDX-License-Identifier: Apache-2.0
/* Loss-free balancing (arXiv 2408.15664): a bias per expert, added to the scores for selection only, goes up where the
 * expert got less than the mean load of the global batch and down where it got more. No gradient. It moves once per
 * optimizer step and decides from the next one on.
 *
 * With e_i = mean load − c_i and u the rate, b_i +=
 *   sign           u · sign(e_i)                   the paper's choice
 *   proportional   u · e_i / mean load             the paper's variant, in units that do not depend on the batch
 *   inverse_sqrt   (u / √n) · e_i / mean load      n = steps so far, this one included
 *   inverse        (u / n) · e_i / mean load       arXiv 2512.03915: steps for which the regret is logarithmic
 *
 * That paper reads the procedure as subgradient descent on the dual of a balanced assignment: with scores γ,
 * D(b) = mean over tokens of Σ top-K(γ + b) − (K/E) Σ b is convex and has the subgradient c/T − K/E. D does not change
 * when the same is added to every b; the proportional rules keep Σ b, the sign rule lets it drift, `centre` takes the
 * drift out. Measures: D; the mean score of what was chosen, Σ γ; a bound on the mean regret against today's bias; and
 * max b − min b. The bound is by convexity: Σ_n D_n(b_n) − D_n(b) ≤ Σ_n g_n·b_n − b·Σ_n g_n, with subgradients g.
 *
 * State: the bias (E), from 0. Tally: n; Σ g·b; Σ g (E). */
#include <math.h>
#include <stddef.h>

#include "moe/balance/balance.h"

enum { SIGN, PROPORTIONAL, INVERSE_SQRT, INVERSE };

typedef struct bias_settings {
    double rate, until;
    int rule;
    bool centre;
} bias_settings;

static const sgm_param params[] = {
    {.name = "rate",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(bias_settings, rate),
     .fallback = "0.001",
     .min = 0,
     .max = 1,
     .unit = "",
     .help = "how far an expert's bias moves in a step (scores lie in 0 … 1)"},
    {.name = "rule",
     .type = SGM_PARAM_ENUM,
     .offset = offsetof(bias_settings, rule),
     .fallback = "sign",
     .choices = "sign|proportional|inverse_sqrt|inverse",
     .min = 1,
     .unit = "",
     .help = "by the rate; by rate × how far off the load is; the same / √steps; the same / steps"},
    {.name = "centre",
     .type = SGM_PARAM_BOOL,
     .offset = offsetof(bias_settings, centre),
     .fallback = "false",
     .min = 1,
     .unit = "",
     .help = "keep the mean bias at 0, which changes no choice"},
    {.name = "until",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(bias_settings, until),
     .fallback = "1",
     .min = 0,
     .max = 1,
     .unit = "",
     .help = "share of the run after which the bias stays as it is"},
};

static size_t state_count(const void *settings, int64_t experts) {
    (void)settings;
    return (size_t)experts;
}

static size_t tally_count(const void *settings, int64_t experts) {
    (void)settings;
    return (size_t)experts + 2;
}

static const double *selection_bias(const sgm_balance_view *view) {
    return view->state;
}

/* Σ over tokens of the scores of what was chosen. */
static size_t sum_count(const void *settings, int64_t experts) {
    (void)settings;
    (void)experts;
    return 1;
}

static void accumulate(const void *settings, const sgm_routing *record, int64_t item, double *sums, int64_t begin,
                       int64_t end) {
    (void)settings;
    for (int64_t k = 0; begin < end && k < record->slots; k++) {
        int64_t e = record->expert[item * record->slots + k];
        if (e >= 0)
            sums[0] += (double)record->probabilities[item * record->experts + e];
    }
}

static double mean_of(const double *x, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += x[i];
    return sum / (double)count;
}

/* g_i = (c_i − mean) / T: c/T − K/E where each token has K experts. */
static double subgradient(const sgm_balance_view *view, double mean, int64_t e) {
    return (view->count[e] - mean) / (double)view->tokens;
}

static const char *const measures[] = {"dual_objective", "mean_score", "mean_regret_bound", "bias_range", NULL};

static void measure(const sgm_balance_view *view, double *values) {
    double load = mean_of(view->count, view->experts), dot = 0, past = view->tally[1];
    double least = view->state[0], most = least;
    for (int64_t e = 0; e < view->experts; e++) {
        double b = view->state[e];
        dot += subgradient(view, load, e) * b;
        past -= view->tally[2 + e] * b;
        least = b < least ? b : least;
        most = b > most ? b : most;
    }
    values[1] = view->sums[0] / (double)view->tokens;
    values[0] = values[1] + dot;
    values[2] = view->tally[0] > 0 ? past / view->tally[0] : 0;
    values[3] = most - least;
}

static double step_of(const bias_settings *own, double error, double mean, double n) {
    switch (own->rule) {
    case PROPORTIONAL:
        return own->rate * error / mean;
    case INVERSE_SQRT:
        return own->rate / sqrt(n) * error / mean;
    case INVERSE:
        return own->rate / n * error / mean;
    default:
        return error > 0 ? own->rate : error < 0 ? -own->rate : 0;
    }
}

static void after_step(const sgm_balance_view *view) {
    const bias_settings *own = view->settings;
    double mean = mean_of(view->count, view->experts);
    if (!(mean > 0) || (view->steps > 0 && (double)view->step >= own->until * (double)view->steps))
        return;
    double n = view->tally[0] += 1;
    for (int64_t e = 0; e < view->experts; e++) {
        double g = subgradient(view, mean, e);
        view->tally[1] += g * view->state[e];
        view->tally[2 + e] += g;
        view->state[e] += step_of(own, mean - view->count[e], mean, n);
    }
    double drift = own->centre ? mean_of(view->state, view->experts) : 0;
    for (int64_t e = 0; own->centre && e < view->experts; e++)
        view->state[e] -= drift;
}

extern const sgm_balance_plugin sgm_balance_loss_free_bias;
const sgm_balance_plugin sgm_balance_loss_free_bias = {
    .plugin = {.name = "loss_free_bias",
               .summary = "no loss: a bias on the selection rises for idle experts and falls for busy ones",
               .paper = "arXiv 2408.15664",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(bias_settings)},
    .sum_count = sum_count,
    .state_count = state_count,
    .tally_count = tally_count,
    .accumulate = accumulate,
    .selection_bias = selection_bias,
    .measures = measures,
    .measure = measure,
    .after_step = after_step,
};
