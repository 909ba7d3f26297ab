// SPDX-License-Identifier: Apache-2.0
/* Placement of experts on GPUs (or threads, or ranks): which expert each physical slot holds, the busiest ones more than once,
 * so that all GPUs get about the same load. The methods are the registry "placement".
 *
 * Slots are numbered GPU by GPU, GPUs node by node: slot p lies on GPU p / (slots / gpus). A replica gets an equal part of its
 * expert's load. What is scored is the load of whole GPUs, not of slots: how replicas are packed is most of the matter. */
#ifndef SIGMOE_PLACEMENT_H
#define SIGMOE_PLACEMENT_H

#include <stdint.h>

#include "sigmoe/error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct sgm_placement_shape {
    int64_t layers, experts; /* L, E logical experts of a layer */
    int64_t slots;           /* physical experts of a layer, replicas included; a multiple of gpus, at least E */
    int64_t groups;          /* of experts, equally many in each; what group-limited routing keeps on one node */
    int64_t nodes, gpus;     /* gpus: of all nodes; a multiple of nodes */
} sgm_placement_shape;

typedef struct sgm_placement {
    sgm_placement_shape shape;
    int32_t *physical_to_logical;        /* (L, slots) heap */
    int64_t *replicas;                   /* (L, E) heap; at least 1 each */
    double *layer_mean_over_max_per_gpu; /* (L) heap: 1 where all GPUs get the same load */
    double mean_over_max_per_gpu;        /* Σ over layers of the mean / Σ of the maximum */
    double planner_seconds;              /* of planning all layers, nothing else */
} sgm_placement;

/* Plan by `load` (L, E), finite and not negative. Cost of the packing methods O(L (E + slots) log slots).
 * Errors: SGM_EARGUMENT the shape does not divide, a load is not a number; SGM_ENOTFOUND no such method; SGM_EMEMORY.
 * Sources: DeepSeek's EPLB (hierarchical and global replication and packing); arXiv 2510.06189 (packing along a snake). */
sgm_status sgm_place(const char *method, const double *load, const sgm_placement_shape *shape, sgm_placement *placement,
                     sgm_error *error);
void sgm_placement_free(sgm_placement *placement);

/* Score a plan under another load (L, E), e.g. that of the time after the one it was planned for. `layer_mean_over_max` (L)
 * may be NULL. A layer without load counts as even. */
double sgm_placement_balance(const sgm_placement *placement, const double *load, double *layer_mean_over_max);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
