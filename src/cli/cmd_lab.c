// SPDX-License-Identifier: Apache-2.0
/* sigmoe lab: list, show, run and report experiments. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli_lab.h"
#include "commands.h"

/* What a file says in its own words, on one line. */
static void print_line(const char *text) {
    char *copy = strdup(text);
    for (char *at = copy; at && *at; at++)
        *at = *at == '\n' ? ' ' : *at;
    printf("%s", copy ? cli_clean(copy) : "");
    free(copy);
}

static void print_paper(const sgm_experiment_info *info) {
    if (*info->paper) {
        printf(" (");
        print_line(info->paper);
        printf(")");
    }
    printf("\n");
}

/* ---- list ----------------------------------------------------------------------------------------------------- */

static int list(const cli_args *args) {
    size_t count;
    char **names = cli_lab_names(&count), path[8192];
    json_t *array = json_array();
    int code = CLI_DONE;
    bool json = cli_switch(args, "json");
    for (size_t i = 0; i < count && code == CLI_DONE; i++) {
        sgm_experiment *experiment = NULL;
        sgm_error error = {0};
        code = cli_lab_find(names[i], path, sizeof path);
        if (code == CLI_DONE && sgm_experiment_open(path, NULL, 0, &experiment, &error))
            code = cli_fail(&error);
        if (code != CLI_DONE)
            break;
        sgm_experiment_info info;
        sgm_experiment_describe(experiment, &info);
        json_array_append_new(array, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "name", names[i], "claim",
                                               info.claim, "paper", info.paper, "arms", (json_int_t)info.arms, "steps",
                                               (json_int_t)info.steps, "tokens_per_step",
                                               (json_int_t)info.tokens_per_step, "seeds", (json_int_t)info.seeds));
        if (!json) {
            printf("%-14s ", names[i]);
            print_line(info.claim);
            print_paper(&info);
        }
        sgm_experiment_close(experiment);
    }
    cli_lab_names_free(names, count);
    if (code == CLI_DONE && json)
        return cli_json_print(array);
    json_decref(array);
    if (code == CLI_DONE && !json && !count)
        printf("%s; `sigmoe lab run FILE.yaml` takes one of your own\n", cli_lab_nowhere);
    return code;
}

static const cli_flag list_flags[] = {
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_lab_list = {
    .name = "lab list",
    .group = "study",
    .summary = "the experiments that come with sigmoe",
    .flags = list_flags,
    .example = "sigmoe lab list",
    .run = list,
};

/* ---- show ----------------------------------------------------------------------------------------------------- */

/* Whether a key says something else than in `from`, or is not there. */
static bool changed(const sgm_config *config, const sgm_config *from, const char *key) {
    const char *before = sgm_config_get(from, key);
    return !before || strcmp(before, sgm_config_get(config, key)) != 0;
}

static json_t *changes_json(const sgm_config *config, const sgm_config *from) {
    json_t *object = json_object();
    for (size_t i = 0; i < sgm_config_count(config); i++) {
        const char *key = sgm_config_key(config, i);
        if (changed(config, from, key))
            json_object_set_new(object, key, json_string(sgm_config_get(config, key)));
    }
    return object;
}

static void print_changes(const sgm_config *config, const sgm_config *from) {
    for (size_t i = 0; i < sgm_config_count(config); i++) {
        const char *key = sgm_config_key(config, i);
        if (!changed(config, from, key))
            continue;
        printf("    %s = ", key);
        print_line(sgm_config_get(config, key));
        printf("\n");
    }
}

static int show_json(const sgm_experiment *experiment, const sgm_experiment_info *info, const sgm_config *preset) {
    json_t *arms = json_array();
    const sgm_config *base = sgm_experiment_base(experiment);
    for (size_t a = 0; a < info->arms; a++) {
        sgm_experiment_arm arm;
        sgm_experiment_arm_at(experiment, a, &arm);
        json_array_append_new(arms, json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", arm.name, "description",
                                              arm.description, "inherits", arm.inherits, "balance", arm.balance, "set",
                                              changes_json(arm.config, base)));
    }
    return cli_json_print(json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:o, s:o}", "name",
                                    info->name, "claim", info->claim, "tuning", info->tuning, "preset", info->preset,
                                    "paper", info->paper, "baseline", info->baseline, "steps", (json_int_t)info->steps,
                                    "tokens_per_step", (json_int_t)info->tokens_per_step, "seeds",
                                    (json_int_t)info->seeds, "groups", (json_int_t)info->groups, "caches", info->caches,
                                    "placements", info->placements, "base", changes_json(base, preset), "arms", arms));
}

