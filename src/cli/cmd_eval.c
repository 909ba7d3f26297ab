// SPDX-License-Identifier: Apache-2.0
/* sigmoe eval and sigmoe stats: how well a model predicts a text, and how evenly its experts work on it. */
#include <stdlib.h>

#include "commands.h"
#include "cli_imbalance.h"
#include "stats.h"

/* `comparison`: where `stats --against` was asked for, NULL otherwise; then the model's own numbers are in it. */
static int evaluate(const cli_args *args, const char *against, sgm_evaluation *evaluation, sgm_comparison *comparison) {
    size_t count;
    const char *const *paths = cli_many(args, "data", &count);
    int code = cli_check_inputs(paths, count);
    if (code != CLI_DONE)
        return code;
    cli_note_threads(args);
    sgm_engine_options options = {.threads = (int)cli_integer(args, "threads"),
                                  .kernels = cli_text(args, "kernels"),
                                  .kv_type = cli_text(args, "kv-type")};
    sgm_error error = {0};
    const char *model = cli_text(args, "model");
    int64_t limit = cli_integer(args, "limit");
    sgm_status status = against
                            ? sgm_evaluate_against(model, against, &options, paths, count, limit, comparison, &error)
                            : sgm_evaluate(model, &options, paths, count, limit, evaluation, &error);
    return status ? cli_fail(&error) : CLI_DONE;
}

