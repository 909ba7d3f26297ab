// SPDX-License-Identifier: Apache-2.0
/* The routing record: who goes to which expert, with what weight, in one layer.
 *
 * A router writes it; dispatch, balancing, statistics, traces and the tests read it. Items are rows of the batch (later
 * also whole sequences). Assignments are kept in both orders: by item (T, K) and by expert (rows sorted by expert, by item
 * within an expert). Top-k, per-layer k, grouped, null-expert, biased and expert-choice routing all fit: an item may have
 * fewer assignments than slots (expert = -1), a null expert (SGM_ROUTE_NULL: no row is computed) or a dropped one.
 *
 * Filled in stages: logits (the router's product) → probabilities (plug-in `score`) → selection (plug-in `select`, and
 * `assign` where it looks at all items together) → both orders (sgm_routing_sort). Backward: `d_weight` (from combine) →
 * `d_logits` (plug-in and balancers). */
#ifndef SGM_ROUTING_ROUTING_H
#define SGM_ROUTING_ROUTING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "base/team.h"
#include "kernel/kernels.h"

enum { SGM_ROUTE_NULL = 1, SGM_ROUTE_DROPPED = 2 };

typedef struct sgm_routing {
    int32_t layer;                 /* routed sub-layer of the model (sigmoe/model.h) */
    int64_t items;                 /* T */
    int64_t experts;               /* E, logical */
    int64_t null_experts;          /* the last so many of E: no weights, output 0 */
    int64_t experts_per_token;     /* K of this layer at this step */
    int64_t slots;                 /* most assignments an item may have: K, or what the router's `room` says */
    const int32_t *token;          /* (T) ids of the rows' tokens, borrowed from the batch; NULL: unknown */
    const int64_t *sequence_start; /* (sequence_count + 1), borrowed from the batch */
    int64_t sequence_count;

    sgm_real *logits;               /* (T, E) raw scores */
    sgm_real *probabilities;        /* (T, E) after the router's score function */
    bool sigmoid;                   /* they are sigmoids of the logits, one by one; else a softmax over E */
    const sgm_real *selection_bias; /* (E) added to the scores for selection only; NULL: none */

    /* by item, (T, slots) */
    int32_t *expert;   /* logical expert, -1: slot unused */
    sgm_real *weight;  /* what combine multiplies the expert's output by */
    uint8_t *flags;    /* SGM_ROUTE_… */
    int32_t *position; /* row in the by-expert order, -1: none */

    /* by expert */
    int64_t assignments; /* A: rows that are computed */
    int64_t *offset;     /* (E + 1) first row of each expert */
    int32_t *item;       /* (A) */
    int32_t *slot;       /* (A) */
    int32_t *physical;   /* (A) replica that computes it; equals the logical expert without placement */

    /* backward; NULL in inference */
    sgm_real *d_weight; /* (T, slots) */
    sgm_real *d_logits; /* (T, E) */
} sgm_routing;

/* Bytes of everything above that the record owns, and a record laid out in such a block (64-byte aligned). The two arrays
 * of the backward pass are not part of it: they live as long as that pass does, and `place` leaves them NULL. */
size_t sgm_routing_bytes(int64_t items, int64_t experts, int64_t slots);
void sgm_routing_place(sgm_routing *record, void *block, int64_t items, int64_t experts, int64_t slots);

/* Does this place of the by-item order cost a row? Unused slots, null experts and dropped assignments do not. */
static inline bool sgm_routing_is_computed(const sgm_routing *record, int64_t place) {
    return record->expert[place] >= 0 && !(record->flags[place] & (SGM_ROUTE_NULL | SGM_ROUTE_DROPPED));
}

/* Set SGM_ROUTE_NULL where items [begin, end) chose one of the null experts. */
void sgm_routing_mark_null(sgm_routing *record, int64_t begin, int64_t end);

/* Build the by-expert order from the by-item one. All threads call it, after a barrier that follows the selection; ends in
 * a barrier. The record is shared by the threads. Stable: items ascend within an expert. Cost O(T slots + E). */
void sgm_routing_sort(sgm_worker *worker, sgm_routing *record);
/* The same by one thread, of a record of its own. */
void sgm_routing_sort_alone(sgm_routing *record);

/* counts (E) = assignments of each expert, null and dropped ones included (f is about what the router chose). */
void sgm_routing_counts(const sgm_routing *record, int64_t *counts);

/* ---- load statistics ------------------------------------------------------------------------------------------ */

#define SGM_ENTROPY_UNITS 0x1p24

/* Accumulated over any number of records of one layer. */
typedef struct sgm_load {
    int64_t tokens, experts, null_experts; /* the last so many of E compute nothing: summaries leave them out */
    int64_t *count;                        /* (E) assignments */
    double *probability;                   /* (E) Σ over items of p */
    int64_t computed;                      /* of the assignments those that cost a row: neither null nor dropped */
    /* Wanted, as it takes a logarithm of every p: Σ over items of the entropy of p, of the experts that compute, in nats /
     * SGM_ENTROPY_UNITS, and the items whose entropy is a number: all, but for NaN. */
    bool entropies;
    _Atomic int64_t token_entropy, token_entropies;
} sgm_load;

/* Add a finished record: of its items those with targets[item] >= 0 (evaluation windows overlap, and a row is counted where
 * it is scored), or all of them with `targets` NULL. All threads call it (they split the experts; items come in order, so the bytes do not depend on
 * the threads or on how the items were cut into records); the caller provides the barriers. */
void sgm_load_add(sgm_worker *worker, sgm_load *load, const sgm_routing *record, const int32_t *targets);

/* Of the experts that compute, and of the assignments to them: a null expert has no load to even out.
 * Source: MaxVio is arXiv 2408.15664; dead = below 1 % of the fair share. */
typedef struct sgm_load_summary {
    int64_t tokens, dead_experts;
    double min_over_mean, max_over_mean, max_violation; /* max_violation = max/mean − 1 */
    double entropy_over_log_e;                          /* of f = count / Σ count over log of their number; 1 = even */
    double probability_entropy_over_log_e;              /* of the mean p */
    double token_entropy_over_log_e; /* mean over tokens of that of their own p, H(e|x); NaN: not wanted */
    double coefficient_of_variation; /* of f */
    double correlation;              /* of f and mean p over experts */
    double noise_floor;              /* expected max_violation of an even multinomial with these counts */
    double computed_per_token;       /* experts that cost something: null and dropped ones do not */
} sgm_load_summary;
void sgm_load_summarise(const sgm_load *load, sgm_load_summary *summary);

/* How much `domains` differ in the experts they use, from their counts (E) each and how many `tokens` (domains) these are of: the
 * Jensen–Shannon divergence of their shares of load, each domain weighing the same, from 0 to ln(domains), and what domains that
 * are alike would show with so few tokens, drawn independently, whose experts are distinct. Domains without assignments are left
 * out; with fewer than two both are 0. `scratch`: (2 E). */
typedef struct sgm_divergence {
    double nats, noise_nats;
} sgm_divergence;
sgm_divergence sgm_domain_divergence(const int64_t *const *count, const int64_t *tokens, size_t domains,
                                     int64_t experts, double *scratch);

/* Expected largest of n independent standard normal deviates. */
double sgm_largest_of_normals(double n);

#endif
