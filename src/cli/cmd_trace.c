// SPDX-License-Identifier: Apache-2.0
/* sigmoe trace: write which experts worked on which token, of an evaluation or a generation. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "stats.h"

const char *cli_trace_source(sgm_trace_source source) {
    static const char *const names[] = {"train", "eval", "generate"};
    return names[source];
}

static int64_t file_bytes(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 ? (int64_t)about.st_size : 0;
}

/* What was written, read back from the file. `bits_per_byte`: of an evaluation; NaN: of none. */
static int report(const cli_args *args, const char *path, double bits_per_byte) {
    sgm_trace *trace;
    sgm_error error = {0};
    if (sgm_trace_open(path, &trace, &error))
        return cli_fail(&error);
    const sgm_trace_info *about = sgm_trace_about(trace);
    int code = CLI_DONE;
    if (cli_switch(args, "json")) {
        char hash[17];
        json_t *domains = json_array();
        for (size_t d = 0; d < about->domains; d++)
            json_array_append_new(domains, json_string(about->domain[d]));
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)about->model_hash);
        code = cli_json_print(json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:o, s:I, s:o}", "path", path, "source",
                                        cli_trace_source(about->source), "step", (json_int_t)about->step, "model_hash",
                                        hash, "tokens", (json_int_t)about->tokens, "layers", (json_int_t)about->layers,
                                        "experts", (json_int_t)about->experts, "domains", domains, "bytes",
                                        (json_int_t)file_bytes(path), "bits_per_byte", cli_json_real(bits_per_byte)));
    } else {
        printf("%s: routes of %s through ", path, cli_counted(about->tokens, "token").text);
        if (about->attention_experts > 0) /* its sub-layers are attention's and the feed-forward's in turn */
            printf("%s of %s in attention and %s", cli_counted(about->layers / 2, "layer").text,
                   cli_counted(about->attention_experts, "expert").text, cli_counted(about->experts, "expert").text);
        else
            printf("%s of %s", cli_counted(about->layers, "layer").text, cli_counted(about->experts, "expert").text);
        printf(", %s\n", cli_bytes_label((double)file_bytes(path)).text);
    }
    sgm_trace_close(trace);
    return code;
}

static sgm_engine_options engine_options(const cli_args *args) {
    return (sgm_engine_options){.threads = (int)cli_integer(args, "threads"),
                                .kernels = cli_text(args, "kernels"),
                                .kv_type = cli_text(args, "kv-type")};
}

static int trace_data(const cli_args *args) {
    size_t count;
    const char *const *paths = cli_many(args, "data", &count);
    int code = cli_check_inputs(paths, count);
    if (code != CLI_DONE)
        return code;
    sgm_engine_options options = engine_options(args);
    options.stop = &cli_stop;
    cli_catch_signals();
    sgm_evaluation e = {0};
    sgm_error error = {0};
    if (sgm_trace_evaluate(cli_text(args, "model"), &options, paths, count, cli_integer(args, "limit"),
                           cli_text(args, "out"), &e, &error))
        return cli_fail(&error);
    code = report(args, cli_text(args, "out"), e.bits_per_byte);
    sgm_evaluation_free(&e);
    return code;
}

static bool on_token(void *context, int32_t id, const char *bytes, size_t size) {
    (void)context, (void)id, (void)bytes, (void)size;
    return !cli_stop;
}

static int generate(const cli_args *args, sgm_engine *engine) {
    const sgm_tokenizer *tokenizer = sgm_engine_tokenizer(engine);
    const char *prompt = cli_text(args, "prompt");
    if (!tokenizer)
        return cli_usage("put a tokenizer.json into the folder", "%s: the model has no tokenizer",
                         sgm_engine_info(engine)->folder);
    int32_t *ids = NULL;
    size_t count = 0;
    int code = cli_encode(tokenizer, prompt, strlen(prompt), true, &ids, &count);
    if (code != CLI_DONE)
        return code;
    sgm_stop stopped = SGM_STOP_TOKENS;
    sgm_generate_options options = {
        .sampler = {.temperature = cli_real(args, "temperature"),
                    .top_k = cli_integer(args, "top-k"),
                    .top_p = cli_real(args, "top-p"),
                    .seed = (uint64_t)cli_integer(args, "seed")},
        .tokens = cli_integer(args, "tokens"),
        .token = on_token,
    };
    options.stopped = &stopped;
    sgm_error error = {0};
    cli_catch_signals();
    sgm_status status = sgm_trace_generate(engine, ids, (int64_t)count, &options, cli_text(args, "out"), NULL, &error);
    free(ids);
    if (status)
        return cli_fail(&error);
    if (stopped == SGM_STOP_CONTEXT)
        fprintf(stderr, "stopped: the context of %lld tokens is full\n",
                (long long)sgm_engine_info(engine)->settings.context);
    if (cli_stop)
        fprintf(stderr, "interrupted: the trace is of what was generated until then\n");
    code = report(args, cli_text(args, "out"), NAN);
    return code == CLI_DONE && cli_stop ? CLI_INTERRUPTED : code;
}

