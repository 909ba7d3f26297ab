// SPDX-License-Identifier: Apache-2.0
/* Capacity: an expert takes no more of a batch's tokens than its share times a factor, the rest is dropped (Switch
 * Transformer, arXiv 2101.03961; GShard, arXiv 2006.16668). A dropped assignment computes nothing and adds nothing: the
 * residual alone carries that part of the token. Weights that were normalised before are not normalised again. */
#ifndef SGM_MOE_ROUTER_CAPACITY_H
#define SGM_MOE_ROUTER_CAPACITY_H

#include "routing/routing.h"

/* ceil(factor · K · T / E), null experts among the E. */
int64_t sgm_capacity(double factor, int64_t items, int64_t experts, int64_t experts_per_token);
/* Scratch for the whole team. */
size_t sgm_capacity_bytes(double factor, bool by_score, int64_t items, int64_t experts, int64_t experts_per_token,
                          int threads);
/* Flag what exceeds the capacity with SGM_ROUTE_DROPPED. In order of position all first choices come before all second
 * ones, and items in their order; by score the assignments with the highest probability stay, equal ones in that of the
 * items. Null experts take any number. An item whose probabilities are NaN keeps its place beside all others: a NaN must
 * not be dropped out of sight. All threads call it, after a barrier; ends in one. */
void sgm_capacity_drop(sgm_worker *worker, sgm_routing *record, double factor, bool by_score, void *scratch);

#endif
