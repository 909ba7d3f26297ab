// SPDX-License-Identifier: Apache-2.0
/* sigmoe report: a run as one HTML page. */
#include <stdlib.h>

#include "commands.h"

static int run(const cli_args *args) {
    const char *out = cli_text(args, "out");
    char folder[4096];
    cli_without_slash(cli_operand(args, 0), folder, sizeof folder);
    sgm_error error = {0};
    if (sgm_report_write(folder, out, &error))
        return cli_fail(&error);
    char path[8192];
    snprintf(path, sizeof path, "%s%s", out ? out : folder, out ? "" : "/report.html");
    if (cli_switch(args, "json"))
        return cli_json_print(json_pack("{s:s}", "path", path));
    printf("%s\n", path);
    return CLI_DONE;
}

static const cli_flag flags[] = {
    {"out", CLI_TEXT, "FILE", NULL, 0, 0, false, "where to write it (without it: RUN/report.html)"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_report = {
    .name = "report",
    .group = "study",
    .summary = "a run as one HTML page: curves, expert load over time, samples",
    .operands = "RUN",
    .min_operands = 1,
    .max_operands = 1,
    .flags = flags,
    .details = "The page fetches nothing and needs no server; it may be made while the run is still going.",
    .example = "sigmoe report runs/demo\nsigmoe report runs/demo --out demo.html",
    .run = run,
};
