// SPDX-License-Identifier: Apache-2.0
/* A run that begins with a model (train.from): its weights, and the bias on selection with which they were trained. The run
 * must compute what the model computes; what only training knows (initial weights, experts per token, context) may differ. */
#include <string.h>

#include "base/memory.h"
#include "base/param.h"
#include "model/model_files.h"
#include "model/model_folder.h"
#include "model/model_gguf.h"
#include "model/settings.h"
#include "train/trainer.h"

static bool is_among(const char *name, const char *const *names) {
    while (*names && strcmp(*names, name) != 0)
        names++;
    return *names != NULL;
}

/* Experts per token are no matter of the weights, and a schedule of sparsity changes them in any case. */
static const char *const free_model_settings[] = {
    "experts_per_token", "attention_experts_per_token", "context", "init_std",
    "gate_init_std",     "embedding_init_std",          NULL};
/* Of routers: what counts in training alone. A file of the type qwen3_moe does not even hold it. */
static const char *const free_router_settings[] = {"capacity_factor", "drop_order",     "iterations",
                                                   "tolerance",       "most_per_token", NULL};

/* The first setting that differs and decides what is computed is an error that names it. */
static sgm_status compare(const char *from, const char *section, const sgm_param *params, size_t count,
                          const char *const *free_names, const void *has, const void *wants, sgm_error *error) {
    for (size_t i = 0; i < count; i++) {
        char there[64], here[64];
        if (is_among(params[i].name, free_names) || sgm_param_same(&params[i], has, wants))
            continue;
        sgm_param_print(&params[i], has, there, sizeof there);
        sgm_param_print(&params[i], wants, here, sizeof here);
        return sgm_fail(error, SGM_EARGUMENT, "give the run the model's shape and router with --set",
                        "train.from: in %s %s.%s is %s, in this run %s", from, section, params[i].name, there, here);
    }
    return SGM_OK;
}

static sgm_status compare_model(const char *from, const sgm_model_settings *has, const sgm_model_settings *wants,
                                sgm_error *error) {
    sgm_model_settings same = *has;
    if (has->attention == SGM_ATTENTION_STICK_BREAKING)
        same.rope_theta = wants->rope_theta; /* nothing is rotated */
    return compare(from, "model", sgm_model_params, sgm_model_param_count, free_model_settings, &same, wants, error);
}

static sgm_status compare_router(const char *from, const sgm_router *has, const sgm_router *wants, sgm_error *error) {
    const sgm_plugin *there = &has->plugin->plugin, *here = &wants->plugin->plugin;
    if (strcmp(there->name, here->name) != 0)
        return sgm_fail(error, SGM_EARGUMENT, "give the run the model's shape and router with --set",
                        "train.from: in %s router.kind is %s, in this run %s", from, there->name, here->name);
    return compare(from, "router", here->params, here->param_count, free_router_settings, has->settings,
                   wants->settings, error);
}

static sgm_status begin_with(sgm_trainer *trainer, const char *from, const char *folder, const sgm_hf_config *config,
                             sgm_error *error) {
    sgm_stepper *stepper = trainer->stepper;
    sgm_real *bias = NULL;
    sgm_status status = compare_model(from, &config->settings, &trainer->settings->model, error);
    if (!status)
        status = compare_router(from, &config->router, &stepper->model->router, error);
    if (!status && config->selection_bias && !sgm_balance_set_bias(stepper->balance))
        return sgm_fail(error, SGM_EARGUMENT,
                        "set balance=loss_free_bias, alone or among others; with its rate 0 the bias stays as it is",
                        "train.from: %s has a bias on selection, this run no balancer that takes it", from);
    if (!status)
        status = sgm_model_folder_load_weights(folder, stepper->model, &bias, error);
    sgm_stepper_weights_changed(stepper);
    if (!status && config->selection_bias != (bias != NULL))
        status = sgm_fail(error, SGM_EFORMAT, "config.json and the weights are of different models",
                          "%s: config.json says %s bias on selection, the weights hold %s", folder,
                          config->selection_bias ? "there is a" : "there is no", bias ? "one" : "none");
    if (!status && bias)
        status = sgm_balance_set_begin_bias(stepper->balance, bias, error);
    sgm_free(bias);
    return status;
}

sgm_status sgm_trainer_begin(sgm_trainer *trainer, sgm_error *error) {
    const char *from = trainer->settings->train.from;
    char folder[SGM_PATH_BYTES];
    sgm_hf_config config;
    if (!from || !*from)
        return SGM_OK;
    if (sgm_model_is_gguf(from))
        return sgm_fail(error, SGM_EUNSUPPORTED, "name a model folder, a checkpoint or a run",
                        "train.from: %s is a GGUF file, which is for inference", from);
    sgm_status status = sgm_model_folder_resolve(from, folder, error);
    if (!status)
        status = sgm_model_config_read(folder, &config, error);
    if (status)
        return status;
    status = begin_with(trainer, from, folder, &config, error);
    sgm_hf_config_fini(&config);
    return status;
}
