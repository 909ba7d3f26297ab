// SPDX-License-Identifier: Apache-2.0
/* Caches and placements that an experiment lists: reading them, and trying them on a run's routes. */
#include "lab/serving.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "sigmoe/registry.h"

const char sgm_lab_routes_again[] = "remove it: the lab makes it again where the run's checkpoints are there";
static const char cache_form[] = "write it like lru 16, or lfu_decay 16 period=32 pool=model";
static const char placement_form[] = "write it like eplb 80 gpus=8, or eplb 80 gpus=8 nodes=2 groups=8";

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the caches and placements of an experiment");
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

static bool whole(const char *text, int64_t *value) {
    char *end;
    *value = strtoll(text, &end, 10);
    return *text >= '1' && *text <= '9' && !*end && *value <= 1 << 30;
}

/* Is there a word before `word` with the same name before its "="? */
static bool said_before(const sgm_lab_use *use, const char *word) {
    size_t length = strcspn(word, "=");
    for (const char *at = use->words; at < word; at += strlen(at) + 1)
        if (strncmp(at, word, length) == 0 && at[length] == '=')
            return true;
    return false;
}

/* "pool=model" of a cache, "gpus=8" of a placement; what a cache has besides is its policy's. */
static sgm_status read_word(sgm_lab_use *use, const char *word, sgm_error *error) {
    struct {
        const char *name;
        int64_t *number;
    } numbers[] = {{"gpus=", &use->gpus}, {"nodes=", &use->nodes}, {"groups=", &use->groups}};
    if (said_before(use, word))
        return sgm_fail(error, SGM_EARGUMENT, "keep one of them", "%s: %.*s is there twice", use->name,
                        (int)strcspn(word, "="), word);
    for (size_t i = 0; use->placement && i < 3; i++) {
        size_t length = strlen(numbers[i].name);
        if (strncmp(word, numbers[i].name, length) == 0)
            return whole(word + length, numbers[i].number)
                       ? SGM_OK
                       : sgm_fail(error, SGM_EARGUMENT, placement_form, "%s: \"%s\" is no count", use->name, word);
    }
    if (use->placement)
        return sgm_fail(error, SGM_EARGUMENT, placement_form, "%s: a placement has no \"%s\"", use->name, word);
    if (strncmp(word, "pool=", 5) != 0) {
        use->setting[use->settings++] = word;
        return SGM_OK;
    }
    use->pool = strcmp(word + 5, "model") == 0 ? SGM_POOL_MODEL : SGM_POOL_LAYER;
    return use->pool == SGM_POOL_MODEL || strcmp(word + 5, "layer") == 0
               ? SGM_OK
               : sgm_fail(error, SGM_EARGUMENT, "layer: a cache for each layer; model: one for all of them",
                          "%s: there is no pool \"%s\"", use->name, word + 5);
}

/* use->words into its parts. */
static sgm_status read_words(sgm_lab_use *use, sgm_error *error) {
    const char *form = use->placement ? placement_form : cache_form;
    char *at = use->words;
    for (size_t n = 0; *at; n++) {
        char *word = at, *space = strchr(at, ' ');
        at = space ? space + 1 : at + strlen(at);
        if (space)
            *space = '\0';
        sgm_status status = SGM_OK;
        if (n == 0)
            use->method = word;
        else if (n == 1 && !whole(word, &use->size))
            status = sgm_fail(error, SGM_EARGUMENT, form, "%s: \"%s\" is no number of %s", use->name, word,
                              use->placement ? "slots" : "experts");
        else if (n > 1)
            status = read_word(use, word, error);
        if (status)
            return status;
    }
    if (!use->size)
        return sgm_fail(error, SGM_EARGUMENT, form, "\"%s\" does not say how many %s", use->name,
                        use->placement ? "slots a layer has" : "experts of a layer fit");
    return use->placement && !use->gpus ? sgm_fail(error, SGM_EARGUMENT, form, "%s: gpus=N is missing", use->name)
                                        : SGM_OK;
}

static sgm_replay_options replay_options(const sgm_lab_use *cache) {
    return (sgm_replay_options){.policy = cache->method,
                                .experts = cache->size,
                                .pool = cache->pool,
                                .settings = cache->setting,
                                .setting_count = cache->settings};
}

static sgm_status check_use(const sgm_lab_use *use, sgm_error *error) {
    const sgm_replay_options options = replay_options(use);
    if (use->placement)
        return sgm_registry_find("placement", use->method, error) ? SGM_OK : SGM_EARGUMENT;
    sgm_status status = sgm_replay_check(&options, error);
    return status == SGM_ENOTFOUND ? SGM_EARGUMENT : status;
}

