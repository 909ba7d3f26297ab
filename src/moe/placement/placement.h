// SPDX-License-Identifier: Apache-2.0
/* Placement methods: which expert each physical slot holds. One file and one line in list.h each; packing.h has the parts
 * that methods are made of. */
#ifndef SGM_MOE_PLACEMENT_PLACEMENT_H
#define SGM_MOE_PLACEMENT_PLACEMENT_H

#include "sigmoe/placement.h"
#include "sigmoe/registry.h"

struct sgm_packing;

typedef struct sgm_placement_plugin {
    sgm_plugin plugin; /* without parameters */
    /* One layer. load (E), out (slots): the expert of each slot, every expert at least once. The shape was checked. Same
     * input, same plan: ties go to the lower index. `room`: scratch, made once for all layers. */
    void (*plan)(const sgm_placement_shape *shape, const double *load, struct sgm_packing *room, int32_t *out);
} sgm_placement_plugin;

const sgm_placement_plugin *sgm_placement_at(size_t index);
const sgm_placement_plugin *sgm_placement_find(const char *name, sgm_error *error);

#endif
