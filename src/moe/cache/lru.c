// SPDX-License-Identifier: Apache-2.0
/* Least recently used: the expert goes that has been idle longest. */
#include "moe/cache/cache.h"

static bool sooner(const sgm_cache *cache, int32_t a, int32_t b) {
    return cache->used[a] < cache->used[b];
}

extern const sgm_cache_plugin sgm_cache_lru;
const sgm_cache_plugin sgm_cache_lru = {
    .plugin = {.name = "lru", .summary = "the expert that was idle longest goes", .paper = ""},
    .sooner = sooner,
};
