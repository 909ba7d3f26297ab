// SPDX-License-Identifier: Apache-2.0
/* Fewer or more experts in every layer: a new model is made of an old one by a map, expert by expert, of where each comes from.
 *
 * ModuleFormer (arXiv 2306.04640) prunes modules that the data of interest rarely use and inserts new ones for a new domain,
 * trained while the old are frozen. The paper's abstract is all that its recipe is taken from here: pruning by counts, a common
 * number for all layers, and copies with noise are our reading. AdaMoE (arXiv 2406.13233) adds null experts whose router rows
 * are copies of those that are there. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/model_files.h"
#include "model/model_gguf.h"
#include "sigmoe/experts.h"

enum { MATRICES = 3 };

typedef struct reshape {
    sgm_model *old, *new;
    int64_t *experts_per_token; /* (L) */
    int64_t *from;              /* (L, new E): an old expert; -1: fresh */
    int64_t copies;             /* experts from this one on are copies, and get noise */
    int64_t null;               /* so many of the new model's experts, the last, compute nothing */
    int64_t k;                  /* experts per token of the new model; 0: as of the old */
    double noise;
    uint64_t seed;
    char *to; /* the folder to make, without slashes at the end */
    char folder[SGM_PATH_BYTES];
} reshape;

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, "close other programs, or take a smaller model",
                    "not enough memory for two models");
}

static void reshape_fini(reshape *r) {
    sgm_model_free(r->old);
    sgm_model_free(r->new);
    sgm_free(r->experts_per_token);
    sgm_free(r->from);
    sgm_free(r->to);
}

/* Which experts may be chosen depends on E where tokens are hashed and where experts form groups: every token, or every
 * expert's group, would change. */
static sgm_status check_router(const sgm_router *router, sgm_error *error) {
    const sgm_plugin *plugin = &router->plugin->plugin;
    int64_t groups = 1;
    for (size_t i = 0; i < plugin->param_count; i++)
        if (!strcmp(plugin->params[i].name, "groups"))
            groups = *(const int64_t *)(const void *)((const char *)router->settings + plugin->params[i].offset);
    if (router->plugin->fixed || groups != 1)
        return sgm_fail(error, SGM_EUNSUPPORTED, "train a model of that many experts from the start",
                        "with router %s another number of experts would send tokens to other experts", plugin->name);
    return SGM_OK;
}

static sgm_status open_old(const char *from, const char *to, reshape *r, sgm_error *error) {
    size_t length = strlen(to);
    while (length > 1 && to[length - 1] == '/') /* what it is written as stands beside it, not in it */
        length--;
    *r = (reshape){.to = sgm_format("%.*s", (int)length, to)};
    if (!r->to)
        return no_memory(error);
    if (sgm_path_exists(r->to))
        return sgm_fail(error, SGM_EEXISTS, "choose another name, or remove it", "%s exists", r->to);
    if (sgm_model_is_gguf(from))
        return sgm_fail(error, SGM_EUNSUPPORTED, "do it to the model folder, and quantise the result",
                        "%s is a GGUF file: its experts can be neither dropped nor added", from);
    sgm_status status = sgm_model_folder_resolve(from, r->folder, error);
    if (!status)
        status = sgm_model_folder_load(r->folder, false, &r->old, &r->experts_per_token, error);
    if (!status && r->old->settings.null_experts > 0)
        status =
            sgm_fail(error, SGM_EUNSUPPORTED, NULL,
                     "%s has %" PRId64 " null experts among its experts: which of them to drop or add to is not clear",
                     from, r->old->settings.null_experts);
    if (!status && r->old->settings.attention_experts > 0)
        status = sgm_fail(error, SGM_EUNSUPPORTED, "train a model of that many experts from the start",
                          "%s has attention experts too: which of the two kinds to drop or add to is not clear", from);
    if (!status)
        status = check_router(&r->old->router, error);
    return status;
}

