// SPDX-License-Identifier: Apache-2.0
/* Which assignments an expert of limited capacity drops. Threads split the experts, and each goes through all items in
 * order, so the result does not depend on their number. The counters stand in record->offset, which sorting fills later. */
#include "moe/router/capacity.h"

#include <math.h>

#include "base/memory.h"
#include "moe/router/choose.h"

int64_t sgm_capacity(double factor, int64_t items, int64_t experts, int64_t experts_per_token) {
    double share = factor * (double)experts_per_token * (double)items / (double)experts;
    /* 1.1 · 10 is a little more than 11 in binary, and is meant to be 11. */
    double most = ceil(share * (1 - 1e-12));
    return most < (double)items ? (int64_t)most : items;
}

static size_t heap_bytes(int64_t capacity) {
    return sgm_round_up((size_t)capacity * sizeof(sgm_ranked));
}

size_t sgm_capacity_bytes(double factor, bool by_score, int64_t items, int64_t experts, int64_t experts_per_token,
                          int threads) {
    return by_score ? (size_t)threads * heap_bytes(sgm_capacity(factor, items, experts, experts_per_token)) : 0;
}

/* The expert of a place where capacity counts, else -1. */
static inline int64_t limited(const sgm_routing *record, int64_t place) {
    int64_t e = record->expert[place];
    if (e < 0 || e >= record->experts - record->null_experts)
        return -1;
    sgm_real p = record->probabilities[place / record->slots * record->experts + e];
    return p == p ? e : -1;
}

/* Of experts [first, last): places beyond the capacity, slot by slot. */
static void drop_late(sgm_routing *record, int64_t capacity, int64_t first, int64_t last) {
    for (int64_t k = 0; k < record->slots; k++)
        for (int64_t place = k; place < record->items * record->slots; place += record->slots) {
            int64_t e = limited(record, place);
            if (e >= first && e < last && record->offset[e + 1]++ >= capacity)
                record->flags[place] |= SGM_ROUTE_DROPPED;
        }
}

/* Of one expert that is asked for too often: all but the best. */
static void drop_low(sgm_routing *record, int64_t capacity, int64_t expert, sgm_ranked *heap) {
    int64_t count = 0;
    for (int64_t place = 0; place < record->items * record->slots; place++)
        if (limited(record, place) == expert) {
            sgm_real p = record->probabilities[place / record->slots * record->experts + expert];
            record->flags[place] |= SGM_ROUTE_DROPPED;
            count = sgm_rank_offer(heap, count, capacity, (sgm_ranked){p, (int32_t)place});
        }
    for (int64_t i = 0; i < count; i++)
        record->flags[heap[i].index] &= (uint8_t)~SGM_ROUTE_DROPPED;
}

void sgm_capacity_drop(sgm_worker *worker, sgm_routing *record, double factor, bool by_score, void *scratch) {
    int64_t first, last;
    int64_t capacity = sgm_capacity(factor, record->items, record->experts, record->experts_per_token);
    sgm_split(worker, record->experts, 8, &first, &last);
    for (int64_t e = first; e < last; e++)
        record->offset[e + 1] = 0;
    if (!by_score) {
        drop_late(record, capacity, first, last);
    } else {
        sgm_ranked *heap = (sgm_ranked *)(void *)((char *)scratch + (size_t)worker->thread * heap_bytes(capacity));
        for (int64_t place = 0; place < record->items * record->slots; place++) {
            int64_t e = limited(record, place);
            if (e >= first && e < last)
                record->offset[e + 1]++;
        }
        for (int64_t e = first; e < last; e++)
            if (record->offset[e + 1] > capacity)
                drop_low(record, capacity, e, heap);
    }
    sgm_barrier(worker);
}
