// SPDX-License-Identifier: Apache-2.0
/* The presets. The model sizes of `sigma-moe-tiny` follow arXiv 2512.16248 where it gives them; head size and vocabulary
 * are inferred from the totals; its initial weights and the optimizer's epsilon follow a sibling's settings. Learning rates,
 * batch sizes and lengths of run are this project's own. The small presets start their router with logits of standard
 * deviation about 1 (gate_init_std near 1/sqrt(width)): from a flatter start whole experts die in the first steps. */
#include "train/presets.h"

#include <stdio.h>
#include <string.h>

typedef struct preset {
    sgm_plugin plugin; /* first */
    const char *yaml;
} preset;

static const preset presets[] = {
    {{.name = "pico", .summary = "2 layers of width 64, 8 experts; bytes; for tests", .paper = ""},
     "model:\n"
     "  layers: 2\n"
     "  width: 64\n"
     "  heads: 4\n"
     "  kv_heads: 2\n"
     "  head_size: 16\n"
     "  experts: 8\n"
     "  experts_per_token: 1\n"
     "  expert_width: 32\n"
     "  vocabulary: 257\n"
     "  context: 64\n"
     "  tie_embeddings: true\n"
     "  gate_init_std: 0.12\n"
     "sparsity:\n"
     "  kind: constant\n"
     "data:\n"
     "  tokens_per_step: 512\n"
     "optimizer:\n"
     "  learning_rate: 0.005\n"
     "train:\n"
     "  steps: 200\n"
     "  eval_every: 50\n"
     "  eval_tokens: 4096\n"
     "  checkpoint_every: 100\n"},
    {{.name = "nano", .summary = "8 layers of width 192, 96 experts; 44 M; minutes on a laptop", .paper = ""},
     "model:\n"
     "  layers: 8\n"
     "  width: 192\n"
     "  heads: 6\n"
     "  kv_heads: 2\n"
     "  head_size: 32\n"
     "  experts: 96\n"
     "  experts_per_token: 1\n"
     "  expert_width: 96\n"
     "  vocabulary: 4096\n"
     "  context: 256\n"
     "  tie_embeddings: true\n"
     "  init_std: 0.06\n"
     "  gate_init_std: 0.15\n"
     "balance:\n"
     "  - kind: load_balance_loss\n"
     "    coefficient: 0.01\n"
     "sparsity:\n"
     "  kind: progressive\n"
     "data:\n"
     "  tokens_per_step: 2048\n"
     "optimizer:\n"
     "  learning_rate: 0.003\n"
     "schedule:\n"
     "  kind: wsd\n"
     "  decay_share: 0.4\n"
     "train:\n"
     "  steps: 700\n"
     "  eval_every: 100\n"
     "  eval_tokens: 16384\n"
     "  checkpoint_every: 350\n"},
    {{.name = "micro", .summary = "12 layers of width 512, 96 experts; 461 M; hours", .paper = ""},
     "model:\n"
     "  layers: 12\n"
     "  width: 512\n"
     "  heads: 8\n"
     "  kv_heads: 2\n"
     "  head_size: 64\n"
     "  experts: 96\n"
     "  experts_per_token: 1\n"
     "  expert_width: 256\n"
     "  vocabulary: 16384\n"
     "  context: 512\n"
     "  tie_embeddings: true\n"
     "  gate_init_std: 0.045\n"
     "sparsity:\n"
     "  kind: progressive\n"
     "data:\n"
     "  tokens_per_step: 16384\n"
     "optimizer:\n"
     "  learning_rate: 0.001\n"
     "train:\n"
     "  steps: 5000\n"
     "  eval_every: 250\n"
     "  eval_tokens: 32768\n"
     "  checkpoint_every: 500\n"},
    {{.name = "peer", .summary = "8 layers of width 512, 32 experts; for comparing speed with PyTorch", .paper = ""},
     "model:\n"
     "  layers: 8\n"
     "  width: 512\n"
     "  heads: 8\n"
     "  kv_heads: 2\n"
     "  head_size: 64\n"
     "  experts: 32\n"
     "  experts_per_token: 1\n"
     "  expert_width: 256\n"
     "  vocabulary: 8192\n"
     "  context: 256\n"
     "  tie_embeddings: false\n"
     "  gate_init_std: 0.045\n"
     "sparsity:\n"
     "  kind: constant\n"
     "data:\n"
     "  tokens_per_step: 2048\n"
     "optimizer:\n"
     "  learning_rate: 0.001\n"
     "train:\n"
     "  steps: 2000\n"
     "  eval_every: 250\n"
     "  eval_tokens: 16384\n"
     "  checkpoint_every: 500\n"},
    {{.name = "sigma-moe-tiny",
      .summary = "56 layers of width 1536, 96 experts; 20 B, 0.5 B at work on a token",
      .paper = "arXiv 2512.16248"},
     "model:\n"
     "  layers: 56\n"
     "  width: 1536\n"
     "  heads: 16\n"
     "  kv_heads: 4\n"
     "  head_size: 96\n"
     "  experts: 96\n"
     "  experts_per_token: 1\n"
     "  expert_width: 768\n"
     "  vocabulary: 200064\n"
     "  context: 4096\n"
     "  tie_embeddings: true\n"
     "  init_std: 0.0125\n"
     "  gate_init_std: 0.0125\n"
     "sparsity:\n"
     "  kind: progressive\n"
     "data:\n"
     "  tokens_per_step: 1048576\n"
     "optimizer:\n"
     "  learning_rate: 0.0003\n"
     "  epsilon: 5e-10\n"
     "train:\n"
     "  steps: 100000\n"
     "  eval_every: 1000\n"
     "  eval_tokens: 262144\n"
     "  checkpoint_every: 1000\n"},
};
enum { PRESETS = sizeof presets / sizeof presets[0] };

const sgm_plugin *sgm_preset_at(size_t index) {
    return index < PRESETS ? &presets[index].plugin : NULL;
}

sgm_status sgm_preset_yaml(const char *name, const char **yaml, sgm_error *error) {
    const char *names[PRESETS + 1] = {NULL};
    for (size_t i = 0; i < PRESETS; i++) {
        if (strcmp(presets[i].plugin.name, name) == 0) {
            *yaml = presets[i].yaml;
            return SGM_OK;
        }
        names[i] = presets[i].plugin.name;
    }
    const char *near = sgm_nearest(name, names);
    char hint[128] = "known: pico nano micro peer sigma-moe-tiny";
    if (near)
        snprintf(hint, sizeof hint, "did you mean %s?", near);
    return sgm_fail(error, SGM_EARGUMENT, hint, "preset %s: there is no such preset", name);
}