/* `text` with single spaces, none at its ends. */
static char *tidied(const char *text, size_t size) {
    char *name = sgm_alloc(size + 1);
    size_t used = 0;
    for (size_t i = 0; name && i < size; i++)
        if (text[i] != ' ' || (used && i + 1 < size && text[i + 1] != ' '))
            name[used++] = text[i];
    while (name && used && name[used - 1] == ' ')
        name[--used] = '\0';
    return name;
}

static sgm_status add_use(sgm_lab_serving *serving, const char *text, size_t size, bool placement, sgm_error *error) {
    size_t old = serving->uses * sizeof *serving->use;
    sgm_lab_use *grown = sgm_resize(serving->use, old, old + sizeof *grown);
    if (!grown)
        return no_memory(error);
    serving->use = grown;
    sgm_lab_use *use = &grown[serving->uses++];
    *use = (sgm_lab_use){.name = tidied(text, size), .placement = placement, .nodes = 1, .groups = 1};
    use->words = use->name ? sgm_strdup(use->name) : NULL;
    use->setting = sgm_alloc((size + 1) * sizeof *use->setting);
    if (!use->words || !use->setting)
        return no_memory(error);
    for (const sgm_lab_use *other = grown; other < use; other++)
        if (other->placement == placement && strcmp(other->name, use->name) == 0)
            return sgm_fail(error, SGM_EARGUMENT, "keep one of them", "%s is there twice", use->name);
    serving->values += placement ? 2 : 1;
    sgm_status status = read_words(use, error);
    return status ? status : check_use(use, error);
}

static sgm_status add_list(sgm_lab_serving *serving, const char *list, bool placement, sgm_error *error) {
    sgm_status status = SGM_OK;
    while (*list && !status) {
        size_t size = strcspn(list, ",");
        status = add_use(serving, list, size, placement, error);
        list += size + (list[size] == ',');
    }
    return status;
}

sgm_status sgm_lab_serving_parse(const char *caches, const char *placements, const char *where,
                                 sgm_lab_serving *serving, sgm_error *error) {
    *serving = (sgm_lab_serving){0};
    sgm_error inner = {0};
    const char *list = "caches";
    sgm_status status = add_list(serving, caches, false, &inner);
    if (!status) {
        list = "placements";
        status = add_list(serving, placements, true, &inner);
    }
    if (!status)
        return SGM_OK;
    sgm_lab_serving_free(serving);
    return sgm_fail(error, status, inner.hint, "%s: %s: %s", where, list, inner.message);
}

void sgm_lab_serving_free(sgm_lab_serving *serving) {
    for (size_t i = 0; i < serving->uses; i++) {
        sgm_free(serving->use[i].name);
        sgm_free(serving->use[i].words);
        sgm_free(serving->use[i].setting);
    }
    sgm_free(serving->use);
    *serving = (sgm_lab_serving){0};
}

const sgm_lab_use *sgm_lab_serving_at(const sgm_lab_serving *serving, size_t index, bool *heldout) {
    const sgm_lab_use *use = serving->use;
    *heldout = false;
    for (; use->placement ? index > 1 : index > 0; use++)
        index -= use->placement ? 2 : 1;
    *heldout = index == 1;
    return use;
}

/* ---- placements ----------------------------------------------------------------------------------------------- */

static sgm_status place(const sgm_lab_use *use, const double *load, int64_t layers, int64_t experts,
                        sgm_placement *placement, sgm_error *error) {
    const sgm_placement_shape shape = {.layers = layers,
                                       .experts = experts,
                                       .slots = use->size,
                                       .groups = use->groups,
                                       .nodes = use->nodes,
                                       .gpus = use->gpus};
    return sgm_place(use->method, load, &shape, placement, error);
}

sgm_status sgm_lab_serving_check(const sgm_lab_serving *serving, int64_t experts, sgm_error *error) {
    double *load = sgm_alloc((size_t)experts * sizeof *load);
    sgm_status status = load ? SGM_OK : no_memory(error);
    for (size_t i = 0; i < serving->uses && !status; i++) {
        sgm_placement placement = {0};
        sgm_error inner = {0};
        if (!serving->use[i].placement && serving->use[i].size > experts)
            status = sgm_fail(error, SGM_EARGUMENT, "let fewer fit: with all of them nothing is ever out of the cache",
                              "cache %s: a layer has %" PRId64 " experts", serving->use[i].name, experts);
        if (serving->use[i].placement && place(&serving->use[i], load, 1, experts, &placement, &inner))
            status =
                sgm_fail(error, SGM_EARGUMENT, inner.hint, "placement %s: %s", serving->use[i].name, inner.message);
        sgm_placement_free(&placement);
    }
    sgm_free(load);
    return status;
}

