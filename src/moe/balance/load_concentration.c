// SPDX-License-Identifier: Apache-2.0
/* Load concentration, the opposite of balance: for fine-tuning on a narrow domain, so that few experts stay in use and
 * the others can be pruned. arXiv 2306.04640 describes the aim; the formula is our reading, not the paper's: the entropy
 * H(P) = −Σ P_i ln P_i of the mean probability, to be minimised. ln E where P is even, 0 where one expert has it all.
 *
 * ∂H/∂P_i = −(ln P_i + 1). */
#include "moe/balance/loss_params.h"

typedef struct concentration_settings {
    sgm_loss_settings loss;
} concentration_settings;

static const sgm_param params[] = {
    SGM_LOSS_PARAMS("; its value is ln E for an even batch, in nats", SGM_LOSS_SCOPES, SGM_LOSS_SCOPES_HELP)};

static double value(const sgm_balance_view *view) {
    return sgm_probability_entropy(view->sums, view->experts, view->tokens);
}

static void price(const sgm_balance_view *view, double *price) {
    for (int64_t e = 0; e < view->experts; e++)
        price[e] = -(sgm_probability_log(view->sums[e] / (double)view->tokens) + 1);
}

extern const sgm_balance_plugin sgm_balance_load_concentration;
const sgm_balance_plugin sgm_balance_load_concentration = {
    .plugin = {.name = "load_concentration",
               .summary = "loss entropy of the mean probability: few experts stay in use (our reading of the idea)",
               .paper = "arXiv 2306.04640",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(concentration_settings)},
    .sum_count = sgm_loss_sum_per_expert,
    .scope = sgm_loss_scope,
    .mode = sgm_loss_mode,
    .coefficient = sgm_loss_coefficient,
    .accumulate = sgm_loss_add_probabilities,
    .value = value,
    .price = price,
};
