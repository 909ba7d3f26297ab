// SPDX-License-Identifier: Apache-2.0
/* Replaying a trace's accesses to experts under a cache policy. See sigmoe/replay.h. */
#include "sigmoe/replay.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/param_value.h"
#include "moe/cache/cache.h"

enum { END_OF_TOKEN = -1 };

struct sgm_replay {
    int64_t layers, experts, tokens, first_uses;
    int64_t *expert_bytes; /* (L) */
    bool bytes_known;
    int32_t *keys; /* (count) layer · E + expert, and END_OF_TOKEN behind each token */
    int64_t count, capacity;
};

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, "trace less text (--limit)", "no memory to replay a trace");
}

/* ---- from the trace ---------------------------------------------------------------------------------------------- */

static sgm_status reserve(sgm_replay *replay, int64_t more, sgm_error *error) {
    if (replay->count + more <= replay->capacity)
        return SGM_OK;
    int64_t capacity = replay->capacity * 2 > replay->count + more ? replay->capacity * 2 : replay->count + more;
    size_t size = sizeof *replay->keys;
    sgm_status status = sgm_memory_check((uint64_t)capacity * size, "the accesses of a trace", error);
    if (status)
        return status;
    int32_t *grown = sgm_resize(replay->keys, (size_t)replay->capacity * size, (size_t)capacity * size);
    if (!grown)
        return no_memory(error);
    replay->keys = grown;
    replay->capacity = capacity;
    return SGM_OK;
}

static sgm_status add_block(sgm_replay *replay, const sgm_trace_block *block, sgm_error *error) {
    int64_t L = replay->layers;
    sgm_status status = reserve(replay, block->first[L] + block->tokens, error);
    for (int64_t t = 0; !status && t < block->tokens; t++) {
        for (int64_t l = 0; l < L; l++) {
            int64_t begin = block->first[l] + t * block->slots[l];
            for (int64_t place = begin; place < begin + block->slots[l]; place++)
                if (block->expert[place] != SGM_TRACE_UNUSED && block->flags[place] == 0)
                    replay->keys[replay->count++] = (int32_t)(l * replay->experts + block->expert[place]);
        }
        replay->keys[replay->count++] = END_OF_TOKEN;
    }
    replay->tokens += block->tokens;
    return status;
}

static sgm_status count_first_uses(sgm_replay *replay, sgm_error *error) {
    sgm_status status =
        sgm_memory_check((uint64_t)replay->layers * (uint64_t)replay->experts, "a note on every expert", error);
    bool *seen = status ? NULL : sgm_alloc((size_t)(replay->layers * replay->experts));
    if (status)
        return status;
    if (!seen)
        return no_memory(error);
    for (int64_t i = 0; i < replay->count; i++)
        if (replay->keys[i] >= 0 && !seen[replay->keys[i]]) {
            seen[replay->keys[i]] = true;
            replay->first_uses++;
        }
    sgm_free(seen);
    return replay->first_uses ? SGM_OK
                              : sgm_fail(error, SGM_EFORMAT, "trace a longer text", "the trace uses no expert");
}

static sgm_status load(sgm_replay *replay, sgm_trace *trace, sgm_error *error) {
    const sgm_trace_info *about = sgm_trace_about(trace);
    if (about->attention_experts > 0)
        return sgm_fail(error, SGM_EUNSUPPORTED, "trace a model with dense attention",
                        "a cache holds experts of one kind: this trace has those of attention too");
    if (about->layers * about->experts > INT32_MAX)
        return sgm_fail(error, SGM_EUNSUPPORTED, NULL, "a trace of %" PRId64 " layers with %" PRId64 " experts",
                        about->layers, about->experts);
    replay->layers = about->layers;
    replay->experts = about->experts;
    replay->bytes_known = true;
    replay->expert_bytes = sgm_alloc((size_t)about->layers * sizeof(int64_t));
    if (!replay->expert_bytes)
        return no_memory(error);
    for (int64_t l = 0; l < about->layers; l++) {
        replay->expert_bytes[l] = about->expert_bytes[l];
        replay->bytes_known = replay->bytes_known && about->expert_bytes[l] > 0;
    }
    sgm_status status = SGM_OK;
    for (int64_t b = 0; !status && b < about->blocks; b++) {
        sgm_trace_block block;
        status = sgm_trace_read(trace, b, &block, error);
        if (!status)
            status = add_block(replay, &block, error);
    }
    return status ? status : count_first_uses(replay, error);
}

sgm_status sgm_replay_new(sgm_trace *trace, sgm_replay **out, sgm_error *error) {
    *out = NULL;
    sgm_replay *replay = sgm_alloc(sizeof *replay);
    if (!replay)
        return no_memory(error);
    sgm_status status = load(replay, trace, error);
    if (status)
        sgm_replay_free(replay);
    else
        *out = replay;
    return status;
}

