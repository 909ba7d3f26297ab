// SPDX-License-Identifier: Apache-2.0
/* sigmoe place: which experts, and how many replicas of each, to put on which GPU. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "stats.h"

/* ---- the load ----------------------------------------------------------------------------------------------------- */

typedef struct loads {
    double *load; /* (layers, experts) malloc'ed */
    int64_t layers, experts;
    json_t *complete; /* what a trace, or its stats, says of itself; NULL: nobody says anything */
} loads;

static int no_memory(void) {
    return cli_no_memory("the load");
}

/* What costs a row: an expert that drops an assignment does nothing for it. Null experts have no weights that would have to lie
 * anywhere. */
static int from_trace(const char *path, loads *out) {
    sgm_trace *trace;
    sgm_trace_stats stats = {0};
    sgm_error error = {0};
    sgm_status status = sgm_trace_open(path, &trace, &error);
    if (!status)
        status = sgm_trace_summarise(trace, &stats, &error);
    int code = status ? cli_fail(&error) : CLI_DONE;
    if (code == CLI_DONE && stats.attention_experts > 0)
        code =
            cli_error(CLI_BAD_INPUT, "give a list of numbers for each layer of one kind",
                      "%s: the trace has attention experts too: experts of two kinds cannot be placed together", path);
    if (code == CLI_DONE) {
        const sgm_trace_info *about = sgm_trace_about(trace);
        cli_warn_incomplete(path, about);
        *out = (loads){.layers = stats.layers,
                       .experts = stats.experts - about->null_experts,
                       .complete = json_boolean(about->complete)};
        out->load = malloc((size_t)(out->layers * out->experts) * sizeof *out->load);
        for (int64_t i = 0; out->load && i < out->layers * out->experts; i++)
            out->load[i] = (double)stats.computed_load[i / out->experts * stats.experts + i % out->experts];
        if (!out->load)
            code = no_memory();
    }
    sgm_trace_stats_free(&stats);
    sgm_trace_close(trace);
    return code;
}

static int bad_json(const char *path, const char *what) {
    return cli_error(CLI_BAD_INPUT, "give a list of numbers for each layer, or one flat list for one layer", "%s: %s",
                     path, what);
}

/* One layer's list: an array of numbers, or an entry of `stats --json` that holds one, better that of what was computed. */
static json_t *layer_list(json_t *value) {
    json_t *computed = json_object_get(value, "computed_load");
    return !json_is_object(value) ? value : computed ? computed : json_object_get(value, "load");
}

static int add_layer(const char *path, json_t *list, loads *out) {
    if (!json_is_array(list) || json_array_size(list) == 0)
        return bad_json(path, "a layer's load is no list of numbers");
    int64_t experts = (int64_t)json_array_size(list);
    if (out->layers && experts != out->experts)
        return bad_json(path, "its layers have different numbers of experts");
    double *grown = realloc(out->load, (size_t)((out->layers + 1) * experts) * sizeof *grown);
    if (!grown)
        return no_memory();
    out->load = grown;
    out->experts = experts;
    for (int64_t e = 0; e < experts; e++) {
        json_t *number = json_array_get(list, (size_t)e);
        if (!json_is_number(number))
            return bad_json(path, "a layer's load is no list of numbers");
        grown[out->layers * experts + e] = json_number_value(number);
    }
    out->layers++;
    return CLI_DONE;
}

/* Close the rows up over the last experts of each layer. */
static int leave_out_null(const char *path, int64_t null_experts, loads *out) {
    if (null_experts < 0 || null_experts >= out->experts)
        return bad_json(path, "its null_experts is not below the number of experts");
    int64_t left = out->experts - null_experts;
    for (int64_t l = 1; l < out->layers; l++)
        memmove(out->load + l * left, out->load + l * out->experts, (size_t)left * sizeof *out->load);
    out->experts = left;
    return CLI_DONE;
}

static int from_json(const char *path, loads *out) {
    json_t *value;
    int code =
        cli_read_json(path, "neither JSON nor a trace: give a list of numbers for each layer, or a trace", &value);
    if (code != CLI_DONE)
        return code;
    json_t *list = value;
    int64_t null_experts = 0;
    if (json_is_object(value)) {
        list = json_object_get(value, "layers");
        null_experts = json_integer_value(json_object_get(value, "null_experts"));
        out->complete = json_incref(json_object_get(value, "complete"));
    }
    if (!json_is_array(list) || json_array_size(list) == 0)
        code = bad_json(path, "there is no list of layers in it");
    else if (json_is_number(json_array_get(list, 0)))
        code = add_layer(path, list, out);
    else
        for (size_t l = 0; code == CLI_DONE && l < json_array_size(list); l++)
            code = add_layer(path, layer_list(json_array_get(list, l)), out);
    json_decref(value);
    return code == CLI_DONE && null_experts ? leave_out_null(path, null_experts, out) : code;
}

/* ---- the plan ----------------------------------------------------------------------------------------------------- */

static json_t *slots_json(const int32_t *expert, int64_t count) {
    json_t *list = json_array();
    for (int64_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer(expert[i]));
    return list;
}

