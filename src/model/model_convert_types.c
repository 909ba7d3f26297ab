// SPDX-License-Identifier: Apache-2.0
/* Which weight is stored as what: one type for all, rules for tensors by name and for experts by number, and the fallbacks of
 * rows that do not fit a type's blocks. */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_convert.h"

enum { MATRICES = 3 }; /* of an expert */

/* Routers and norm gains: what decides where tokens go stays exact. */
static bool stays_f32(const sgm_gguf_part *part) {
    return strstr(part->name, "norm.weight") != NULL || strstr(part->name, "ffn_gate_inp") != NULL;
}

void sgm_gguf_kind(const char *name, char kind[SGM_GGUF_TENSOR_NAME]) {
    const char *at = name;
    if (strncmp(name, "blk.", 4) == 0) {
        at = strchr(name + 4, '.');
        at = at ? at + 1 : name;
    }
    size_t length = strcspn(at, ".");
    bool one_expert = at[length] == '.' && at[length + 1] >= '0' && at[length + 1] <= '9';
    snprintf(kind, SGM_GGUF_TENSOR_NAME, "%.*s%s", (int)length, at, one_expert ? "_exps" : "");
}

static sgm_status type_find(const char *name, sgm_type *type, sgm_error *error) {
    const sgm_quant *quant = sgm_quant_find(name);
    if (!quant)
        return sgm_fail(error, SGM_EARGUMENT, "known types: f32, f16, bf16, q8_0, q4_0, q5_0, q4_k, q6_k",
                        "there is no storage type '%.40s'", name);
    *type = quant->type;
    return SGM_OK;
}

#define EXPERT_RULE_HINT "write it as LAYER:EXPERT=TYPE, each a number, a range A-B or *"
#define TENSOR_RULE_HINT "write it as WHAT=TYPE, e.g. ffn_down_exps=q8_0"

/* The type behind the '=' of a rule; `hint` says how one is written. */
static sgm_status rule_type(const char *rule, const char *hint, sgm_type *type, sgm_error *error) {
    const char *equals = strrchr(rule, '=');
    if (!equals || equals == rule)
        return sgm_fail(error, SGM_EARGUMENT, hint, "the rule '%.100s' has %s", rule,
                        equals ? "nothing before its '='" : "no '='");
    return type_find(equals + 1, type, error);
}

/* "7", "2-5" or "*" of 0 … count-1; the text ends at `end`. */
static bool range_read(const char *text, const char *end, int64_t count, int64_t *first, int64_t *last) {
    char *at;
    if (end == text + 1 && *text == '*') {
        *first = 0;
        *last = count - 1;
        return true;
    }
    if (text == end || *text < '0' || *text > '9')
        return false;
    *first = *last = strtoll(text, &at, 10);
    if (at != end && *at == '-' && at[1] >= '0' && at[1] <= '9')
        *last = strtoll(at + 1, &at, 10);
    return at == end && *first <= *last && *last < count;
}

static sgm_status expert_rule(sgm_type_plan *plan, const char *rule, sgm_error *error) {
    const sgm_model_settings *s = &plan->model->settings;
    const char *colon = strchr(rule, ':'), *equals = strrchr(rule, '=');
    int64_t layer, last_layer, expert, last_expert;
    sgm_type type = SGM_TYPE_F32;
    sgm_status status = rule_type(rule, EXPERT_RULE_HINT, &type, error);
    if (status)
        return status;
    if (!colon || colon > equals || !range_read(rule, colon, s->layers, &layer, &last_layer) ||
        !range_read(colon + 1, equals, s->experts, &expert, &last_expert))
        return sgm_fail(error, SGM_EARGUMENT, EXPERT_RULE_HINT,
                        "the rule '%.100s' names no experts of %" PRId64 " layers with %" PRId64 " each", rule,
                        s->layers, s->experts);
    for (int64_t l = layer; l <= last_layer; l++)
        for (int64_t e = expert; e <= last_expert; e++)
            plan->expert[l * s->experts + e] = (int8_t)type;
    return SGM_OK;
}

static bool pattern_matches(const char *rule, const char *name) {
    char pattern[256], kind[SGM_GGUF_TENSOR_NAME], stacked[3 * SGM_GGUF_TENSOR_NAME];
    size_t length = (size_t)(strrchr(rule, '=') - rule);
    snprintf(pattern, sizeof pattern, "%.*s", (int)(length < sizeof pattern ? length : sizeof pattern - 1), rule);
    sgm_gguf_kind(name, kind);
    if (strcmp(pattern, kind) == 0 || fnmatch(pattern, name, 0) == 0)
        return true;
    /* A single expert's tensor also goes by the name of the stack it is taken from. */
    const char *dot = strncmp(name, "blk.", 4) == 0 ? strchr(name + 4, '.') : NULL;
    if (!dot)
        return false;
    snprintf(stacked, sizeof stacked, "%.*s.%s.weight", (int)(dot - name), name, kind);
    return fnmatch(pattern, stacked, 0) == 0;
}

/* By the rules for tensors alone. */
static sgm_type tensor_type(const sgm_type_plan *plan, const sgm_gguf_part *part) {
    sgm_type type = plan->base;
    for (size_t i = 0; i < plan->options->tensor_type_count; i++)
        if (pattern_matches(plan->options->tensor_types[i], part->name))
            (void)rule_type(plan->options->tensor_types[i], TENSOR_RULE_HINT, &type, NULL);
    return type;
}

