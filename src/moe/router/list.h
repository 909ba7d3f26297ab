// SPDX-License-Identifier: Apache-2.0
/* Every router, one line each: SGM_ROUTER(symbol of its sgm_router_plugin). */
SGM_ROUTER(sgm_router_top_k)
SGM_ROUTER(sgm_router_grouped)
SGM_ROUTER(sgm_router_deepseek_v3)
SGM_ROUTER(sgm_router_expert_choice)
SGM_ROUTER(sgm_router_sinkhorn)
SGM_ROUTER(sgm_router_hash)
SGM_ROUTER(sgm_router_top_p)
