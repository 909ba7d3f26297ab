// SPDX-License-Identifier: Apache-2.0
/* `sigmoe stats --groups G`, of a model or a trace: the load between G devices that hold a group of experts each. */
#ifndef SGM_CLI_IMBALANCE_H
#define SGM_CLI_IMBALANCE_H

#include "cli.h"

typedef struct cli_devices {
    int64_t groups;    /* 0: not asked for, and nothing below does anything */
    int64_t computing; /* experts that the devices share: without null experts */
} cli_devices;

/* --groups for E experts of which the last `null_experts` compute nothing; CLI_DONE or CLI_USAGE (printed): also where there are
 * attention experts beside them. */
int cli_devices_of(const cli_args *args, int64_t experts, int64_t null_experts, int64_t attention_experts,
                   cli_devices *devices);
/* The same of --model, before an evaluation takes its time. */
int cli_devices_of_model(const cli_args *args, cli_devices *devices);

/* layer (L), load (L, E): what was measured; of a trace what its experts computed, for devices do nothing for what was
 * dropped. `json` is an object whose list `layers` gets the fields of each layer. */
void cli_imbalance_add(json_t *json, const cli_devices *devices, const sgm_layer_stats *layer, const int64_t *load,
                       int64_t layers, int64_t experts);
void cli_imbalance_print(const cli_devices *devices, const sgm_layer_stats *layer, const int64_t *load, int64_t layers,
                         int64_t experts);

#endif
