// SPDX-License-Identifier: Apache-2.0
/* What a run's configuration is made of: the sections, their tables and the checks that no single value can make. */
#include "train/run_config.h"

#include <inttypes.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "attention/attention_experts.h"
#include "base/memory.h"
#include "base/param.h"
#include "base/team.h"
#include "model/settings.h"
#include "sigmoe/data.h"
#include "sigmoe/machine.h"
#include "sigmoe/train.h"
#include "train/presets.h"

#define DATA(field) offsetof(sgm_data_settings, field)
static const sgm_param data_params[] = {
    {"tokens_per_step", SGM_PARAM_INT, DATA(tokens_per_step), "4096", 1, 1 << 30, false, NULL, "tokens",
     "the global batch: tokens of one optimizer step, a multiple of model.context"},
    {"micro_batch_tokens", SGM_PARAM_INT, DATA(micro_batch_tokens), "auto", 1, 1 << 30, true, NULL, "tokens",
     "tokens computed at once; auto: all of a step, at most 8192"},
    {"mixture", SGM_PARAM_TEXT, DATA(mixture), "", 1, 0, false, NULL, "",
     "weights of the domains, e.g. prose=2,code=1; empty: by size"},
    {"one_domain_per_micro_batch", SGM_PARAM_BOOL, DATA(one_domain_per_micro_batch), "false", 1, 0, false, NULL, "",
     "draw a domain for each micro-batch instead of each window: text as it comes when groups of machines read apart"},
    {"tokenizer", SGM_PARAM_TEXT, DATA(tokenizer), "", 1, 0, false, NULL, "",
     "a tokenizer.json, or `bytes`; empty: train one on the text"},
    {"folder", SGM_PARAM_TEXT, DATA(folder), "", 1, 0, false, NULL, "",
     "the data folder a run reads; set by the run itself; empty: the run's own data/"},
    {"heldout_share", SGM_PARAM_REAL, DATA(heldout_share), "0.02", 0, SGM_HELDOUT_SHARE_MOST, false, NULL, "",
     "share of the documents that is never trained on"},
    {"deduplicate", SGM_PARAM_BOOL, DATA(deduplicate), "true", 1, 0, false, NULL, "",
     "drop exact duplicates of documents and repeated long lines"},
    {"document_bytes", SGM_PARAM_INT, DATA(document_bytes), "65536", 0, 1e12, false, NULL, "bytes",
     "longer documents are cut at line ends; 0: never"},
};