sgm_type sgm_type_plan_wanted(const sgm_type_plan *plan, const sgm_gguf_part *part) {
    const sgm_model_settings *s = &plan->model->settings;
    if (stays_f32(part))
        return SGM_TYPE_F32;
    int64_t plain = sgm_layer_weights(s), of_layer = plain + MATRICES * s->experts,
            layer = (part->first - 1) / of_layer;
    int64_t within = (part->first - 1) % of_layer - plain;
    if (part->first > 0 && layer < s->layers && within >= 0) {
        int8_t type = plan->expert[layer * s->experts + within / MATRICES];
        if (type >= 0)
            return (sgm_type)type;
    }
    return tensor_type(plan, part);
}

sgm_type sgm_type_plan_given(const sgm_type_plan *plan, const sgm_gguf_part *part) {
    return sgm_quant_for_row(sgm_type_plan_wanted(plan, part), plan->model->weights[part->first].cols);
}

/* Every rule must mean something: a misspelt one would silently do nothing. */
static sgm_status rules_check(const sgm_type_plan *plan, sgm_error *error) {
    sgm_gguf_part part;
    for (size_t i = 0; i < plan->options->tensor_type_count; i++) {
        const char *rule = plan->options->tensor_types[i];
        sgm_type type;
        sgm_status status = rule_type(rule, TENSOR_RULE_HINT, &type, error);
        bool found = false, fixed = false;
        for (int64_t p = 0; !status && !found && sgm_gguf_part_at(&plan->model->settings, NULL, p, &part); p++) {
            bool matches = pattern_matches(rule, part.name);
            fixed = fixed || (matches && stays_f32(&part));
            found = matches && !stays_f32(&part);
        }
        if (!status && !found)
            status = sgm_fail(error, SGM_EARGUMENT,
                              fixed ? "routers and norm gains stay f32"
                                    : "kinds: token_embd, output, attn_q, attn_k, attn_v, attn_output, ffn_gate_exps, "
                                      "ffn_up_exps, ffn_down_exps",
                              "the rule '%.100s' matches no tensor whose type can be chosen", rule);
        if (status)
            return status;
    }
    return SGM_OK;
}

/* A layer is split when rules for experts make them differ. */
static void find_split(sgm_type_plan *plan) {
    const sgm_model_settings *s = &plan->model->settings;
    for (int64_t l = 0; l < s->layers; l++) {
        for (int64_t e = 1; e < s->experts; e++)
            if (plan->expert[l * s->experts + e] != plan->expert[l * s->experts])
                plan->split[l] = true;
        plan->any_split = plan->any_split || plan->split[l];
    }
}

sgm_status sgm_type_plan_make(const sgm_model *model, const sgm_convert_options *options, sgm_type_plan *plan,
                              sgm_error *error) {
    const sgm_model_settings *s = &model->settings;
    *plan = (sgm_type_plan){.model = model, .options = options};
    size_t experts = (size_t)(s->layers * s->experts);
    plan->expert = sgm_alloc(experts);
    plan->split = sgm_alloc((size_t)s->layers * sizeof *plan->split);
    sgm_status status = plan->expert && plan->split
                            ? type_find(options->type ? options->type : "f32", &plan->base, error)
                            : sgm_fail(error, SGM_EMEMORY, NULL, "no memory to choose types");
    if (!status)
        memset(plan->expert, -1, experts);
    if (!status)
        status = rules_check(plan, error);
    for (size_t i = 0; !status && i < options->expert_type_count; i++)
        status = expert_rule(plan, options->expert_types[i], error);
    if (status)
        sgm_type_plan_free(plan);
    else
        find_split(plan);
    return status;
}

void sgm_type_plan_free(sgm_type_plan *plan) {
    sgm_free(plan->expert);
    sgm_free(plan->split);
    plan->expert = NULL;
    plan->split = NULL;
}

/* ---- what fell back --------------------------------------------------------------------------------------------------- */

typedef struct fallback {
    char kind[SGM_GGUF_TENSOR_NAME];
    sgm_type wanted, given;
    int64_t tensors, cols;
} fallback;

sgm_status sgm_type_plan_notes(const sgm_type_plan *plan, sgm_buffer *notes) {
    enum { KINDS = 64 }; /* nine kinds of matrices, each with a few types */
    fallback found[KINDS];
    int count = 0;
    sgm_gguf_part part;
    for (int64_t p = 0; sgm_gguf_part_at(&plan->model->settings, plan->split, p, &part); p++) {
        fallback f = {.wanted = sgm_type_plan_wanted(plan, &part), .given = sgm_type_plan_given(plan, &part)};
        if (f.wanted == f.given)
            continue;
        sgm_gguf_kind(part.name, f.kind);
        f.cols = plan->model->weights[part.first].cols;
        int i = 0;
        while (i < count && (strcmp(found[i].kind, f.kind) != 0 || found[i].wanted != f.wanted))
            i++;
        if (i == KINDS)
            continue;
        if (i == count)
            found[count++] = f;
        found[i].tensors++;
    }
    sgm_status status = SGM_OK;
    for (int i = 0; !status && i < count; i++) {
        const fallback *f = &found[i];
        status = sgm_buffer_print(notes,
                                  "%s: %s instead of %s in %" PRId64 " tensor%s, as rows of %" PRId64
                                  " are no multiple of %" PRId64 "\n",
                                  f->kind, sgm_quant_of(f->given)->name, sgm_quant_of(f->wanted)->name, f->tensors,
                                  f->tensors == 1 ? "" : "s", f->cols, sgm_quant_of(f->wanted)->block);
    }
    return status;
}
