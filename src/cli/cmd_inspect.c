// SPDX-License-Identifier: Apache-2.0
/* sigmoe inspect: what a model on disk is, without loading its weights; sigmoe plan: what a config would be. */
#include <string.h>

#include "commands.h"

static void print_shape(const sgm_model_settings *m) {
    printf("layers            %lld, width %lld\n", (long long)m->layers, (long long)m->width);
    printf("attention         ");
    if (m->attention_experts)
        printf("%lld experts a layer, %lld per token, each with ", (long long)m->attention_experts,
               (long long)m->attention_experts_per_token);
    printf("%s of %lld, %s%s\n", cli_counted(m->heads, "head").text, (long long)m->head_size,
           cli_counted(m->kv_heads, "key/value head").text,
           m->attention == SGM_ATTENTION_STICK_BREAKING ? ", stick-breaking" : "");
    printf("experts           %lld a layer of width %lld, %lld per token\n", (long long)m->experts,
           (long long)m->expert_width, (long long)m->experts_per_token);
    if (m->null_experts)
        printf("  of them null    %lld, which do nothing\n", (long long)m->null_experts);
    if (m->gate_hidden)
        printf("  their router    has a hidden layer of %lld\n", (long long)m->gate_hidden);
    printf("vocabulary        %s, embeddings %s\n", cli_grouped(m->vocabulary).text,
           m->tie_embeddings ? "tied" : "not tied");
    printf("context           %s tokens\n", cli_grouped(m->context).text);
}

static void print_counts(const sgm_model_counts *c) {
    printf("parameters        %s (%s)\n", cli_grouped(c->total_parameters).text,
           cli_count_label((double)c->total_parameters).text);
    printf("  in experts      %s\n", cli_grouped(c->expert_parameters).text);
    printf("  in embeddings   %s\n", cli_grouped(c->embedding_parameters).text);
    if (c->head_parameters)
        printf("  in the head     %s\n", cli_grouped(c->head_parameters).text);
    printf("active per token  %s (%s), embeddings and head left out\n", cli_grouped(c->active_parameters).text,
           cli_count_label((double)c->active_parameters).text);
}

static json_t *model_json(const sgm_model_settings *m, const sgm_model_counts *c) {
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s, s:I, s:I, "
        "s:I}",
        "total_parameters", (json_int_t)c->total_parameters, "active_parameters", (json_int_t)c->active_parameters,
        "expert_parameters", (json_int_t)c->expert_parameters, "embedding_parameters",
        (json_int_t)c->embedding_parameters, "layers", (json_int_t)m->layers, "width", (json_int_t)m->width, "heads",
        (json_int_t)m->heads, "kv_heads", (json_int_t)m->kv_heads, "head_size", (json_int_t)m->head_size, "experts",
        (json_int_t)m->experts, "experts_per_token", (json_int_t)m->experts_per_token, "null_experts",
        (json_int_t)m->null_experts, "expert_width", (json_int_t)m->expert_width, "vocabulary",
        (json_int_t)m->vocabulary, "context", (json_int_t)m->context, "head_parameters", (json_int_t)c->head_parameters,
        "tie_embeddings", m->tie_embeddings, "attention",
        m->attention == SGM_ATTENTION_STICK_BREAKING ? "stick_breaking" : "causal", "gate_hidden",
        (json_int_t)m->gate_hidden, "attention_experts", (json_int_t)m->attention_experts,
        "attention_experts_per_token", (json_int_t)(m->attention_experts ? m->attention_experts_per_token : 0));
}

static void print_groups(sgm_tensor_group *groups, size_t count) {
    printf("\n%-16s %-6s %8s %16s %10s\n", "tensors", "type", "count", "elements", "size");
    for (size_t i = 0; i < count; i++)
        printf("%-16s %-6s %8s %16s %10s\n", cli_clean(groups[i].kind), groups[i].type,
               cli_grouped(groups[i].tensors).text, cli_grouped(groups[i].elements).text,
               cli_bytes_label((double)groups[i].bytes).text);
}

static json_t *groups_json(const sgm_tensor_group *groups, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I, s:I}", "kind", groups[i].kind, "type",
                                              groups[i].type, "tensors", (json_int_t)groups[i].tensors, "elements",
                                              (json_int_t)groups[i].elements, "bytes", (json_int_t)groups[i].bytes));
    return list;
}

static int run_inspect(const cli_args *args) {
    sgm_model_info info;
    sgm_error error = {0};
    sgm_tensor_group *groups = NULL;
    size_t count = 0;
    if (sgm_model_inspect(cli_operand(args, 0), &info, &error))
        return cli_fail(&error);
    (void)sgm_model_tensor_groups(info.folder, &groups, &count, NULL); /* none of a folder */
    if (cli_switch(args, "json")) {
        json_t *json = model_json(&info.settings, &info.counts);
        json_object_set_new(json, "bytes", json_integer(info.file_bytes));
        json_object_set_new(json, "dtype", json_string(info.dtype));
        json_object_set_new(json, "model_type", json_string(info.model_type));
        json_object_set_new(json, "router", json_string(info.router));
        json_object_set_new(json, "step", info.step < 0 ? json_null() : json_integer(info.step));
        json_object_set_new(json, "has_tokenizer", json_boolean(info.has_tokenizer));
        json_object_set_new(json, "folder", json_string(info.folder));
        if (groups)
            json_object_set_new(json, "tensors", groups_json(groups, count));
        sgm_tensor_groups_free(groups);
        return cli_json_print(json);
    }
    printf("%s\n\n", cli_clean(info.folder));
    printf("type              %s, router %s\n", cli_clean(info.model_type), cli_clean(info.router));
    print_shape(&info.settings);
    print_counts(&info.counts);
    printf("on disk           %s as %s\n", cli_bytes_label((double)info.file_bytes).text, info.dtype);
    if (info.step >= 0)
        printf("step              %s\n", cli_grouped(info.step).text);
    printf("tokenizer         %s\n", info.has_tokenizer ? "yes" : groups ? "none in the file" : "none in the folder");
    if (groups)
        print_groups(groups, count);
    sgm_tensor_groups_free(groups);
    return CLI_DONE;
}

