// SPDX-License-Identifier: Apache-2.0
/* Loss-free balancing (arXiv 2408.15664): a bias per expert, added to the scores for selection only, goes up by a fixed
 * rate where the expert got less than the mean load of the global batch and down where it got more. No gradient.
 * State: the bias (E), from 0. It moves once per optimizer step and decides from the next one on. */
#include <stddef.h>

#include "moe/balance/balance.h"

typedef struct bias_settings {
    double rate;
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
};

static size_t state_count(const void *settings, int64_t experts) {
    (void)settings;
    return (size_t)experts;
}

static const double *selection_bias(const sgm_balance_view *view) {
    return view->state;
}

static void after_step(const sgm_balance_view *view) {
    const bias_settings *own = view->settings;
    double total = 0;
    for (int64_t e = 0; e < view->experts; e++)
        total += view->count[e];
    double mean = total / (double)view->experts;
    for (int64_t e = 0; e < view->experts; e++)
        view->state[e] += view->count[e] < mean ? own->rate : view->count[e] > mean ? -own->rate : 0;
}

extern const sgm_balance_plugin sgm_balance_loss_free_bias;
const sgm_balance_plugin sgm_balance_loss_free_bias = {
    .plugin = {.name = "loss_free_bias",
               .summary = "no loss: a bias on the selection rises for idle experts and falls for busy ones",
               .paper = "arXiv 2408.15664",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(bias_settings)},
    .state_count = state_count,
    .selection_bias = selection_bias,
    .after_step = after_step,
};
