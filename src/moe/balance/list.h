// SPDX-License-Identifier: Apache-2.0
/* Every balancer, one line each: SGM_BALANCE(symbol of its sgm_balance_plugin). */
SGM_BALANCE(sgm_balance_load_balance_loss)
SGM_BALANCE(sgm_balance_top1_loss)
SGM_BALANCE(sgm_balance_z_loss)
SGM_BALANCE(sgm_balance_loss_free_bias)
SGM_BALANCE(sgm_balance_shinka_loss)
SGM_BALANCE(sgm_balance_mutual_information)
SGM_BALANCE(sgm_balance_load_concentration)
SGM_BALANCE(sgm_balance_phi_balancing)
