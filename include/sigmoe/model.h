// SPDX-License-Identifier: Apache-2.0
/* Models: shape, counts, and the folder a model lives in.
 *
 * A model is a folder or a GGUF file (convert.h). A model folder has the Hugging Face layout: config.json, model.safetensors
 * (or shards with an index), tokenizer.json.
 * `model_type` is qwen3_moe where transformers' graph computes the same function, and sigmoe where it does not. */
#ifndef SIGMOE_MODEL_H
#define SIGMOE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "sigmoe/config.h"
#include "sigmoe/error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* How scores become weights: softmax over the past, with RoPE; or stick-breaking (arXiv 2306.04640), without positions. */
typedef enum sgm_attention { SGM_ATTENTION_CAUSAL, SGM_ATTENTION_STICK_BREAKING, SGM_ATTENTIONS } sgm_attention;

/* The `model` section of a config. Letters as in docs/notation.md. */
typedef struct sgm_model_settings {
    int64_t layers, width, heads, kv_heads, head_size; /* L, D, H, G, head size */
    int64_t experts, experts_per_token, expert_width;  /* E, K, F */
    int64_t null_experts;                              /* the last so many of E do nothing: no weights, output 0 */
    int64_t vocabulary, context;                       /* V, longest sequence in tokens */
    bool tie_embeddings;
    double rope_theta, norm_epsilon;
    int attention;       /* sgm_attention */
    int64_t gate_hidden; /* width of the router's hidden layer; 0: a linear router */
    /* Attention is a mixture too (arXiv 2306.04640): A experts in each layer, each with queries for H heads and an output of
     * its own, of which a token takes K'; keys and values are the layer's. 0: one dense attention. */
    int64_t attention_experts, attention_experts_per_token;
    double init_std, gate_init_std; /* of the weights / of the router */
    double embedding_init_std;      /* of the embeddings (and of a head of its own); 0: init_std */
} sgm_model_settings;

typedef struct sgm_model_counts {
    int64_t total_parameters;  /* every element, tied ones once */
    int64_t active_parameters; /* of those, what one token touches, embeddings left out, output head left out */
    int64_t embedding_parameters, head_parameters; /* head: 0 when tied */
    int64_t expert_parameters;                     /* in all experts of all layers */
    /* Null experts: active parameters and FLOPs are those of an even load over all E. */
    double forward_flops_per_token;  /* at a given context: products only, 2 per multiply-add, head included */
    double training_flops_per_token; /* 3 × forward */
    int64_t bytes;                   /* f32 weights */
    int64_t training_bytes;          /* weights, gradients, two moments */
} sgm_model_counts;

/* Whatever is counted by layer and expert (load, traces, run.sqlite, balancers, experts per token) is counted by routed
 * sub-layer. Without attention experts these are the L layers. With A of them there are two in a layer, each with experts of its
 * own: number 2l is the attention of layer l, 2l + 1 its feed-forward. Arrays (L, E) are (2L, larger of A and E) then; what lies
 * behind a sub-layer's own experts is zero. */
static inline int64_t sgm_routed_layers(int64_t layers, int64_t attention_experts) {
    return attention_experts > 0 ? 2 * layers : layers;
}
static inline bool sgm_routed_is_attention(int64_t attention_experts, int64_t routed) {
    return attention_experts > 0 && routed % 2 == 0;
}
static inline int64_t sgm_routed_experts(int64_t experts, int64_t attention_experts, int64_t routed) {
    return sgm_routed_is_attention(attention_experts, routed) ? attention_experts : experts;
}
static inline int64_t sgm_routed_stride(int64_t experts, int64_t attention_experts) {
    return attention_experts > experts ? attention_experts : experts;
}
static inline int64_t sgm_routed_layer(int64_t attention_experts, int64_t routed) {
    return attention_experts > 0 ? routed / 2 : routed;
}

sgm_status sgm_model_settings_from_config(const sgm_config *config, sgm_model_settings *settings, sgm_error *error);
sgm_status sgm_model_settings_check(const sgm_model_settings *settings, sgm_error *error);
/* `k` experts per token on average over layers (settings->experts_per_token where constant). */
void sgm_model_count(const sgm_model_settings *settings, double k, int64_t context_tokens, sgm_model_counts *counts);

/* What is known of a model on disk without loading its weights. `path`: model folder, checkpoint, run folder or GGUF file. */
typedef struct sgm_model_info {
    sgm_model_settings settings;
    sgm_model_counts counts;
    char model_type[32]; /* "qwen3_moe", "sigmoe"; of a GGUF file its architecture: "qwen3moe", "sigmoe" */
    char router[64];
    char dtype[16];     /* "f32"; of a GGUF file the type that most of its bytes are in */
    int64_t file_bytes; /* of the weight files */
    int64_t step;       /* -1 when not a checkpoint */
    bool has_tokenizer;
    char folder[4096]; /* the resolved model folder, or the GGUF file */
} sgm_model_info;
sgm_status sgm_model_inspect(const char *path, sgm_model_info *info, sgm_error *error);

/* Write a model folder with random weights (streamed, never in memory at once). `type`: "f32". `stop` may be NULL; it is
 * polled: non-zero → SGM_EINTERRUPTED. After any failure nothing is left behind. */
sgm_status sgm_model_init(const sgm_config *config, const char *tokenizer_path /* NULL */, uint64_t seed,
                          const char *type, const char *folder, const volatile int *stop, sgm_error *error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
