// SPDX-License-Identifier: Apache-2.0
/* Experiments: from the file's values to a checked configuration for every arm. */
#include "lab/experiment.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "lab/results.h"
#include "train/run_config.h"

enum { EVALUATIONS = 12, CHECKPOINTS = 4 }; /* of a run, where the experiment does not say */

#define FRAME(field) offsetof(sgm_frame_settings, field)
const sgm_param sgm_frame_params[] = {
    {"name", SGM_PARAM_TEXT, FRAME(name), "", 1, 0, false, NULL, "", "of the experiment"},
    {"claim", SGM_PARAM_TEXT, FRAME(claim), "", 1, 0, false, NULL, "", "what it is to show"},
    {"paper", SGM_PARAM_TEXT, FRAME(paper), "", 1, 0, false, NULL, "", "where that is claimed"},
    {"tuning", SGM_PARAM_TEXT, FRAME(tuning), "", 1, 0, false, NULL, "",
     "how much each method was tuned: a comparison says so"},
    {"baseline", SGM_PARAM_TEXT, FRAME(baseline), "", 1, 0, false, NULL, "",
     "the arm that the others are compared with; empty: the first"},
    {"preset", SGM_PARAM_TEXT, FRAME(preset), "nano", 1, 0, false, NULL, "", "what the base starts from"},
    {"compare", SGM_PARAM_TEXT, FRAME(compare), "", 1, 0, false, NULL, "", "measures in the first table"},
    {"data", SGM_PARAM_TEXT, FRAME(data), "", 1, 0, false, NULL, "",
     "text or a data folder, seen from this file; empty: the corpus that comes with sigmoe"},
    {"steps", SGM_PARAM_INT, FRAME(steps), "auto", 1, 1e12, true, NULL, "steps", "of every run; auto: the preset's"},
    {"tokens_per_step", SGM_PARAM_INT, FRAME(tokens_per_step), "auto", 1, 1 << 30, true, NULL, "tokens",
     "data.tokens_per_step; auto: the preset's"},
    {"vocabulary", SGM_PARAM_INT, FRAME(vocabulary), "auto", 2, 1 << 24, true, NULL, "tokens",
     "model.vocabulary; auto: the preset's"},
    {"seeds", SGM_PARAM_INT, FRAME(seeds), "3", 1, 1000, false, NULL, "", "how many, from 1 on"},
    {"groups", SGM_PARAM_INT, FRAME(groups), "0", 0, 1 << 20, false, NULL, "",
     "devices that a layer's experts are spread over, for the imbalance score; 0: none"},
    {"caches", SGM_PARAM_TEXT, FRAME(caches), "", 1, 0, false, NULL, "",
     "caches of experts that the routes of held-out text are replayed on: POLICY EXPERTS [pool=model] [SETTING=VALUE]"},
    {"placements", SGM_PARAM_TEXT, FRAME(placements), "", 1, 0, false, NULL, "",
     "placements of the experts on GPUs: METHOD SLOTS gpus=N [nodes=N] [groups=N]"},
};
const size_t sgm_frame_param_count = sizeof sgm_frame_params / sizeof *sgm_frame_params;

#define ARM(field) offsetof(sgm_arm_settings, field)
const sgm_param sgm_arm_params[] = {
    {"name", SGM_PARAM_TEXT, ARM(name), "", 1, 0, false, NULL, "", "letters, digits, . _ + -"},
    {"description", SGM_PARAM_TEXT, ARM(description), "", 1, 0, false, NULL, "", "one line"},
    {"inherits", SGM_PARAM_TEXT, ARM(inherits), "", 1, 0, false, NULL, "", "another arm; empty: the base"},
};
const size_t sgm_arm_param_count = sizeof sgm_arm_params / sizeof *sgm_arm_params;

/* What must be the same in all arms: the data are built once, with the base's values, and arms are compared after the same
 * tokens of the same text. */
static const char *const shared_keys[] = {"model.vocabulary",    "data.tokenizer",      "data.heldout_share",
                                          "data.deduplicate",    "data.document_bytes", "data.mixture",
                                          "data.tokens_per_step"};