/* ---- measuring ------------------------------------------------------------------------------------------------ */

/* Loads of a run (L, E): in training, a layer without any as even; of the held-out text, what was computed. */
typedef struct loads {
    double *training, *heldout;
} loads;

static sgm_status load_of(sgm_trace *trace, const double *share, int64_t layers, int64_t experts, loads *out,
                          sgm_error *error) {
    sgm_trace_stats stats = {0};
    size_t cells = (size_t)(layers * experts);
    sgm_status status = sgm_trace_summarise(trace, &stats, error);
    out->training = sgm_alloc(cells * sizeof *out->training);
    out->heldout = sgm_alloc(cells * sizeof *out->heldout);
    if (!status && (!out->training || !out->heldout))
        status = no_memory(error);
    if (!status && (stats.layers != layers || stats.experts - stats.null_experts != experts))
        status = sgm_fail(error, SGM_EFORMAT, NULL, "it is of another model: %" PRId64 " layers of %" PRId64 " experts",
                          stats.layers, stats.experts - stats.null_experts);
    for (int64_t i = 0; i < layers * experts && !status; i++) {
        out->training[i] = isfinite(share[i]) ? share[i] : 1;
        out->heldout[i] = (double)stats.computed_load[i / experts * stats.experts + i % experts];
    }
    sgm_trace_stats_free(&stats);
    return status;
}

static sgm_status measure_cache(const sgm_lab_use *use, const sgm_replay *replay, double *value, sgm_error *error) {
    const sgm_replay_options options = replay_options(use);
    sgm_replay_result result;
    sgm_status status = sgm_replay_run(replay, &options, &result, error);
    if (!status) {
        *value = result.hit_rate;
        sgm_replay_result_free(&result);
    }
    return status;
}

static sgm_status measure_placement(const sgm_lab_use *use, const loads *load, int64_t layers, int64_t experts,
                                    double *value, sgm_error *error) {
    sgm_placement placement = {0};
    sgm_status status = place(use, load->training, layers, experts, &placement, error);
    if (!status) {
        value[0] = placement.mean_over_max_per_gpu;
        value[1] = sgm_placement_balance(&placement, load->heldout, NULL);
    }
    sgm_placement_free(&placement);
    return status;
}

static sgm_status measure_all(const sgm_lab_serving *serving, sgm_trace *trace, const double *share, int64_t layers,
                              int64_t experts, double *value, sgm_error *error) {
    sgm_replay *replay = NULL;
    loads load = {0};
    sgm_status status = load_of(trace, share, layers, experts, &load, error);
    if (!status)
        status = sgm_replay_new(trace, &replay, error);
    for (size_t i = 0; i < serving->uses && !status; i++) {
        const sgm_lab_use *use = &serving->use[i];
        status = use->placement ? measure_placement(use, &load, layers, experts, value, error)
                                : measure_cache(use, replay, value, error);
        value += use->placement ? 2 : 1;
    }
    sgm_replay_free(replay);
    sgm_free(load.training);
    sgm_free(load.heldout);
    return status;
}

static sgm_status check_routes(sgm_trace *trace, int64_t steps, sgm_lab_routes *routes, sgm_error *error) {
    const sgm_trace_info *about = sgm_trace_about(trace);
    *routes = (sgm_lab_routes){about->model_hash, about->tokens};
    if (!about->complete)
        return sgm_fail(error, SGM_EFORMAT, NULL, "it is cut off");
    if (about->source != SGM_TRACE_EVAL || about->step != steps)
        return sgm_fail(error, SGM_EFORMAT, NULL, "it is no evaluation of the model of step %" PRId64, steps);
    return SGM_OK;
}

sgm_status sgm_lab_serving_measure(const sgm_lab_serving *serving, const char *path, int64_t steps, const double *share,
                                   int64_t layers, int64_t experts, double *value, sgm_lab_routes *routes,
                                   sgm_error *error) {
    sgm_trace *trace;
    sgm_error inner = {0};
    sgm_status status = sgm_trace_open(path, &trace, &inner);
    if (!status)
        status = check_routes(trace, steps, routes, &inner);
    if (!status)
        status = measure_all(serving, trace, share, layers, experts, value, &inner);
    sgm_trace_close(trace);
    if (!status)
        return SGM_OK;
    const char *hint = status == SGM_EMEMORY ? inner.hint : sgm_lab_routes_again;
    return strstr(inner.message, path) ? sgm_fail(error, status, hint, "%s", inner.message)
                                       : sgm_fail(error, status, hint, "%s: %s", path, inner.message);
}
