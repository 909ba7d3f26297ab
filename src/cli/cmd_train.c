// SPDX-License-Identifier: Apache-2.0
/* sigmoe train: start a run or continue one. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"

/* Flags that are short for a config key. */
static const struct {
    const char *flag, *key;
} shorthands[] = {
    {"steps", "train.steps"},
    {"seed", "train.seed"},
    {"threads", "train.threads"},
    {"kernels", "train.kernels"},
    {"checkpoint-every", "train.checkpoint_every"},
};

static int apply_shorthands(const cli_args *args, sgm_config *config) {
    for (size_t i = 0; i < sizeof shorthands / sizeof *shorthands; i++) {
        const char *flag = shorthands[i].flag;
        if (!cli_given(args, flag))
            continue;
        char text[32], origin[64];
        const char *value = cli_text(args, flag);
        if (!strcmp(flag, "threads") && cli_integer(args, flag) == 0) {
            value = "auto";
        } else if (strcmp(flag, "kernels") != 0) { /* 10k was written out by the parser */
            snprintf(text, sizeof text, "%lld", (long long)cli_integer(args, flag));
            value = text;
        }
        snprintf(origin, sizeof origin, "--%s", flag);
        sgm_error error = {0};
        if (sgm_config_set(config, shorthands[i].key, value, origin, &error))
            return cli_fail(&error);
    }
    return CLI_DONE;
}

static int start(const cli_args *args, const sgm_trainer_events *events, sgm_trainer **trainer) {
    size_t count;
    const char *const *data = cli_many(args, "data", &count);
    const char *run = cli_text(args, "run");
    if (!run || count == 0)
        return cli_usage("sigmoe train --data DIR --run runs/NAME, or sigmoe train --resume runs/NAME",
                         "sigmoe train: --%s is missing", run ? "data" : "run");
    int code = cli_check_inputs(data, count);
    sgm_config *config = NULL;
    if (code == CLI_DONE)
        code = cli_config(args, &config);
    if (code == CLI_DONE)
        code = apply_shorthands(args, config);
    if (code == CLI_DONE && !cli_given(args, "threads")) /* "auto" is no number: 0 */
        cli_note_many_threads("train.threads =", strtoll(sgm_config_get(config, "train.threads"), NULL, 10));
    const char *origin = code == CLI_DONE ? sgm_config_origin(config, "data.folder") : NULL;
    if (origin && strcmp(origin, "--set") == 0) /* a file's, perhaps another run's, gives way to --data */
        code = cli_usage("give one of them", "--data and --set data.folder both name what to train on");
    sgm_error error = {0};
    if (code == CLI_DONE && sgm_trainer_start(config, data, count, run, events, &cli_stop, trainer, &error))
        code = cli_fail(&error);
    sgm_config_free(config);
    return code;
}