void sgm_replay_free(sgm_replay *replay) {
    if (!replay)
        return;
    sgm_free(replay->expert_bytes);
    sgm_free(replay->keys);
    sgm_free(replay);
}

/* ---- settings ----------------------------------------------------------------------------------------------------- */

/* The values behind a policy's settings, which may borrow from them. */
typedef struct bound {
    void *settings;
    sgm_param_value *values;
    size_t count;
} bound;

static void bound_free(bound *b) {
    for (size_t i = 0; i < b->count; i++)
        sgm_param_value_free(&b->values[i]);
    sgm_free(b->values);
    sgm_free(b->settings);
}

static sgm_status unknown_setting(const sgm_plugin *plugin, const char *text, size_t length, sgm_error *error) {
    char hint[sizeof error->hint];
    size_t used = (size_t)snprintf(hint, sizeof hint, plugin->param_count ? "it takes" : "it takes none");
    for (size_t i = 0; i < plugin->param_count && used < sizeof hint; i++)
        used += (size_t)snprintf(hint + used, sizeof hint - used, "%s %s", i ? "," : "", plugin->params[i].name);
    return sgm_fail(error, SGM_EARGUMENT, hint, "cache policy %s has no setting \"%.*s\"", plugin->name, (int)length,
                    text);
}

/* One "name=value". */
static sgm_status assign(const sgm_plugin *plugin, const char *text, bound *b, sgm_error *error) {
    size_t length = strcspn(text, "=");
    if (text[length] != '=')
        return sgm_fail(error, SGM_EARGUMENT, "write it as decay=0.5", "the setting \"%s\" has no value", text);
    const sgm_param *param = NULL;
    for (size_t i = 0; !param && i < plugin->param_count; i++)
        if (strlen(plugin->params[i].name) == length && memcmp(plugin->params[i].name, text, length) == 0)
            param = &plugin->params[i];
    if (!param)
        return unknown_setting(plugin, text, length, error);
    sgm_status status =
        sgm_param_parse(param, param->name, text + length + 1, plugin->name, &b->values[b->count], error);
    if (!status)
        sgm_param_store(param, &b->values[b->count++], b->settings);
    return status;
}

static sgm_status bind(const sgm_plugin *plugin, const sgm_replay_options *options, bound *b, sgm_error *error) {
    b->settings = sgm_alloc(plugin->settings_bytes + 1);
    b->values = sgm_alloc((options->setting_count + 1) * sizeof *b->values);
    if (!b->settings || !b->values)
        return no_memory(error);
    sgm_status status = sgm_param_defaults(plugin->params, plugin->param_count, b->settings, error);
    for (size_t i = 0; !status && i < options->setting_count; i++)
        status = assign(plugin, options->settings[i], b, error);
    return status;
}

/* ---- running ------------------------------------------------------------------------------------------------------- */

static sgm_status capacity_of(const sgm_replay *replay, const sgm_replay_options *options, int64_t *capacity,
                              sgm_error *error) {
    *capacity = options->experts;
    if (options->experts < 0 || !(options->bytes >= 0) || (options->experts == 0) == !(options->bytes > 0))
        return sgm_fail(error, SGM_EARGUMENT, "give one of them",
                        "the size of a cache is a number of experts a layer or a number of bytes");
    double layer_bytes = 0;
    for (int64_t l = 0; l < replay->layers; l++)
        layer_bytes += (double)replay->expert_bytes[l];
    if (options->experts > 0)
        return SGM_OK;
    if (!replay->bytes_known)
        return sgm_fail(error, SGM_EARGUMENT, "give the size as experts a layer",
                        "the trace does not know the size of an expert");
    double fit = floor(options->bytes / layer_bytes);
    *capacity = fit < (double)replay->experts ? (int64_t)fit : replay->experts;
    if (*capacity < 1)
        return sgm_fail(error, SGM_EARGUMENT, "give more",
                        "one expert of each layer takes %s: that does not fit a cache of %s",
                        sgm_bytes_text((uint64_t)layer_bytes).text, sgm_bytes_text((uint64_t)options->bytes).text);
    return SGM_OK;
}

/* For each access the time of the next of the same key, in the time of its pool; INT64_MAX: never. */
static sgm_status find_next(const sgm_replay *replay, bool by_layer, int64_t **out, sgm_error *error) {
    size_t keys = (size_t)(replay->layers * replay->experts), bytes = (size_t)replay->count * sizeof(int64_t);
    sgm_status status = sgm_memory_check(bytes + keys * sizeof(int64_t), "the next use of every access", error);
    if (status)
        return status;
    int64_t *next = sgm_alloc(bytes), *time = sgm_alloc((size_t)replay->layers * sizeof *time);
    int64_t *seen = sgm_alloc(keys * sizeof *seen);
    if (next && time && seen) {
        for (int64_t i = 0; i < replay->count; i++)
            if (replay->keys[i] >= 0)
                time[by_layer ? replay->keys[i] / replay->experts : 0]++;
        for (size_t k = 0; k < keys; k++)
            seen[k] = INT64_MAX;
        for (int64_t i = replay->count; i-- > 0;) {
            if (replay->keys[i] < 0)
                continue;
            next[i] = seen[replay->keys[i]];
            seen[replay->keys[i]] = --time[by_layer ? replay->keys[i] / replay->experts : 0];
        }
    } else {
        status = no_memory(error);
        sgm_free(next);
        next = NULL;
    }
    sgm_free(time);
    sgm_free(seen);
    *out = next;
    return status;
}

