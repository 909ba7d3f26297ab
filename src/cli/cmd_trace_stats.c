// SPDX-License-Identifier: Apache-2.0
/* sigmoe stats of traces, and the table of layers that it shares with stats of models. */
#include <math.h>

#include "cli_imbalance.h"
#include "stats.h"

/* ---- a layer ------------------------------------------------------------------------------------------------------ */

json_t *cli_layer_json(const cli_layers *layers, const sgm_layer_stats *s, const int64_t *load, int64_t layer) {
    json_t *list = json_array(), *json = cli_routed_json(layers->attention_experts, layer);
    int64_t stride = sgm_routed_stride(layers->experts, layers->attention_experts);
    for (int64_t i = 0; i < sgm_routed_experts(layers->experts, layers->attention_experts, layer); i++)
        json_array_append_new(list, json_integer(load[layer * stride + i]));
    json_object_update_new(
        json,
        json_pack("{s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "tokens", (json_int_t)s->tokens,
                  "min_over_mean", cli_json_real(s->min_over_mean), "max_over_mean", cli_json_real(s->max_over_mean),
                  "max_violation", cli_json_real(s->max_violation), "dead_experts", (json_int_t)s->dead_experts,
                  "entropy_over_log_e", cli_json_real(s->entropy_over_log_e), "probability_entropy_over_log_e",
                  cli_json_real(s->probability_entropy_over_log_e), "coefficient_of_variation",
                  cli_json_real(s->coefficient_of_variation), "correlation", cli_json_real(s->correlation),
                  "noise_floor", cli_json_real(s->noise_floor), "experts_computed_per_token",
                  cli_json_real(s->experts_computed_per_token), "load", list));
    return json;
}

void cli_layers_print(const cli_layers *layers) {
    if (layers->attention_experts > 0)
        printf("%s and ", cli_counted(layers->attention_experts, "attention expert").text);
    printf("%s a layer", cli_counted(layers->experts, "expert").text);
    if (layers->null_experts > 0)
        printf(", %s of them null,", cli_grouped(layers->null_experts).text);
}

void cli_layers_note_computed(cli_layers *layers, const sgm_layer_stats *stats, const int64_t *experts_per_token) {
    for (int64_t l = 0; l < layers->count; l++)
        layers->computed =
            layers->computed || !(fabs(stats[l].experts_computed_per_token - (double)experts_per_token[l]) < 1e-9);
}

void cli_layer_heading(const cli_layers *layers) {
    printf("layer  dead  min/mean  max/mean  violation  noise  entropy of f  entropy of p  correlation");
    if (layers->computed)
        printf("  computed");
}

/* A number, or a dash where there is none. */
static void print_known(int width, int digits, double value) {
    if (isfinite(value))
        printf("  %*.*f", width, digits, value);
    else
        printf("  %*s", width, "-");
}

void cli_layer_line(const cli_layers *layers, const sgm_layer_stats *s, int64_t layer) {
    printf("%5s  %4lld  %8.2f  %8.2f  %9.2f  %5.2f  %12.3f", cli_routed_label(layers->attention_experts, layer).text,
           (long long)s->dead_experts, s->min_over_mean, s->max_over_mean, s->max_violation, s->noise_floor,
           s->entropy_over_log_e);
    print_known(12, 3, s->probability_entropy_over_log_e);
    print_known(11, 2, s->correlation);
    if (layers->computed)
        print_known(8, 3, s->experts_computed_per_token);
}

void cli_layer_footing(const cli_layers *layers) {
    printf("\ndead: below 1 %% of the fair share. violation: max/mean − 1; noise: what an even router would show "
           "here.\n");
    if (layers->computed)
        printf("computed: experts per token that cost something; null experts and dropped assignments do not.\n");
    if (layers->null_experts > 0)
        printf("Null experts have no load to even out: all other numbers are of the %s.\n",
               cli_counted(layers->experts - layers->null_experts, "other expert").text);
    if (layers->attention_experts > 0)
        printf("a: a layer's attention experts, f: those of its feed-forward.\n");
}

/* ---- one trace ---------------------------------------------------------------------------------------------------- */

static cli_layers layers_of(const sgm_trace_stats *stats) {
    return (cli_layers){.count = stats->layers,
                        .experts = stats->experts,
                        .attention_experts = stats->attention_experts,
                        .null_experts = stats->null_experts};
}

static json_t *load_json(const sgm_trace_load *load, const sgm_trace_stats *stats) {
    json_t *list = json_array();
    cli_layers layers = layers_of(stats);
    for (int64_t l = 0; l < stats->layers; l++)
        json_array_append_new(list, cli_layer_json(&layers, &load->layer[l], load->load, l));
    return list;
}