/* Items of the experiment that are parted by commas. */
static void print_list(const char *what, const char *items) {
    if (!*items)
        return;
    printf("\n%s: ", what);
    for (; *items; items++)
        printf(*items == ',' ? ", " : "%c", *items);
}

static void show_text(const sgm_experiment *experiment, const sgm_experiment_info *info, const sgm_config *preset) {
    const sgm_config *base = sgm_experiment_base(experiment);
    print_line(info->name);
    print_paper(info);
    print_line(info->claim);
    if (*info->tuning) {
        printf("\ntuning: ");
        print_line(info->tuning);
    }
    print_list("caches", info->caches);
    print_list("placements", info->placements);
    printf("\n\n");
    printf("%s, %s", cli_counted((int64_t)info->arms, "arm").text, cli_counted(info->seeds, "seed").text);
    printf(", %s of", cli_counted(info->steps, "step").text);
    printf(" %s each; baseline %s\n\nbase: preset %s, and\n", cli_counted(info->tokens_per_step, "token").text,
           info->baseline, info->preset);
    print_changes(base, preset);
    for (size_t a = 0; a < info->arms; a++) {
        sgm_experiment_arm arm;
        sgm_experiment_arm_at(experiment, a, &arm);
        printf("\n%s: ", arm.name);
        print_line(arm.description);
        printf("\n");
        printf("    balancing: %s%s%s\n", arm.balance, *arm.inherits ? "; inherits " : "", arm.inherits);
        print_changes(arm.config, base);
    }
}

static int show(const cli_args *args) {
    char path[8192];
    size_t sets;
    const char *const *settings = cli_many(args, "set", &sets);
    sgm_experiment *experiment = NULL;
    sgm_config *preset = NULL;
    sgm_experiment_info info;
    sgm_error error = {0};
    int code = cli_lab_find(cli_operand(args, 0), path, sizeof path);
    if (code == CLI_DONE && sgm_experiment_open(path, settings, sets, &experiment, &error))
        code = cli_fail(&error);
    if (code == CLI_DONE) {
        sgm_experiment_describe(experiment, &info);
        if (sgm_config_new(&preset, &error) || sgm_config_preset(preset, info.preset, &error))
            code = cli_fail(&error);
    }
    if (code == CLI_DONE) {
        if (cli_switch(args, "json"))
            code = show_json(experiment, &info, preset);
        else
            show_text(experiment, &info, preset);
    }
    sgm_config_free(preset);
    sgm_experiment_close(experiment);
    return code;
}

