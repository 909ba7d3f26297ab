// SPDX-License-Identifier: Apache-2.0
/* Balancers: what pushes the experts' load towards even. One file and one line in list.h each.
 *
 * A balancer sums something over the tokens of a scope (a sequence, a micro-batch, the global batch), and from those sums
 * has a value (a loss), a gradient on the router's logits, and an update after the step (a bias). They form an ordered
 * list: DeepSeek's method is a bias and a loss. The set below drives them, so that a plug-in is three or four formulas and
 * knows nothing of micro-batches, threads or modes.
 *
 * Scope shuffle is a control, not a method: the load of a random part of the global batch, of a micro-batch's size, and
 * the probabilities of the micro-batch (set_shuffle.c). Its load is counted first, as in mode exact.
 *
 * Modes of the global batch:
 *   exact    the routing of the whole global batch is counted before any gradient; with more than one micro-batch that
 *            costs a forward pass more (sgm_balance_set_needs_count_pass)
 *   buffer   the sums so far in this step, this micro-batch included (arXiv 2501.11873, algorithm 1)
 *   lagged   the sums of the step before (the first step uses its own, as buffer does)
 * Sums run over tokens in order, so their bytes depend neither on threads nor, in exact mode, on micro-batches.
 *
 * Per layer and scope the contribution to the total loss is coefficient · value; layers are summed. */
#ifndef SGM_MOE_BALANCE_BALANCE_H
#define SGM_MOE_BALANCE_BALANCE_H

#include "routing/routing.h"
#include "sigmoe/registry.h"

typedef enum sgm_balance_scope {
    SGM_SCOPE_SEQUENCE,
    SGM_SCOPE_MICRO,
    SGM_SCOPE_GLOBAL,
    SGM_SCOPE_SHUFFLE
} sgm_balance_scope;
typedef enum sgm_balance_mode { SGM_MODE_EXACT, SGM_MODE_BUFFER, SGM_MODE_LAGGED } sgm_balance_mode;

/* What a plug-in sees of one layer and one scope. */
typedef struct sgm_balance_view {
    const void *settings;
    int64_t experts, slots; /* E, K of this layer at this step */
    int64_t null_experts;   /* the last so many of E do nothing */
    int64_t tokens;         /* T of the scope */
    int64_t step, steps;    /* this step, from 0, of a run of so many; 0 of 0 where nobody said */
    const double *count;    /* (E) assignments c_i */
    double assigned;        /* Σ c_i: K T, less where a router leaves slots unused; f_i = c_i / assigned */
    const double *sums;     /* the plug-in's own sums over the scope */
    double *state;          /* the plug-in's saved state of this layer */
    double *tally;          /* more saved numbers of this layer, which an older checkpoint may lack: 0 then */
} sgm_balance_view;

typedef struct sgm_balance_plugin {
    sgm_plugin plugin;
    /* Do these settings say anything for a model of so many null experts? SGM_EARGUMENT: one of them has nothing to act on.
     * Asked where a run is configured; NULL: always. */
    sgm_status (*check)(const void *settings, int64_t null_experts, sgm_error *error);
    /* Doubles summed over tokens, and doubles saved per layer. NULL: none. */
    size_t (*sum_count)(const void *settings, int64_t experts);
    size_t (*state_count)(const void *settings, int64_t experts);
    size_t (*tally_count)(const void *settings, int64_t experts);
    sgm_balance_scope (*scope)(const void *settings);
    sgm_balance_mode (*mode)(const void *settings);
    double (*coefficient)(const void *settings);
    /* Add item t's contribution to sums [begin, end) of sum_count (threads split that range, tokens come in order). */
    void (*accumulate)(const void *settings, const sgm_routing *record, int64_t item, double *sums, int64_t begin,
                       int64_t end);
    /* The unweighted loss of the scope. NULL: this balancer has no loss. */
    double (*value)(const sgm_balance_view *view);
    /* d_logits of item t += pull · tokens · d(value)/d(logits), hard counts held constant. A value is a mean over the
     * scope's tokens, so its own 1 / tokens cancels, and the bytes do not depend on how many tokens there were so far. */
    void (*gradient)(const sgm_balance_view *view, const sgm_routing *record, int64_t item, double pull);
    /* Instead of `gradient`, for a loss in which tokens meet in the mean probability P alone: price (E) = ∂value/∂P_i,
     * counts held constant. Once per scope and thread; the driver takes it through the scores to the logits. */
    void (*price)(const sgm_balance_view *view, double *price);
    /* The bias added to the scores for selection: E numbers of the state, one behind the other, where a run that begins with a
     * model's bias writes it; NULL: none. Biases of several balancers add up. */
    const double *(*selection_bias)(const sgm_balance_view *view);
    /* Numbers worth logging beside the value: their names, NULL-terminated, and what they are for the global batch of the
     * finished step, before after_step. */
    const char *const *measures;
    void (*measure)(const sgm_balance_view *view, double *values);
    /* After the optimizer step, from the counts and sums of the global batch. */
    void (*after_step)(const sgm_balance_view *view);
} sgm_balance_plugin;

const sgm_balance_plugin *sgm_balance_at(size_t index);
const sgm_balance_plugin *sgm_balance_find(const char *name, sgm_error *error);

/* ---- the set that a training run uses ------------------------------------------------------------------------- */

typedef struct sgm_balance_set sgm_balance_set;

typedef struct sgm_balance_member {
    const sgm_balance_plugin *plugin;
    void *settings;
} sgm_balance_member;

