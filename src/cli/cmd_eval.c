// SPDX-License-Identifier: Apache-2.0
/* sigmoe eval and sigmoe stats: how well a model predicts a text, and how evenly its experts work on it. */
#include <stdlib.h>

#include "commands.h"
#include "cli_imbalance.h"

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

#define EVALUATION_FLAGS                                                                                               \
    {"model", CLI_TEXT, "M", NULL, 0, 0, true, "model folder, checkpoint, run folder (its latest) or GGUF file"},      \
        {"data", CLI_MANY, "FILE…", NULL, 0, 0, true, "text files, or a data folder (its held-out split)"},            \
        {"limit", CLI_INTEGER, "N", "0", 0, 9e18, false, "stop after this many tokens; 0: all"},                       \
        {"threads", CLI_INTEGER, "N", "0", 0, SGM_THREADS_MOST, false, "0: as many as there are cores"},               \
        {"kernels", CLI_TEXT, "NAME", "auto", 0, 0, false, "ref, auto, or one of `sigmoe doctor`"},                    \
        {"kv-type", CLI_TEXT, "TYPE", "auto",                                                                          \
         0,         0,        false,  "keys and values as f32, f16 or q8; auto: f32 if the weights are"},              \
        {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"}, {                                                 \
        0                                                                                                              \
    }

static const cli_flag eval_flags[] = {EVALUATION_FLAGS};
static const cli_flag stats_flags[] = {
    {"against", CLI_TEXT, "M", NULL, 0, 0, false, "a second model of the same shape: how many routes differ"},
    {"groups", CLI_INTEGER, "G", "0", 0, 1 << 20, false, "imbalance between G devices of as many experts; 0: none"},
    EVALUATION_FLAGS};

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

static json_t *layer_json(const sgm_evaluation *e, int64_t layer) {
    const sgm_layer_stats *s = &e->layer[layer];
    json_t *load = json_array();
    for (int64_t i = 0; i < e->experts; i++)
        json_array_append_new(load, json_integer(e->load[layer * e->experts + i]));
    return json_pack("{s:I, s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "layer", (json_int_t)layer,
                     "tokens", (json_int_t)s->tokens, "min_over_mean", cli_json_real(s->min_over_mean), "max_over_mean",
                     cli_json_real(s->max_over_mean), "max_violation", cli_json_real(s->max_violation), "dead_experts",
                     (json_int_t)s->dead_experts, "entropy_over_log_e", cli_json_real(s->entropy_over_log_e),
                     "probability_entropy_over_log_e", cli_json_real(s->probability_entropy_over_log_e),
                     "coefficient_of_variation", cli_json_real(s->coefficient_of_variation), "correlation",
                     cli_json_real(s->correlation), "noise_floor", cli_json_real(s->noise_floor),
                     "experts_computed_per_token", cli_json_real(s->experts_computed_per_token), "load", load);
}

static json_t *stats_json(const sgm_evaluation *e, const sgm_comparison *c, const char *against) {
    json_t *layers = json_array();
    for (int64_t l = 0; l < e->layers; l++) {
        json_t *layer = layer_json(e, l);
        if (against)
            json_object_set_new(layer, "assignments_changed", cli_json_real(c->layer_changed[l]));
        json_array_append_new(layers, layer);
    }
    json_t *json = json_pack("{s:I, s:I, s:I, s:o, s:o}", "tokens", (json_int_t)e->tokens, "bytes",
                             (json_int_t)e->bytes, "experts", (json_int_t)e->experts, "bits_per_byte",
                             cli_json_real(e->bits_per_byte), "layers", layers);
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
    printf("%s a layer on %s; even load: min and max 1.00, entropy 1.000\n\n", cli_counted(e->experts, "expert").text,
           cli_counted(e->tokens, "token").text);
    printf("layer  dead  min/mean  max/mean  violation  noise  entropy of f  entropy of p  correlation%s\n",
           against ? "  changed" : "");
    for (int64_t l = 0; l < e->layers; l++) {
        const sgm_layer_stats *s = &e->layer[l];
        printf("%5lld  %4lld  %8.2f  %8.2f  %9.2f  %5.2f  %12.3f  %12.3f  %11.2f", (long long)l,
               (long long)s->dead_experts, s->min_over_mean, s->max_over_mean, s->max_violation, s->noise_floor,
               s->entropy_over_log_e, s->probability_entropy_over_log_e, s->correlation);
        if (against)
            printf("  %5.2f %%", 100 * c->layer_changed[l]);
        putchar('\n');
    }
    printf("\ndead: below 1 %% of the fair share. violation: max/mean − 1; noise: what an even router would show "
           "here.\n");
    if (against)
        printf("\nagainst %s: %.2f %% of the assignments of tokens to experts differ, %.2f %% of the tokens in one or\n"
               "more layers. Bits per byte %.4f, there %.4f.\n",
               against, 100 * c->assignments_changed, 100 * c->tokens_changed, e->bits_per_byte,
               c->against.bits_per_byte);
}

static int run_stats(const cli_args *args) {
    const char *against = cli_text(args, "against");
    sgm_evaluation e = {0};
    sgm_comparison c = {0};
    int64_t groups = cli_integer(args, "groups");
    int code = cli_imbalance_check(args);
    if (code == CLI_DONE)
        code = evaluate(args, against, &e, &c);
    const sgm_evaluation *shown = against ? &c.model : &e;
    if (code == CLI_DONE && cli_switch(args, "json")) {
        json_t *json = stats_json(shown, &c, against);
        cli_imbalance_add(json, shown, groups);
        code = cli_json_print(json);
    } else if (code == CLI_DONE) {
        print_stats(shown, &c, against);
        cli_imbalance_print(shown, groups);
    }
    sgm_evaluation_free(&e);
    sgm_comparison_free(&c);
    return code;
}

const cli_command cli_stats = {
    .name = "stats",
    .group = "study",
    .summary = "how evenly each layer's experts work on a text, and how routes differ between models",
    .flags = stats_flags,
    .details =
        "entropy of f: of the share of tokens each expert got, over log E; of p: of the mean router probability.\n"
        "A layer whose violation is near its noise is as even as chance allows.\n"
        "With --groups: how far the most loaded of G devices is from the least, and what chance would show.\n"
        "With --against: the share of assignments of tokens to experts that differ between the two models.",
    .example =
        "sigmoe stats --model runs/demo --data runs/demo/data\nsigmoe stats --model runs/demo --data book.txt --json\n"
        "sigmoe stats --model small.gguf --against runs/demo --data runs/demo/data",
    .run = run_stats,
};
