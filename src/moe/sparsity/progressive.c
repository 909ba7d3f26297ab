// SPDX-License-Identifier: Apache-2.0
/* Progressive sparsification, Sigma-MoE-Tiny (arXiv 2512.16248): the lowest layers, where balancing at top-1 fails,
 * activate more experts until late in training; then every layer goes to the target.
 *
 * `layers` lists the experts per token of the lowest layers. "auto" takes 8,8,6,6,4,4,2,2, reported for 56 layers, and
 * spreads it over the first ceil(L / 7): 56 layers get the list itself, 8 layers get 8,2. Its numbers stay between the
 * target and the number of experts, so that any model can be trained with it. */
#include <math.h>
#include <stddef.h>

#include "moe/sparsity/sparsity.h"

typedef struct progressive_settings {
    sgm_int_list layers;
    double switch_at;
} progressive_settings;

static const sgm_param params[] = {
    {.name = "layers",
     .type = SGM_PARAM_INT_LIST,
     .offset = offsetof(progressive_settings, layers),
     .fallback = "auto",
     .min = 1,
     .max = 1e6,
     .has_auto = true,
     .unit = "experts",
     .help = "experts per token of the lowest layers before the switch, e.g. 8,8,6,6,4,4,2,2"},
    {.name = "switch",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(progressive_settings, switch_at),
     .fallback = "0.9",
     .min = 0,
     .max = 1,
     .unit = "share of the steps",
     .help = "from here on every layer activates model.experts_per_token"},
};

static const int64_t reported[] = {8, 8, 6, 6, 4, 4, 2, 2};
enum { REPORTED = sizeof reported / sizeof *reported, DEPTH_SHARE = 7 };

/* Experts per token of a layer before the switch. */
static int64_t early(const progressive_settings *own, int64_t layer, int64_t layers, int64_t experts, int64_t target) {
    if (own->layers.count > 0)
        return layer < own->layers.count ? own->layers.items[layer] : target;
    int64_t low = (layers + DEPTH_SHARE - 1) / DEPTH_SHARE;
    if (layer >= low)
        return target;
    /* First to first, last to last, the rest to the nearest, halves upwards. */
    int64_t k = low == 1 ? reported[0] : reported[(2 * layer * (REPORTED - 1) + (low - 1)) / (2 * (low - 1))];
    k = k < experts ? k : experts;
    return k > target ? k : target;
}

static sgm_status check(const void *settings, int64_t layers, int64_t experts, int64_t target, sgm_error *error) {
    const progressive_settings *own = settings;
    if (layers < 1 || target < 1 || target > experts)
        return sgm_fail(error, SGM_EARGUMENT, "model.experts_per_token must be between 1 and model.experts",
                        "sparsity progressive: %lld experts per token of %lld experts", (long long)target,
                        (long long)experts);
    if (own->layers.count > layers)
        return sgm_fail(error, SGM_EARGUMENT, "list at most one number for each layer",
                        "sparsity.layers has %lld numbers for %lld layers", (long long)own->layers.count,
                        (long long)layers);
    for (int64_t layer = 0; layer < layers; layer++)
        if (early(own, layer, layers, experts, target) > experts)
            return sgm_fail(error, SGM_EARGUMENT, "write smaller numbers in sparsity.layers",
                            "sparsity progressive: layer %lld would activate %lld of %lld experts", (long long)layer,
                            (long long)early(own, layer, layers, experts, target), (long long)experts);
    return SGM_OK;
}

static int64_t experts_per_token(const void *settings, int64_t layer, int64_t layers, int64_t experts, int64_t target,
                                 int64_t step, int64_t steps) {
    const progressive_settings *own = settings;
    /* 0.9 of 10 steps is step 9, not the 10 that rounding upwards could make of it. */
    double first = ceil(own->switch_at * (double)steps - 1e-6);
    return (double)step < first ? early(own, layer, layers, experts, target) : target;
}

extern const sgm_sparsity_plugin sgm_sparsity_progressive;
const sgm_sparsity_plugin sgm_sparsity_progressive = {
    .plugin = {.name = "progressive",
               .summary = "more experts in the lowest layers until late in training, then the target everywhere",
               .paper = "arXiv 2512.16248",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(progressive_settings)},
    .check = check,
    .experts_per_token = experts_per_token,
};
