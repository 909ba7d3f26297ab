// SPDX-License-Identifier: Apache-2.0
/* Cache policies: which experts stay in fast memory when not all fit. One file and one line in list.h each.
 *
 * A pool holds up to `capacity` of its keys. A key is an expert of a layer; a pool serves one layer (key = expert) or the whole
 * model (key = layer · E + expert). Experts are asked for one by one; a token's turn ends with sgm_cache_end_token. A miss reads
 * the expert, and keeps it unless the policy lets it pass by; where the pool is full, keeping it costs a victim its place. */
#ifndef SGM_MOE_CACHE_CACHE_H
#define SGM_MOE_CACHE_CACHE_H

#include "sigmoe/registry.h"

struct sgm_cache_plugin;

typedef struct sgm_cache {
    const struct sgm_cache_plugin *plugin;
    const void *settings;
    int64_t keys, capacity, experts; /* experts: E, to tell a key's layer */
    int64_t layers;                  /* that the pool serves */

    int64_t count;     /* keys that are held */
    int32_t *held;     /* (capacity) them, in no order */
    int32_t *place;    /* (keys) where in `held`; -1: not there */
    int64_t time;      /* accesses so far */
    int64_t token;     /* tokens that came to their end */
    int32_t asked;     /* key of the access at hand */
    int64_t *inserted; /* (keys) time; of keys that are held */
    int64_t *used;     /* (keys) time of the last use */
    int64_t *turn;     /* (keys) token of the last use */
    int64_t *next;     /* (keys) time of the next use, INT64_MAX: never; kept up by an offline caller alone */
    int64_t *uses;     /* (keys) in all, whether it was held or not */
    double *hits;      /* (keys) uses since it came in, the first included; policies may scale it */

    int64_t hit_count, miss_count, evictions, passed_by, fallbacks;
} sgm_cache;

typedef struct sgm_cache_plugin {
    sgm_plugin plugin;
    bool offline; /* needs cache->next: a bound to compare with, not a policy one can run */
    /* Is the first key a better victim than the second? Both are held. Where neither is better, the one used longer ago is. */
    bool (*sooner)(const sgm_cache *cache, int32_t a, int32_t b);
    /* The last word on the victim that `sooner` found: another, or -1: keep nobody out for cache->asked. NULL: that one. */
    int32_t (*decide)(sgm_cache *cache, int32_t victim);
    /* After every token. NULL: nothing. */
    void (*end_token)(sgm_cache *cache);
} sgm_cache_plugin;

const sgm_cache_plugin *sgm_cache_at(size_t index);
const sgm_cache_plugin *sgm_cache_find(const char *name, sgm_error *error);

/* An empty pool of `layers` layers. `settings` are the plug-in's, borrowed. */
sgm_status sgm_cache_init(sgm_cache *cache, const sgm_cache_plugin *plugin, const void *settings, int64_t layers,
                          int64_t experts, int64_t capacity, sgm_error *error);
void sgm_cache_fini(sgm_cache *cache);
/* Is the key there? If not it is read, and kept as the policy says. `next`: time of its next use (offline policies). Cost O(1)
 * for a hit, O(capacity) for a miss. */
bool sgm_cache_use(sgm_cache *cache, int32_t key, int64_t next);
void sgm_cache_end_token(sgm_cache *cache);

static inline int64_t sgm_cache_layer(const sgm_cache *cache, int32_t key) {
    return key / cache->experts;
}

#endif