static json_t *stats_json(const char *path, const sgm_trace_info *about, const sgm_trace_stats *stats) {
    char model[17], tokenizer[17];
    json_t *domains = json_array(), *layers = load_json(&stats->all, stats);
    int64_t stride = sgm_routed_stride(stats->experts, stats->attention_experts);
    for (int64_t l = 0; l < stats->layers; l++) {
        json_t *layer = json_array_get(layers, (size_t)l), *computed = json_array();
        for (int64_t e = 0; e < sgm_routed_experts(stats->experts, stats->attention_experts, l); e++)
            json_array_append_new(computed, json_integer(stats->computed_load[l * stride + e]));
        json_object_set_new(layer, "computed_load", computed);
        json_object_set_new(layer, "domain_divergence_nats", cli_json_real(stats->domain_divergence_nats[l]));
        json_object_set_new(layer, "domain_divergence_noise_nats",
                            cli_json_real(stats->domain_divergence_noise_nats[l]));
    }
    for (size_t d = 0; d < stats->domains; d++)
        json_array_append_new(domains, json_pack("{s:s, s:I, s:o}", "domain", about->domain[d], "tokens",
                                                 (json_int_t)stats->domain[d].tokens, "layers",
                                                 load_json(&stats->domain[d], stats)));
    snprintf(model, sizeof model, "%016llx", (unsigned long long)about->model_hash);
    snprintf(tokenizer, sizeof tokenizer, "%016llx", (unsigned long long)about->tokenizer_hash);
    json_t *json = json_pack("{s:s, s:s, s:I, s:s, s:s, s:b, s:I, s:I, s:I, s:o, s:o}", "trace", path, "source",
                             cli_trace_source(about->source), "step", (json_int_t)about->step, "model_hash", model,
                             "tokenizer_hash", tokenizer, "complete", about->complete, "tokens",
                             (json_int_t)about->tokens, "experts", (json_int_t)about->experts, "null_experts",
                             (json_int_t)about->null_experts, "layers", layers, "domains", domains);
    if (about->attention_experts > 0)
        json_object_set_new(json, "attention_experts", json_integer(about->attention_experts));
    return json;
}

static void print_stats(const sgm_trace_info *about, const sgm_trace_stats *stats) {
    cli_layers layers = layers_of(stats);
    cli_layers_note_computed(&layers, stats->all.layer, about->experts_per_token);
    cli_layers_print(&layers);
    printf(" on %s (%s", cli_counted(about->tokens, "token").text, cli_trace_source(about->source));
    if (about->step >= 0)
        printf(", step %lld", (long long)about->step);
    printf("); even load: min and max 1.00, entropy 1.000\n\n");
    const bool compares = stats->layers > 0 && isfinite(stats->domain_divergence_nats[0]); /* several domains */
    cli_layer_heading(&layers);
    puts(compares ? "  domains differ  noise" : "");
    for (int64_t l = 0; l < stats->layers; l++) {
        cli_layer_line(&layers, &stats->all.layer[l], l);
        if (compares)
            printf("  %14.4f  %.4f", stats->domain_divergence_nats[l], stats->domain_divergence_noise_nats[l]);
        printf("\n");
    }
    cli_layer_footing(&layers);
    if (compares)
        puts("domains differ: divergence between the loads of the domains, in nats; noise: of domains that are alike.");
    puts("");
    for (size_t d = 0; d < stats->domains; d++) {
        char name[64];
        double entropy = 0;
        if (stats->domain[d].tokens == 0)
            continue;
        snprintf(name, sizeof name, "%s", about->domain[d]);
        for (int64_t l = 0; l < stats->layers; l++)
            entropy += stats->domain[d].layer[l].entropy_over_log_e / (double)stats->layers;
        printf("domain %-16s %12s, entropy of f %.3f on average\n", cli_clean(name),
               cli_counted(stats->domain[d].tokens, "token").text, entropy);
    }
}

void cli_warn_incomplete(const char *path, const sgm_trace_info *about) {
    char text[512];
    snprintf(text, sizeof text, "%s has no end: its writer was interrupted; what is whole of it is read", path);
    if (!about->complete)
        cli_warning(text);
}

static int one_trace(const cli_args *args) {
    const char *path = cli_operand(args, 0);
    sgm_trace *trace;
    sgm_trace_stats stats = {0};
    sgm_error error = {0};
    if (sgm_trace_open(path, &trace, &error))
        return cli_fail(&error);
    const sgm_trace_info *about = sgm_trace_about(trace);
    cli_devices devices;
    int code = cli_devices_of(args, about->experts, about->null_experts, about->attention_experts, &devices);
    if (code == CLI_DONE) {
        cli_warn_incomplete(path, about);
        code = sgm_trace_summarise(trace, &stats, &error) ? cli_fail(&error) : CLI_DONE;
    }
    if (code == CLI_DONE && cli_switch(args, "json")) {
        json_t *json = stats_json(path, about, &stats);
        cli_imbalance_add(json, &devices, stats.all.layer, stats.computed_load, stats.layers, stats.experts);
        code = cli_json_print(json);
    } else if (code == CLI_DONE) {
        print_stats(about, &stats);
        cli_imbalance_print(&devices, stats.all.layer, stats.computed_load, stats.layers, stats.experts);
    }
    sgm_trace_stats_free(&stats);
    sgm_trace_close(trace);
    return code;
}

