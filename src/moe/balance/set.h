// SPDX-License-Identifier: Apache-2.0
/* Inside of a balance set, shared by its three files: set.c drives a step, set_shuffle.c deals the batch into random
 * groups, set_state.c has the values, the measures and what a checkpoint carries. Nobody else includes this. */
#ifndef SGM_MOE_BALANCE_SET_H
#define SGM_MOE_BALANCE_SET_H

#include "moe/balance/balance.h"

/* One member, its formulas' sizes, and its memory. */
typedef struct balance_member {
    const sgm_balance_plugin *plugin;
    void *settings;
    size_t sums, states, tallies, measures;
    sgm_balance_scope scope;
    sgm_balance_mode mode;
    double coefficient;
    bool lagged;     /* remembers the step before */
    double *global;  /* (L, sums) over the step */
    double *part;    /* (L, sums) micro-batch, (L, sequences, sums) or (L, groups, sums); NULL in the global scope */
    double *before;  /* (L, sums) of the last finished step; NULL: not lagged */
    double *state;   /* (L, states) */
    double *tally;   /* (L, tallies) */
    double *value;   /* (L) of the last finished step */
    double *measure; /* (L, measures) the same */
    double *running; /* (L) Σ over scopes of value · tokens, so far */
} balance_member;

struct sgm_balance_set {
    size_t count;
    balance_member *members;
    int64_t layers, experts, sequences;
    bool active, counted; /* inside a step; this step had a count pass */
    bool any_micro, any_sequence, any_shuffle, any_lagged, any_bias, any_price;
    sgm_balance_pass pass;
    int64_t global_tokens;
    int64_t step, steps; /* where in the run; 0, 0: not said */
    uint64_t seed;
    int64_t *experts_of;   /* (L) experts of each layer, at most `experts` */
    int64_t *slots;        /* (L) */
    int64_t *null_experts; /* (L) as the last record said */
    /* Assignments: of the count pass, of the train pass so far, of this micro-batch, of each sequence, of the last
     * step. */
    double *count_first, *count_step, *count_micro, *count_sequence, *count_before;
    int64_t *tokens_first, *tokens_step, *tokens_before, *slots_before; /* (L) */
    sgm_real *bias;                                                     /* (L, E) sum over members */
    double *price;                                                      /* (threads, E) */
    void *block;
    /* The shuffled batch. Its memory is apart: how many groups there are is said later than the rest. */
    int64_t groups, group_tokens, deck_tokens; /* most groups; tokens of each; of a batch. group_tokens 0: one group */
    int32_t *deck;                             /* (deck_tokens) the group that each token of the batch was dealt to */
    double *count_group;                       /* (L, groups, E) */
    void *shuffle_block;
};

sgm_balance_view sgm_balance_view_of(const sgm_balance_set *set, const balance_member *m, int64_t layer, int64_t tokens,
                                     const double *count, const double *sums);
void sgm_balance_sum_biases(sgm_balance_set *set);

/* Does it pull on the logits? */
static inline bool sgm_balance_pulls(const balance_member *m) {
    return (m->plugin->gradient || m->plugin->price) && m->coefficient != 0;
}

/* Are its sums and, of a shuffled one, its groups' counts taken in this pass? */
static inline bool sgm_balance_counts_now(const sgm_balance_set *set, bool wants_count_pass) {
    return (set->counted && wants_count_pass) == (set->pass == SGM_PASS_COUNT);
}

/* ---- set_shuffle.c ---- */

/* Deal the batch of the step that begins. */
void sgm_balance_shuffle_deal(sgm_balance_set *set);
/* The block of consecutive tokens that token t of the batch is in: it takes its load from the group of that number. */
int64_t sgm_balance_shuffle_block(const sgm_balance_set *set, int64_t t);
/* Block or group `index` of layer: both hold as many tokens. */
sgm_balance_view sgm_balance_shuffle_view(const sgm_balance_set *set, const balance_member *m, int64_t layer,
                                          int64_t index);
/* Add a record whose first token is number `first` of the batch: counts of experts [begin, end), and the sums
 * [begin, end) of one member. */
void sgm_balance_shuffle_count(sgm_balance_set *set, const sgm_routing *record, int64_t first, int64_t begin,
                               int64_t end);
void sgm_balance_shuffle_sum(const sgm_balance_set *set, const balance_member *m, const sgm_routing *record,
                             int64_t first, int64_t begin, int64_t end);
/* Mean over the blocks' values. */
double sgm_balance_shuffle_value(const sgm_balance_set *set, const balance_member *m, int64_t layer);

#endif
