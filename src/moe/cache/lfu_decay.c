// SPDX-License-Identifier: Apache-2.0
/* Least frequently used with a memory that fades: SE-MoE's cache (arXiv 2205.10034, algorithm 2). A use adds 1 to an expert's
 * hits; every `period` tokens all hits are multiplied by `decay`; the victim is the expert with the fewest hits, if they
 * have reached `threshold`.
 *
 * The paper leaves open what happens when they have not: read to the letter nothing is ever evicted then and the new expert
 * never comes in. `fallback` says it: lfu (evict that one all the same) or stream (use the expert and do not keep it); how
 * often it came to that is counted. Nor does it set the newcomer's hits; here they begin with 1. Its values of threshold,
 * period and decay are not published: those here are ours. */
#include <stddef.h>

#include "moe/cache/cache.h"

typedef struct decay_settings {
    double threshold, decay;
    int64_t period;
    int fallback;
} decay_settings;

enum { FALLBACK_LFU, FALLBACK_STREAM };

static const sgm_param params[] = {
    {.name = "threshold",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(decay_settings, threshold),
     .fallback = "1",
     .min = 0,
     .max = 1e9,
     .unit = "hits",
     .help =
         "hits that an expert must have to be evicted; matters with fallback stream: with lfu only `fallbacks` counts"},
    {.name = "period",
     .type = SGM_PARAM_INT,
     .offset = offsetof(decay_settings, period),
     .fallback = "128",
     .min = 1,
     .max = 1e12,
     .unit = "tokens",
     .help = "tokens between two decays"},
    {.name = "decay",
     .type = SGM_PARAM_REAL,
     .offset = offsetof(decay_settings, decay),
     .fallback = "0.5",
     .min = 0,
     .max = 1,
     .unit = "",
     .help = "what hits are multiplied by; 1: never forget"},
    {.name = "fallback",
     .type = SGM_PARAM_ENUM,
     .offset = offsetof(decay_settings, fallback),
     .fallback = "lfu",
     .choices = "lfu|stream",
     .min = 1,
     .unit = "",
     .help = "below the threshold: evict the least used all the same, or use the new expert without keeping it"},
};

static bool sooner(const sgm_cache *cache, int32_t a, int32_t b) {
    return cache->hits[a] < cache->hits[b];
}

static int32_t decide(sgm_cache *cache, int32_t victim) {
    const decay_settings *own = cache->settings;
    if (cache->hits[victim] >= own->threshold)
        return victim;
    cache->fallbacks++;
    return own->fallback == FALLBACK_STREAM ? -1 : victim;
}

static void end_token(sgm_cache *cache) {
    const decay_settings *own = cache->settings;
    for (int64_t i = 0; cache->token % own->period == 0 && i < cache->count; i++)
        cache->hits[cache->held[i]] *= own->decay;
}

extern const sgm_cache_plugin sgm_cache_lfu_decay;
const sgm_cache_plugin sgm_cache_lfu_decay = {
    .plugin = {.name = "lfu_decay",
               .summary = "the least used expert goes, and uses of long ago count less",
               .paper = "arXiv 2205.10034",
               .params = params,
               .param_count = sizeof params / sizeof *params,
               .settings_bytes = sizeof(decay_settings)},
    .sooner = sooner,
    .decide = decide,
    .end_token = end_token,
};
