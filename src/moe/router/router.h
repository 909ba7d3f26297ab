// SPDX-License-Identifier: Apache-2.0
/* Routers: how scores become assignments. One file and one line in list.h each. */
#ifndef SGM_MOE_ROUTER_ROUTER_H
#define SGM_MOE_ROUTER_ROUTER_H

#include "routing/routing.h"
#include "sigmoe/registry.h"
#include "tensor/batch.h"

/* Memory that a router needs for a record; each rises with the items, so that the largest batch's is enough for all. */
typedef struct sgm_router_room {
    int64_t slots;        /* of the record: most assignments of one item */
    int64_t rows;         /* most assignments of all items together */
    size_t scratch_bytes; /* of `assign`, for the whole team */
} sgm_router_room;

typedef struct sgm_router_plugin {
    sgm_plugin plugin; /* first: the registry sees only this */
    /* Is this router possible for E experts, K active? */
    sgm_status (*check)(const void *settings, int64_t experts, int64_t experts_per_token, sgm_error *error);
    /* Can it be trained with K active? SGM_EARGUMENT where no gradient would reach its scores; such a model still runs.
     * NULL: it always can. */
    sgm_status (*trains)(const void *settings, int64_t experts_per_token, sgm_error *error);
    /* Does it go with null experts, the last `null_experts` > 0 of E? Asked where a run is configured; NULL: always. */
    sgm_status (*nulls)(const void *settings, int64_t experts, int64_t null_experts, int64_t experts_per_token,
                        sgm_error *error);
    /* Are the probabilities sigmoids (record->sigmoid)? NULL: a softmax over all experts. */
    bool (*sigmoid)(const void *settings);
    /* The choice does not look at the scores: nothing is trained, and balancers have nothing to pull at. */
    bool fixed;
    /* `assign` takes no account of the selection bias: one would decide in inference alone. */
    bool deaf_to_bias;
    /* logits → probabilities, for items [begin, end). */
    void (*score)(const void *settings, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end);
    /* probabilities (+ selection_bias) → expert, weight, flags of every slot of items [begin, end): K experts at most. A NaN
     * score is never selected before a number; ties go to the lower expert. An item has an expert once at most. */
    void (*select)(const void *settings, sgm_routing *record, int64_t begin, int64_t end);
    /* d_weight → d_logits (set, not added) for items [begin, end); selection is a constant. */
    void (*backward)(const void *settings, sgm_routing *record, int64_t begin, int64_t end);

    /* ---- routers that choose for all items of a record together; NULL where items do not depend on one another ---- */

    /* In training, behind `select`: what it left (which is what inference does, where a token must be routed alone as it is
     * in a batch) becomes the choice of the whole record. All threads call it, after a barrier; it ends in one. Same result
     * for any number of threads. The record is a micro-batch: how a step is cut into those changes the choice. */
    void (*assign)(const void *settings, sgm_worker *worker, const sgm_kernels *kernels, sgm_routing *record,
                   void *scratch);
    /* Does `assign` do anything with these settings? NULL: yes. */
    bool (*together)(const void *settings);
    /* Where `assign` does: what it needs. NULL: K slots, no scratch. */
    void (*room)(const void *settings, int64_t items, int64_t experts, int64_t experts_per_token, int threads,
                 sgm_router_room *room);
} sgm_router_plugin;

/* A router with its settings. */
typedef struct sgm_router {
    const sgm_router_plugin *plugin;
    void *settings; /* plugin.settings_bytes, owned */
} sgm_router;

/* ---- a router at work: router.c ------------------------------------------------------------------------------- */

/* Does this router look at all items of a record together in training? */
bool sgm_router_sees_batch(const sgm_router *router);
/* `together`: sgm_router_sees_batch, and this pass lets it. */
sgm_router_room sgm_router_room_of(const sgm_router *router, bool together, int64_t items, int64_t experts,
                                   int64_t experts_per_token, int threads);
/* What no plug-in fills in of a record that is laid out: which routed sub-layer it is of, the batch, the bias (NULL: none), how
 * scores are made. One thread; null_experts is the caller's, 0 after sgm_routing_place. */
void sgm_router_begin(const sgm_router *router, int64_t routed, int64_t experts_per_token, const sgm_rows *rows,
                      const sgm_real *selection_bias, sgm_routing *record);
/* probabilities → a finished record in both orders. All threads call it; ends in a barrier. */
void sgm_router_choose(sgm_worker *worker, const sgm_kernels *kernels, const sgm_router *router, sgm_routing *record,
                       bool together, void *scratch);
/* The same item by item, by one thread, of a record of its own. */
void sgm_router_choose_alone(const sgm_router *router, sgm_routing *record);

const sgm_router_plugin *sgm_router_at(size_t index); /* NULL past the end */
const sgm_router_plugin *sgm_router_find(const char *name, sgm_error *error);

#endif