/* What the lab sets for each run: a value of the experiment's would be dropped. */
static const struct {
    const char *key, *instead;
} lab_keys[] = {
    {"train.steps", "write `steps:` beside `arms:`, or give --steps: all arms make the same number"},
    {"train.seed", "write `seeds:` beside `arms:`, or give --seeds: every arm is trained with seeds 1, 2, 3 …"},
    {"data.folder", "write `data:` beside `arms:`, or give --data: all arms read the same"},
};

static sgm_status no_memory(const sgm_experiment *experiment, sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory for the experiment", experiment->path);
}

/* ---- steps ---------------------------------------------------------------------------------------------------- */

static sgm_status set_number(sgm_config *config, const char *key, int64_t value, sgm_error *error) {
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    return sgm_config_set(config, key, text, "lab", error);
}

static bool chosen(const sgm_config *config, const char *key) {
    const char *origin = sgm_config_origin(config, key);
    return strcmp(origin, "default") != 0 && strncmp(origin, "preset ", 7) != 0 && strcmp(origin, "lab") != 0;
}

sgm_status sgm_experiment_set_steps(sgm_config *config, int64_t steps, sgm_error *error) {
    sgm_status status = set_number(config, "train.steps", steps, error);
    if (!status && !chosen(config, "train.eval_every"))
        status = set_number(config, "train.eval_every", (steps + EVALUATIONS - 1) / EVALUATIONS, error);
    if (!status && !chosen(config, "train.checkpoint_every"))
        status = set_number(config, "train.checkpoint_every", (steps + CHECKPOINTS - 1) / CHECKPOINTS, error);
    return status;
}

static sgm_status check_lab_keys(const sgm_config *config, sgm_error *error) {
    for (size_t i = 0; i < sizeof lab_keys / sizeof *lab_keys; i++)
        if (chosen(config, lab_keys[i].key))
            return sgm_fail(error, SGM_EARGUMENT, lab_keys[i].instead, "%s (%s) is decided by the lab", lab_keys[i].key,
                            sgm_config_origin(config, lab_keys[i].key));
    return SGM_OK;
}

/* ---- the base ------------------------------------------------------------------------------------------------- */

/* What a lab wants otherwise than a single run: the same text at every evaluation, no samples, one checkpoint. */
static sgm_status lab_defaults(sgm_config *config, sgm_error *error) {
    static const char *const defaults[][2] = {{"train.eval_tokens", "16384"},
                                              {"train.final_eval_tokens", "16384"},
                                              {"train.sample_tokens", "0"},
                                              {"train.keep_checkpoints", "1"}};
    sgm_status status = SGM_OK;
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults && !status; i++)
        status = sgm_config_set(config, defaults[i][0], defaults[i][1], "lab", error);
    return status;
}

/* The part of the file as it stands, behind as many empty lines and spaces as it has before it. */
static sgm_status apply_part(const sgm_experiment *experiment, const sgm_experiment_part *part, sgm_config *config,
                             sgm_error *error) {
    if (part->end == 0)
        return SGM_OK;
    sgm_buffer text = {0};
    sgm_status status = sgm_buffer_add(&text, "", 0);
    for (size_t i = 0; i < part->line && !status; i++)
        status = sgm_buffer_add(&text, "\n", 1);
    for (size_t i = 0; i < part->column && !status; i++)
        status = sgm_buffer_add(&text, " ", 1);
    if (!status)
        status = sgm_buffer_add(&text, experiment->text + part->begin, part->end - part->begin);
    status =
        status ? no_memory(experiment, error) : sgm_config_parse(config, text.data, text.size, experiment->path, error);
    sgm_buffer_free(&text);
    return status;
}

