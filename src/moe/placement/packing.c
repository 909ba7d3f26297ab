// SPDX-License-Identifier: Apache-2.0
/* Replicating and packing, as DeepSeek's EPLB defines them, with heaps in place of its searches, and packing along a snake
 * (arXiv 2510.06189). */
#include "moe/placement/packing.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

sgm_status sgm_packing_init(sgm_packing *room, int64_t items, sgm_error *error) {
    size_t n = (size_t)items;
    *room = (sgm_packing){.items = items};
    room->sorted = sgm_alloc(n * sizeof *room->sorted);
    room->heap = sgm_alloc(n * sizeof *room->heap);
    room->weight = sgm_alloc(n * sizeof *room->weight);
    room->expert_weight = sgm_alloc(n * sizeof *room->expert_weight);
    int32_t **numbers[] = {&room->pack, &room->rank, &room->filled, &room->node_order, &room->expert, &room->replicas};
    bool fine = room->sorted && room->heap && room->weight && room->expert_weight;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        *numbers[i] = sgm_alloc(n * sizeof **numbers[i]);
        fine = fine && *numbers[i];
    }
    if (fine)
        return SGM_OK;
    sgm_packing_fini(room);
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory to place %lld experts", (long long)items);
}

void sgm_packing_fini(sgm_packing *room) {
    sgm_free(room->sorted);
    sgm_free(room->heap);
    sgm_free(room->weight);
    sgm_free(room->expert_weight);
    sgm_free(room->pack);
    sgm_free(room->rank);
    sgm_free(room->filled);
    sgm_free(room->node_order);
    sgm_free(room->expert);
    sgm_free(room->replicas);
    *room = (sgm_packing){0};
}

/* ---- heaps: the root comes first ---------------------------------------------------------------------------------- */

static bool lighter(sgm_weighed a, sgm_weighed b) {
    return a.weight < b.weight || (a.weight == b.weight && a.index < b.index);
}

static bool heavier(sgm_weighed a, sgm_weighed b) {
    return a.weight > b.weight || (a.weight == b.weight && a.index < b.index);
}

/* The root has changed: let it sink to where it belongs. */
static void sink(sgm_weighed *heap, int64_t count, int64_t at, bool (*before)(sgm_weighed a, sgm_weighed b)) {
    sgm_weighed moved = heap[at];
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

/* ---- packing ------------------------------------------------------------------------------------------------------ */

static int heaviest_first(const void *a, const void *b) {
    const sgm_weighed *x = a, *y = b;
    return heavier(*x, *y) ? -1 : 1; /* indices differ: no two are equal */
}

static void sort_items(sgm_packing *room, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        room->sorted[i] = (sgm_weighed){room->weight[i], (int32_t)i};
    qsort(room->sorted, (size_t)count, sizeof *room->sorted, heaviest_first);
}

/* One item a pack: nothing to choose. */
static bool pack_singly(sgm_packing *room, int64_t count, int64_t packs) {
    for (int64_t i = 0; count == packs && i < count; i++) {
        room->pack[i] = (int32_t)i;
        room->rank[i] = 0;
    }
    return count == packs;
}

void sgm_pack_greedy(sgm_packing *room, int64_t count, int64_t packs) {
    if (pack_singly(room, count, packs))
        return;
    int64_t each = count / packs, open = packs;
    sort_items(room, count);
    for (int64_t p = 0; p < packs; p++) { /* all empty: any order is a heap, this one by index */
        room->heap[p] = (sgm_weighed){0, (int32_t)p};
        room->filled[p] = 0;
    }
    for (int64_t i = 0; i < count; i++) {
        int32_t item = room->sorted[i].index, pack = room->heap[0].index;
        room->pack[item] = pack;
        room->rank[item] = room->filled[pack]++;
        room->heap[0].weight += room->weight[item];
        if (room->filled[pack] == each)
            room->heap[0] = room->heap[--open];
        if (open > 1)
            sink(room->heap, open, 0, lighter);
    }
}

void sgm_pack_snake(sgm_packing *room, int64_t count, int64_t packs) {
    if (pack_singly(room, count, packs))
        return;
    sort_items(room, count);
    for (int64_t t = 0; t < count; t++) {
        int64_t row = t / packs, column = t % packs;
        room->pack[room->sorted[t].index] = (int32_t)(row % 2 ? packs - 1 - column : column);
        room->rank[room->sorted[t].index] = (int32_t)row;
    }
}

/* ---- replicating -------------------------------------------------------------------------------------------------- */

void sgm_replicate(sgm_packing *room, int64_t experts, int64_t slots) {
    for (int64_t e = 0; e < experts; e++) {
        room->expert[e] = (int32_t)e;
        room->replicas[e] = 1;
        room->heap[e] = (sgm_weighed){room->expert_weight[e], (int32_t)e};
    }
    for (int64_t e = experts / 2; e-- > 0;)
        sink(room->heap, experts, e, heavier);
    for (int64_t p = experts; p < slots; p++) {
        int32_t e = room->heap[0].index;
        room->expert[p] = e;
        room->heap[0].weight = room->expert_weight[e] / ++room->replicas[e];
        sink(room->heap, experts, 0, heavier);
    }
}

/* ---- by nodes ------------------------------------------------------------------------------------------------------ */

/* room->node_order: the logical experts, node after node. */
static void groups_to_nodes(const double *load, int64_t experts, int64_t groups, int64_t nodes, sgm_pack *pack,
                            sgm_packing *room) {
    int64_t size = experts / groups;
    for (int64_t g = 0; g < groups; g++) {
        room->weight[g] = 0;
        for (int64_t i = 0; i < size; i++)
            room->weight[g] += load[g * size + i];
    }
    pack(room, groups, nodes);
    for (int64_t g = 0; g < groups; g++) {
        int64_t at = (room->pack[g] * (groups / nodes) + room->rank[g]) * size;
        for (int64_t i = 0; i < size; i++)
            room->node_order[at + i] = (int32_t)(g * size + i);
    }
}

void sgm_plan_by_nodes(const sgm_placement_shape *shape, const double *load, int64_t groups, int64_t nodes,
                       sgm_pack *pack, sgm_packing *room, int32_t *out) {
    int64_t experts = shape->experts / nodes, slots = shape->slots / nodes, gpus = shape->gpus / nodes;
    int64_t each = slots / gpus;
    groups_to_nodes(load, shape->experts, groups, nodes, pack, room);
    for (int64_t n = 0; n < nodes; n++) {
        const int32_t *own = room->node_order + n * experts;
        for (int64_t e = 0; e < experts; e++)
            room->expert_weight[e] = load[own[e]];
        sgm_replicate(room, experts, slots);
        for (int64_t p = 0; p < slots; p++)
            room->weight[p] = room->expert_weight[room->expert[p]] / room->replicas[room->expert[p]];
        pack(room, slots, gpus);
        for (int64_t p = 0; p < slots; p++)
            out[n * slots + room->pack[p] * each + room->rank[p]] = own[room->expert[p]];
    }
}

void sgm_plan_by_nodes_or_global(const sgm_placement_shape *shape, const double *load, sgm_pack *pack,
                                 sgm_packing *room, int32_t *out) {
    bool by_nodes = shape->groups % shape->nodes == 0;
    sgm_plan_by_nodes(shape, load, by_nodes ? shape->groups : 1, by_nodes ? shape->nodes : 1, pack, room, out);
}
