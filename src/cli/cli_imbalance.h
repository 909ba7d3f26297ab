// SPDX-License-Identifier: Apache-2.0
/* `sigmoe stats --groups G`: the load between G devices that hold a group of experts each. */
#ifndef SGM_CLI_IMBALANCE_H
#define SGM_CLI_IMBALANCE_H

#include "cli.h"

/* Whether the model's experts split into --groups, before an evaluation takes its time; CLI_DONE or CLI_USAGE (printed). */
int cli_imbalance_check(const cli_args *args);
/* Nothing with groups = 0. `json`: an object whose `layers` gets an object's fields for each layer. */
void cli_imbalance_add(json_t *json, const sgm_evaluation *evaluation, int64_t groups);
void cli_imbalance_print(const sgm_evaluation *evaluation, int64_t groups);

#endif
