// SPDX-License-Identifier: Apache-2.0
/* What quantize and init share: the flags about types, and a conversion with its report. */
#ifndef SGM_CLI_CONVERT_H
#define SGM_CLI_CONVERT_H

#include "cli.h"

#define CLI_CONVERT_FLAGS                                                                                               \
    {"tensor-type", CLI_MANY, "PATTERN=T…", NULL, 0, 0, false, "other types for tensors by name"},                      \
        {"expert-type", CLI_MANY, "L:E=T…", NULL, 0, 0, false, "other types for single experts; or a file of them"},    \
        {"arch", CLI_TEXT, "NAME", NULL, 0, 0, false, "qwen3moe or sigmoe (without it: qwen3moe where that is exact)"}, \
    {                                                                                                                   \
        "threads", CLI_INTEGER, "N", "0", 0, SGM_THREADS_MOST, false, "0: as many as there are cores"                   \
    }

/* Run it with the options that the flags ask for and print its report; an exit code. */
int cli_convert(const cli_args *args,
                int (*run)(void *context, const sgm_convert_options *options, sgm_convert_report *report,
                           sgm_error *error),
                void *context, const char *path);

#endif
