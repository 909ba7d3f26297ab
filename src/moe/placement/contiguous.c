// SPDX-License-Identifier: Apache-2.0
/* The order of the experts, whatever their load: what there is without a plan. Slots beyond one an expert are spread evenly
 * over the experts. */
#include "moe/placement/packing.h"

static void plan(const sgm_placement_shape *shape, const double *load, sgm_packing *room, int32_t *out) {
    (void)load;
    (void)room;
    for (int64_t p = 0; p < shape->slots; p++)
        out[p] = (int32_t)(p * shape->experts / shape->slots);
}

extern const sgm_placement_plugin sgm_placement_contiguous;
const sgm_placement_plugin sgm_placement_contiguous = {
    .plugin = {.name = "contiguous",
               .summary = "experts in their order, load ignored: what there is without a plan",
               .paper = ""},
    .plan = plan,
};
