// SPDX-License-Identifier: Apache-2.0
/* The snake over all GPUs at once. */
#include "moe/placement/packing.h"

static void plan(const sgm_placement_shape *shape, const double *load, sgm_packing *room, int32_t *out) {
    sgm_plan_by_nodes(shape, load, 1, 1, sgm_pack_snake, room, out);
}

extern const sgm_placement_plugin sgm_placement_snake_global;
const sgm_placement_plugin sgm_placement_snake_global = {
    .plugin = {.name = "snake_global",
               .summary = "the snake over all GPUs at once, whatever the groups",
               .paper = "arXiv 2510.06189"},
    .plan = plan,
};