#define TRAIN(field) offsetof(sgm_train_settings, field)
static const sgm_param train_params[] = {
    {"steps", SGM_PARAM_INT, TRAIN(steps), "1000", 1, 1e12, false, NULL, "steps", "length of the run"},
    {"seed", SGM_PARAM_INT, TRAIN(seed), "1", 0, SGM_TRAIN_SEED_MOST, false, NULL, "",
     "of the weights, the data order and samples"},
    {"threads", SGM_PARAM_INT, TRAIN(threads), "auto", 1, SGM_THREADS_MOST, true, NULL, "threads",
     "threads of the team; auto: one per core"},
    {"kernels", SGM_PARAM_TEXT, TRAIN(kernels), "auto", 1, 0, false, NULL, "",
     "kernel table: auto, ref, or a name that `sigmoe doctor` shows"},
    {"compute", SGM_PARAM_ENUM, TRAIN(compute), "f32", 1, 0, false, "f32|bf16|bf16x6", "",
     "numbers that products multiply: in bf16 they are faster where the processor multiplies it faster than f32, "
     "`sigmoe doctor` shows both; bf16x6: as exact as f32, by six bf16 products with AMX (else f32); sums, router, "
     "weights and optimizer stay f32"},
    {"recompute", SGM_PARAM_ENUM, TRAIN(recompute), "none", 1, 0, false, "none|layer", "",
     "layer: keep each layer's input and routing only and compute the layer again in the backward pass; the same "
     "numbers in less memory, for a second forward pass"},
    {"checkpoint_every", SGM_PARAM_INT, TRAIN(checkpoint_every), "200", 0, 1e12, false, NULL, "steps",
     "steps between checkpoints; 0: at the start and the end only"},
    {"keep_checkpoints", SGM_PARAM_INT, TRAIN(keep_checkpoints), "3", 1, 1e6, false, NULL, "",
     "how many checkpoints are kept: the latest, and one from before steps that were skipped"},
    {"eval_every", SGM_PARAM_INT, TRAIN(eval_every), "100", 0, 1e12, false, NULL, "steps",
     "steps between evaluations on held-out text; 0: at the end only"},
    {"eval_tokens", SGM_PARAM_INT, TRAIN(eval_tokens), "16384", 0, 1e12, false, NULL, "tokens",
     "held-out tokens of such an evaluation, shared by the domains; 0: all"},
    {"final_eval_tokens", SGM_PARAM_INT, TRAIN(final_eval_tokens), "1000000", 0, 1e12, false, NULL, "tokens",
     "the same for the one at the end"},
    {"clip", SGM_PARAM_REAL, TRAIN(clip), "1", 0, 1e30, false, NULL, "",
     "largest norm of the whole gradient; 0: unlimited"},
    {"max_skipped_steps", SGM_PARAM_INT, TRAIN(max_skipped_steps), "5", 1, 1e6, false, NULL, "steps",
     "steps that may be skipped in a row, for a loss or gradient that is not finite, before the run stops"},
    {"load_every", SGM_PARAM_INT, TRAIN(load_every), "auto", 1, 1e12, true, NULL, "steps",
     "steps between rows of expert load in run.sqlite; auto: a thousandth of the run"},
    {"trace_every", SGM_PARAM_INT, TRAIN(trace_every), "0", 0, 1e12, false, NULL, "steps",
     "steps between traces of how the global batch was routed (traces/ in the run folder); 0: none"},
    {"sample_tokens", SGM_PARAM_INT, TRAIN(sample_tokens), "48", 0, 1e6, false, NULL, "tokens",
     "length of the text the model writes at each evaluation; 0: none"},
    {"sample_prompt", SGM_PARAM_TEXT, TRAIN(sample_prompt), "", 1, 0, false, NULL, "", "what that text begins with"},
    {"from", SGM_PARAM_TEXT, TRAIN(from), "", 1, 0, false, NULL, "",
     "begin with the weights of this model folder, checkpoint or run, which has the shape and the router that this "
     "config says; its bias on selection, if any, goes to a balancer that has one; empty: random"},
    {"freeze", SGM_PARAM_TEXT, TRAIN(freeze), "", 1, 0, false, NULL, "",
     "weights that stay as they begin: names with * and ?, parted by commas, e.g. model.layers.*.mlp.experts.[0-7].*; "
     "behind a name @0-7 for these rows alone, of a router (model.layers.*.mlp.gate.weight) its experts"},
};

static const sgm_param optimizer_params[] = {
    {"learning_rate", SGM_PARAM_REAL, 0, "0.001", 0, 1e3, false, NULL, "",
     "largest learning rate; the schedule gives the factor on it"},
};

enum { SECTIONS = 8 };
static sgm_section sections[SECTIONS];
static sgm_schema schema;
static pthread_once_t filled = PTHREAD_ONCE_INIT;

/* ---- bind ----------------------------------------------------------------------------------------------------- */

static sgm_status bind_plugin(const sgm_config *config, const char *prefix, const sgm_plugin *plugin, void **settings,
                              sgm_error *error) {
    *settings = sgm_alloc(plugin->settings_bytes ? plugin->settings_bytes : 1);
    if (!*settings)
        return sgm_fail(error, SGM_EMEMORY, NULL, "config: no memory for %s", prefix);
    return sgm_config_bind(config, prefix, plugin->params, plugin->param_count, *settings, error);
}

static sgm_status bind_balance(const sgm_config *config, sgm_run_settings *settings, sgm_error *error) {
    int64_t count = sgm_config_list_count(config, "balance");
    if (count <= 0)
        return SGM_OK;
    settings->balance = sgm_alloc((size_t)count * sizeof *settings->balance);
    if (!settings->balance)
        return sgm_fail(error, SGM_EMEMORY, NULL, "config: no memory for the balancers");
    settings->balance_count = (size_t)count;
    for (int64_t i = 0; i < count; i++) {
        char *prefix = sgm_format("balance.%" PRId64, i), *key = sgm_format("balance.%" PRId64 ".kind", i);
        sgm_status status = SGM_EMEMORY;
        if (prefix && key) {
            settings->balance[i].plugin = sgm_balance_find(sgm_config_get(config, key), error);
            status = !settings->balance[i].plugin ? SGM_EARGUMENT
                                                  : bind_plugin(config, prefix, &settings->balance[i].plugin->plugin,
                                                                &settings->balance[i].settings, error);
        }
        sgm_free(prefix);
        sgm_free(key);
        if (status)
            return status;
    }
    return SGM_OK;
}