static int trace_prompt(const cli_args *args) {
    sgm_engine_options options = engine_options(args);
    sgm_engine *engine = NULL;
    sgm_error error = {0};
    if (sgm_engine_open(cli_text(args, "model"), &options, &engine, &error))
        return cli_fail(&error);
    int code = generate(args, engine);
    sgm_engine_close(engine);
    return code;
}

static int run(const cli_args *args) {
    static const char *const of_prompt[] = {"tokens", "temperature", "top-k", "top-p", "seed", NULL};
    static const char *const of_data[] = {"limit", NULL};
    bool prompt = cli_given(args, "prompt");
    if (prompt == cli_given(args, "data"))
        return cli_usage("a trace is of an evaluation or of a generation",
                         "sigmoe trace: give either --data or --prompt");
    for (const char *const *flag = prompt ? of_data : of_prompt; *flag; flag++)
        if (cli_given(args, *flag))
            return cli_usage("leave it out", "sigmoe trace: --%s means nothing with --%s", *flag,
                             prompt ? "prompt" : "data");
    const char *out = cli_text(args, "out");
    struct stat about;
    if (stat(out, &about) == 0 && S_ISREG(about.st_mode) && !sgm_trace_is_one(out))
        return cli_usage("give another name, or remove the file", "sigmoe trace: %s is there and is no trace", out);
    cli_note_threads(args);
    return prompt ? trace_prompt(args) : trace_data(args);
}

static const cli_flag flags[] = {
    {"model", CLI_TEXT, "M", NULL, 0, 0, true, "model folder, checkpoint, run folder (its latest) or GGUF file"},
    {"data", CLI_MANY, "FILE…", NULL, 0, 0, false, "trace an evaluation of text files or a data folder"},
    {"limit", CLI_INTEGER, "N", "0", 0, 9e18, false, "stop after this many tokens, files and domains in order; 0: all"},
    {"prompt", CLI_TEXT, "TEXT", NULL, 0, 0, false, "trace a generation that continues this text"},
    {"tokens", CLI_INTEGER, "N", "128", 0, 1e9, false, "most new tokens"},
    {"temperature", CLI_REAL, "X", "0.8", 0, 100, false, "0: always the likeliest token"},
    {"top-k", CLI_INTEGER, "N", "0", 0, 1e9, false, "sample among the N likeliest only; 0: all"},
    {"top-p", CLI_REAL, "X", "1", 1e-6, 1, false, "sample among the likeliest that make up this share only"},
    {"seed", CLI_INTEGER, "S", "1", 0, 9e18, false, "same seed, same text"},
    {"out", CLI_TEXT, "FILE", NULL, 0, 0, true, "the trace to write"},
    {"threads", CLI_INTEGER, "N", "0", 0, SGM_THREADS_MOST, false, "0: as many as there are cores"},
    {"kernels", CLI_TEXT, "NAME", "auto", 0, 0, false, "ref, auto, or one of `sigmoe doctor`"},
    {"kv-type", CLI_TEXT, "TYPE", "auto", 0, 0, false,
     "keys and values as f32, f16 or q8; auto: f32 if the weights are"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_trace = {
    .name = "trace",
    .group = "study",
    .summary = "write which experts worked on which token, of an evaluation or a generation",
    .flags = flags,
    .details =
        "A training run traces itself: --set train.trace_every=N writes RUN/traces/step-NNNNNN.trace.\n"
        "Of a generation the domains are \"prompt\" and \"generated\"; of text files their names, of a data folder\n"
        "its own. An --out that is there is replaced if it is a trace. Ctrl-C leaves nothing of an evaluation, of a\n"
        "generation what there is so far. What a killed program leaves, FILE.partial-…, can be read up to its last\n"
        "whole block.",
    .example = "sigmoe trace --model runs/demo --data runs/demo/data --out demo.trace\n"
               "sigmoe trace --model runs/demo --prompt \"In the beginning\" --tokens 200 --out spoken.trace",
    .run = run,
};
