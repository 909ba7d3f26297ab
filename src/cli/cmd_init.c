// SPDX-License-Identifier: Apache-2.0
/* sigmoe init: a model folder or a GGUF file with random weights. */
#include <string.h>

#include "commands.h"
#include "convert.h"

/* The byte vocabulary needs no file: give such a model its tokenizer so that it can generate. */
static int add_byte_tokenizer(const char *folder) {
    sgm_tokenizer *tokenizer = NULL;
    sgm_error error = {0};
    if (sgm_tokenizer_bytes(&tokenizer, &error))
        return cli_fail(&error);
    int code = sgm_tokenizer_save(tokenizer, folder, &error) ? cli_fail(&error) : CLI_DONE;
    sgm_tokenizer_close(tokenizer);
    return code;
}

static int report(const cli_args *args, const char *folder) {
    sgm_model_info info;
    sgm_error error = {0};
    if (sgm_model_inspect(folder, &info, &error))
        return cli_fail(&error);
    if (cli_switch(args, "json"))
        return cli_json_print(json_pack("{s:s, s:I, s:I, s:I, s:s}", "path", folder, "total_parameters",
                                        (json_int_t)info.counts.total_parameters, "active_parameters",
                                        (json_int_t)info.counts.active_parameters, "bytes", (json_int_t)info.file_bytes,
                                        "dtype", info.dtype));
    printf("%s: %s parameters, %s active per token, %s\n", folder,
           cli_count_label((double)info.counts.total_parameters).text,
           cli_count_label((double)info.counts.active_parameters).text, cli_bytes_label((double)info.file_bytes).text);
    return CLI_DONE;
}

typedef struct gguf_job {
    const sgm_config *config;
    const cli_args *args;
} gguf_job;

static int init_gguf(void *context, const sgm_convert_options *options, sgm_convert_report *report, sgm_error *error) {
    const gguf_job *job = context;
    return sgm_model_init_gguf(job->config, (uint64_t)cli_integer(job->args, "seed"), options,
                               cli_text(job->args, "out"), report, error);
}

/* A GGUF file is asked for by its name. */
static bool wants_gguf(const cli_args *args) {
    const char *out = cli_text(args, "out");
    size_t n = strlen(out);
    return n > 5 && strcmp(out + n - 5, ".gguf") == 0;
}

/* What only a GGUF file can hold was asked of a folder: neither is made for the other. */
static int check_folder_holds(const cli_args *args) {
    static const char *const only[] = {"arch", "tensor-type", "expert-type"};
    const char *type = cli_text(args, "type"), *out = cli_text(args, "out");
    char hint[160];
    if (strcmp(type, "f32") != 0)
        return cli_usage("end the name of the file to make in .gguf, or leave --type out for a folder in f32",
                         "sigmoe init: a model folder cannot be written as %s, and --out %s is no .gguf file", type,
                         out);
    for (size_t i = 0; i < sizeof only / sizeof *only; i++) {
        snprintf(hint, sizeof hint, "end the name of the file to make in .gguf, or leave --%s out for a folder",
                 only[i]);
        if (cli_given(args, only[i]))
            return cli_usage(hint, "sigmoe init: --%s is for GGUF files, and --out %s is no .gguf file", only[i], out);
    }
    return CLI_DONE;
}

static int run(const cli_args *args) {
    sgm_config *config = NULL;
    int code = wants_gguf(args) ? CLI_DONE : check_folder_holds(args);
    if (code == CLI_DONE)
        code = cli_config(args, &config);
    if (code != CLI_DONE)
        return code;
    const char *folder = cli_text(args, "out"), *tokenizer = cli_text(args, "tokenizer");
    sgm_model_settings settings;
    sgm_error error = {0};
    if (wants_gguf(args)) {
        gguf_job job = {config, args};
        code = cli_convert(args, init_gguf, &job, folder);
        sgm_config_free(config);
        return code;
    }
    cli_catch_signals();
    if (sgm_model_settings_from_config(config, &settings, &error) ||
        sgm_model_init(config, tokenizer, (uint64_t)cli_integer(args, "seed"), cli_text(args, "type"), folder,
                       &cli_stop, &error))
        code = cli_fail(&error);
    else if (!tokenizer && settings.vocabulary == 257)
        code = add_byte_tokenizer(folder);
    sgm_config_free(config);
    return code == CLI_DONE ? report(args, folder) : code;
}

static const cli_flag flags[] = {
    CLI_CONFIG_FLAGS,
    {"type", CLI_TEXT, "T", "f32", 0, 0, false,
     "type of every matrix: f32, f16, bf16, q8_0, q4_0, q5_0, q4_k or q6_k; all but f32 in a .gguf file only"},
    CLI_CONVERT_FLAGS,
    {"tokenizer", CLI_TEXT, "PATH", NULL, 0, 0, false, "a tokenizer.json to put beside the weights"},
    {"seed", CLI_INTEGER, "S", "1", 0, 9e18, false, "of the random weights"},
    {"out", CLI_TEXT, "PATH", NULL, 0, 0, true, "the model folder to make, or a .gguf file"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_init = {
    .name = "init",
    .group = "make",
    .summary = "make a model folder or a GGUF file with random weights",
    .flags = flags,
    .example = "sigmoe init --preset pico --out models/pico\n"
               "sigmoe init --preset nano --set model.experts=32 --tokenizer tokenizer.json --out models/nano32\n"
               "sigmoe init --preset sigma-moe-tiny --type q4_k --out sigma-q4_k.gguf",
    .run = run,
};
