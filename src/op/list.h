// SPDX-License-Identifier: Apache-2.0
/* Every op, one line each: SGM_OP(symbol of its sgm_op). */
SGM_OP(sgm_op_embedding)
SGM_OP(sgm_op_rms_norm)
SGM_OP(sgm_op_linear)
SGM_OP(sgm_op_linear_residual)
SGM_OP(sgm_op_projections)
SGM_OP(sgm_op_rope)
SGM_OP(sgm_op_causal_attention)
SGM_OP(sgm_op_stick_breaking)
SGM_OP(sgm_op_gate_hidden)
SGM_OP(sgm_op_moe_ffn)
SGM_OP(sgm_op_moe_ffn_hidden)
SGM_OP(sgm_op_vocabulary_loss)
