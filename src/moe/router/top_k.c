// SPDX-License-Identifier: Apache-2.0
/* Top-k routing. Sigma-MoE-Tiny (arXiv 2512.16248) and the Switch Transformer (arXiv 2101.03961): softmax over all E
 * experts first, then the K largest, and the weight of a chosen expert is its own probability. Normalising a single
 * weight to 1 would leave the router without a gradient.
 *
 * The variants are parameters: sigmoid scores, as loss-free balancing uses them (arXiv 2408.15664), and weights
 * normalised over the chosen (DeepSeek-V3, arXiv 2412.19437). A selection bias decides who is chosen and never enters
 * a weight. NaN scores come last and equal scores go to the lower expert, so the choice is always defined. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/elementary.h"
#include "moe/router/router.h"

enum { SCORE_SOFTMAX, SCORE_SIGMOID };

typedef struct top_k_settings {
    int score;
    bool normalise;
} top_k_settings;

static const sgm_param params[] = {
    {.name = "score",
     .type = SGM_PARAM_ENUM,
     .offset = offsetof(top_k_settings, score),
     .fallback = "softmax",
     .choices = "softmax|sigmoid",
     .min = 1,
     .unit = "",
     .help = "what turns logits into probabilities"},
    {.name = "normalise",
     .type = SGM_PARAM_BOOL,
     .offset = offsetof(top_k_settings, normalise),
     .fallback = "false",
     .min = 1,
     .unit = "",
     .help = "divide the weights of a token by their sum (training needs two or more experts per token then)"},
};

/* Added to the sum of the chosen weights, so that sigmoids that all underflow do not divide by zero. */
static const sgm_real NORMALISE_FLOOR = (sgm_real)1e-20;

static sgm_status check(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error) {
    (void)settings;
    if (experts < 1 || experts_per_token < 1 || experts_per_token > experts)
        return sgm_fail(error, SGM_EARGUMENT, "experts per token must be between 1 and the number of experts",
                        "router top_k: %lld experts per token of %lld experts", (long long)experts_per_token,
                        (long long)experts);
    return SGM_OK;
}

static sgm_status trains(const void *settings, int64_t experts_per_token, sgm_error *error) {
    const top_k_settings *own = settings;
    if (own->normalise && experts_per_token == 1)
        return sgm_fail(error, SGM_EARGUMENT, "set router.normalise to false, or use two or more experts per token",
                        "router top_k: a single weight normalised to 1 gives the router no gradient");
    return SGM_OK;
}

static bool is_sigmoid(const void *settings) {
    return ((const top_k_settings *)settings)->score == SCORE_SIGMOID;
}

static void score(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end) {
    int64_t experts = record->experts;
    const sgm_real *logits = record->logits + begin * experts;
    sgm_real *probabilities = record->probabilities + begin * experts;
    if (!is_sigmoid(settings)) {
        kernels->softmax(end - begin, experts, logits, experts, probabilities, experts);
        return;
    }
    for (int64_t t = begin; t < end; t++, logits += experts, probabilities += experts) {
        bool number = true;
        for (int64_t e = 0; e < experts; e++) {
            probabilities[e] = 1 / (1 + sgm_exp(-logits[e]));
            number = number && probabilities[e] == probabilities[e];
        }
        /* As a softmax would: one NaN spoils its row, or a NaN that is not chosen would stay hidden. */
        for (int64_t e = 0; !number && e < experts; e++)
            probabilities[e] = (sgm_real)NAN;
    }
}

/* The largest key; K = 1 is the common case and worth a loop of its own. */
static int32_t best(const sgm_real *p, const sgm_real *bias, int64_t experts) {
    int32_t chosen = 0;
    sgm_real most = bias ? p[0] + bias[0] : p[0];
    for (int64_t e = 1; e < experts; e++) {
        sgm_real key = bias ? p[e] + bias[e] : p[e];
        if (key > most || (most != most && key == key)) {
            most = key;
            chosen = (int32_t)e;
        }
    }
    return chosen;
}

