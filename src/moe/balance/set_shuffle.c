// SPDX-License-Identifier: Apache-2.0
/* The shuffle control of arXiv 2501.11873: is it the number of tokens that a small scope lacks, or their variety?
 *
 * The batch of N tokens is cut into blocks of n consecutive ones (a micro-batch each) and, apart from that, dealt at
 * random into groups of n. Block b takes its load f from group b and its p from itself: as few tokens as a micro-batch
 * has, drawn from the whole batch. The groups are a partition, so their counts sum to the batch's, and each is a
 * uniformly random subset, so the loss equals that of the global scope in expectation.
 *
 * The deal is a Fisher–Yates shuffle of a counter-based stream named by the step: it depends on the seed and the step,
 * neither on threads nor on how the batch is really cut. All layers use the same one. */
#include <string.h>

#include "base/memory.h"
#include "base/rng.h"
#include "moe/balance/set.h"

/* Run twice: for the size, then for the addresses. */
static size_t layout(sgm_balance_set *set, char *block) {
    size_t used = 0, groups = (size_t)(set->layers * set->groups);
    set->count_group = sgm_carve(block, &used, groups * (size_t)set->experts, sizeof(double));
    set->deck = sgm_carve(block, &used, (size_t)set->deck_tokens, sizeof *set->deck);
    for (balance_member *m = set->members; m < set->members + set->count; m++)
        if (m->scope == SGM_SCOPE_SHUFFLE)
            m->part = sgm_carve(block, &used, groups * m->sums, sizeof(double));
    return used;
}

sgm_status sgm_balance_set_reserve(sgm_balance_set *set, int64_t global_tokens, int64_t micro_tokens,
                                   sgm_error *error) {
    if (global_tokens < 0 || micro_tokens < 0 || (global_tokens > 0 && micro_tokens < 1) || global_tokens > INT32_MAX)
        return sgm_fail(error, SGM_EARGUMENT, NULL, "balancers for batches of %lld tokens in micro-batches of %lld",
                        (long long)global_tokens, (long long)micro_tokens);
    if (!set->any_shuffle)
        return SGM_OK;
    sgm_balance_set next = *set;
    next.group_tokens = global_tokens > micro_tokens ? micro_tokens : 0;
    next.deck_tokens = next.group_tokens ? global_tokens : 0;
    next.groups = next.group_tokens ? (global_tokens + micro_tokens - 1) / micro_tokens : 1;
    double counts = (double)set->layers * (double)next.groups * (double)set->experts;
    sgm_status status =
        sgm_memory_check(counts > 0x1p40 ? UINT64_MAX : layout(&next, NULL), "the groups of a shuffled batch", error);
    void *block = status ? NULL : sgm_alloc(layout(&next, NULL) + 1);
    if (!block) { /* the members' parts are where they were */
        if (set->shuffle_block)
            layout(set, set->shuffle_block);
        return status ? status
                      : sgm_fail(error, SGM_EMEMORY, "use larger micro-batches", "no memory for %lld groups of tokens",
                                 (long long)next.groups);
    }
    sgm_free(set->shuffle_block);
    *set = next;
    set->shuffle_block = block;
    layout(set, block);
    return SGM_OK;
}

void sgm_balance_shuffle_deal(sgm_balance_set *set) {
    size_t groups = (size_t)(set->layers * set->groups);
    memset(set->count_group, 0, groups * (size_t)set->experts * sizeof(double));
    for (balance_member *m = set->members; m < set->members + set->count; m++)
        if (m->scope == SGM_SCOPE_SHUFFLE)
            memset(m->part, 0, groups * m->sums * sizeof(double));
    int64_t tokens = set->global_tokens < set->deck_tokens ? set->global_tokens : set->deck_tokens;
    for (int64_t t = 0; t < tokens; t++)
        set->deck[t] = (int32_t)(t / set->group_tokens);
    sgm_rng rng = sgm_rng_at(set->seed, sgm_rng_stream("balance shuffle", (uint64_t)set->step), 0);
    for (int64_t t = tokens - 1; t > 0; t--) {
        int64_t other = (int64_t)sgm_rng_below(&rng, (uint64_t)t + 1);
        int32_t group = set->deck[t];
        set->deck[t] = set->deck[other];
        set->deck[other] = group;
    }
}

/* Tokens beyond those that were announced go with the last ones. */
int64_t sgm_balance_shuffle_block(const sgm_balance_set *set, int64_t t) {
    int64_t block = set->group_tokens ? t / set->group_tokens : 0;
    return block < set->groups ? block : set->groups - 1;
}

static int64_t group_of(const sgm_balance_set *set, int64_t t) {
    return t < set->deck_tokens && t < set->global_tokens ? set->deck[t] : sgm_balance_shuffle_block(set, t);
}

sgm_balance_view sgm_balance_shuffle_view(const sgm_balance_set *set, const balance_member *m, int64_t layer,
                                          int64_t index) {
    int64_t at = layer * set->groups + index, tokens = set->global_tokens;
    if (set->group_tokens) {
        tokens -= index * set->group_tokens;
        tokens = tokens < 0 ? 0 : tokens < set->group_tokens ? tokens : set->group_tokens;
    }
    return sgm_balance_view_of(set, m, layer, tokens, set->count_group + at * set->experts,
                               m->part + (size_t)at * m->sums);
}

void sgm_balance_shuffle_count(sgm_balance_set *set, const sgm_routing *record, int64_t first, int64_t begin,
                               int64_t end) {
    double *counts = set->count_group + record->layer * set->groups * set->experts;
    for (int64_t t = 0; t < record->items; t++) {
        double *count = counts + group_of(set, first + t) * set->experts;
        for (int64_t place = t * record->slots; place < (t + 1) * record->slots; place++) {
            int64_t e = record->expert[place];
            if (e >= begin && e < end)
                count[e] += 1;
        }
    }
}

void sgm_balance_shuffle_sum(const sgm_balance_set *set, const balance_member *m, const sgm_routing *record,
                             int64_t first, int64_t begin, int64_t end) {
    double *sums = m->part + (size_t)(record->layer * set->groups) * m->sums;
    for (int64_t t = 0; t < record->items; t++)
        m->plugin->accumulate(m->settings, record, t,
                              sums + (size_t)sgm_balance_shuffle_block(set, first + t) * m->sums, begin, end);
}

double sgm_balance_shuffle_value(const sgm_balance_set *set, const balance_member *m, int64_t layer) {
    double sum = 0, tokens = 0;
    for (int64_t index = 0; index < set->groups; index++) {
        sgm_balance_view view = sgm_balance_shuffle_view(set, m, layer, index);
        if (view.tokens == 0)
            break;
        sum += m->plugin->value(&view) * (double)view.tokens;
        tokens += (double)view.tokens;
    }
    return sum / tokens;
}
