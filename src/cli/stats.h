// SPDX-License-Identifier: Apache-2.0
/* How stats shows the load of experts, whether a model was run for it or a trace is read. */
#ifndef SGM_CLI_STATS_H
#define SGM_CLI_STATS_H

#include "cli.h"

/* A layer as JSON, with its load (E). */
json_t *cli_layer_json(const sgm_layer_stats *stats, const int64_t *load, int64_t experts, int64_t layer);
/* The table: its heading (no line end), a layer's line (the same), what stands below it. */
void cli_layer_heading(void);
void cli_layer_line(const sgm_layer_stats *stats, int64_t layer);
void cli_layer_footing(void);

/* `sigmoe stats TRACE [TRACE]`. */
int cli_stats_traces(const cli_args *args);
/* "train", "eval", "generate" */
const char *cli_trace_source(sgm_trace_source source);

#endif