/* The new model, its weights still zero. */
static sgm_status open_new(reshape *r, int64_t experts, sgm_error *error) {
    sgm_hf_config config;
    sgm_status status = sgm_model_config_read(r->folder, &config, error);
    if (status)
        return status;
    config.settings.experts = experts;
    config.settings.null_experts = r->null;
    if (r->k)
        config.settings.experts_per_token = r->k;
    for (int64_t l = 0; !status && l < config.settings.layers; l++) {
        int64_t k = r->k ? r->k : r->experts_per_token[l];
        r->experts_per_token[l] = k;
        if (k > experts)
            status =
                sgm_fail(error, SGM_EARGUMENT, "keep more of them",
                         "layer %" PRId64 " activates %" PRId64 " experts for a token, only %" PRId64 " would be left",
                         l, k, experts);
        else if (config.router.plugin->check)
            status = config.router.plugin->check(config.router.settings, experts, k, error);
    }
    if (!status && config.settings.experts_per_token > experts)
        config.settings.experts_per_token = experts;
    if (!status)
        status = sgm_model_new(&config.settings, config.router, false, &r->new, error);
    if (!status)
        config.router.settings = NULL; /* the model's now */
    sgm_hf_config_fini(&config);
    r->from = status ? NULL : sgm_alloc((size_t)(r->old->settings.layers * experts) * sizeof *r->from);
    return status || r->from ? status : no_memory(error);
}

/* Rows [row, row + count) of a weight of the new model. */
static void take_rows(const reshape *r, const sgm_weight *from, int64_t from_row, sgm_weight *to, int64_t row,
                      int64_t count, bool noisy) {
    int64_t cols = to->cols, n = count * cols;
    const sgm_real *source = from->data + from_row * cols;
    sgm_real *target = to->data + row * cols;
    memcpy(target, source, (size_t)n * sizeof *target);
    if (!noisy || !(r->noise > 0))
        return;
    double square = 0;
    for (int64_t i = 0; i < n; i++)
        square += (double)source[i] * (double)source[i];
    double size = r->noise * sqrt(square / (double)n);
    uint64_t stream = sgm_rng_stream(to->name, 1);
    for (int64_t i = 0; i < n; i++)
        target[i] += (sgm_real)(size * sgm_rng_normal_at(r->seed, stream, (uint64_t)(row * cols + i)));
}

static void fill_layer(const reshape *r, int64_t l) {
    const sgm_layer *old = &r->old->layers[l], *new = &r->new->layers[l];
    int64_t E = r->new->settings.experts, plain = sgm_layer_weights(&r->new->settings);
    int64_t computing = E - r->new->settings.null_experts;
    for (int64_t i = 0; i < plain; i++) {
        const sgm_weight *from = old->attention_norm + i; /* a layer's weights stand one behind the other */
        sgm_weight *to = new->attention_norm + i;
        if (to != new->gate)
            take_rows(r, from, 0, to, 0, to->rows, false);
    }
    for (int64_t e = 0; e < E; e++) {
        int64_t from = r->from[l * E + e];
        bool copy = e >= r->copies;
        if (from < 0)
            sgm_weight_initial(new->gate, r->seed, e * new->gate->cols, new->gate->cols,
                               new->gate->data + e *new->gate->cols);
        else
            take_rows(r, old->gate, from, new->gate, e, 1, copy);
        for (int m = 0; e < computing && m < MATRICES; m++) {
            sgm_weight *to = &new->expert_weights[e * MATRICES + m];
            if (from < 0)
                sgm_weight_initial(to, r->seed, 0, to->rows * to->cols, to->data);
            else
                take_rows(r, &old->expert_weights[from * MATRICES + m], 0, to, 0, to->rows, copy);
        }
    }
}

static sgm_status fill_biases(const reshape *r, sgm_error *error) {
    int64_t E = r->new->settings.experts, before = r->old->settings.experts, layers = r->new->settings.layers;
    if (!r->old->selection_bias)
        return SGM_OK;
    sgm_real *bias = sgm_alloc((size_t)(layers * E) * sizeof *bias);
    if (!bias)
        return no_memory(error);
    for (int64_t i = 0; i < layers * E; i++)
        bias[i] = r->from[i] < 0 ? 0 : r->old->selection_bias[i / E * before + r->from[i]];
    sgm_status status = sgm_model_set_selection_bias(r->new, bias, error);
    sgm_free(bias);
    return status;
}