static sgm_status apply_settings(sgm_config *config, const char *const *settings, size_t count, sgm_error *error) {
    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(settings[i], '=');
        if (!equals || equals == settings[i])
            return sgm_fail(error, SGM_EARGUMENT, "write it like model.layers=4", "\"%s\" is not KEY=VALUE",
                            settings[i]);
        char *key = sgm_format("%.*s", (int)(equals - settings[i]), settings[i]);
        sgm_status status = key ? sgm_config_set(config, key, equals + 1, "--set", error)
                                : sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a setting");
        sgm_free(key);
        if (status)
            return status;
    }
    return SGM_OK;
}

/* A number of the frame that is a key of the base. */
typedef struct frame_number {
    const char *line, *key;
    int64_t value; /* SGM_AUTO: the file does not say */
} frame_number;

/* The line and the key below `set:` may both be there when they say the same. */
static sgm_status check_number(const sgm_experiment *experiment, const frame_number *number, sgm_error *error) {
    const char *set = sgm_config_get(experiment->base, number->key);
    if (number->value == SGM_AUTO || strtoll(set, NULL, 10) == number->value)
        return SGM_OK;
    return sgm_fail(error, SGM_EARGUMENT, "keep one of them; for a single call there is --set",
                    "%s: `%s:` is %" PRId64 ", %s below `set:` is %s", experiment->path, number->line, number->value,
                    number->key, set);
}

static sgm_status make_base(sgm_experiment *experiment, const char *const *settings, size_t count, sgm_error *error) {
    const sgm_frame_settings *frame = &experiment->frame;
    const frame_number numbers[] = {{"tokens_per_step", "data.tokens_per_step", frame->tokens_per_step},
                                    {"vocabulary", "model.vocabulary", frame->vocabulary}};
    sgm_status status = sgm_config_new(&experiment->base, error);
    if (!status)
        status = sgm_config_preset(experiment->base, frame->preset, error);
    if (!status)
        status = lab_defaults(experiment->base, error);
    for (size_t i = 0; i < 2 && !status; i++)
        if (numbers[i].value != SGM_AUTO)
            status = set_number(experiment->base, numbers[i].key, numbers[i].value, error);
    if (!status)
        status = apply_part(experiment, &experiment->values.set, experiment->base, error);
    for (size_t i = 0; i < 2 && !status; i++)
        status = check_number(experiment, &numbers[i], error);
    if (!status)
        status = apply_settings(experiment->base, settings, count, error);
    if (!status)
        status = check_lab_keys(experiment->base, error);
    if (status)
        return status;
    if (frame->steps == SGM_AUTO)
        experiment->frame.steps = strtoll(sgm_config_get(experiment->base, "train.steps"), NULL, 10);
    return sgm_experiment_set_steps(experiment->base, experiment->frame.steps, error);
}

/* ---- arms ----------------------------------------------------------------------------------------------------- */

size_t sgm_experiment_find(const sgm_experiment *experiment, const char *name, const char *where, sgm_error *error) {
    const char *names[SGM_EXPERIMENT_ARMS + 1];
    for (size_t i = 0; i < experiment->arm_count; i++) {
        names[i] = experiment->arms[i].settings.name;
        if (strcmp(names[i], name) == 0)
            return i;
    }
    names[experiment->arm_count] = NULL;
    const char *near = sgm_nearest(name, names);
    sgm_buffer hint = {0};
    sgm_buffer_print(&hint, "%s%s%s", near ? "did you mean " : "its arms are", near ? near : "", near ? "?" : "");
    for (size_t i = 0; !near && names[i]; i++)
        sgm_buffer_print(&hint, " %s", names[i]);
    sgm_fail(error, SGM_EARGUMENT, hint.data, "%s: %s: there is no arm %s", experiment->path, where, name);
    sgm_buffer_free(&hint);
    return SIZE_MAX;
}

static sgm_status check_name(const sgm_experiment *experiment, const sgm_arm *arm, sgm_error *error) {
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
    const char *name = arm->settings.name;
    size_t line = arm->values.first_line;
    if (!*name || name[strspn(name, legal)] || *name == '.' || *name == '-' || strlen(name) > 64)
        return sgm_fail(error, SGM_EARGUMENT,
                        "name it in 1 to 64 letters, digits, . _ + -, beginning with a letter or digit",
                        "%s:%zu: \"%.80s\" is no name for an arm", experiment->path, line, name);
    for (const sgm_arm *other = experiment->arms; other < arm; other++)
        if (strcmp(other->settings.name, name) == 0)
            return sgm_fail(error, SGM_EARGUMENT, "rename one of them", "%s:%zu: there are two arms %s",
                            experiment->path, line, name);
    return SGM_OK;
}

