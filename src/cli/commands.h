// SPDX-License-Identifier: Apache-2.0
/* The commands, one file each. */
#ifndef SGM_CLI_COMMANDS_H
#define SGM_CLI_COMMANDS_H

#include "cli.h"

extern const cli_command cli_tokenizer_train, cli_tokenizer_encode, cli_tokenizer_decode, cli_tokenizer_info;
extern const cli_command cli_data_build, cli_data_fetch, cli_data_info, cli_data_text;
extern const cli_command cli_init, cli_train, cli_generate, cli_eval, cli_inspect, cli_stats, cli_report;
extern const cli_command cli_bench;
extern const cli_command cli_trace, cli_replay, cli_place;
extern const cli_command cli_lab_list, cli_lab_show, cli_lab_run, cli_lab_report;
extern const cli_command cli_quantize, cli_prune, cli_grow;
extern const cli_command cli_list, cli_plan, cli_doctor;

#endif