/* Written beside its name, and renamed when it is whole. */
static sgm_status save(const reshape *r, sgm_error *error) {
    char *work = sgm_format("%s.part", r->to), *tokenizer = sgm_path_join(r->folder, "tokenizer.json");
    sgm_lock *lock = NULL;
    sgm_status status = work && tokenizer ? sgm_work_folder_take(work, &lock, error) : no_memory(error);
    if (!status) {
        bool has = sgm_path_exists(tokenizer);
        status = sgm_model_folder_save(r->new, r->new->selection_bias, r->experts_per_token, has ? r->folder : NULL,
                                       work, error);
        if (!status)
            status = sgm_work_folder_finish(work, r->to, error);
        if (status)
            (void)sgm_folder_remove(work, NULL);
        sgm_lock_drop(lock);
    }
    sgm_free(work);
    sgm_free(tokenizer);
    return status;
}

static sgm_status finish(reshape *r, sgm_reshape_report *report, sgm_error *error) {
    const sgm_model_settings *s = &r->new->settings;
    sgm_model *old = r->old, *new = r->new;
    memcpy(new->embedding->data, old->embedding->data,
           (size_t)(s->vocabulary * s->width) * sizeof(sgm_real)); /* a tied head is the same block */
    memcpy(new->final_norm->data, old->final_norm->data, (size_t)s->width * sizeof(sgm_real));
    if (!s->tie_embeddings)
        memcpy(new->head->data, old->head->data, (size_t)(s->vocabulary * s->width) * sizeof(sgm_real));
    for (int64_t l = 0; l < s->layers; l++)
        fill_layer(r, l);
    sgm_status status = fill_biases(r, error);
    if (!status)
        status = save(r, error);
    sgm_model_counts counts;
    sgm_model_count(s, (double)s->experts_per_token, s->context, &counts);
    report->layers = s->layers;
    report->experts_before = old->settings.experts;
    report->experts = s->experts;
    report->null_experts = s->null_experts;
    report->total_parameters = counts.total_parameters;
    return status;
}

/* ---- fewer ---------------------------------------------------------------------------------------------------------- */

typedef struct used {
    int64_t count, expert;
} used;

static int most_first(const void *a, const void *b) {
    const used *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return x->expert > y->expert ? 1 : x->expert < y->expert ? -1 : 0;
}

static int64_t layer_total(const sgm_prune_options *o, int64_t layer) {
    int64_t total = 0;
    for (int64_t e = 0; e < o->experts; e++)
        total += o->load[layer * o->experts + e];
    return total;
}

static sgm_status load_check(const sgm_prune_options *o, const sgm_model_settings *s, sgm_error *error) {
    if (o->layers != s->layers || o->experts != s->experts)
        return sgm_fail(error, SGM_EARGUMENT, "count on the model that shall be pruned: sigmoe stats --json",
                        "the counts are of %" PRId64 " layers with %" PRId64 " experts, the model has %" PRId64
                        " with %" PRId64,
                        o->layers, o->experts, s->layers, s->experts);
    for (int64_t i = 0; i < o->layers * o->experts; i++)
        if (o->load[i] < 0 || o->load[i] > INT64_MAX / o->experts)
            return sgm_fail(error, SGM_EARGUMENT, NULL, "layer %" PRId64 ", expert %" PRId64 ": a count of %" PRId64,
                            i / o->experts, i % o->experts, o->load[i]);
    for (int64_t l = 0; l < o->layers; l++)
        if (layer_total(o, l) == 0)
            return sgm_fail(error, SGM_EARGUMENT, "count on more text", "nothing was counted in layer %" PRId64, l);
    if (o->keep < 0 || o->keep > o->experts)
        return sgm_fail(error, SGM_EARGUMENT, "keep from 1 to as many as there are",
                        "cannot keep %" PRId64 " of %" PRId64 " experts", o->keep, o->experts);
    if (o->keep == 0 && !(o->drop_below > 0 && o->drop_below <= 1))
        return sgm_fail(error, SGM_EARGUMENT,
                        "say how many to keep, or a share between 0 and 1 below which one is dropped",
                        "a share of %g drops nothing that makes sense", o->drop_below);
    return SGM_OK;
}