/* `pools`: one for each layer, or one. */
static void play(const sgm_replay *replay, sgm_cache *pools, int64_t pool_count, const int64_t *next,
                 sgm_replay_result *out) {
    bool by_layer = pool_count > 1;
    for (int64_t i = 0; i < replay->count; i++) {
        int32_t key = replay->keys[i];
        if (key == END_OF_TOKEN) {
            for (int64_t p = 0; p < pool_count; p++)
                sgm_cache_end_token(&pools[p]);
            continue;
        }
        int64_t layer = key / replay->experts;
        int32_t own = by_layer ? (int32_t)(key % replay->experts) : key;
        if (sgm_cache_use(&pools[by_layer ? layer : 0], own, next ? next[i] : INT64_MAX))
            out->layer[layer].hits++;
        else
            out->layer[layer].misses++;
    }
}

static void report(const sgm_replay *replay, const sgm_cache *pools, int64_t pool_count, sgm_replay_result *out) {
    double bytes = 0;
    for (int64_t p = 0; p < pool_count; p++) {
        out->evictions += pools[p].evictions;
        out->passed_by += pools[p].passed_by;
        out->fallbacks += pools[p].fallbacks;
    }
    for (int64_t l = 0; l < replay->layers; l++) {
        sgm_replay_layer *layer = &out->layer[l];
        out->hits += layer->hits;
        out->misses += layer->misses;
        layer->bytes_read = replay->bytes_known ? (double)layer->misses * (double)replay->expert_bytes[l] : (double)NAN;
        bytes += layer->bytes_read;
    }
    out->tokens = replay->tokens;
    out->layers = replay->layers;
    out->first_uses = replay->first_uses;
    out->hit_rate = (double)out->hits / (double)(out->hits + out->misses);
    out->bytes_read_per_token = bytes / (double)replay->tokens;
}

static sgm_status run(const sgm_replay *replay, const sgm_cache_plugin *plugin, const void *settings,
                      sgm_replay_pool kind, sgm_replay_result *out, sgm_error *error) {
    int64_t count = kind == SGM_POOL_MODEL ? 1 : replay->layers, *next = NULL;
    bool by_layer = count > 1;
    sgm_cache *pools = sgm_alloc((size_t)count * sizeof *pools);
    out->layer = sgm_alloc((size_t)replay->layers * sizeof *out->layer);
    sgm_status status = pools && out->layer ? SGM_OK : no_memory(error);
    for (int64_t p = 0; !status && p < count; p++)
        status = sgm_cache_init(&pools[p], plugin, settings, by_layer ? 1 : replay->layers, replay->experts,
                                by_layer ? out->capacity : out->capacity * replay->layers, error);
    if (!status && plugin->offline)
        status = find_next(replay, by_layer, &next, error);
    if (!status) {
        play(replay, pools, count, next, out);
        report(replay, pools, count, out);
    }
    for (int64_t p = 0; pools && p < count; p++)
        sgm_cache_fini(&pools[p]);
    sgm_free(pools);
    sgm_free(next);
    return status;
}

sgm_status sgm_replay_check(const sgm_replay_options *options, sgm_error *error) {
    const sgm_cache_plugin *plugin = sgm_cache_find(options->policy, error);
    if (!plugin)
        return SGM_ENOTFOUND;
    bound b = {0};
    sgm_status status = bind(&plugin->plugin, options, &b, error);
    bound_free(&b);
    return status;
}

sgm_status sgm_replay_run(const sgm_replay *replay, const sgm_replay_options *options, sgm_replay_result *out,
                          sgm_error *error) {
    *out = (sgm_replay_result){0};
    const sgm_cache_plugin *plugin = sgm_cache_find(options->policy, error);
    if (!plugin)
        return SGM_ENOTFOUND;
    bound b = {0};
    sgm_status status = bind(&plugin->plugin, options, &b, error);
    if (!status)
        status = capacity_of(replay, options, &out->capacity, error);
    if (!status)
        status = run(replay, plugin, b.settings, options->pool, out, error);
    bound_free(&b);
    if (status)
        sgm_replay_result_free(out);
    return status;
}

void sgm_replay_result_free(sgm_replay_result *result) {
    sgm_free(result->layer);
    *result = (sgm_replay_result){0};
}
