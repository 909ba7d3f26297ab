// SPDX-License-Identifier: Apache-2.0
/* Models with fewer or more experts than they had: prune and grow.
 *
 * Both read a model folder (or a checkpoint, or a run's latest) in f32 and write a new folder; the model is in memory twice.
 * A layer's experts, the rows of its router and its biases on selection go together. What is kept is kept to the byte. */
#ifndef SIGMOE_EXPERTS_H
#define SIGMOE_EXPERTS_H

#include <stdbool.h>
#include <stdint.h>

#include "sigmoe/error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct sgm_reshape_report {
    int64_t layers, experts_before, experts; /* in each layer */
    int64_t null_experts;                    /* of `experts` */
    int64_t total_parameters;                /* of the new model */
    /* Prune: the share of the assignments counted in `load` that the kept experts had, on average and in the layer that lost
     * most. */
    double kept_share, least_kept_share;
} sgm_reshape_report;

/* Which experts stay. All layers keep the same number of them, since a model has one. */
typedef struct sgm_prune_options {
    const int64_t *load; /* (layers, experts): how often each was chosen, on text like that the model is meant for */
    int64_t layers, experts;
    int64_t keep;      /* so many of each layer, those chosen most; of equals the lower. 0: by the next */
    double drop_below; /* share of a layer's assignments: so many stay that no layer loses an expert at or above it */
} sgm_prune_options;

/* The router's scores are those of the experts that stay: where they are a softmax over all, what the others had is shared out.
 * SGM_EARGUMENT: `load` is of another shape, nothing was counted in a layer, `keep` is more than there are or fewer than a
 * token activates, a router that cannot have as many; SGM_EEXISTS: `to` is there; SGM_EUNSUPPORTED: a GGUF file, a model
 * with null experts or attention experts, a router for which every token's or expert's place depends on their number. */
sgm_status sgm_model_prune(const char *from, const sgm_prune_options *options, const char *to,
                           sgm_reshape_report *report, sgm_error *error);

/* How new experts begin. */
typedef struct sgm_grow_options {
    int64_t add;
    /* The new ones compute nothing, only the router has rows for them (arXiv 2406.13233): a token that chooses them computes
     * less. With rows copied to the bit (noise 0), as many null experts as others, twice the experts per token and a router
     * that normalises weights over those that compute, the model begins as what it was: beside every expert that a
     * token chooses it chooses the null one of the same row. */
    bool null;
    int64_t experts_per_token; /* of the new model, in every layer; 0: as before */
    bool fresh; /* random, as in a new model; else expert E + i is a copy of expert i mod E, and so is its router row */
    double noise; /* of a copy: each number gets a normal deviate times this times the matrix's root mean square */
    uint64_t seed;
} sgm_grow_options;

/* Old experts, their router rows and everything else are as before; router probabilities are not, as the new rows take part in
 * the softmax. Errors as above. */
sgm_status sgm_model_grow(const char *from, const sgm_grow_options *options, const char *to, sgm_reshape_report *report,
                          sgm_error *error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
