// SPDX-License-Identifier: Apache-2.0
/* First in, first out: the expert that came in first goes first, however much it is used. */
#include "moe/cache/cache.h"

static bool sooner(const sgm_cache *cache, int32_t a, int32_t b) {
    return cache->inserted[a] < cache->inserted[b];
}

extern const sgm_cache_plugin sgm_cache_fifo;
const sgm_cache_plugin sgm_cache_fifo = {
    .plugin = {.name = "fifo", .summary = "the expert that came in first goes first", .paper = ""},
    .sooner = sooner,
};
