// SPDX-License-Identifier: Apache-2.0
/* Every storage type, in the order of sgm_type, one line each: SGM_QUANT(symbol of its sgm_quant). */
SGM_QUANT(sgm_quant_f32)
SGM_QUANT(sgm_quant_f16)
SGM_QUANT(sgm_quant_bf16)
SGM_QUANT(sgm_quant_q8_0)
SGM_QUANT(sgm_quant_q4_0)
SGM_QUANT(sgm_quant_q5_0)
SGM_QUANT(sgm_quant_q4_k)
SGM_QUANT(sgm_quant_q6_k)
