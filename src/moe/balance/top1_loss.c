// SPDX-License-Identifier: Apache-2.0
/* The Top-1 loss of Sigma-MoE-Tiny (arXiv 2512.16248): E · Σ_i f̂_i² / p̄_top1.
 *
 * f̂_i = mean over tokens of softmax(z / τ)_i is a stand-in for the load that carries a gradient (exact as τ → 0);
 * p̄_top1 = mean over tokens of the largest probability, so that dividing by it rewards a decided router. 1 where the
 * load is even and every token is certain. Sums: f̂ (E), then p̄. With q = softmax(z / τ), m the top expert: dz_j = q_j
 * (g_j − Σ g q) / (τ T),           g_i = 2 E f̂_i / p̄
 *        + p_m ([j = m] − p_j) · h / T,         h = −E Σ f̂² / p̄²  */
#include <stddef.h>

#include "base/elementary_inline.h"
#include "moe/balance/balance.h"
#include "moe/balance/loss_params.h"
#include "moe/balance/probability.h"

typedef struct top1_settings {
    sgm_loss_settings loss;
    double temperature;
} top1_settings;

static const sgm_param params[] = {
    SGM_LOSS_PARAMS("; its value is 1 at perfect balance with a certain router", SGM_LOSS_SCOPES, SGM_LOSS_SCOPES_HELP),
    {.name = "temperature",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(top1_settings, temperature),
     .fallback = "0.1",
     .min = 1e-3,
     .max = 1e3,
     .unit = "",
     .help = "of the softmax that stands in for the load; the smaller, the closer to the real load"},
};

static size_t sum_count(const void *settings, int64_t experts) {
    (void)settings;
    return (size_t)experts + 1;
}

static int64_t largest(const sgm_real *x, int64_t count) {
    int64_t at = 0;
    for (int64_t i = 1; i < count; i++)
        if (x[i] > x[at])
            at = i;
    return at;
}

/* q before its division by the sum, exp((z − most) / τ), of at most BLOCK experts at once: a loop that vectorises. What is
 * too small to count in any sum is 0, lest it become a denormal number, which takes a processor many times as long. */
enum { BLOCK = 256 };

static void stand_in(const sgm_real *z, sgm_real most, sgm_real sharpness, int64_t count, sgm_real *q) {
    const sgm_real least = -80;
    for (int64_t e = 0; e < count; e++) {
        sgm_real x = (z[e] - most) * sharpness;
        q[e] = x < least ? 0 : sgm_exp_inline(x < least ? least : x);
    }
}

static int64_t block_end(int64_t begin, int64_t end) {
    return begin + BLOCK < end ? begin + BLOCK : end;
}

/* For a second pass: experts [begin, begin + count). Where one block holds them all, the first has left them in `q`. */
static const sgm_real *again(const sgm_real *z, int64_t experts, sgm_real most, sgm_real sharpness, int64_t begin,
                             int64_t count, sgm_real *q) {
    if (experts <= BLOCK)
        return q + begin;
    stand_in(z + begin, most, sharpness, count, q);
    return q;
}

static void accumulate(const void *settings, const sgm_routing *record, int64_t item, double *sums, int64_t begin,
                       int64_t end) {
    const top1_settings *own = settings;
    int64_t experts = record->experts;
    const sgm_real *z = record->logits + item * experts;
    int64_t top = largest(z, experts); /* of the probabilities too: both scores rise with the logit */
    sgm_real q[BLOCK], sharpness = (sgm_real)(1 / own->temperature);
    double sum = 0;
    for (int64_t b = 0; b < experts; b += BLOCK) {
        int64_t count = block_end(b, experts) - b;
        stand_in(z + b, z[top], sharpness, count, q);
        for (int64_t e = 0; e < count; e++)
            sum += (double)q[e];
    }
    for (int64_t b = begin, last = end < experts ? end : experts; b < last; b += BLOCK) {
        int64_t count = block_end(b, last) - b;
        const sgm_real *share = again(z, experts, z[top], sharpness, b, count, q);
        for (int64_t e = 0; e < count; e++)
            sums[b + e] += (double)share[e] / sum;
    }
    if (begin <= experts && experts < end)
        sums[experts] += (double)record->probabilities[item * experts + top] * sgm_probability_scale(record, item);
}

static double squares(const sgm_balance_view *view) {
    double sum = 0;
    for (int64_t e = 0; e < view->experts; e++)
        sum += view->sums[e] * view->sums[e];
    return sum;
}

static double value(const sgm_balance_view *view) {
    return (double)view->experts * squares(view) / ((double)view->tokens * view->sums[view->experts]);
}

static void gradient(const sgm_balance_view *view, const sgm_routing *record, int64_t item, double pull) {
    const top1_settings *own = view->settings;
    int64_t experts = view->experts;
    const sgm_real *z = record->logits + item * experts, *p = record->probabilities + item * experts;
    sgm_real *dz = record->d_logits + item * experts;
    int64_t top = largest(z, experts);
    double tau = own->temperature, top1 = view->sums[experts], sum = 0, dot = 0;
    sgm_real q[BLOCK], sharpness = (sgm_real)(1 / tau);
    for (int64_t b = 0; b < experts; b += BLOCK) {
        int64_t count = block_end(b, experts) - b;
        stand_in(z + b, z[top], sharpness, count, q);
        for (int64_t e = 0; e < count; e++) {
            sum += (double)q[e];
            dot += (double)q[e] * view->sums[b + e];
        }
    }
    dot /= sum;
    /* The tokens' counts cancel: f̂ / p̄ is a ratio of sums. */
    double through_load = pull * 2 * (double)experts / (top1 * tau * sum);
    for (int64_t b = 0; b < experts; b += BLOCK) {
        int64_t count = block_end(b, experts) - b;
        const sgm_real *share = again(z, experts, z[top], sharpness, b, count, q);
        for (int64_t e = 0; e < count; e++)
            dz[b + e] += (sgm_real)(through_load * (double)share[e] * (view->sums[b + e] - dot));
    }
    double p_scale = sgm_probability_scale(record, item), p_top = (double)p[top] * p_scale;
    double through_top = -pull * (double)experts * squares(view) / (top1 * top1);
    for (int64_t e = 0; e < experts; e++)
        dz[e] += (sgm_real)(through_top * p_top * ((e == top ? 1 : 0) - (double)p[e] * p_scale) *
                            sgm_probability_slope(record, p[e]));
}

extern const sgm_balance_plugin sgm_balance_top1_loss;
const sgm_balance_plugin sgm_balance_top1_loss = {
    .plugin = {.name = "top1_loss",
               .summary = "loss E · sum of (soft load share)² / mean top probability: strict balance, decided router",
               .paper = "arXiv 2512.16248",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(top1_settings)},
    .sum_count = sum_count,
    .scope = sgm_loss_scope,
    .mode = sgm_loss_mode,
    .coefficient = sgm_loss_coefficient,
    .accumulate = accumulate,
    .value = value,
    .gradient = gradient,
};