static sgm_status bind(const sgm_config *config, sgm_run_settings *settings, sgm_error *error) {
    sgm_status status = sgm_model_settings_from_config(config, &settings->model, error);
    if (!status)
        status = sgm_config_bind(config, "data", data_params, sizeof data_params / sizeof *data_params, &settings->data,
                                 error);
    if (!status)
        status = sgm_config_bind(config, "train", train_params, sizeof train_params / sizeof *train_params,
                                 &settings->train, error);
    if (!status)
        status = sgm_config_bind(config, "optimizer", optimizer_params, 1, &settings->learning_rate, error);
    if (!status)
        status = bind_balance(config, settings, error);
    if (status)
        return status;
    if (!(settings->router.plugin = sgm_router_find(sgm_config_get(config, "router.kind"), error)) ||
        !(settings->sparsity.plugin = sgm_sparsity_find(sgm_config_get(config, "sparsity.kind"), error)) ||
        !(settings->optimizer = sgm_optimizer_find(sgm_config_get(config, "optimizer.kind"), error)) ||
        !(settings->schedule = sgm_schedule_find(sgm_config_get(config, "schedule.kind"), error)))
        return SGM_EARGUMENT;
    status = bind_plugin(config, "router", &settings->router.plugin->plugin, &settings->router.settings, error);
    if (!status)
        status =
            bind_plugin(config, "sparsity", &settings->sparsity.plugin->plugin, &settings->sparsity.settings, error);
    if (!status)
        status = bind_plugin(config, "optimizer", &settings->optimizer->plugin, &settings->optimizer_settings, error);
    if (!status)
        status = bind_plugin(config, "schedule", &settings->schedule->plugin, &settings->schedule_settings, error);
    return status;
}

/* ---- check ---------------------------------------------------------------------------------------------------- */

/* auto values, in the struct only. */
static void resolve(sgm_run_settings *settings) {
    sgm_data_settings *data = &settings->data;
    sgm_train_settings *train = &settings->train;
    int64_t context = settings->model.context;
    if (data->micro_batch_tokens == SGM_AUTO) {
        int64_t most = context > 8192 ? context : 8192 / context * context;
        data->micro_batch_tokens = data->tokens_per_step < most ? data->tokens_per_step : most;
    }
    if (train->threads == SGM_AUTO)
        train->threads = sgm_usable_cores();
    if (train->load_every == SGM_AUTO)
        train->load_every = train->steps / 1000 > 1 ? train->steps / 1000 : 1;
}

static sgm_status check_batch(const sgm_run_settings *settings, sgm_error *error) {
    const sgm_data_settings *data = &settings->data;
    int64_t context = settings->model.context;
    if (data->tokens_per_step % context)
        return sgm_fail(error, SGM_EARGUMENT, "make it a multiple of model.context",
                        "data.tokens_per_step: %" PRId64 " is no multiple of the context of %" PRId64 " tokens",
                        data->tokens_per_step, context);
    if (data->micro_batch_tokens % context)
        return sgm_fail(error, SGM_EARGUMENT, "make it a multiple of model.context, or `auto`",
                        "data.micro_batch_tokens: %" PRId64 " is no multiple of the context of %" PRId64 " tokens",
                        data->micro_batch_tokens, context);
    if (data->micro_batch_tokens > data->tokens_per_step)
        return sgm_fail(error, SGM_EARGUMENT, "lower it, or let it be `auto`",
                        "data.micro_batch_tokens: %" PRId64 " is more than the %" PRId64 " tokens of a step",
                        data->micro_batch_tokens, data->tokens_per_step);
    return SGM_OK;
}

static int64_t experts_per_token(const sgm_run_settings *settings, int64_t layer, int64_t step) {
    const sgm_sparsity *sparsity = &settings->sparsity;
    const sgm_model_settings *model = &settings->model;
    return sparsity->plugin->experts_per_token(sparsity->settings, layer, model->layers, model->experts,
                                               model->experts_per_token, step, settings->train.steps);
}