/* "inherits a, which inherits b, …": an arm that meets itself among its ancestors. One that only leads into such a circle is
 * not in it; those that are tell. */
static sgm_status check_ancestors(const sgm_experiment *experiment, const sgm_arm *arm, sgm_error *error) {
    const sgm_arm *at = arm;
    sgm_buffer over = {0};
    sgm_status status = SGM_OK;
    for (size_t i = 0; i < experiment->arm_count && *at->settings.inherits && !status; i++) {
        char where[128];
        snprintf(where, sizeof where, "arm %s, inherits", at->settings.name);
        size_t parent = sgm_experiment_find(experiment, at->settings.inherits, where, error);
        if (parent == SIZE_MAX) {
            status = SGM_EARGUMENT;
        } else if (&experiment->arms[parent] == arm) {
            status = sgm_fail(error, SGM_EARGUMENT, "let one of them inherit from the base: leave `inherits` out",
                              "%s:%zu: arm %s inherits from itself%s%s", experiment->path, arm->values.first_line,
                              arm->settings.name, over.size ? " over" : "", over.size ? over.data : "");
        } else {
            at = &experiment->arms[parent];
            if (sgm_buffer_print(&over, " %s", at->settings.name))
                status = no_memory(experiment, error);
        }
    }
    sgm_buffer_free(&over);
    return status;
}

/* The config of arm `index`, its ancestors' first: there is no circle. */
static sgm_status make_arm(sgm_experiment *experiment, size_t index, sgm_error *error) {
    sgm_arm *arm = &experiment->arms[index];
    if (arm->config)
        return SGM_OK;
    const sgm_config *from = experiment->base;
    sgm_status status = SGM_OK;
    if (*arm->settings.inherits) {
        size_t parent = sgm_experiment_find(experiment, arm->settings.inherits, "inherits", error);
        if (parent == SIZE_MAX)
            return SGM_EARGUMENT;
        status = make_arm(experiment, parent, error);
        from = experiment->arms[parent].config;
    }
    sgm_config *config = NULL;
    if (!status)
        status = sgm_config_copy(from, &config, error);
    if (!status)
        status = apply_part(experiment, &arm->values.set, config, error);
    if (!status)
        status = check_lab_keys(config, error);
    if (status)
        sgm_config_free(config);
    else
        arm->config = config;
    return status;
}

static const char *scope_name(const sgm_balance_member *member) {
    static const char *const names[] = {"sequence", "micro-batch", "global"};
    int scope = member->plugin->scope ? (int)member->plugin->scope(member->settings) : SGM_SCOPE_GLOBAL;
    return scope < 3 ? names[scope] : "";
}

/* "load_balance_loss 0.01 (global, exact)". What a plug-in calls its scope and mode comes first: it may know more. */
static char *describe_balance(const sgm_run_settings *settings) {
    sgm_buffer text = {0};
    sgm_status status = sgm_buffer_add(&text, "", 0);
    for (size_t i = 0; i < settings->balance_count && !status; i++) {
        const char *value[4], *const keys[] = {"coefficient", "rate", "scope", "mode"};
        for (int k = 0; k < 4; k++) {
            char key[64];
            snprintf(key, sizeof key, "balance.%zu.%s", i, keys[k]);
            value[k] = sgm_config_get(settings->config, key);
        }
        const char *scope = value[2] ? value[2] : scope_name(&settings->balance[i]);
        const char *weight = value[0] ? value[0] : value[1];
        bool global = strcmp(scope, "global") == 0;
        status = sgm_buffer_print(&text, "%s%s%s%s (%s%s%s)", i ? " + " : "", settings->balance[i].plugin->plugin.name,
                                  weight ? " " : "", weight ? weight : "", scope, value[3] && global ? ", " : "",
                                  value[3] && global ? value[3] : "");
    }
    if (!status && !text.size)
        status = sgm_buffer_add(&text, "none", 4);
    if (status)
        sgm_buffer_free(&text);
    return text.data;
}