/* `sequences`: most sequences a micro-batch holds. Takes the members' settings; the array itself is copied. */
sgm_status sgm_balance_set_new(const sgm_balance_member *members, size_t count, int64_t layers, int64_t experts,
                               int64_t sequences, int threads, sgm_balance_set **set, sgm_error *error);
void sgm_balance_set_free(sgm_balance_set *set);
/* Layers that have fewer than `experts` (attention experts beside those of the feed-forward): experts_of (L), copied. Before the
 * first step; without it every layer has `experts`, by which arrays (L, E) stay laid out. */
void sgm_balance_set_experts_of(sgm_balance_set *set, const int64_t *experts_of);
size_t sgm_balance_set_count(const sgm_balance_set *set);
const char *sgm_balance_set_name(const sgm_balance_set *set, size_t member);
sgm_balance_scope sgm_balance_set_scope(const sgm_balance_set *set, size_t member); /* member < count */

/* For scope shuffle: a step's tokens and those of a micro-batch, whose size the random groups get. Allocates; once, before the
 * first step. Without it a batch is one micro-batch, and shuffle is global. SGM_EMEMORY: not enough. */
sgm_status sgm_balance_set_reserve(sgm_balance_set *set, int64_t global_tokens, int64_t micro_tokens, sgm_error *error);

/* Where in the run the next step is, from 0, and the run's seed: for shuffles and for what changes with the step. Before
 * begin_step; without it step 0 of 0. */
void sgm_balance_set_seek(sgm_balance_set *set, int64_t step, int64_t steps, uint64_t seed);

/* A step: begin → (count pass over all micro-batches, if needed) → train pass over all micro-batches → end.
 * micro_batches and global_tokens are those of this step; slots[layer] = K of the layer. */
bool sgm_balance_set_needs_count_pass(const sgm_balance_set *set, int64_t micro_batches);
void sgm_balance_set_begin_step(sgm_balance_set *set, int64_t global_tokens, const int64_t *slots);
typedef enum sgm_balance_pass { SGM_PASS_COUNT, SGM_PASS_TRAIN } sgm_balance_pass;
void sgm_balance_set_begin_pass(sgm_balance_set *set, sgm_balance_pass pass);
/* A step that is skipped (non-finite): forget the step's sums, keep the state. */
void sgm_balance_set_cancel_step(sgm_balance_set *set);
/* Run after_step of every member and layer, keep this step's sums for `lagged`. */
void sgm_balance_set_end_step(sgm_balance_set *set);

/* Called by the MoE op on every thread. before_select sets record->selection_bias where a member has one; after_route adds
 * to the sums (once per item and step); gradient adds to record->d_logits. The last two end in a barrier, and so does the
 * first where it wrote. */
void sgm_balance_set_before_select(sgm_worker *worker, sgm_balance_set *set, sgm_routing *record);
void sgm_balance_set_after_route(sgm_worker *worker, sgm_balance_set *set, const sgm_routing *record);
void sgm_balance_set_gradient(sgm_worker *worker, sgm_balance_set *set, sgm_routing *record);

/* The bias on selection that the members' states give, (L, E); NULL when no member has one. Borrowed; it changes with
 * end_step and state_put. A model that is saved takes it along, so that inference routes as training does. */
const sgm_real *sgm_balance_set_bias(const sgm_balance_set *set);
/* Begin with the bias on selection (L, E) of a model: it becomes that of the first member that has one, and every other
 * member's becomes 0, so that the set's bias is the model's. Before the first step. SGM_EARGUMENT: no member has one;
 * SGM_EFORMAT: not finite. */
sgm_status sgm_balance_set_begin_bias(sgm_balance_set *set, const sgm_real *bias, sgm_error *error);

/* The loss of a member in a layer over the last finished step (mean over its scopes), NaN if it has none; and the
 * weighted sum over members and layers. */
double sgm_balance_set_value(const sgm_balance_set *set, size_t member, int64_t layer);
double sgm_balance_set_total(const sgm_balance_set *set);

/* What is worth logging of the last finished step, in order; false: there are no more. Layer l has values[l · stride]; NaN
 * before the first step. */
typedef struct sgm_balance_measure {
    char balancer[96];    /* the member, "name" or, the second of its kind, "name.2" */
    const char *name;     /* "value", the unweighted loss, or one of the plug-in's measures */
    const double *values; /* borrowed */
    int64_t stride;
} sgm_balance_measure;
bool sgm_balance_set_measure(const sgm_balance_set *set, size_t index, sgm_balance_measure *measure);

/* Everything a checkpoint must carry (states, the lagged sums, tallies), as one array of doubles. */
int64_t sgm_balance_set_state_count(const sgm_balance_set *set);
void sgm_balance_set_state_get(const sgm_balance_set *set, double *values);
sgm_status sgm_balance_set_state_put(sgm_balance_set *set, const double *values, int64_t count, sgm_error *error);

/* Part `index` of that array, in order; false: there are no more. A name is the member's and what it is of it
 * ("loss_free_bias.state"), so that a checkpoint finds each again when members come, go or change places. Parts of the step
 * before (lagged) belong together: all of one step, or all zero. Tallies come last, and a checkpoint may lack them. */
typedef enum sgm_balance_part_kind { SGM_PART_STATE, SGM_PART_LAGGED, SGM_PART_TALLY } sgm_balance_part_kind;
typedef struct sgm_balance_part {
    char name[112];
    int64_t first, count;
    sgm_balance_part_kind kind;
} sgm_balance_part;
bool sgm_balance_set_part(const sgm_balance_set *set, size_t index, sgm_balance_part *part);

#endif
