// SPDX-License-Identifier: Apache-2.0
/* A pool of experts under a policy. See cache.h. */
#include "moe/cache/cache.h"

#include "base/memory.h"

sgm_status sgm_cache_init(sgm_cache *cache, const sgm_cache_plugin *plugin, const void *settings, int64_t layers,
                          int64_t experts, int64_t capacity, sgm_error *error) {
    size_t keys = (size_t)(layers * experts);
    *cache = (sgm_cache){.plugin = plugin,
                         .settings = settings,
                         .keys = (int64_t)keys,
                         .capacity = capacity < (int64_t)keys ? capacity : (int64_t)keys,
                         .experts = experts,
                         .layers = layers};
    uint64_t each = sizeof *cache->place + sizeof *cache->inserted + sizeof *cache->used + sizeof *cache->turn +
                    sizeof *cache->next + sizeof *cache->uses + sizeof *cache->hits;
    sgm_status status = sgm_memory_check((uint64_t)keys * each, "a cache's notes on all experts", error);
    if (status) {
        *cache = (sgm_cache){0};
        return status;
    }
    cache->held = sgm_alloc((size_t)cache->capacity * sizeof *cache->held);
    cache->place = sgm_alloc(keys * sizeof *cache->place);
    cache->inserted = sgm_alloc(keys * sizeof *cache->inserted);
    cache->used = sgm_alloc(keys * sizeof *cache->used);
    cache->turn = sgm_alloc(keys * sizeof *cache->turn);
    cache->next = sgm_alloc(keys * sizeof *cache->next);
    cache->uses = sgm_alloc(keys * sizeof *cache->uses);
    cache->hits = sgm_alloc(keys * sizeof *cache->hits);
    if (!cache->held || !cache->place || !cache->inserted || !cache->used || !cache->turn || !cache->next ||
        !cache->uses || !cache->hits) {
        sgm_cache_fini(cache);
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a cache of %lld experts", (long long)capacity);
    }
    for (size_t i = 0; i < keys; i++)
        cache->place[i] = -1;
    return SGM_OK;
}

void sgm_cache_fini(sgm_cache *cache) {
    sgm_free(cache->held);
    sgm_free(cache->place);
    sgm_free(cache->inserted);
    sgm_free(cache->used);
    sgm_free(cache->turn);
    sgm_free(cache->next);
    sgm_free(cache->uses);
    sgm_free(cache->hits);
    *cache = (sgm_cache){0};
}

/* The key to give up its place, -1: none; the pool is full. */
static int32_t find_victim(sgm_cache *cache) {
    int32_t best = cache->held[0];
    for (int64_t i = 1; i < cache->count; i++) {
        int32_t key = cache->held[i];
        if (cache->plugin->sooner(cache, key, best) ||
            (!cache->plugin->sooner(cache, best, key) && cache->used[key] < cache->used[best]))
            best = key;
    }
    return cache->plugin->decide ? cache->plugin->decide(cache, best) : best;
}

static void keep(sgm_cache *cache, int32_t key) {
    int64_t at = cache->count;
    if (cache->count == cache->capacity) {
        int32_t victim = cache->capacity ? find_victim(cache) : -1;
        if (victim < 0) {
            cache->passed_by++;
            return;
        }
        cache->evictions++;
        at = cache->place[victim];
        cache->place[victim] = -1;
    } else {
        cache->count++;
    }
    cache->held[at] = key;
    cache->place[key] = (int32_t)at;
    cache->inserted[key] = cache->time;
    cache->hits[key] = 0;
}

bool sgm_cache_use(sgm_cache *cache, int32_t key, int64_t next) {
    bool hit = cache->place[key] >= 0;
    cache->asked = key;
    cache->next[key] = next;
    cache->uses[key]++;
    if (hit)
        cache->hit_count++;
    else {
        cache->miss_count++;
        keep(cache, key);
    }
    if (cache->place[key] >= 0) {
        cache->hits[key] += 1;
        cache->used[key] = cache->time;
        cache->turn[key] = cache->token;
    }
    cache->time++;
    return hit;
}

void sgm_cache_end_token(sgm_cache *cache) {
    cache->token++;
    if (cache->plugin->end_token)
        cache->plugin->end_token(cache);
}