static const cli_flag show_flags[] = {
    {"set", CLI_MANY, "KEY=VALUE…", NULL, 0, 0, false, "override keys of the base, below what arms set"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_lab_show = {
    .name = "lab show",
    .group = "study",
    .summary = "an experiment: its claim, its arms and what each sets",
    .operands = "NAME|FILE.yaml",
    .min_operands = 1,
    .max_operands = 1,
    .flags = show_flags,
    .details = "The whole file is checked, every arm's configuration as `train` would.",
    .example = "sigmoe lab show sigma\nsigmoe lab show mine.yaml --set model.layers=4",
    .run = show,
};

/* ---- run ------------------------------------------------------------------------------------------------------ */

static double member(const json_t *arm, const char *of, const char *name) {
    const json_t *value = json_object_get(json_object_get(arm, of), name);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static void print_summary(const json_t *root, const char *folder) {
    printf("\n%-20s %18s %10s %10s %7s %10s\n", "arm", "bits per byte", "MaxVio low", "high", "dead", "tokens/s");
    size_t index;
    json_t *arm;
    json_array_foreach(json_object_get(root, "arms"), index, arm) {
        double deviation = member(arm, "standard_deviation", "bits_per_byte");
        char bits[64];
        snprintf(bits, sizeof bits, "%.4f", member(arm, "mean", "bits_per_byte"));
        printf("%-20s %9s", json_string_value(json_object_get(arm, "name")), bits);
        if (isfinite(deviation))
            printf(" ± %.4f", deviation);
        else
            printf("%9s", "");
        printf(" %10.2f %10.2f %7.1f %10s\n", member(arm, "mean", "low.max_violation_global"),
               member(arm, "mean", "high.max_violation_global"), member(arm, "mean", "dead_experts"),
               cli_grouped((int64_t)member(arm, "mean", "tokens_per_second")).text);
    }
    json_array_foreach(json_object_get(root, "missing"), index, arm) {
        printf("%-20s seed %" PRId64 ": %s\n", json_string_value(json_object_get(arm, "arm")),
               (int64_t)json_integer_value(json_object_get(arm, "seed")),
               json_string_value(json_object_get(arm, "state")));
    }
    printf("\ntables: %s/results.md\nreport: %s/report.html\npictures: %s/pictures\n", folder, folder, folder);
}

/* What was written, for people or as it is. */
static int print_results(const char *folder, bool json) {
    char path[8192];
    json_t *root;
    snprintf(path, sizeof path, "%s/results.json", folder);
    if (cli_read_json(path, "it was written a moment ago: does another program write there?", &root) != CLI_DONE)
        return CLI_FAILED; /* it is no input */
    if (json)
        return cli_json_print(root);
    print_summary(root, folder);
    json_decref(root);
    return CLI_DONE;
}

static bool has_results(const char *folder) {
    char path[8192];
    snprintf(path, sizeof path, "%s/results.json", folder);
    return access(path, R_OK) == 0;
}

/* "a,b,c" into texts; *storage holds them. */
static const char **split_names(const char *text, char **storage, size_t *count) {
    *count = 0;
    *storage = strdup(text);
    const char **names = *storage ? calloc(strlen(text) + 1, sizeof *names) : NULL;
    char *rest = *storage;
    for (char *name; names && (name = strsep(&rest, ","));)
        if (*name)
            names[(*count)++] = name;
    return names;
}

static int run_lab(const cli_args *args, const char *path, const char *folder) {
    char data[8192], *storage = NULL;
    bool json = cli_switch(args, "json");
    sgm_lab_options options = {.folder = folder, .label = cli_operand(args, 0)};
    options.settings = cli_many(args, "set", &options.setting_count);
    options.data = cli_many(args, "data", &options.data_count);
    options.default_data = cli_lab_data(data, sizeof data) ? data : NULL;
    options.seeds = cli_given(args, "seeds") ? cli_integer(args, "seeds") : 0;
    options.steps = cli_given(args, "steps") ? cli_integer(args, "steps") : 0;
    options.minutes = cli_given(args, "minutes") ? cli_real(args, "minutes") : 0;
    options.jobs = cli_integer(args, "jobs");
    if (cli_given(args, "threads"))
        options.threads = cli_integer(args, "threads") ? cli_integer(args, "threads") : SGM_LAB_SHARE;
    options.discard_checkpoints = cli_switch(args, "discard-checkpoints");
    const char **names = NULL;
    if (cli_given(args, "arms"))
        names = split_names(cli_text(args, "arms"), &storage, &options.arm_count);
    options.arms = names;
    if (names && !options.arm_count) {
        free(names);
        free(storage);
        return cli_usage("is the variable set that should be here? without --arms all take part",
                         "sigmoe lab run: --arms names no arm");
    }
    cli_lab_display *display = cli_lab_display_new(json ? stderr : stdout, cli_switch(args, "plain"));
    int code = display && (names || !cli_given(args, "arms")) ? cli_check_inputs(options.data, options.data_count)
                                                              : cli_no_memory("the display and the names of arms");
    sgm_error error = {0};
    if (code == CLI_DONE) {
        sgm_lab_events events;
        cli_lab_display_events(display, &events);
        cli_catch_signals();
        cli_note_many_threads("the number of threads of all --jobs,",
                              options.jobs * (options.threads > 0 ? options.threads : 1));
        sgm_status status = sgm_lab_run(path, &options, &events, &cli_stop, &error);
        cli_lab_display_close(display);
        if (status == SGM_ENUMERIC && !json && has_results(folder)) /* of an arm: the others are done and written */
            (void)print_results(folder, false);
        code = status ? cli_fail(&error) : print_results(folder, json);
    }
    cli_lab_display_free(display);
    free(names);
    free(storage);
    return code;
}

static int run(const cli_args *args) {
    char path[8192], folder[4096];
    int code = cli_lab_find(cli_operand(args, 0), path, sizeof path);
    if (code != CLI_DONE)
        return code;
    if (cli_given(args, "out")) {
        cli_without_slash(cli_text(args, "out"), folder, sizeof folder);
    } else { /* runs/lab-NAME; of a file its name without folders and ending */
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        snprintf(folder, sizeof folder, "runs/lab-%.*s", (int)strcspn(name, "."), name);
    }
    return run_lab(args, path, folder);
}

static const cli_flag run_flags[] = {
    {"out", CLI_TEXT, "DIR", NULL, 0, 0, false,
     "the lab's folder (without it: runs/lab-NAME); one that is there is gone on with"},
    {"seeds", CLI_INTEGER, "N", NULL, 1, 1000, false, "seeds 1 to N of every arm (without it: the experiment's)"},
    {"steps", CLI_INTEGER, "N", NULL, 1, 1e12, false, "optimizer steps of every run (without it: the experiment's)"},
    {"minutes", CLI_REAL, "M", NULL, 0.01, 1e6, false, "as many steps as fit into M minutes for all arms and seeds"},
    {"arms", CLI_TEXT, "A,B", NULL, 0, 0, false, "these arms only"},
    {"set", CLI_MANY, "KEY=VALUE…", NULL, 0, 0, false, "override keys of the base, below what arms set"},
    {"data", CLI_MANY, "PATH…", NULL, 0, 0, false, "train on this text or data folder instead of the experiment's"},
    {"jobs", CLI_INTEGER, "N", "1", 1, SGM_THREADS_MOST, false,
     "arms trained at once: small models use two cores better as two arms than as two threads"},
    {"threads", CLI_INTEGER, "N", NULL, 0, SGM_THREADS_MOST, false,
     "of an arm; 0: its share of the cores (without it: the experiment's train.threads, with several jobs that share)"},
    {"discard-checkpoints", CLI_SWITCH, NULL, NULL, 0, 0, false, "remove a run's checkpoints once it is complete"},
    {"plain", CLI_SWITCH, NULL, NULL, 0, 0, false, "lines instead of the live table"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print results.json when done; progress goes to stderr"},
    {0},
};

const cli_command cli_lab_run = {
    .name = "lab run",
    .group = "study",
    .summary = "train the arms of an experiment with several seeds and compare them",
    .operands = "NAME|FILE.yaml",
    .min_operands = 1,
    .max_operands = 1,
    .flags = run_flags,
    .details = "The arms take turns of a few steps. Interrupted or killed, the same command goes on where it was; with "
               "more --seeds\n"
               "or other --arms it adds to what is there. Results are in DIR/results.json, results.md, report.html "
               "and pictures;\n"
               "the runs are ordinary run folders, DIR/runs/ARM-seed-N. --minutes measures once and keeps the number "
               "of steps.",
    .example =
        "sigmoe lab run sigma --minutes 60 --jobs 2\nsigmoe lab run mine.yaml --seeds 5 --steps 2000 --out runs/mine\n"
        "sigmoe lab run sigma --arms none,standard_1e-2 --set model.layers=16 --out runs/deep",
    .run = run,
};

/* ---- report --------------------------------------------------------------------------------------------------- */

static int report(const cli_args *args) {
    char folder[4096];
    sgm_error error = {0};
    cli_without_slash(cli_operand(args, 0), folder, sizeof folder);
    if (sgm_lab_report(folder, &error))
        return cli_fail(&error);
    return print_results(folder, cli_switch(args, "json"));
}

static const cli_flag report_flags[] = {
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print results.json"},
    {0},
};

const cli_command cli_lab_report = {
    .name = "lab report",
    .group = "study",
    .summary = "write a lab's results again from the runs that are complete",
    .operands = "DIR",
    .min_operands = 1,
    .max_operands = 1,
    .flags = report_flags,
    .details = "It may be made while the lab is still running.",
    .example = "sigmoe lab report runs/lab-sigma",
    .run = report,
};