/* Attention's router is the same with its own numbers. */
static sgm_status check_attention_experts(const sgm_run_settings *settings, sgm_error *error) {
    const sgm_router *router = &settings->router;
    int64_t experts = settings->model.attention_experts, k = settings->model.attention_experts_per_token;
    if (experts == 0)
        return SGM_OK;
    sgm_status status = sgm_attention_router_check(router, error);
    if (!status)
        status = router->plugin->check(router->settings, experts, k, error);
    if (!status && router->plugin->trains)
        status = router->plugin->trains(router->settings, k, error);
    if (status && error) { /* the message is about experts: say which */
        sgm_error inner = *error;
        status = sgm_fail(error, status, *inner.hint ? inner.hint : NULL, "model.attention_experts: %s", inner.message);
    }
    return status;
}

/* The router in every layer, with as many experts per token as the schedule will ever ask for. */
static sgm_status check_router(const sgm_run_settings *settings, sgm_error *error) {
    const sgm_router *router = &settings->router;
    int64_t experts = settings->model.experts, nulls = settings->model.null_experts;
    sgm_status status = router->plugin->check(router->settings, experts, settings->model.experts_per_token, error);
    for (int64_t layer = 0; layer < settings->model.layers; layer++)
        for (int end = 0; end < 2 && !status; end++) {
            int64_t step = end ? settings->train.steps - 1 : 0;
            int64_t k = experts_per_token(settings, layer, step);
            status = router->plugin->check(router->settings, experts, k, error);
            if (!status && router->plugin->trains)
                status = router->plugin->trains(router->settings, k, error);
            if (!status && nulls > 0 && router->plugin->nulls)
                status = router->plugin->nulls(router->settings, experts, nulls, k, error);
        }
    return status;
}

/* A router that looks at no scores has nothing for a balancer to pull at: its loss would move weights for nothing. */
static sgm_status check_balance(const sgm_run_settings *settings, sgm_error *error) {
    if (settings->router.plugin->fixed && settings->balance_count > 0)
        return sgm_fail(error, SGM_EARGUMENT, "set balance to none",
                        "router %s chooses without looking at scores: balancer %s cannot change its choice",
                        settings->router.plugin->plugin.name, settings->balance[0].plugin->plugin.name);
    for (size_t i = 0; settings->router.plugin->deaf_to_bias && i < settings->balance_count; i++)
        if (settings->balance[i].plugin->selection_bias)
            return sgm_fail(error, SGM_EARGUMENT, "set balance to none: experts that choose are balanced already",
                            "router %s takes no bias in training: the one of balancer %s would act in inference alone",
                            settings->router.plugin->plugin.name, settings->balance[i].plugin->plugin.name);
    sgm_status status = SGM_OK;
    for (const sgm_balance_member *m = settings->balance; !status && m < settings->balance + settings->balance_count;
         m++)
        if (m->plugin->check)
            status = m->plugin->check(m->settings, settings->model.null_experts, error);
    return status;
}

static sgm_status cross_check(const sgm_run_settings *settings, sgm_error *error) {
    const sgm_model_settings *model = &settings->model;
    sgm_status status = sgm_model_settings_check(model, error);
    if (!status)
        status = check_batch(settings, error);
    if (!status && settings->sparsity.plugin->check)
        status = settings->sparsity.plugin->check(settings->sparsity.settings, model->layers, model->experts,
                                                  model->experts_per_token, error);
    if (!status)
        status = check_router(settings, error);
    if (!status)
        status = check_attention_experts(settings, error);
    if (!status)
        status = check_balance(settings, error);
    if (!status && settings->schedule->check)
        status = settings->schedule->check(settings->schedule_settings, settings->train.steps, error);
    const sgm_kernels *kernels;
    return status ? status : sgm_kernels_get(settings->train.kernels, &kernels, error);
}

static void release(sgm_run_settings *settings) {
    for (size_t i = 0; i < settings->balance_count; i++)
        sgm_free(settings->balance[i].settings);
    sgm_free(settings->balance);
    sgm_free(settings->router.settings);
    sgm_free(settings->sparsity.settings);
    sgm_free(settings->optimizer_settings);
    sgm_free(settings->schedule_settings);
    sgm_config_free(settings->config);
}

