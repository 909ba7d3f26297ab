// SPDX-License-Identifier: Apache-2.0
/* config.json of a model folder.
 *
 * A model that transformers' Qwen3MoE graph computes exactly (the same k in every layer, softmax top-k routing) is written
 * as `model_type: qwen3_moe`. Anything else is `model_type: sigmoe`: the same keys, plus `experts_per_token_by_layer`,
 * `attention`, `selection_bias`, `null_experts`, `attention_experts` and `router` (its kind and settings); transformers refuses that
 * instead of computing something else.
 * Reading is strict about every key that decides what is computed and ignores all others. */
#ifndef SGM_FORMAT_HF_CONFIG_H
#define SGM_FORMAT_HF_CONFIG_H

#include "moe/router/router.h"
#include "sigmoe/model.h"

typedef struct sgm_hf_config {
    sgm_model_settings settings;
    sgm_router router;          /* settings on the heap, sgm_free; one block */
    int64_t *experts_per_token; /* (L) by routed sub-layer (sigmoe/model.h), heap, sgm_free */
    bool selection_bias;        /* the weights hold a bias on selection for each layer */
    char model_type[32];        /* set by reading; writing decides by itself */
    int32_t end_of_text;        /* -1: none */
} sgm_hf_config;

/* Is the model one that Qwen3MoE computes? */
bool sgm_hf_config_is_qwen3_moe(const sgm_hf_config *config);
/* JSON text, heap (sgm_free), ends in a newline. */
sgm_status sgm_hf_config_write(const sgm_hf_config *config, char **json, sgm_error *error);
/* `label` names the file in messages. On failure nothing is left to free. SGM_EFORMAT: a missing key, a wrong type, an
 * absurd size; SGM_EUNSUPPORTED: a model we do not compute. */
sgm_status sgm_hf_config_parse(const char *json, size_t size, const char *label, sgm_hf_config *config,
                               sgm_error *error);
void sgm_hf_config_fini(sgm_hf_config *config);

#endif
