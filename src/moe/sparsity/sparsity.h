// SPDX-License-Identifier: Apache-2.0
/* Sparsity schedules: how many experts a token activates in each layer at each step. */
#ifndef SGM_MOE_SPARSITY_SPARSITY_H
#define SGM_MOE_SPARSITY_SPARSITY_H

#include "sigmoe/registry.h"

typedef struct sgm_sparsity_plugin {
    sgm_plugin plugin;
    sgm_status (*check)(const void *settings, int64_t layers, int64_t experts, int64_t target, sgm_error *error);
    /* Experts per token of `layer` (0 … layers-1) at `step` (0 … steps-1) of a run; `target` is model.experts_per_token,
     * `experts` model.experts. From step to step a layer's number moves in one direction only: memory is planned and the
     * router is checked for the first and the last step of a run, and what lies between must be no harder. */
    int64_t (*experts_per_token)(const void *settings, int64_t layer, int64_t layers, int64_t experts, int64_t target,
                                 int64_t step, int64_t steps);
} sgm_sparsity_plugin;

typedef struct sgm_sparsity {
    const sgm_sparsity_plugin *plugin;
    void *settings;
} sgm_sparsity;

const sgm_sparsity_plugin *sgm_sparsity_at(size_t index);
const sgm_sparsity_plugin *sgm_sparsity_find(const char *name, sgm_error *error);

#endif
