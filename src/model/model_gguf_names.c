// SPDX-License-Identifier: Apache-2.0
/* The tensors of a GGUF model file: their names and which weights of ours they hold.
 *
 * Names are those of llama.cpp's qwen3moe. Our list of weights (weights.c) has the embedding first, then each layer's nine
 * matrices (eleven, where the router has a hidden layer) and its experts (gate, up, down of each), then the last norm and the head. A file has the same order, but all
 * gates of a layer stand in one tensor, then all ups, then all downs. */
#include <inttypes.h>
#include <stdio.h>

#include "model/model_gguf.h"

static const char *const layer_names[] = {
    "attn_norm.weight",
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
    "attn_q_norm.weight",
    "attn_k_norm.weight",
    "ffn_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_inp_hidden.weight",
    "ffn_gate_inp_hidden.bias", /* the last two: ours */
};
enum { MATRICES = 3 };
static const char *const expert_names[MATRICES] = {"ffn_gate", "ffn_up", "ffn_down"};

static int64_t layer_parts(const sgm_model_settings *s, const bool *split, int64_t layer) {
    return sgm_layer_weights(s) + MATRICES * (split && split[layer] ? s->experts : 1);
}

/* The parts of a layer before the given one: without split layers by arithmetic. */
static int64_t parts_before(const sgm_model_settings *s, const bool *split, int64_t layer) {
    int64_t count = layer * (sgm_layer_weights(s) + MATRICES);
    for (int64_t l = 0; split && l < layer; l++)
        count += split[l] ? MATRICES * (s->experts - 1) : 0;
    return count;
}

int64_t sgm_gguf_part_count(const sgm_model_settings *settings, const bool *split) {
    return parts_before(settings, split, settings->layers) + 2 + !settings->tie_embeddings;
}

/* Index within a layer → part. `base`: the layer's first weight. */
static void layer_part(const sgm_model_settings *s, bool split, int64_t layer, int64_t index, sgm_gguf_part *part) {
    int64_t plain = sgm_layer_weights(s), base = 1 + layer * (plain + MATRICES * s->experts);
    if (index < plain) {
        *part = (sgm_gguf_part){.first = base + index, .step = 1, .count = 1};
        snprintf(part->name, sizeof part->name, "blk.%" PRId64 ".%s", layer, layer_names[index]);
        return;
    }
    index -= plain;
    base += plain;
    if (!split) {
        *part = (sgm_gguf_part){.first = base + index, .step = MATRICES, .count = s->experts, .stacked = true};
        snprintf(part->name, sizeof part->name, "blk.%" PRId64 ".%s_exps.weight", layer, expert_names[index]);
        return;
    }
    int64_t matrix = index / s->experts, expert = index % s->experts;
    *part = (sgm_gguf_part){.first = base + MATRICES * expert + matrix, .step = MATRICES, .count = 1};
    snprintf(part->name, sizeof part->name, "blk.%" PRId64 ".%s.%" PRId64 ".weight", layer, expert_names[matrix],
             expert);
}

bool sgm_gguf_part_at(const sgm_model_settings *s, const bool *split, int64_t index, sgm_gguf_part *part) {
    int64_t last = 1 + s->layers * (sgm_layer_weights(s) + MATRICES * s->experts); /* the weight behind the layers */
    if (index < 0 || index >= sgm_gguf_part_count(s, split))
        return false;
    if (index-- == 0) {
        *part = (sgm_gguf_part){.name = "token_embd.weight", .step = 1, .count = 1};
        return true;
    }
    int64_t behind = index - parts_before(s, split, s->layers);
    if (behind >= 0) {
        *part = (sgm_gguf_part){.first = last + behind, .step = 1, .count = 1};
        snprintf(part->name, sizeof part->name, "%s", behind ? "output.weight" : "output_norm.weight");
        return true;
    }
    int64_t layer = split ? 0 : index / (sgm_layer_weights(s) + MATRICES);
    index -= split ? 0 : layer * (sgm_layer_weights(s) + MATRICES);
    for (; split && index >= layer_parts(s, split, layer); layer++)
        index -= layer_parts(s, split, layer);
    layer_part(s, split && split[layer], layer, index, part);
    return true;
}

void sgm_gguf_bias_name(int64_t layer, char name[SGM_GGUF_TENSOR_NAME]) {
    snprintf(name, SGM_GGUF_TENSOR_NAME, "blk.%" PRId64 ".exp_probs_b.bias", layer);
}
