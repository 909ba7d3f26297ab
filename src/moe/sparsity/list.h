// SPDX-License-Identifier: Apache-2.0
/* Every sparsity schedule, one line each: SGM_SPARSITY(symbol of its sgm_sparsity_plugin). */
SGM_SPARSITY(sgm_sparsity_constant)
SGM_SPARSITY(sgm_sparsity_progressive)
