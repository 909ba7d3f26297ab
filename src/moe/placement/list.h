// SPDX-License-Identifier: Apache-2.0
/* Every placement method, one line each: SGM_PLACEMENT(symbol of its sgm_placement_plugin). */
SGM_PLACEMENT(sgm_placement_eplb)
SGM_PLACEMENT(sgm_placement_eplb_global)
SGM_PLACEMENT(sgm_placement_snake)
SGM_PLACEMENT(sgm_placement_snake_global)
SGM_PLACEMENT(sgm_placement_contiguous)