/* `needed`: --model and --data have to be there. */
#define EVALUATION_FLAGS(needed)                                                                                       \
    {"model", CLI_TEXT, "M", NULL, 0, 0, needed, "model folder, checkpoint, run folder (its latest) or GGUF file"},    \
        {"data", CLI_MANY, "FILE…", NULL, 0, 0, needed, "text files, or a data folder (its held-out split)"},          \
        {"limit", CLI_INTEGER, "N",   "0",                                                                             \
         0,       9e18,        false, "stop after this many tokens, files and domains in order; 0: all"},              \
        {"threads", CLI_INTEGER, "N", "0", 0, SGM_THREADS_MOST, false, "0: as many as there are cores"},               \
        {"kernels", CLI_TEXT, "NAME", "auto", 0, 0, false, "ref, auto, or one of `sigmoe doctor`"},                    \
        {"kv-type", CLI_TEXT, "TYPE", "auto",                                                                          \
         0,         0,        false,  "keys and values as f32, f16 or q8; auto: f32 if the weights are"},              \
        {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"}, {                                                 \
        0                                                                                                              \
    }

static const cli_flag eval_flags[] = {EVALUATION_FLAGS(true)};
static const cli_flag stats_flags[] = {
    {"against", CLI_TEXT, "M", NULL, 0, 0, false, "a second model of the same shape: how many routes differ"},
    {"groups", CLI_INTEGER, "G", "0", 0, 1 << 20, false, "imbalance between G devices of as many experts; 0: none"},
    EVALUATION_FLAGS(false)};

static int run_eval(const cli_args *args) {
    sgm_evaluation e = {0};
    int code = evaluate(args, NULL, &e, NULL);
    if (code == CLI_DONE && cli_switch(args, "json"))
        code = cli_json_print(json_pack("{s:I, s:I, s:o, s:o, s:o}", "tokens", (json_int_t)e.tokens, "bytes",
                                        (json_int_t)e.bytes, "loss_nats_per_token",
                                        cli_json_real(e.loss_nats_per_token), "perplexity", cli_json_real(e.perplexity),
                                        "bits_per_byte", cli_json_real(e.bits_per_byte)));
    else if (code == CLI_DONE) {
        printf("bits per byte   %.4f\n", e.bits_per_byte);
        printf("loss            %.4f nats per token\n", e.loss_nats_per_token);
        printf("perplexity      %.3f per token\n", e.perplexity);
        printf("text            %s in %s\n", cli_bytes_label((double)e.bytes).text,
               cli_counted(e.tokens, "token").text);
    }
    sgm_evaluation_free(&e);
    return code;
}

const cli_command cli_eval = {
    .name = "eval",
    .group = "use",
    .summary = "bits per byte, loss and perplexity of a model on text",
    .flags = eval_flags,
    .details = "Windows overlap by half and every byte is scored once. A line <|endoftext|> parts the\n"
               "documents of a file; a file without one is a document.",
    .example =
        "sigmoe eval --model runs/demo --data runs/demo/data\nsigmoe eval --model runs/demo --data book.txt --json",
    .run = run_eval,
};

static cli_layers layers_of(const sgm_evaluation *e) {
    return (cli_layers){.count = e->layers,
                        .experts = e->experts,
                        .attention_experts = e->attention_experts,
                        .null_experts = e->null_experts};
}

static json_t *stats_json(const sgm_evaluation *e, const sgm_comparison *c, const char *against) {
    json_t *layers = json_array();
    cli_layers of = layers_of(e);
    for (int64_t l = 0; l < e->layers; l++) {
        json_t *layer = cli_layer_json(&of, &e->layer[l], e->load, l);
        if (against)
            json_object_set_new(layer, "assignments_changed", cli_json_real(c->layer_changed[l]));
        json_array_append_new(layers, layer);
    }
    json_t *json =
        json_pack("{s:I, s:I, s:I, s:I, s:o, s:o}", "tokens", (json_int_t)e->tokens, "bytes", (json_int_t)e->bytes,
                  "experts", (json_int_t)e->experts, "null_experts", (json_int_t)e->null_experts, "bits_per_byte",
                  cli_json_real(e->bits_per_byte), "layers", layers);
    if (e->attention_experts > 0)
        json_object_set_new(json, "attention_experts", json_integer(e->attention_experts));
    if (against) {
        json_object_set_new(json, "assignments_changed", cli_json_real(c->assignments_changed));
        json_object_set_new(json, "tokens_changed", cli_json_real(c->tokens_changed));
        json_object_set_new(json, "against",
                            json_pack("{s:s, s:o, s:o}", "model", against, "bits_per_byte",
                                      cli_json_real(c->against.bits_per_byte), "loss_nats_per_token",
                                      cli_json_real(c->against.loss_nats_per_token)));
    }
    return json;
}

static void print_stats(const sgm_evaluation *e, const sgm_comparison *c, const char *against) {
    cli_layers layers = layers_of(e);
    cli_layers_note_computed(&layers, e->layer, e->experts_per_token);
    cli_layers_print(&layers);
    printf(" on %s; even load: min and max 1.00, entropy 1.000\n\n", cli_counted(e->tokens, "token").text);
    cli_layer_heading(&layers);
    printf("%s\n", against ? "  changed" : "");
    for (int64_t l = 0; l < e->layers; l++) {
        cli_layer_line(&layers, &e->layer[l], l);
        if (against)
            printf("  %5.2f %%", 100 * c->layer_changed[l]);
        putchar('\n');
    }
    cli_layer_footing(&layers);
    if (against)
        printf("\nagainst %s: %.2f %% of the assignments of tokens to experts differ, %.2f %% of the tokens in one or\n"
               "more layers. Bits per byte %.4f, there %.4f.\n",
               against, 100 * c->assignments_changed, 100 * c->tokens_changed, e->bits_per_byte,
               c->against.bits_per_byte);
}

static int run_stats(const cli_args *args) {
    if (cli_operand_count(args))
        return cli_stats_traces(args);
    for (int i = 0; i < 2; i++)
        if (!cli_given(args, i ? "data" : "model"))
            return cli_usage("`sigmoe stats --help` shows an example", "sigmoe stats: --%s is missing, or a trace",
                             i ? "data FILE…" : "model M");
    const char *against = cli_text(args, "against");
    sgm_evaluation e = {0};
    sgm_comparison c = {0};
    cli_devices devices;
    int code = cli_devices_of_model(args, &devices);
    if (code == CLI_DONE)
        code = evaluate(args, against, &e, &c);
    const sgm_evaluation *shown = against ? &c.model : &e;
    if (code == CLI_DONE && cli_switch(args, "json")) {
        json_t *json = stats_json(shown, &c, against);
        cli_imbalance_add(json, &devices, shown->layer, shown->load, shown->layers, shown->experts);
        code = cli_json_print(json);
    } else if (code == CLI_DONE) {
        print_stats(shown, &c, against);
        cli_imbalance_print(&devices, shown->layer, shown->load, shown->layers, shown->experts);
    }
    sgm_evaluation_free(&e);
    sgm_comparison_free(&c);
    return code;
}

const cli_command cli_stats = {
    .name = "stats",
    .group = "study",
    .summary = "how evenly each layer's experts work on a text or in a trace, and how routes differ",
    .operands = "{TRACE [TRACE] | --model M --data FILE…}",
    .max_operands = 2,
    .flags = stats_flags,
    .details =
        "entropy of f: of the share of tokens each expert got, over log E; of p: of the mean router probability.\n"
        "A layer whose violation is near its noise is as even as chance allows. Null experts are left out of all but\n"
        "the load: they have none to even out.\n"
        "With --groups: how far the most loaded of G devices is from the least, and what chance would show.\n"
        "With --against: the share of assignments of tokens to experts that differ between the two models.\n"
        "Of a TRACE instead of a model also by domain, with the Jensen-Shannon divergence between the domains' loads, "
        "in\n"
        "nats, beside what so few tokens would show of domains that are alike. Of two traces: how they differ.",
    .example =
        "sigmoe stats --model runs/demo --data runs/demo/data\nsigmoe stats --model runs/demo --data book.txt --json\n"
        "sigmoe stats --model small.gguf --against runs/demo --data runs/demo/data\n"
        "sigmoe stats demo.trace\nsigmoe stats before.trace after.trace",
    .run = run_stats,
};