/* How many stay: what the layer with the most experts at or above the share needs, and what tokens activate. */
static int64_t count_by_share(const sgm_prune_options *o, const int64_t *experts_per_token) {
    int64_t most = 1;
    for (int64_t l = 0; l < o->layers; l++) {
        int64_t count = 0;
        double limit = o->drop_below * (double)layer_total(o, l);
        for (int64_t e = 0; e < o->experts; e++)
            count += (double)o->load[l * o->experts + e] >= limit;
        count = count > experts_per_token[l] ? count : experts_per_token[l];
        most = count > most ? count : most;
    }
    return most;
}

/* The kept experts of a layer in their old order; their share of what was counted. */
static double keep_most(const sgm_prune_options *o, int64_t layer, int64_t keep, used *order, int64_t *from) {
    int64_t kept = 0, place = 0;
    for (int64_t e = 0; e < o->experts; e++)
        order[e] = (used){o->load[layer * o->experts + e], e};
    qsort(order, (size_t)o->experts, sizeof *order, most_first);
    for (int64_t e = 0; e < o->experts; e++)
        for (int64_t i = 0; i < keep; i++)
            if (order[i].expert == e) {
                from[place++] = e;
                kept += order[i].count;
            }
    return (double)kept / (double)layer_total(o, layer);
}

sgm_status sgm_model_prune(const char *from, const sgm_prune_options *o, const char *to, sgm_reshape_report *report,
                           sgm_error *error) {
    reshape r;
    *report = (sgm_reshape_report){.least_kept_share = 1};
    sgm_status status = open_old(from, to, &r, error);
    if (!status)
        status = load_check(o, &r.old->settings, error);
    int64_t keep = status || o->keep ? o->keep : count_by_share(o, r.experts_per_token);
    if (!status)
        status = open_new(&r, keep, error);
    used *order = status ? NULL : sgm_alloc((size_t)o->experts * sizeof *order);
    if (!status && !order)
        status = no_memory(error);
    r.copies = keep;
    for (int64_t l = 0; !status && l < o->layers; l++) {
        double share = keep_most(o, l, keep, order, r.from + l * keep);
        report->kept_share += share / (double)o->layers;
        report->least_kept_share = share < report->least_kept_share ? share : report->least_kept_share;
    }
    sgm_free(order);
    if (!status)
        status = finish(&r, report, error);
    reshape_fini(&r);
    return status;
}

/* ---- more ----------------------------------------------------------------------------------------------------------- */

sgm_status sgm_model_grow(const char *from, const sgm_grow_options *o, const char *to, sgm_reshape_report *report,
                          sgm_error *error) {
    reshape r;
    *report = (sgm_reshape_report){.kept_share = 1, .least_kept_share = 1};
    sgm_status status = open_old(from, to, &r, error);
    int64_t before = status ? 0 : r.old->settings.experts;
    if (!status && (o->add < 1 || o->add > (1 << 20) - before))
        status = sgm_fail(error, SGM_EARGUMENT, "add at least one; a layer has at most 1048576",
                          "cannot add %" PRId64 " to %" PRId64 " experts", o->add, before);
    if (!status && !(o->noise >= 0 && o->noise <= 100))
        status = sgm_fail(error, SGM_EARGUMENT, "0.01 is a hundredth of a weight's size", "noise of %g is impossible",
                          o->noise);
    if (!status && (o->experts_per_token < 0 || o->experts_per_token > before + o->add))
        status = sgm_fail(error, SGM_EARGUMENT, "from 1 to as many as there will be; 0: as before",
                          "a token cannot activate %" PRId64 " of %" PRId64 " experts", o->experts_per_token,
                          before + o->add);
    r.null = o->null ? o->add : 0;
    r.k = o->experts_per_token;
    if (!status)
        status = open_new(&r, before + o->add, error);
    r.copies = before;
    r.noise = o->noise;
    r.seed = o->seed;
    for (int64_t i = 0; !status && i < r.new->settings.layers *(before + o->add); i++) {
        int64_t e = i % (before + o->add);
        r.from[i] = e < before ? e : o->fresh ? -1 : (e - before) % before;
    }
    if (!status)
        status = finish(&r, report, error);
    reshape_fini(&r);
    return status;
}
