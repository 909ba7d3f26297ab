// SPDX-License-Identifier: Apache-2.0
/* How stats shows the load of experts, whether a model was run for it or a trace is read. */
#ifndef SGM_CLI_STATS_H
#define SGM_CLI_STATS_H

#include "cli.h"

/* What a table of layers is about: a model's numbers, or a trace's. */
typedef struct cli_layers {
    int64_t count, experts, attention_experts; /* L, E, and A of attention experts: routed sub-layers then */
    int64_t null_experts;                      /* the last so many of E */
    bool computed;                             /* experts computed per token are shown: in a layer they are not K */
} cli_layers;

/* Routed sub-layer `layer` as JSON, with its load from `load` (L, E) of all. */
json_t *cli_layer_json(const cli_layers *layers, const sgm_layer_stats *stats, const int64_t *load, int64_t layer);
/* Sets `computed`. stats, experts_per_token (L). */
void cli_layers_note_computed(cli_layers *layers, const sgm_layer_stats *stats, const int64_t *experts_per_token);
/* "96 experts a layer", "96 experts a layer, 32 of them null", "16 attention experts and 32 experts a layer" */
void cli_layers_print(const cli_layers *layers);
/* The table: its heading (no line end), a layer's line (the same), what stands below it. */
void cli_layer_heading(const cli_layers *layers);
void cli_layer_line(const cli_layers *layers, const sgm_layer_stats *stats, int64_t layer);
void cli_layer_footing(const cli_layers *layers);

/* Operands that are to be traces: CLI_DONE, or CLI_BAD_INPUT (printed) where one is a folder, with the trace to be found in it
 * as the hint, or no file. */
int cli_check_traces(const char *const *paths, size_t count);
/* Says on standard error that a trace has no end, where it has none. */
void cli_warn_incomplete(const char *path, const sgm_trace_info *about);
/* `sigmoe stats TRACE [TRACE]`. */
int cli_stats_traces(const cli_args *args);
/* "train", "eval", "generate" */
const char *cli_trace_source(sgm_trace_source source);

#endif
