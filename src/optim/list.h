// SPDX-License-Identifier: Apache-2.0
/* Every optimizer, one line each: SGM_OPTIMIZER(symbol of its sgm_optimizer_plugin). */
SGM_OPTIMIZER(sgm_optimizer_adamw)
