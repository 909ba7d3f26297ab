// SPDX-License-Identifier: Apache-2.0
/* Top-k routing. Sigma-MoE-Tiny (arXiv 2512.16248) and the Switch Transformer (arXiv 2101.03961): softmax over all E
 * experts first, then the K largest, and the weight of a chosen expert is its own probability. Normalising a single
 * weight to 1 would leave the router without a gradient.
 *
 * The variants are parameters: sigmoid scores, as loss-free balancing uses them (arXiv 2408.15664), and weights
 * normalised over the chosen (DeepSeek-V3, arXiv 2412.19437). A selection bias decides who is chosen and never enters
 * a weight. NaN scores come last and equal scores go to the lower expert, so the choice is always defined. */
#include <stddef.h>

#include "moe/router/choose.h"
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

static sgm_status check(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error) {
    (void)settings;
    return sgm_check_experts("top_k", experts, experts_per_token, error);
}

static sgm_status trains(const void *settings, int64_t experts_per_token, sgm_error *error) {
    return sgm_check_normalised("top_k", ((const top_k_settings *)settings)->normalise, experts_per_token, error);
}

static bool is_sigmoid(const void *settings) {
    return ((const top_k_settings *)settings)->score == SCORE_SIGMOID;
}

static void score(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end) {
    if (is_sigmoid(settings))
        sgm_score_sigmoid(record, begin, end);
    else
        sgm_score_softmax(kernels, record, begin, end);
}

static void select_experts(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const top_k_settings *own = settings;
    int64_t experts = record->experts, slots = record->slots;
    for (int64_t t = begin; t < end; t++)
        sgm_choose_best(record->probabilities + t * experts, record->selection_bias, 0, experts, slots,
                        record->expert + t * slots);
    sgm_weigh_chosen(record, own->normalise, 1, begin, end);
}

static void backward(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const top_k_settings *own = settings;
    sgm_weigh_chosen_backward(record, own->normalise, 1, begin, end);
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
