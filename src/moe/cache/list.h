// SPDX-License-Identifier: Apache-2.0
/* Every cache policy, one line each: SGM_CACHE(symbol of its sgm_cache_plugin). */
SGM_CACHE(sgm_cache_fifo)
SGM_CACHE(sgm_cache_lru)
SGM_CACHE(sgm_cache_lfu)
SGM_CACHE(sgm_cache_lfu_decay)
SGM_CACHE(sgm_cache_least_stale)
SGM_CACHE(sgm_cache_optimal)