/* The K largest in descending order, by insertion into the slots themselves. */
static void best_few(const sgm_real *p, const sgm_real *bias, int64_t experts, int32_t *chosen, int64_t slots) {
    int64_t filled = 0;
    for (int64_t e = 0; e < experts; e++) {
        sgm_real key = bias ? p[e] + bias[e] : p[e];
        int64_t place = filled;
        while (place > 0) {
            int32_t other = chosen[place - 1];
            sgm_real its = bias ? p[other] + bias[other] : p[other];
            if (!(key > its || (its != its && key == key)))
                break;
            place--;
        }
        if (place == slots)
            continue;
        filled += filled < slots;
        memmove(chosen + place + 1, chosen + place, (size_t)(filled - 1 - place) * sizeof *chosen);
        chosen[place] = (int32_t)e;
    }
}

static void select_experts(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const top_k_settings *own = settings;
    int64_t experts = record->experts, slots = record->slots;
    for (int64_t t = begin; t < end; t++) {
        const sgm_real *p = record->probabilities + t * experts;
        int32_t *chosen = record->expert + t * slots;
        sgm_real *weight = record->weight + t * slots;
        if (slots == 1)
            chosen[0] = best(p, record->selection_bias, experts);
        else
            best_few(p, record->selection_bias, experts, chosen, slots);
        sgm_real sum = NORMALISE_FLOOR;
        for (int64_t k = 0; k < slots; k++) {
            weight[k] = p[chosen[k]];
            sum += weight[k];
            record->flags[t * slots + k] = 0;
        }
        for (int64_t k = 0; own->normalise && k < slots; k++)
            weight[k] /= sum;
    }
}

/* w = p / (Σp + floor):  dp_k = (dw_k − Σ_j dw_j w_j) / (Σp + floor); without normalising dp = dw. Then
 * softmax: dz = s ∘ (dp − Σ dp s);  sigmoid: dz = dp ∘ s (1 − s). */
static void backward(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const top_k_settings *own = settings;
    int64_t experts = record->experts, slots = record->slots;
    for (int64_t t = begin; t < end; t++) {
        const sgm_real *p = record->probabilities + t * experts;
        const int32_t *chosen = record->expert + t * slots;
        const sgm_real *weight = record->weight + t * slots, *d_weight = record->d_weight + t * slots;
        sgm_real *dz = record->d_logits + t * experts;
        sgm_real sum = 1, through_sum = 0, dot = 0;
        if (own->normalise) {
            sum = NORMALISE_FLOOR;
            for (int64_t k = 0; k < slots; k++) {
                sum += p[chosen[k]];
                through_sum += d_weight[k] * weight[k];
            }
        }
        for (int64_t k = 0; k < slots; k++)
            dot += (d_weight[k] - through_sum) / sum * p[chosen[k]];
        bool sigmoid = own->score == SCORE_SIGMOID;
        for (int64_t e = 0; e < experts; e++)
            dz[e] = sigmoid ? p[e] * 0 : -p[e] * dot; /* p · 0, not 0: a NaN row stays NaN */
        for (int64_t k = 0; k < slots; k++) {
            sgm_real s = p[chosen[k]], dp = (d_weight[k] - through_sum) / sum;
            dz[chosen[k]] += sigmoid ? dp * s * (1 - s) : dp * s;
        }
    }
}

extern const sgm_router_plugin sgm_router_top_k;
const sgm_router_plugin sgm_router_top_k = {
    .plugin = {.name = "top_k",
               .summary = "the K experts with the highest score; weight = the score itself",
               .paper = "arXiv 2512.16248",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(top_k_settings)},
    .check = check,
    .trains = trains,
    .sigmoid = is_sigmoid,
    .score = score,
    .select = select_experts,
    .backward = backward,
};
