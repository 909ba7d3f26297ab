// SPDX-License-Identifier: Apache-2.0
/* A config bound to the structs that a training run works with. */
#ifndef SGM_TRAIN_RUN_CONFIG_H
#define SGM_TRAIN_RUN_CONFIG_H

#include "moe/balance/balance.h"
#include "moe/router/router.h"
#include "moe/sparsity/sparsity.h"
#include "optim/optimizer.h"
#include "schedule/schedule.h"
#include "sigmoe/config.h"
#include "sigmoe/model.h"

/* The `data` section. Texts are borrowed from the config. */
typedef struct sgm_data_settings {
    int64_t tokens_per_step, micro_batch_tokens;
    char *mixture, *tokenizer, *folder;
    double heldout_share;
    bool one_domain_per_micro_batch, deduplicate;
    int64_t document_bytes;
} sgm_data_settings;

/* The `train` section. */
typedef struct sgm_train_settings {
    int64_t steps, seed, threads;
    char *kernels;
    int compute;   /* sgm_compute */
    int recompute; /* 0 none, 1 layer */
    int64_t checkpoint_every, keep_checkpoints;
    int64_t eval_every, eval_tokens, final_eval_tokens;
    double clip;
    int64_t max_skipped_steps, load_every, trace_every, sample_tokens;
    char *sample_prompt;
    char *from;   /* a model whose weights the run begins with; "": random ones */
    char *freeze; /* patterns of weight names, parted by commas; "": none */
} sgm_train_settings;

/* Everything bound. `config` is its own copy, so every borrowed text and list lives as long as this. */
typedef struct sgm_run_settings {
    sgm_config *config;
    sgm_model_settings model;
    sgm_data_settings data;
    sgm_train_settings train;
    double learning_rate; /* optimizer.learning_rate */
    sgm_router router;    /* settings owned */
    sgm_balance_member *balance;
    size_t balance_count;
    sgm_sparsity sparsity;
    const sgm_optimizer_plugin *optimizer;
    void *optimizer_settings;
    const sgm_schedule_plugin *schedule;
    void *schedule_settings;
} sgm_run_settings;

/* Bind and cross-check. auto values are resolved in the copy (threads, micro-batch, load_every). */
sgm_status sgm_run_settings_new(const sgm_config *config, sgm_run_settings **settings, sgm_error *error);
void sgm_run_settings_free(sgm_run_settings *settings);

/* Most experts a token activates in a routed sub-layer (sigmoe/model.h) at any step of the run: what memory is planned for. */
int64_t sgm_run_settings_most_experts(const sgm_run_settings *settings, int64_t routed);

#endif