static const cli_flag inspect_flags[] = {{"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"}, {0}};

const cli_command cli_inspect = {
    .name = "inspect",
    .group = "study",
    .summary = "shape, parameters and size of a model on disk",
    .operands = "MODEL",
    .min_operands = 1,
    .max_operands = 1,
    .flags = inspect_flags,
    .example = "sigmoe inspect runs/demo\nsigmoe inspect runs/demo/checkpoints/latest --json\nsigmoe inspect demo.gguf",
    .run = run_inspect,
};

/* ---- plan ----------------------------------------------------------------------------------------------------- */

static int run_plan(const cli_args *args) {
    sgm_config *config = NULL;
    int code = cli_config(args, &config);
    if (code != CLI_DONE)
        return code;
    sgm_model_settings settings;
    sgm_error error = {0};
    if (sgm_config_check(config, &error) || sgm_model_settings_from_config(config, &settings, &error)) {
        sgm_config_free(config);
        return cli_fail(&error);
    }
    int64_t context = cli_given(args, "context") ? cli_integer(args, "context") : settings.context;
    double tokens = (double)cli_integer(args, "tokens");
    sgm_model_counts c;
    sgm_model_count(&settings, (double)settings.experts_per_token, context, &c);
    const char *compute = sgm_config_get(config, "train.compute");
    const bool rounds = compute && strcmp(compute, "bf16") == 0;
    const int64_t rounded_bytes = rounds ? c.total_parameters * (int64_t)sizeof(uint16_t) : 0;
    sgm_machine machine;
    sgm_machine_describe(&machine);
    bool fits = (uint64_t)c.bytes <= machine.memory_available_bytes;
    bool trains = (uint64_t)c.training_bytes <= machine.memory_available_bytes;
    if (cli_switch(args, "json")) {
        json_t *json = model_json(&settings, &c);
        json_object_set_new(json, "bytes", json_integer(c.bytes));
        json_object_set_new(json, "training_bytes", json_integer(c.training_bytes));
        json_object_set_new(json, "training_rounded_bytes", json_integer(rounded_bytes));
        json_object_set_new(json, "forward_flops_per_token", cli_json_real(c.forward_flops_per_token));
        json_object_set_new(json, "training_flops_per_token", cli_json_real(c.training_flops_per_token));
        json_object_set_new(json, "memory_available_bytes", json_integer((json_int_t)machine.memory_available_bytes));
        if (tokens > 0)
            json_object_set_new(json, "training_flops", cli_json_real(tokens * c.training_flops_per_token));
        code = cli_json_print(json);
    } else {
        print_shape(&settings);
        print_counts(&c);
        printf("forward           %sFLOP per token at %s tokens of context\n",
               cli_count_label(c.forward_flops_per_token).text, cli_grouped(context).text);
        printf("training          %sFLOP per token\n", cli_count_label(c.training_flops_per_token).text);
        if (tokens > 0)
            printf("                  %sFLOP for %s tokens\n",
                   cli_count_label(tokens * c.training_flops_per_token).text, cli_grouped((int64_t)tokens).text);
        printf("weights           %s as f32\n", cli_bytes_label((double)c.bytes).text);
        printf("training memory   %s for weights, gradients and two moments, without activations\n",
               cli_bytes_label((double)c.training_bytes).text);
        if (rounds)
            printf("                  and %s for the weights in bf16, where the processor multiplies by tiles\n",
                   cli_bytes_label((double)rounded_bytes).text);
        printf("this machine      %s available: %s\n", cli_bytes_label((double)machine.memory_available_bytes).text,
               trains ? "enough to train it"
               : fits ? "enough to run it, not to train it"
                      : "not enough to load it");
    }
    sgm_config_free(config);
    return code;
}

static const cli_flag plan_flags[] = {
    CLI_CONFIG_FLAGS,
    {"context", CLI_INTEGER, "N", NULL, 1, 1e9, false, "count attention at this context (without it: the model's)"},
    {"tokens", CLI_INTEGER, "N", "0", 0, 9e18, false, "also the cost of training on N tokens"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_plan = {
    .name = "plan",
    .group = "help",
    .summary = "parameters, FLOPs and memory of a config, without running it",
    .flags = plan_flags,
    .example =
        "sigmoe plan --preset sigma-moe-tiny\nsigmoe plan --preset nano --set model.experts=32 --tokens 10M --json",
    .run = run_plan,
};