/* ---- two traces --------------------------------------------------------------------------------------------------- */

typedef struct pair {
    sgm_trace *trace[2];
    sgm_trace_stats stats[2];
    sgm_trace_comparison found;
} pair;

static sgm_status compare(const cli_args *args, pair *p, sgm_error *error) {
    sgm_status status = SGM_OK;
    for (size_t i = 0; !status && i < 2; i++) {
        status = sgm_trace_open(cli_operand(args, i), &p->trace[i], error);
        if (!status)
            cli_warn_incomplete(cli_operand(args, i), sgm_trace_about(p->trace[i]));
    }
    if (!status)
        status = sgm_trace_compare(p->trace[0], p->trace[1], &p->found, error);
    for (size_t i = 0; !status && i < 2; i++)
        status = sgm_trace_summarise(p->trace[i], &p->stats[i], error);
    return status;
}

static json_t *comparison_json(const cli_args *args, const pair *p) {
    const sgm_trace_comparison *c = &p->found;
    json_t *layers = json_array();
    for (int64_t l = 0; l < c->layers; l++) {
        json_t *layer = cli_routed_json(p->stats[0].attention_experts, l);
        json_object_update_new(
            layer,
            json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "assignments_changed", cli_json_real(c->layer_changed[l]),
                      "load_difference", cli_json_real(c->load_difference[l]), "max_violation",
                      cli_json_real(p->stats[0].all.layer[l].max_violation), "against_max_violation",
                      cli_json_real(p->stats[1].all.layer[l].max_violation), "domain_divergence_nats",
                      cli_json_real(p->stats[0].domain_divergence_nats[l]), "against_domain_divergence_nats",
                      cli_json_real(p->stats[1].domain_divergence_nats[l])));
        json_array_append_new(layers, layer);
    }
    return json_pack(
        "{s:s, s:s, s:b, s:I, s:o, s:o, s:o, s:o}", "trace", cli_operand(args, 0), "against", cli_operand(args, 1),
        "same_model", sgm_trace_about(p->trace[0])->model_hash == sgm_trace_about(p->trace[1])->model_hash, "tokens",
        (json_int_t)c->tokens, "assignments_changed", cli_json_real(c->assignments_changed), "tokens_changed",
        cli_json_real(c->tokens_changed), "weights_changed", cli_json_real(c->weights_changed), "layers", layers);
}

typedef struct nats_label {
    char text[16];
} nats_label;

static nats_label nats(double value) { /* not finite: a trace of one domain */
    nats_label label = {"-"};
    if (isfinite(value))
        snprintf(label.text, sizeof label.text, "%.4f", value);
    return label;
}

static void print_comparison(const pair *p) {
    const sgm_trace_comparison *c = &p->found;
    printf("%s; %.2f %% of the assignments differ, %.2f %% of the tokens in one or more layers,\n"
           "%.2f %% of the weights of the assignments that both made\n\n",
           cli_counted(c->tokens, "token").text, 100 * c->assignments_changed, 100 * c->tokens_changed,
           100 * c->weights_changed);
    printf("layer   changed  load moved  violation   there  domains differ   there\n");
    for (int64_t l = 0; l < c->layers; l++)
        printf("%5s  %6.2f %%    %6.2f %%  %9.2f  %6.2f  %14s  %6s\n",
               cli_routed_label(p->stats[0].attention_experts, l).text, 100 * c->layer_changed[l],
               100 * c->load_difference[l], p->stats[0].all.layer[l].max_violation,
               p->stats[1].all.layer[l].max_violation, nats(p->stats[0].domain_divergence_nats[l]).text,
               nats(p->stats[1].domain_divergence_nats[l]).text);
    printf("\nload moved: half the sum of the differences of the experts' shares of what was computed.\n");
}

static int two_traces(const cli_args *args) {
    pair p = {0};
    sgm_error error = {0};
    int code = CLI_DONE;
    if (compare(args, &p, &error))
        code = cli_fail(&error);
    else if (cli_switch(args, "json"))
        code = cli_json_print(comparison_json(args, &p));
    else
        print_comparison(&p);
    sgm_trace_comparison_free(&p.found);
    for (int i = 0; i < 2; i++) {
        sgm_trace_stats_free(&p.stats[i]);
        sgm_trace_close(p.trace[i]);
    }
    return code;
}

int cli_stats_traces(const cli_args *args) {
    static const char *const of_models[] = {"model", "data", "against", "limit", "threads", "kernels", "kv-type", NULL};
    for (const char *const *flag = of_models; *flag; flag++)
        if (cli_given(args, *flag))
            return cli_usage("leave it out, or the trace", "sigmoe stats: --%s means nothing with a trace", *flag);
    if (cli_operand_count(args) > 1 && cli_integer(args, "groups"))
        return cli_usage("ask for each trace by itself", "sigmoe stats: --groups means nothing with two traces");
    int code = cli_check_traces(cli_operands(args), cli_operand_count(args));
    if (code != CLI_DONE)
        return code;
    return cli_operand_count(args) == 1 ? one_trace(args) : two_traces(args);
}