static sgm_status check_arm(const sgm_experiment *experiment, sgm_arm *arm, sgm_error *error) {
    for (size_t i = 0; i < sizeof shared_keys / sizeof *shared_keys; i++) {
        const char *base = sgm_config_get(experiment->base, shared_keys[i]);
        if (strcmp(base, sgm_config_get(arm->config, shared_keys[i])) != 0)
            return sgm_fail(error, SGM_EARGUMENT,
                            "set it in the base: all arms read the same data and are compared after the same tokens",
                            "%s is %s, in the base %s", shared_keys[i], sgm_config_get(arm->config, shared_keys[i]),
                            base);
    }
    sgm_run_settings *settings = NULL;
    sgm_status status = sgm_run_settings_new(arm->config, &settings, error);
    const char *null_experts = sgm_config_get(arm->config, "model.null_experts");
    int64_t experts = status ? 0 : settings->model.experts - (null_experts ? strtoll(null_experts, NULL, 10) : 0);
    if (!status && experiment->frame.groups > 0 && experts % experiment->frame.groups)
        status = sgm_fail(error, SGM_EARGUMENT, "let groups divide model.experts",
                          "%" PRId64 " experts cannot be spread evenly over %" PRId64 " groups", experts,
                          experiment->frame.groups);
    if (!status && experiment->serving.uses && settings->model.attention_experts)
        status = sgm_fail(error, SGM_EARGUMENT, "leave `caches` and `placements` out, or let the arm have none",
                          "attention experts: experts of two kinds share neither a cache nor a placement here");
    if (!status && experiment->serving.uses)
        status = sgm_lab_serving_check(&experiment->serving, experts, error);
    if (!status && !(arm->balance = describe_balance(settings)))
        status = no_memory(experiment, error);
    sgm_run_settings_free(settings);
    return status;
}

static sgm_status make_arms(sgm_experiment *experiment, sgm_error *error) {
    if (experiment->arm_count == 0)
        return sgm_fail(error, SGM_EARGUMENT, "write `arms:` and below it \"- name: NAME\"", "%s: it has no arms",
                        experiment->path);
    sgm_status status = SGM_OK;
    for (size_t i = 0; i < experiment->arm_count && !status; i++) {
        sgm_arm *arm = &experiment->arms[i];
        for (size_t p = 0; p < sgm_arm_param_count; p++)
            sgm_param_store(&sgm_arm_params[p], &arm->values.value[p], &arm->settings);
        status = check_name(experiment, arm, error);
    }
    for (size_t i = 0; i < experiment->arm_count && !status; i++)
        status = check_ancestors(experiment, &experiment->arms[i], error);
    for (size_t i = 0; i < experiment->arm_count && !status; i++) {
        sgm_error inner = {0};
        status = make_arm(experiment, i, &inner);
        if (!status)
            status = check_arm(experiment, &experiment->arms[i], &inner);
        if (status)
            return sgm_fail(error, status, inner.hint, "arm %s: %s", experiment->arms[i].settings.name, inner.message);
    }
    return status;
}

/* ---- all of it ------------------------------------------------------------------------------------------------ */

static sgm_status check_frame(sgm_experiment *experiment, sgm_error *error) {
    sgm_frame_settings *frame = &experiment->frame;
    if (!*frame->name || strchr(frame->name, '/') || strchr(frame->name, '\n'))
        return sgm_fail(error, SGM_EARGUMENT, "write `name: NAME`, one word", "%s: the experiment has no usable name",
                        experiment->path);
    if (!*frame->baseline)
        frame->baseline = experiment->arms[0].settings.name;
    if (sgm_experiment_find(experiment, frame->baseline, "baseline", error) == SIZE_MAX)
        return SGM_EARGUMENT;
    return sgm_lab_metrics_check(frame->compare, error);
}

