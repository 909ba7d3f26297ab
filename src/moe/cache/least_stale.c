// SPDX-License-Identifier: Apache-2.0
/* Least stale (arXiv 2602.03921), in our reading of its summary: the order of layers is known, so recency misleads. Where one
 * pool serves all layers, LRU gives up the experts of just those layers that come next.
 *
 * An expert is stale when this token has gone past its layer without using it: nothing wants it before the next token. Stale
 * ones go first. Of equals the one whose layer comes last from here, going through the layers in turn, goes first, then the
 * one that was idle longest. In a pool of a single layer that is LRU. */
#include "moe/cache/cache.h"

/* Layers until this key's comes again: 0 is the layer at work. */
static int64_t distance(const sgm_cache *cache, int32_t key) {
    int64_t ahead = sgm_cache_layer(cache, key) - sgm_cache_layer(cache, cache->asked);
    return ahead < 0 ? ahead + cache->layers : ahead;
}

static bool is_stale(const sgm_cache *cache, int32_t key) {
    return cache->turn[key] != cache->token && sgm_cache_layer(cache, key) < sgm_cache_layer(cache, cache->asked);
}

static bool sooner(const sgm_cache *cache, int32_t a, int32_t b) {
    bool stale = is_stale(cache, a);
    return stale != is_stale(cache, b) ? stale : distance(cache, a) > distance(cache, b);
}

extern const sgm_cache_plugin sgm_cache_least_stale;
const sgm_cache_plugin sgm_cache_least_stale = {
    .plugin = {.name = "least_stale",
               .summary = "experts that this token has passed unused go first, then those whose layer comes last",
               .paper = "arXiv 2602.03921"},
    .sooner = sooner,
};
