// SPDX-License-Identifier: Apache-2.0
/* Belady's policy, which knows the future: the expert goes that is needed again last. An expert that is itself needed later than
 * all that are held is used without being kept. No policy has fewer misses on the same trace. */
#include "moe/cache/cache.h"

static bool sooner(const sgm_cache *cache, int32_t a, int32_t b) {
    return cache->next[a] > cache->next[b];
}

static int32_t decide(sgm_cache *cache, int32_t victim) {
    return cache->next[cache->asked] >= cache->next[victim] ? -1 : victim;
}

extern const sgm_cache_plugin sgm_cache_optimal;
const sgm_cache_plugin sgm_cache_optimal = {
    .plugin = {.name = "optimal", .summary = "knows the future: the bound for every other (Belady)", .paper = ""},
    .offline = true,
    .sooner = sooner,
    .decide = decide,
};