sgm_status sgm_experiment_parse(const char *path, const char *text, size_t size, const char *const *settings,
                                size_t setting_count, sgm_experiment **out, sgm_error *error) {
    *out = NULL;
    size_t mark = sgm_byte_order_mark(text, size);
    text += mark;
    size -= mark;
    sgm_experiment *experiment = sgm_alloc(sizeof *experiment);
    if (!experiment)
        return sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory for the experiment", path);
    experiment->path = sgm_strdup(path);
    experiment->text = sgm_alloc(size + 1);
    experiment->size = size;
    sgm_status status = SGM_OK;
    if (!experiment->path || !experiment->text)
        status = sgm_fail(error, SGM_EMEMORY, NULL, "%s: no memory for the experiment", path);
    else if (size)
        memcpy(experiment->text, text, size);
    if (!status)
        status = sgm_experiment_read(experiment, error);
    for (size_t p = 0; p < sgm_frame_param_count && !status; p++)
        sgm_param_store(&sgm_frame_params[p], &experiment->values.value[p], &experiment->frame);
    if (!status)
        status = sgm_lab_serving_parse(experiment->frame.caches, experiment->frame.placements, path,
                                       &experiment->serving, error);
    if (!status)
        status = make_base(experiment, settings, setting_count, error);
    if (!status)
        status = make_arms(experiment, error);
    if (!status)
        status = check_frame(experiment, error);
    if (status) {
        sgm_experiment_close(experiment);
        return status;
    }
    *out = experiment;
    return SGM_OK;
}

sgm_status sgm_experiment_open(const char *path, const char *const *settings, size_t setting_count,
                               sgm_experiment **experiment, sgm_error *error) {
    char *text = NULL;
    size_t size = 0;
    *experiment = NULL;
    sgm_status status = sgm_file_read(path, SGM_EXPERIMENT_BYTES, &text, &size, error);
    if (!status)
        status = sgm_experiment_parse(path, text, size, settings, setting_count, experiment, error);
    sgm_free(text);
    return status;
}

static void free_values(sgm_experiment_values *values) {
    for (size_t i = 0; i < SGM_EXPERIMENT_FRAME; i++)
        sgm_param_value_free(&values->value[i]);
}

void sgm_experiment_close(sgm_experiment *experiment) {
    if (!experiment)
        return;
    for (size_t i = 0; i < experiment->arm_count; i++) {
        free_values(&experiment->arms[i].values);
        sgm_config_free(experiment->arms[i].config);
        sgm_free(experiment->arms[i].balance);
    }
    sgm_free(experiment->arms);
    free_values(&experiment->values);
    sgm_lab_serving_free(&experiment->serving);
    sgm_config_free(experiment->base);
    sgm_free(experiment->text);
    sgm_free(experiment->path);
    sgm_free(experiment);
}

void sgm_experiment_describe(const sgm_experiment *experiment, sgm_experiment_info *info) {
    const sgm_frame_settings *frame = &experiment->frame;
    *info = (sgm_experiment_info){
        .name = frame->name,
        .claim = frame->claim,
        .paper = frame->paper,
        .tuning = frame->tuning,
        .baseline = frame->baseline,
        .preset = frame->preset,
        .steps = frame->steps,
        .tokens_per_step = strtoll(sgm_config_get(experiment->base, "data.tokens_per_step"), NULL, 10),
        .seeds = frame->seeds,
        .groups = frame->groups,
        .caches = frame->caches,
        .placements = frame->placements,
        .arms = experiment->arm_count,
    };
}

void sgm_experiment_arm_at(const sgm_experiment *experiment, size_t index, sgm_experiment_arm *arm) {
    const sgm_arm *from = &experiment->arms[index];
    *arm = (sgm_experiment_arm){.name = from->settings.name,
                                .description = from->settings.description,
                                .inherits = from->settings.inherits,
                                .balance = from->balance,
                                .config = from->config};
}

const sgm_config *sgm_experiment_base(const sgm_experiment *experiment) {
    return experiment->base;
}
