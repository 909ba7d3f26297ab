// SPDX-License-Identifier: Apache-2.0
/* The routing record: its memory, its two orders, its counts.
 *
 * The by-expert order is a counting sort. Threads split the experts and each reads all items, so that no thread needs a
 * table of its own and items ascend within an expert whatever the number of threads; the reading is T·K integers, a
 * thousandth of what the experts cost. */
#include "routing/routing.h"

#include <string.h>

#include "base/memory.h"

/* Few enough assignments that one thread is done before the others could be woken. */
enum { SORT_ALONE = 256 };

static size_t layout(sgm_routing *record, char *block, int64_t items, int64_t experts, int64_t slots) {
    size_t scores = (size_t)items * (size_t)experts, places = (size_t)items * (size_t)slots, used = 0;
    *record = (sgm_routing){.items = items, .experts = experts, .experts_per_token = slots, .slots = slots};
    record->logits = sgm_carve(block, &used, scores, sizeof *record->logits);
    record->probabilities = sgm_carve(block, &used, scores, sizeof *record->probabilities);
    record->expert = sgm_carve(block, &used, places, sizeof *record->expert);
    record->weight = sgm_carve(block, &used, places, sizeof *record->weight);
    record->flags = sgm_carve(block, &used, places, sizeof *record->flags);
    record->position = sgm_carve(block, &used, places, sizeof *record->position);
    record->offset = sgm_carve(block, &used, (size_t)experts + 1, sizeof *record->offset);
    record->item = sgm_carve(block, &used, places, sizeof *record->item);
    record->slot = sgm_carve(block, &used, places, sizeof *record->slot);
    record->physical = sgm_carve(block, &used, places, sizeof *record->physical);
    return used;
}

size_t sgm_routing_bytes(int64_t items, int64_t experts, int64_t slots) {
    sgm_routing record;
    return layout(&record, NULL, items, experts, slots);
}

void sgm_routing_place(sgm_routing *record, void *block, int64_t items, int64_t experts, int64_t slots) {
    layout(record, block, items, experts, slots);
}

void sgm_routing_mark_null(sgm_routing *record, int64_t begin, int64_t end) {
    if (record->null_experts == 0)
        return;
    for (int64_t place = begin * record->slots; place < end * record->slots; place++)
        if (record->expert[place] >= record->experts - record->null_experts)
            record->flags[place] |= SGM_ROUTE_NULL;
}

/* offset[e + 1] = rows of each expert in [begin, end). */
static void count_rows(sgm_routing *record, int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end; e++)
        record->offset[e + 1] = 0;
    int64_t places = record->items * record->slots;
    for (int64_t place = 0; place < places; place++) {
        int64_t e = record->expert[place];
        if (e >= begin && e < end && sgm_routing_is_computed(record, place))
            record->offset[e + 1]++;
    }
}

/* offset[e + 1] becomes the first row of e; filling the expert's rows then moves it to the end of e, which is where e +
 * 1 starts: the final table appears without a second one. */
static void start_rows(sgm_routing *record) {
    int64_t row = 0;
    record->offset[0] = 0;
    for (int64_t e = 0; e < record->experts; e++) {
        int64_t rows = record->offset[e + 1];
        record->offset[e + 1] = row;
        row += rows;
    }
    record->assignments = row;
}

static void fill_rows(sgm_routing *record, int64_t begin, int64_t end) {
    for (int64_t t = 0, place = 0; t < record->items; t++) {
        for (int64_t k = 0; k < record->slots; k++, place++) {
            int64_t e = record->expert[place];
            if (e < begin || e >= end || !sgm_routing_is_computed(record, place))
                continue;
            int64_t row = record->offset[e + 1]++;
            record->item[row] = (int32_t)t;
            record->slot[row] = (int32_t)k;
            record->physical[row] = (int32_t)e;
            record->position[place] = (int32_t)row;
        }
    }
}

static void clear_positions(sgm_routing *record, int64_t begin, int64_t end) {
    for (int64_t place = begin * record->slots; place < end * record->slots; place++)
        if (!sgm_routing_is_computed(record, place))
            record->position[place] = -1;
}

void sgm_routing_sort_alone(sgm_routing *record) {
    count_rows(record, 0, record->experts);
    start_rows(record);
    fill_rows(record, 0, record->experts);
    clear_positions(record, 0, record->items);
}

void sgm_routing_sort(sgm_worker *worker, sgm_routing *record) {
    if (record->items * record->slots <= SORT_ALONE) {
        if (worker->thread == 0)
            sgm_routing_sort_alone(record);
        sgm_barrier(worker);
        return;
    }
    int64_t begin, end, first, last;
    sgm_split(worker, record->experts, 8, &begin, &end);
    sgm_split(worker, record->items, 64, &first, &last);
    count_rows(record, begin, end);
    clear_positions(record, first, last);
    sgm_barrier(worker);
    if (worker->thread == 0)
        start_rows(record);
    sgm_barrier(worker);
    fill_rows(record, begin, end);
    sgm_barrier(worker);
}

void sgm_routing_counts(const sgm_routing *record, int64_t *counts) {
    memset(counts, 0, (size_t)record->experts * sizeof *counts);
    int64_t places = record->items * record->slots;
    for (int64_t place = 0; place < places; place++)
        if (record->expert[place] >= 0)
            counts[record->expert[place]]++;
}
