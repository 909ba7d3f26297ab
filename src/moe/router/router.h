// SPDX-License-Identifier: Apache-2.0
/* Routers: how scores become assignments. One file and one line in list.h each. */
#ifndef SGM_MOE_ROUTER_ROUTER_H
#define SGM_MOE_ROUTER_ROUTER_H

#include "routing/routing.h"
#include "sigmoe/registry.h"

typedef struct sgm_router_plugin {
    sgm_plugin plugin; /* first: the registry sees only this */
    /* Is this router possible for E experts, K active? */
    sgm_status (*check)(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error);
    /* Can it be trained with K active? SGM_EARGUMENT where no gradient would reach its scores; such a model still runs.
     * NULL: it always can. */
    sgm_status (*trains)(const void *settings, int64_t experts_per_token, sgm_error *error);
    /* Are the probabilities sigmoids (record->sigmoid)? NULL: a softmax over all experts. */
    bool (*sigmoid)(const void *settings);
    /* logits → probabilities, for items [begin, end). */
    void (*score)(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end);
    /* probabilities (+ selection_bias) → expert, weight, flags of items [begin, end). A NaN score is never selected before
     * a number; ties go to the lower expert. An item has an expert once at most. */
    void (*select)(const void *settings, sgm_routing *record, int64_t begin, int64_t end);
    /* d_weight → d_logits (set, not added) for items [begin, end); selection is a constant. */
    void (*backward)(const void *settings, sgm_routing *record, int64_t begin, int64_t end);
} sgm_router_plugin;

/* A router with its settings. */
typedef struct sgm_router {
    const sgm_router_plugin *plugin;
    void *settings; /* plugin.settings_bytes, owned */
} sgm_router;

const sgm_router_plugin *sgm_router_at(size_t index); /* NULL past the end */
const sgm_router_plugin *sgm_router_find(const char *name, sgm_error *error);

#endif
