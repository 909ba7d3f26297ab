// SPDX-License-Identifier: Apache-2.0
/* The parts of placement methods: replicating the busiest experts, packing items of equal number and near-equal weight, and
 * the plan by nodes that combines them (DeepSeek's EPLB). */
#ifndef SGM_MOE_PLACEMENT_PACKING_H
#define SGM_MOE_PLACEMENT_PACKING_H

#include "moe/placement/placement.h"

typedef struct sgm_weighed {
    double weight;
    int32_t index;
} sgm_weighed;

/* Scratch for shapes up to `items` = max(E, slots). Arrays of (items). */
typedef struct sgm_packing {
    int64_t items;
    sgm_weighed *sorted, *heap; /* of items; of packs or experts */
    double *weight, *expert_weight;
    int32_t *pack, *rank;         /* of each item: its pack, and its place there */
    int32_t *filled;              /* items in each pack */
    int32_t *node_order, *expert; /* logical expert at each place of the order by nodes; expert of each replica */
    int32_t *replicas;            /* of each expert of a node */
} sgm_packing;
sgm_status sgm_packing_init(sgm_packing *room, int64_t items, sgm_error *error);
void sgm_packing_fini(sgm_packing *room);

/* Put `count` items by weight (room->weight) into `packs` packs of exactly count / packs each: fills room->pack and
 * room->rank. With one item a pack item i goes to pack i. */
typedef void sgm_pack(sgm_packing *room, int64_t count, int64_t packs);
/* Heaviest first, each into the lightest pack with room. A heap finds it: O(count log count). */
sgm_pack sgm_pack_greedy;
/* Heaviest first, the packs in turn, forwards and then backwards: item t of the order goes to row t / packs, and to column
 * t mod packs of even rows, counted from the other end in odd ones. No decision depends on a sum. */
sgm_pack sgm_pack_snake;

/* Replicas of `experts` experts of weight (room->expert_weight) for `slots` places: each expert once, then again and again one
 * more of that with the greatest weight per replica. Fills room->expert (slots) and room->replicas (experts). */
void sgm_replicate(sgm_packing *room, int64_t experts, int64_t slots);

/* Groups to nodes, replicas within each node, replicas to the node's GPUs, all packed by `pack`. With one group on one node
 * it is the global plan. */
void sgm_plan_by_nodes(const sgm_placement_shape *shape, const double *load, int64_t groups, int64_t nodes,
                       sgm_pack *pack, sgm_packing *room, int32_t *out);
/* That where the groups divide by the nodes, else the global plan. */
void sgm_plan_by_nodes_or_global(const sgm_placement_shape *shape, const double *load, sgm_pack *pack,
                                 sgm_packing *room, int32_t *out);

#endif
