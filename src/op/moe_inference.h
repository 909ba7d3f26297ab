// SPDX-License-Identifier: Apache-2.0
/* The MoE feed-forward without a tape: the form of moe_ffn that generation and evaluation run. */
#ifndef SGM_OP_MOE_INFERENCE_H
#define SGM_OP_MOE_INFERENCE_H

#include "op/ops.h"

/* Does this application take that form? Recording, balancers and communicators do not. */
bool sgm_moe_is_inference(const sgm_node *node);
/* SGM_EUNSUPPORTED: stored weights where only f32 ones are read. */
sgm_status sgm_moe_check_weights(const sgm_node *node, sgm_error *error);
size_t sgm_moe_inference_bytes(const sgm_node *node, int threads);
void sgm_moe_inference_forward(sgm_walk *walk, sgm_node *node);

#endif
