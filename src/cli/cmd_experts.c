// SPDX-License-Identifier: Apache-2.0
/* sigmoe prune and sigmoe grow: a model with fewer or with more experts in each layer. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "stats.h"

static int report(const cli_args *args, const char *to, const sgm_reshape_report *r, bool pruned) {
    if (cli_switch(args, "json"))
        return cli_json_print(json_pack(
            "{s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "path", to, "layers", (json_int_t)r->layers, "experts_before",
            (json_int_t)r->experts_before, "experts", (json_int_t)r->experts, "null_experts",
            (json_int_t)r->null_experts, "total_parameters", (json_int_t)r->total_parameters, "kept_share",
            cli_json_real(r->kept_share), "least_kept_share", cli_json_real(r->least_kept_share)));
    printf("%s: %lld experts a layer", to, (long long)r->experts);
    if (r->null_experts)
        printf(", %lld of them null", (long long)r->null_experts);
    printf(", before %lld; %s parameters\n", (long long)r->experts_before,
           cli_count_label((double)r->total_parameters).text);
    if (pruned)
        printf("the experts that stay had %.2f %% of the tokens, in the layer that lost most %.2f %%\n",
               100 * r->kept_share, 100 * r->least_kept_share);
    return CLI_DONE;
}

/* ---- prune ---------------------------------------------------------------------------------------------------------- */

static const char load_hint[] = "give a trace, or make it with `sigmoe stats --model M --data FILE --json > FILE`";

static int bad_load(const char *path, const char *what) {
    return cli_error(CLI_BAD_INPUT, load_hint, "%s: %s", path, what);
}

/* {"layers": [{"load": [numbers]}, …]}, as `sigmoe stats --json` prints it. */
static int counts_from_file(const char *path, int64_t **load, sgm_prune_options *options) {
    json_t *root;
    int code = cli_read_json(path, load_hint, &root);
    if (code != CLI_DONE)
        return code;
    json_t *layers = json_object_get(root, "layers");
    size_t L = json_array_size(layers), E = json_array_size(json_object_get(json_array_get(layers, 0), "load"));
    if (!L || !E)
        code = bad_load(path, "there is no list of layers with the load of each expert");
    *load = code == CLI_DONE ? calloc(L * E, sizeof **load) : NULL;
    if (code == CLI_DONE && !*load)
        code = cli_no_memory("the counts");
    for (size_t l = 0; code == CLI_DONE && l < L; l++) {
        json_t *of_layer = json_object_get(json_array_get(layers, l), "load");
        if (json_array_size(of_layer) != E)
            code = bad_load(path, "its layers have different numbers of experts");
        for (size_t e = 0; code == CLI_DONE && e < E; e++) {
            if (!json_is_integer(json_array_get(of_layer, e)))
                code = bad_load(path, "a load is no whole number");
            (*load)[l * E + e] = json_integer_value(json_array_get(of_layer, e));
        }
    }
    json_decref(root);
    options->load = *load;
    options->layers = (int64_t)L;
    options->experts = (int64_t)E;
    return code;
}

/* What the router chose, as `stats` of it prints. */
static int counts_from_trace(const char *path, sgm_trace_stats *stats, sgm_prune_options *options) {
    sgm_trace *trace;
    sgm_error error = {0};
    sgm_status status = sgm_trace_open(path, &trace, &error);
    if (!status)
        status = sgm_trace_summarise(trace, stats, &error);
    if (!status) {
        cli_warn_incomplete(path, sgm_trace_about(trace));
        options->load = stats->all.load;
        options->layers = stats->layers;
        options->experts = sgm_routed_stride(stats->experts, stats->attention_experts);
    }
    sgm_trace_close(trace);
    return status ? cli_fail(&error) : CLI_DONE;
}

static int counts_from_text(const cli_args *args, sgm_evaluation *evaluation, sgm_prune_options *options) {
    size_t count;
    const char *const *paths = cli_many(args, "data", &count);
    int code = cli_check_inputs(paths, count);
    if (code != CLI_DONE)
        return code;
    cli_note_threads(args);
    sgm_engine_options engine = {.threads = (int)cli_integer(args, "threads")};
    sgm_error error = {0};
    if (sgm_evaluate(cli_text(args, "model"), &engine, paths, count, cli_integer(args, "limit"), evaluation, &error))
        return cli_fail(&error);
    options->load = evaluation->load;
    options->layers = evaluation->layers;
    options->experts = evaluation->experts;
    return CLI_DONE;
}

static int run_prune(const cli_args *args) {
    sgm_prune_options options = {.keep = cli_given(args, "keep") ? cli_integer(args, "keep") : 0,
                                 .drop_below = cli_given(args, "drop-below") ? cli_real(args, "drop-below") : 0};
    if (cli_given(args, "load") == cli_given(args, "data"))
        return cli_usage("--data FILE counts on text; --load FILE takes a trace, or what `sigmoe stats --json` printed",
                         "sigmoe prune: give one of --load and --data");
    if (cli_given(args, "keep") == cli_given(args, "drop-below"))
        return cli_usage("--keep 48, or --drop-below 0.002", "sigmoe prune: give one of --keep and --drop-below");
    sgm_evaluation evaluation = {0};
    int64_t *load = NULL;
    sgm_trace_stats traced = {0};
    const char *path = cli_text(args, "load");
    int code = !cli_given(args, "load") ? counts_from_text(args, &evaluation, &options)
               : sgm_trace_is_one(path) ? counts_from_trace(path, &traced, &options)
                                        : counts_from_file(path, &load, &options);
    sgm_reshape_report result;
    sgm_error error = {0};
    const char *to = cli_text(args, "out");
    if (code == CLI_DONE && sgm_model_prune(cli_text(args, "model"), &options, to, &result, &error))
        code = cli_fail(&error);
    sgm_evaluation_free(&evaluation);
    sgm_trace_stats_free(&traced);
    free(load);
    return code == CLI_DONE ? report(args, to, &result, true) : code;
}

