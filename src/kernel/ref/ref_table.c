// SPDX-License-Identifier: Apache-2.0
/* The table of the reference kernels. */
#include "kernel/ref/ref.h"

static bool always(void) {
    return true;
}

extern const sgm_kernels sgm_kernels_ref;
const sgm_kernels sgm_kernels_ref = {
    .name = "ref",
    .summary = "portable C in " SGM_REAL_NAME ", the specification: same bytes on every machine and thread count",
    .usable = always,
    .bf16_group = 1,
    .matmul_nt = sgm_ref_matmul_nt,
    .matmul_nn = sgm_ref_matmul_nn,
    .matmul_tn = sgm_ref_matmul_tn,
    .matmul_nt_bf16 = sgm_ref_matmul_nt_bf16,
    .matmul_nn_bf16 = sgm_ref_matmul_nn_bf16,
    .matmul_tn_bf16 = sgm_ref_matmul_tn_bf16,
    .matmul_nt_rounded = sgm_ref_matmul_nt_rounded,
    .matmul_nn_rounded = sgm_ref_matmul_nn_rounded,
    .bf16_round = sgm_ref_bf16_round,
    .matmul_nt_bf16x6 = sgm_ref_matmul_nt,
    .matmul_nn_bf16x6 = sgm_ref_matmul_nn,
    .matmul_tn_bf16x6 = sgm_ref_matmul_tn,
    .quantise = sgm_ref_quantise,
    .matmul_typed = sgm_ref_matmul_typed,
    .rms_norm = sgm_ref_rms_norm,
    .rms_norm_backward = sgm_ref_rms_norm_backward,
    .rms_norm_gain = sgm_ref_rms_norm_gain,
    .softmax = sgm_ref_softmax,
    .max = sgm_ref_max,
    .exp_sum = sgm_ref_exp_sum,
    .softmax_step = sgm_ref_softmax_step,
    .softmax_step_backward = sgm_ref_softmax_step_backward,
    .stick_step = sgm_ref_stick_step,
    .stick_step_backward = sgm_ref_stick_step_backward,
    .transpose = sgm_ref_transpose,
    .f16_round = sgm_ref_f16_round,
    .f16_widen = sgm_ref_f16_widen,
    .int8_round = sgm_ref_int8_round,
    .int8_widen = sgm_ref_int8_widen,
    .matmul_nn_f16 = sgm_ref_matmul_nn_f16,
    .matmul_nn_int8 = sgm_ref_matmul_nn_int8,
    .swiglu = sgm_ref_swiglu,
    .swiglu_backward = sgm_ref_swiglu_backward,
    .dot = sgm_ref_dot,
    .axpy = sgm_ref_axpy,
    .scale = sgm_ref_scale,
    .sum_squares = sgm_ref_sum_squares,
    .adamw = sgm_ref_adamw,
};
