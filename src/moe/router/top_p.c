// SPDX-License-Identifier: Apache-2.0
/* Top-p routing (arXiv 2403.07652): a token takes the fewest experts whose probabilities reach a share together, so that a
 * token the router is sure of costs less than one it is not. K, the experts per token, is the most it may take. Scores are
 * a softmax over all experts, and a weight is that probability as it is.
 *
 * This file is the worked example of docs/howto-router.md, which holds the same text. */
#include <stddef.h>

#include "moe/router/choose.h"
#include "moe/router/router.h"

typedef struct top_p_settings {
    double share;
} top_p_settings;

static const sgm_param params[] = {
    {.name = "share",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(top_p_settings, share),
     .fallback = "0.4",
     .min = 0,
     .max = 1,
     .unit = "",
     .help = "a token takes the most probable experts until their probabilities reach this sum"},
};

static sgm_status check(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error) {
    (void)settings;
    return sgm_check_experts("top_p", experts, experts_per_token, error);
}

static void score(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end) {
    (void)settings;
    sgm_score_softmax(kernels, record, begin, end);
}

static void select_experts(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    const top_p_settings *own = settings;
    int64_t experts = record->experts, slots = record->slots;
    for (int64_t t = begin; t < end; t++) {
        const sgm_real *p = record->probabilities + t * experts;
        int32_t *chosen = record->expert + t * slots;
        double sum = 0;
        sgm_choose_best(p, record->selection_bias, 0, experts, slots, chosen);
        for (int64_t k = 0; k < slots; k++) {
            if (k > 0 && sum >= own->share)
                chosen[k] = -1; /* a slot that is not used */
            else
                sum += (double)p[chosen[k]];
        }
    }
    sgm_weigh_chosen(record, false, 1, begin, end);
}

static void backward(const void *settings, sgm_routing *record, int64_t begin, int64_t end) {
    (void)settings;
    sgm_weigh_chosen_backward(record, false, 1, begin, end);
}

extern const sgm_router_plugin sgm_router_top_p;
const sgm_router_plugin sgm_router_top_p = {
    .plugin = {.name = "top_p",
               .summary = "the fewest experts that reach a share of the probability, at most K",
               .paper = "arXiv 2403.07652",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(top_p_settings)},
    .check = check,
    .score = score,
    .select = select_experts,
    .backward = backward,
};
