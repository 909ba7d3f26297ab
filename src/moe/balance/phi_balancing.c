// SPDX-License-Identifier: Apache-2.0
/* φ-balancing (arXiv 2605.15403): make a strictly convex, symmetric potential φ of the expected routing distribution small.
 *
 * With P the batch's mean probability and m its running mean over steps, the loss is Σ_i P_i · ∂φ/∂m_i, the prices held
 * constant: a busy expert is dear. By duality, min φ(E p) = min max_y ⟨E p, y⟩ − φ*(y), whose ascent in y by mirror descent
 * (mirror map φ*) is m ← (1 − η) m + η P at y = ∇φ(m). Potentials: negative entropy, ∇φ = ln m + 1, and quadratic,
 * ∇φ = m. The prices use m with this step's P already in it.
 *
 * The abstract says potential, duality, mirror descent and running mean; the loss as written here we derived from that and
 * found the same in two independent re-implementations. The paper's own constants (η, coefficient, any factor E) we could
 * not read: the defaults are ours.
 *
 * Modes: exact and buffer put the batch's P, whole or so far, into m; lagged uses m as the step before left it, with no
 * forward pass more. State: m − 1/E (E), from 0. */
#include "moe/balance/loss_params.h"

enum { NEGATIVE_ENTROPY, QUADRATIC };

typedef struct phi_settings {
    double coefficient, rate;
    int potential, mode;
} phi_settings;

static const sgm_param params[] = {
    {.name = "coefficient",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(phi_settings, coefficient),
     .fallback = "0.001",
     .min = 0,
     .max = 1e6,
     .unit = "",
     .help = "weight of the loss; its value is 1 - ln E at perfect balance, 1 / E with the quadratic potential"},
    {.name = "rate",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(phi_settings, rate),
     .fallback = "0.01",
     .min = 0,
     .max = 1,
     .unit = "",
     .help = "share of the newest batch in the running mean"},
    {.name = "potential",
     .type = SGM_PARAM_ENUM,
     .offset = offsetof(phi_settings, potential),
     .fallback = "negative_entropy",
     .choices = "negative_entropy|quadratic",
     .min = 1,
     .unit = "",
     .help = "an expert's price is the logarithm of its running mean probability, or that itself"},
    {.name = "mode",
     .type = SGM_PARAM_ENUM,
     .offset = offsetof(phi_settings, mode),
     .fallback = "exact",
     .choices = "exact|buffer|lagged",
     .min = 1,
     .unit = "",
     .help = "this batch in the running mean: whole (a forward pass more), so far, or from the next step on"},
};

static size_t state_count(const void *settings, int64_t experts) {
    (void)settings;
    return (size_t)experts;
}

static sgm_balance_scope scope(const void *settings) {
    (void)settings;
    return SGM_SCOPE_GLOBAL;
}

/* The driver need not keep the last step's sums: they are in m. */
static sgm_balance_mode mode(const void *settings) {
    return ((const phi_settings *)settings)->mode == SGM_MODE_EXACT ? SGM_MODE_EXACT : SGM_MODE_BUFFER;
}

static double coefficient(const void *settings) {
    return ((const phi_settings *)settings)->coefficient;
}

/* m_i with this batch in it. */
static double next_mean(const sgm_balance_view *view, int64_t e) {
    double rate = ((const phi_settings *)view->settings)->rate, even = 1 / (double)view->experts;
    return even + (1 - rate) * view->state[e] + rate * (view->sums[e] / (double)view->tokens - even);
}

static double price_of(const sgm_balance_view *view, int64_t e) {
    const phi_settings *own = view->settings;
    double m = own->mode == SGM_MODE_LAGGED ? 1 / (double)view->experts + view->state[e] : next_mean(view, e);
    if (own->potential == QUADRATIC)
        return m;
    return 1 + sgm_probability_log(m);
}

static void price(const sgm_balance_view *view, double *price) {
    for (int64_t e = 0; e < view->experts; e++)
        price[e] = price_of(view, e);
}

static double value(const sgm_balance_view *view) {
    double sum = 0;
    for (int64_t e = 0; e < view->experts; e++)
        sum += view->sums[e] / (double)view->tokens * price_of(view, e);
    return sum;
}

static void after_step(const sgm_balance_view *view) {
    for (int64_t e = 0; e < view->experts; e++)
        view->state[e] = next_mean(view, e) - 1 / (double)view->experts;
}

/* φ(m): −H(m), or Σ m² / 2. What the method makes small. */
static const char *const measures[] = {"potential", NULL};

static void measure(const sgm_balance_view *view, double *values) {
    const phi_settings *own = view->settings;
    values[0] = 0;
    for (int64_t e = 0; e < view->experts; e++) {
        double m = next_mean(view, e);
        values[0] += own->potential == QUADRATIC ? m * m / 2 : m * sgm_probability_log(m);
    }
}

extern const sgm_balance_plugin sgm_balance_phi_balancing;
const sgm_balance_plugin sgm_balance_phi_balancing = {
    .plugin = {.name = "phi_balancing",
               .summary = "loss mean probability × price, the slope of a convex potential at the running mean",
               .paper = "arXiv 2605.15403",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(phi_settings)},
    .sum_count = sgm_loss_sum_per_expert,
    .state_count = state_count,
    .scope = scope,
    .mode = mode,
    .coefficient = coefficient,
    .accumulate = sgm_loss_add_probabilities,
    .value = value,
    .price = price,
    .measures = measures,
    .measure = measure,
    .after_step = after_step,
};
