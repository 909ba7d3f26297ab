// SPDX-License-Identifier: Apache-2.0
/* Models in GGUF files: which key and which tensor of the file is which setting and which weight of ours.
 *
 * Architecture `qwen3moe` is llama.cpp's; what it cannot say (k that differs by layer, other routers, a bias on selection,
 * experts of one layer in different types) is architecture `sigmoe`, which carries the text of config.json in the key
 * `sigmoe.config` (docs/formats.md). */
#ifndef SGM_MODEL_MODEL_GGUF_H
#define SGM_MODEL_MODEL_GGUF_H

#include "format/gguf.h"
#include "format/hf_config.h"
#include "model/transformer.h"

enum { SGM_GGUF_TENSOR_NAME = 64 };

/* Is this a regular file that begins as GGUF files do? */
bool sgm_model_is_gguf(const char *path);

/* Settings, router and k by layer; `label` names the file in messages. Fini with sgm_hf_config_fini. config->model_type is
 * the file's architecture. A qwen3moe file has its chosen weights normalised, as llama.cpp does, unless
 * `qwen3moe.expert_weights_norm` is false. */
sgm_status sgm_model_gguf_config(const sgm_gguf *file, const char *label, sgm_hf_config *config, sgm_error *error);

/* Open for inference: weights are views of the mapped file, which the model keeps and closes; nothing but norm gains, routers
 * and biases that are not f32 in the file is copied. SGM_EFORMAT: a tensor is missing or has another shape;
 * SGM_EUNSUPPORTED: its type is none of ours, or the file has tensors that the model has not. */
sgm_status sgm_model_gguf_load(const char *path, sgm_model **model, int64_t **experts_per_token, sgm_error *error);

/* One tensor of the file: the matrices of weights `first`, `first + step`, …, `count` of them, one after the other. */
typedef struct sgm_gguf_part {
    char name[SGM_GGUF_TENSOR_NAME];
    int64_t first, step, count;
    bool stacked; /* has a leading dimension of `count`, even when that is 1 */
} sgm_gguf_part;

/* Part number `index` in the order of the file; false past the last. The three stacks of a layer's experts are one part each,
 * or, in layers where split[layer] is true, one for every expert ("blk.3.ffn_gate.17.weight"); split NULL: nowhere. */
bool sgm_gguf_part_at(const sgm_model_settings *settings, const bool *split, int64_t index, sgm_gguf_part *part);
int64_t sgm_gguf_part_count(const sgm_model_settings *settings, const bool *split);
/* "blk.3.exp_probs_b.bias": the bias on selection of a layer, (E). */
void sgm_gguf_bias_name(int64_t layer, char name[SGM_GGUF_TENSOR_NAME]);

#endif
