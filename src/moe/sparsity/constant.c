// SPDX-License-Identifier: Apache-2.0
/* The same number of experts per token in every layer at every step: model.experts_per_token. */
#include "moe/sparsity/sparsity.h"

static sgm_status check(const void *settings, int64_t layers, int64_t experts, int64_t target, sgm_error *error) {
    (void)settings;
    if (layers < 1 || target < 1 || target > experts)
        return sgm_fail(error, SGM_EARGUMENT, "model.experts_per_token must be between 1 and model.experts",
                        "sparsity constant: %lld experts per token of %lld experts", (long long)target,
                        (long long)experts);
    return SGM_OK;
}

static int64_t experts_per_token(const void *settings, int64_t layer, int64_t layers, int64_t experts, int64_t target,
                                 int64_t step, int64_t steps) {
    (void)settings;
    (void)layer;
    (void)layers;
    (void)experts;
    (void)step;
    (void)steps;
    return target;
}

extern const sgm_sparsity_plugin sgm_sparsity_constant;
const sgm_sparsity_plugin sgm_sparsity_constant = {
    .plugin = {.name = "constant", .summary = "model.experts_per_token in every layer, always", .paper = ""},
    .check = check,
    .experts_per_token = experts_per_token,
};