static const cli_flag prune_flags[] = {
    {"model", CLI_TEXT, "M", NULL, 0, 0, true, "model folder, checkpoint or run folder (its latest)"},
    {"keep", CLI_INTEGER, "N", NULL, 1, 1 << 20, false, "experts to keep in each layer: those that were chosen most"},
    {"drop-below", CLI_REAL, "SHARE", NULL, 0, 1, false,
     "keep as many as the layer needs that has most experts with this share of its tokens"},
    {"load", CLI_TEXT, "FILE", NULL, 0, 0, false,
     "how often experts are chosen: a trace, or what `sigmoe stats --json` printed"},
    {"data", CLI_MANY, "FILE…", NULL, 0, 0, false,
     "or count on these text files, or a data folder (its held-out split)"},
    {"limit", CLI_INTEGER, "N", "0", 0, 9e18, false,
     "count on no more tokens than this, files and domains in order; 0: all"},
    {"threads", CLI_INTEGER, "N", "0", 0, SGM_THREADS_MOST, false, "0: as many as there are cores"},
    {"out", CLI_TEXT, "DIR", NULL, 0, 0, true, "the model folder to make"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_prune = {
    .name = "prune",
    .group = "shape",
    .summary = "drop the experts that a text uses least",
    .flags = prune_flags,
    .details =
        "Each layer keeps as many experts as every other, by its own counts; their router rows stay with them, to the\n"
        "byte. A softmax over all experts shares out what the dropped ones had. Counts of the text that the model is\n"
        "meant for decide what is lost elsewhere: evaluate the result.",
    .example = "sigmoe prune --model runs/demo --keep 48 --data code.txt --out models/code48\n"
               "sigmoe stats --model runs/demo --data runs/demo/data --json > load.json\n"
               "sigmoe prune --model runs/demo --drop-below 0.001 --load load.json --out models/small",
    .run = run_prune,
};

/* ---- grow ----------------------------------------------------------------------------------------------------------- */

static int run_grow(const cli_args *args) {
    sgm_grow_options options = {.add = cli_integer(args, "add"),
                                .null = cli_switch(args, "null"),
                                .experts_per_token =
                                    cli_given(args, "experts-per-token") ? cli_integer(args, "experts-per-token") : 0,
                                .fresh = cli_switch(args, "fresh"),
                                .noise = cli_real(args, "noise"),
                                .seed = (uint64_t)cli_integer(args, "seed")};
    if (options.fresh && cli_given(args, "noise"))
        return cli_usage("leave one of them out", "sigmoe grow: --noise is for copies, --fresh experts are random");
    sgm_reshape_report result;
    sgm_error error = {0};
    const char *to = cli_text(args, "out");
    if (sgm_model_grow(cli_text(args, "model"), &options, to, &result, &error))
        return cli_fail(&error);
    return report(args, to, &result, false);
}

static const cli_flag grow_flags[] = {
    {"model", CLI_TEXT, "M", NULL, 0, 0, true, "model folder, checkpoint or run folder (its latest)"},
    {"add", CLI_INTEGER, "N", NULL, 1, 1 << 20, true, "experts to add to each layer"},
    {"null", CLI_SWITCH, NULL, NULL, 0, 0, false,
     "that compute nothing: router rows alone, so that tokens which choose them compute less"},
    {"experts-per-token", CLI_INTEGER, "K", NULL, 1, 1 << 20, false,
     "a token activates so many in every layer (without it: as before)"},
    {"fresh", CLI_SWITCH, NULL, NULL, 0, 0, false,
     "with random weights; without it they are copies of the experts, in their order"},
    {"noise", CLI_REAL, "X", "0.01", 0, 100, false, "added to copies, in parts of a matrix's root mean square"},
    {"seed", CLI_INTEGER, "S", "1", 0, 9e18, false, "of noise and random weights"},
    {"out", CLI_TEXT, "DIR", NULL, 0, 0, true, "the model folder to make"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_grow = {
    .name = "grow",
    .group = "shape",
    .summary = "add experts to every layer",
    .flags = grow_flags,
    .details =
        "A copy has its expert's router row too, so that the two share its tokens until training parts them; noise\n"
        "decides between them. What was there stays the same to the byte. Null experts are for training that begins\n"
        "with the model (train.from): with as many of them as others, --noise 0, twice the experts per token and\n"
        "normalised weights (router.normalise) it computes at first what it did.",
    .example =
        "sigmoe grow --model runs/demo --add 24 --out models/more\n"
        "sigmoe grow --model runs/top2 --add 8 --null --noise 0 --experts-per-token 4 --out models/null\n"
        "sigmoe train --data DIR --run runs/null --set train.from=models/null router.normalise=true model.experts=16 "
        "model.null_experts=8 model.experts_per_token=4",
    .run = run_grow,
};