static int resume(const cli_args *args, const sgm_trainer_events *events, sgm_trainer **trainer) {
    static const char *const fixed[] = {"preset", "config", "set",     "data",
                                        "run",    "seed",   "kernels", "checkpoint-every"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (cli_given(args, fixed[i]))
            return cli_usage("a resumed run keeps its configuration; --steps and --threads may change",
                             "sigmoe train: --%s cannot be combined with --resume", fixed[i]);
    int64_t steps = cli_given(args, "steps") ? cli_integer(args, "steps") : 0;
    int threads = cli_given(args, "threads") ? (int)cli_threads(args) : 0;
    sgm_error error = {0};
    if (sgm_trainer_resume(cli_text(args, "resume"), steps, threads, events, trainer, &error))
        return cli_fail(&error);
    return CLI_DONE;
}

static int finish(cli_display *display, const char *run, bool json, bool interrupted) {
    sgm_error error = {0};
    int code = sgm_report_write(run, NULL, &error) ? cli_fail(&error) : CLI_DONE;
    if (json) {
        int printed = cli_json_print(cli_display_json(display, run, interrupted));
        code = code ? code : printed;
    } else {
        cli_display_summary(display, run, interrupted);
    }
    return interrupted ? CLI_INTERRUPTED : code;
}

static int run(const cli_args *args) {
    bool json = cli_switch(args, "json");
    const char *given = cli_given(args, "resume") ? cli_text(args, "resume") : cli_text(args, "run");
    char folder[4096];
    cli_without_slash(given ? given : "", folder, sizeof folder);
    cli_display_options options = {.stream = json ? stderr : stdout,
                                   .plain = cli_switch(args, "plain"),
                                   .quiet = cli_switch(args, "quiet"),
                                   .line_every = cli_given(args, "line-every") ? cli_integer(args, "line-every") : 0};
    cli_display *display = cli_display_new(&options);
    if (!display)
        return cli_no_memory("the display");
    sgm_trainer_events events;
    cli_display_events(display, &events);
    cli_catch_signals();
    cli_note_threads(args);
    sgm_trainer *trainer = NULL;
    int code = cli_given(args, "resume") ? resume(args, &events, &trainer) : start(args, &events, &trainer);
    if (code == CLI_DONE) {
        sgm_trainer_plan plan;
        sgm_trainer_describe(trainer, &plan);
        cli_display_banner(display, &plan, folder);
        sgm_error error = {0};
        sgm_status status = sgm_trainer_run(trainer, &cli_stop, &error);
        cli_display_close(display);
        sgm_trainer_close(trainer);
        if (status && status != SGM_EINTERRUPTED)
            code = cli_fail(&error);
        else
            code = finish(display, folder, json, status == SGM_EINTERRUPTED);
    }
    cli_display_free(display);
    return code;
}

static const cli_flag flags[] = {
    CLI_CONFIG_FLAGS,
    {"data", CLI_MANY, "PATH…", NULL, 0, 0, false, "a data folder, or text files, or folders of domains"},
    {"run", CLI_TEXT, "RUN", NULL, 0, 0, false, "the folder to make for this run; it must not exist"},
    {"resume", CLI_TEXT, "RUN", NULL, 0, 0, false, "continue this run at its latest checkpoint instead"},
    {"steps", CLI_INTEGER, "N", NULL, 1, 1e12, false, "optimizer steps; with --resume it may raise them"},
    {"seed", CLI_INTEGER, "S", NULL, 0, SGM_TRAIN_SEED_MOST, false, "of the weights and of the order of the data"},
    {"threads", CLI_INTEGER, "N", NULL, 0, SGM_THREADS_MOST, false,
     "0: as many as there are cores (without it: train.threads, whose default is that; a resumed run keeps its "
     "number)"},
    {"kernels", CLI_TEXT, "NAME", NULL, 0, 0, false, "ref (same bytes everywhere) or auto (fastest here)"},
    {"checkpoint-every", CLI_INTEGER, "N", NULL, 0, 1e12, false, "steps between checkpoints"},
    {"line-every", CLI_INTEGER, "N", NULL, 1, 1e12, false, "steps per line when not on a terminal"},
    {"plain", CLI_SWITCH, NULL, NULL, 0, 0, false, "lines instead of the live display"},
    {"quiet", CLI_SWITCH, NULL, NULL, 0, 0, false, "no banner and no steps; evaluations and the end only"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print a JSON summary when done; progress goes to stderr"},
    {0},
};

const cli_command cli_train = {
    .name = "train",
    .group = "make",
    .summary = "train a model from text, or continue a run",
    .flags = flags,
    .details =
        "The first Ctrl-C saves a checkpoint and exits with 130; --resume then goes on as if nothing had happened,\n"
        "bit for bit. A second Ctrl-C kills; the run continues from its last checkpoint.",
    .example = "sigmoe train --preset nano --data data/corpus --run runs/first --steps 200\n"
               "sigmoe train --data corpora/mine --run runs/wide --set model.experts=32 model.expert_width=288\n"
               "sigmoe train --resume runs/first",
    .run = run,
};
