// SPDX-License-Identifier: Apache-2.0
/* DeepSeek's EPLB without nodes: replicas of the busiest experts, over all GPUs at once. */
#include "moe/placement/packing.h"

static void plan(const sgm_placement_shape *shape, const double *load, sgm_packing *room, int32_t *out) {
    sgm_plan_by_nodes(shape, load, 1, 1, sgm_pack_greedy, room, out);
}

extern const sgm_placement_plugin sgm_placement_eplb_global;
const sgm_placement_plugin sgm_placement_eplb_global = {
    .plugin = {.name = "eplb_global",
               .summary = "the same over all GPUs at once, whatever the groups",
               .paper = "arXiv 2412.19437"},
    .plan = plan,
};
