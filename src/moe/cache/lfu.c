// SPDX-License-Identifier: Apache-2.0
/* Least frequently used: the expert goes that was used least in all, uses from before it came in included; of equals the one
 * that was idle longest. */
#include "moe/cache/cache.h"

static bool sooner(const sgm_cache *cache, int32_t a, int32_t b) {
    return cache->uses[a] < cache->uses[b];
}

extern const sgm_cache_plugin sgm_cache_lfu;
const sgm_cache_plugin sgm_cache_lfu = {
    .plugin = {.name = "lfu", .summary = "the expert that was used least in all goes", .paper = ""},
    .sooner = sooner,
};