static sgm_status check(const sgm_config *config, sgm_error *error) {
    sgm_run_settings settings = {0};
    sgm_status status = bind(config, &settings, error);
    if (!status) {
        resolve(&settings);
        status = cross_check(&settings, error);
    }
    release(&settings);
    return status;
}

/* ---- public --------------------------------------------------------------------------------------------------- */

static void fill(void) {
    const sgm_section all[SECTIONS] = {
        {"model", SGM_SECTION_FIXED, sgm_model_params, sgm_model_param_count, NULL, NULL},
        {"router", SGM_SECTION_PLUGIN, NULL, 0, "router", "top_k"},
        {"balance", SGM_SECTION_PLUGIN_LIST, NULL, 0, "balance", "load_balance_loss"},
        {"sparsity", SGM_SECTION_PLUGIN, NULL, 0, "sparsity", "constant"},
        {"optimizer", SGM_SECTION_PLUGIN, optimizer_params, 1, "optimizer", "adamw"},
        {"schedule", SGM_SECTION_PLUGIN, NULL, 0, "schedule", "wsd"},
        {"data", SGM_SECTION_FIXED, data_params, sizeof data_params / sizeof *data_params, NULL, NULL},
        {"train", SGM_SECTION_FIXED, train_params, sizeof train_params / sizeof *train_params, NULL, NULL},
    };
    memcpy(sections, all, sizeof sections);
    schema = (sgm_schema){sections, SECTIONS, sgm_preset_yaml, check, sgm_registry_find, sgm_registry_get};
}

sgm_status sgm_config_new(sgm_config **config, sgm_error *error) {
    pthread_once(&filled, fill);
    return sgm_config_new_with(&schema, config, error);
}

static sgm_status set_resolved(sgm_config *config, const char *key, int64_t value, sgm_error *error) {
    const char *now = sgm_config_get(config, key);
    if (now && strcmp(now, "auto") != 0)
        return SGM_OK;
    char *text = sgm_format("%" PRId64, value);
    if (!text)
        return sgm_fail(error, SGM_EMEMORY, NULL, "config: no memory");
    sgm_status status = sgm_config_set(config, key, text, "auto", error);
    sgm_free(text);
    return status;
}

sgm_status sgm_run_settings_new(const sgm_config *config, sgm_run_settings **out, sgm_error *error) {
    sgm_run_settings first = {0};
    sgm_status status = sgm_config_copy(config, &first.config, error);
    if (!status)
        status = bind(first.config, &first, error);
    if (status) {
        release(&first);
        return status;
    }
    /* Resolve the automatic values in the copy, then bind again: texts are borrowed from a config that no longer changes. */
    resolve(&first);
    sgm_config *resolved = first.config;
    first.config = NULL;
    status = set_resolved(resolved, "data.micro_batch_tokens", first.data.micro_batch_tokens, error);
    if (!status)
        status = set_resolved(resolved, "train.threads", first.train.threads, error);
    if (!status)
        status = set_resolved(resolved, "train.load_every", first.train.load_every, error);
    release(&first);

    sgm_run_settings *settings = status ? NULL : sgm_alloc(sizeof *settings);
    if (!settings) {
        sgm_config_free(resolved);
        return status ? status : sgm_fail(error, SGM_EMEMORY, NULL, "config: no memory");
    }
    settings->config = resolved;
    status = bind(resolved, settings, error);
    if (!status)
        status = cross_check(settings, error);
    if (status) {
        sgm_run_settings_free(settings);
        return status;
    }
    *out = settings;
    return SGM_OK;
}

void sgm_run_settings_free(sgm_run_settings *settings) {
    if (!settings)
        return;
    release(settings);
    sgm_free(settings);
}

int64_t sgm_run_settings_most_experts(const sgm_run_settings *settings, int64_t routed) {
    int64_t attention_experts = settings->model.attention_experts;
    if (sgm_routed_is_attention(attention_experts, routed))
        return settings->model.attention_experts_per_token;
    int64_t layer = sgm_routed_layer(attention_experts, routed);
    int64_t first = experts_per_token(settings, layer, 0);
    int64_t last = experts_per_token(settings, layer, settings->train.steps - 1);
    return first > last ? first : last;
}