static json_t *replicas_json(const int64_t *replicas, int64_t count) {
    json_t *list = json_array();
    for (int64_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer(replicas[i]));
    return list;
}

static json_t *plan_json(const char *method, const sgm_placement *p, json_t *complete) {
    const sgm_placement_shape *s = &p->shape;
    json_t *experts = json_array(), *replicas = json_array(), *balance = json_array();
    for (int64_t l = 0; l < s->layers; l++) {
        json_array_append_new(experts, slots_json(p->physical_to_logical + l * s->slots, s->slots));
        json_array_append_new(replicas, replicas_json(p->replicas + l * s->experts, s->experts));
        json_array_append_new(balance, cli_json_real(p->layer_mean_over_max_per_gpu[l]));
    }
    json_t *json =
        json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "method", method, "physical_to_logical", experts, "replicas",
                  replicas, "mean_over_max_per_gpu", cli_json_real(p->mean_over_max_per_gpu),
                  "layer_mean_over_max_per_gpu", balance, "planner_seconds", cli_json_real(p->planner_seconds));
    if (complete)
        json_object_set(json, "complete", complete);
    return json;
}

static void print_gpus(const sgm_placement *p, const double *load, int64_t layer) {
    const sgm_placement_shape *s = &p->shape;
    int64_t each = s->slots / s->gpus;
    for (int64_t g = 0; g < s->gpus; g++) {
        double own = 0;
        printf("layer %-4lld GPU %-4lld", (long long)layer, (long long)g);
        for (int64_t i = g * each; i < (g + 1) * each; i++) {
            int32_t e = p->physical_to_logical[layer * s->slots + i];
            int64_t replicas = p->replicas[layer * s->experts + e];
            own += load[layer * s->experts + e] / (double)replicas;
            printf(replicas > 1 ? " %d*" : " %d ", (int)e);
        }
        printf("  load %.6g\n", own);
    }
}

static void print_plan(const char *method, const sgm_placement *p, const double *load) {
    for (int64_t l = 0; l < p->shape.layers; l++)
        print_gpus(p, load, l);
    printf("\n%s: mean over greatest load of a GPU %.4f (1: even), planned in %.1f µs a layer%s\n", method,
           p->mean_over_max_per_gpu, 1e6 * p->planner_seconds / (double)p->shape.layers,
           p->shape.slots > p->shape.experts ? "; *: one of several replicas" : "");
}

static int run(const cli_args *args) {
    const char *path = cli_text(args, "load"), *method = cli_text(args, "method");
    loads own = {0};
    int code = cli_check_traces(&path, 1);
    if (code == CLI_DONE)
        code = sgm_trace_is_one(path) ? from_trace(path, &own) : from_json(path, &own);
    sgm_placement placement = {0};
    if (code == CLI_DONE) {
        sgm_error error = {0};
        const sgm_placement_shape shape = {.layers = own.layers,
                                           .experts = own.experts,
                                           .slots = cli_integer(args, "slots"),
                                           .groups = cli_integer(args, "groups"),
                                           .nodes = cli_integer(args, "nodes"),
                                           .gpus = cli_integer(args, "gpus")};
        sgm_status status = sgm_place(method, own.load, &shape, &placement, &error);
        if (status)
            code = status == SGM_ENOTFOUND ? (cli_fail(&error), CLI_USAGE) : cli_fail(&error);
        else if (cli_switch(args, "json"))
            code = cli_json_print(plan_json(method, &placement, own.complete));
        else
            print_plan(method, &placement, own.load);
    }
    sgm_placement_free(&placement);
    json_decref(own.complete);
    free(own.load);
    return code;
}

static const cli_flag flags[] = {
    {"method", CLI_TEXT, "NAME", "eplb", 0, 0, false, "a method of `sigmoe list placement`"},
    {"load", CLI_TEXT, "FILE", NULL, 0, 0, true, "the experts' load: JSON, a list for each layer; or a trace"},
    {"slots", CLI_INTEGER, "P", NULL, 1, 16777216, true, "physical experts of a layer, replicas included"},
    {"groups", CLI_INTEGER, "G", "1", 1, 16777216, false, "groups of experts that stay on one node"},
    {"nodes", CLI_INTEGER, "N", "1", 1, 16777216, false, "nodes that the GPUs stand in"},
    {"gpus", CLI_INTEGER, "R", NULL, 1, 16777216, true, "GPUs of all nodes; threads or ranks as well"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_place = {
    .name = "place",
    .group = "shape",
    .summary = "place experts and replicas of the busy ones on GPUs, so that all get the same load",
    .flags = flags,
    .details =
        "The load is a trace, the output of `sigmoe stats --json`, or a list of numbers for each layer (one flat list\n"
        "for a single layer). Slot p lies on GPU p / (P / R); a replica gets an equal part of its expert's load. The\n"
        "score is over GPUs: mean load / greatest load.",
    .example = "sigmoe place --load demo.trace --slots 112 --gpus 8\n"
               "sigmoe place --method eplb --load load.json --slots 288 --groups 8 --nodes 4 --gpus 32 --json",
    .run = run,
};
