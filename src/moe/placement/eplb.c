// SPDX-License-Identifier: Apache-2.0
/* DeepSeek's EPLB: groups to nodes, replicas of the busiest experts inside each node, replicas to its GPUs, always the
 * heaviest into the lightest; over all GPUs at once where the groups do not divide by the nodes. */
#include "moe/placement/packing.h"

static void plan(const sgm_placement_shape *shape, const double *load, sgm_packing *room, int32_t *out) {
    sgm_plan_by_nodes_or_global(shape, load, sgm_pack_greedy, room, out);
}

extern const sgm_placement_plugin sgm_placement_eplb;
const sgm_placement_plugin sgm_placement_eplb = {
    .plugin = {.name = "eplb",
               .summary = "replicas of busy experts, heaviest into the lightest GPU; by nodes where groups allow it",
               .paper = "arXiv 2412.19437"},
    .plan = plan,
};
