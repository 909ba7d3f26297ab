// SPDX-License-Identifier: Apache-2.0
/* What routers share, so that a router's file holds its own formulas and nothing else: scores of logits, the choice of the
 * best, weights of the chosen, and the way back from the gradients of weights to those of logits. */
#ifndef SGM_MOE_ROUTER_CHOOSE_H
#define SGM_MOE_ROUTER_CHOOSE_H

#include "routing/routing.h"

/* Does a score come before another one that stands at a lower index? NaN comes last, equal ones keep their order: so a choice
 * is always defined. */
static inline bool sgm_score_before(sgm_real score, sgm_real lower) {
    return score > lower || (lower != lower && score == score);
}

/* What every router asks of its numbers: 1 <= K <= E. `router` is its name, for the message. */
sgm_status sgm_check_experts(const char *router, int64_t experts, int64_t experts_per_token, sgm_error *error);
/* A single weight that is normalised is constant: no gradient would reach the scores. */
sgm_status sgm_check_normalised(const char *router, bool normalise, int64_t experts_per_token, sgm_error *error);

/* logits → probabilities of items [begin, end): a softmax over all experts, or sigmoids one by one. In both a NaN logit makes
 * its whole row NaN, or a NaN that is not chosen would stay hidden. */
void sgm_score_softmax(const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end);
void sgm_score_sigmoid(sgm_routing *record, int64_t begin, int64_t end);
/* Either, for a router that leaves it to a parameter with these choices. */
enum { SGM_SCORE_SOFTMAX, SGM_SCORE_SIGMOID };
#define SGM_SCORE_CHOICES "softmax|sigmoid"
void sgm_score_as(int score, const sgm_kernels *kernels, sgm_routing *record, int64_t begin, int64_t end);

/* The `count` best of experts [first, last) by score + bias (NULL: none), best first, into chosen. count <= last − first.
 * Cost O((last − first) count); no allocation. */
void sgm_choose_best(const sgm_real *scores, const sgm_real *bias, int64_t first, int64_t last, int64_t count,
                     int32_t *chosen);
/* The same over several ranges, called for one after the other from the lowest: `filled` experts are chosen already; returns
 * how many are then. */
int64_t sgm_choose_further(const sgm_real *scores, const sgm_real *bias, int64_t first, int64_t last, int64_t count,
                           int32_t *chosen, int64_t filled);

/* Weights and flags of items [begin, end) from what is in record->expert (-1: slot unused, weight 0): the expert's own
 * probability times `scale`; with `normalise` divided by the sum over the item's chosen experts, null ones left out, whose
 * weight is then 0 (AdaMoE, arXiv 2406.13233). Flags become 0. */
void sgm_weigh_chosen(sgm_routing *record, bool normalise, sgm_real scale, int64_t begin, int64_t end);
/* The gradient of that: d_weight → d_logits (set), the choice held constant, for record->sigmoid or softmax scores. */
void sgm_weigh_chosen_backward(sgm_routing *record, bool normalise, sgm_real scale, int64_t begin, int64_t end);

/* ---- for routers that rank many items ------------------------------------------------------------------------- */

typedef struct sgm_ranked {
    sgm_real key;
    int32_t index;
} sgm_ranked;

/* Offer one to the `most` best so far, `count` of them in `heap` in no order; returns the new count. The higher key is
 * better, then the lower index; keys are numbers. So the set at the end does not depend on the order of the offers.
 * Cost O(log most). */
int64_t sgm_rank_offer(sgm_ranked *heap, int64_t count, int64_t most, sgm_ranked item);

#endif
