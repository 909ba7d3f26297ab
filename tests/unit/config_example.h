// SPDX-License-Identifier: Apache-2.0
/* A small schema with every kind of section and every type of parameter, for test_config and fuzz_config. */
#ifndef TESTS_UNIT_CONFIG_EXAMPLE_H
#define TESTS_UNIT_CONFIG_EXAMPLE_H

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/param.h"

typedef struct example_model {
    int64_t layers, window;
    double rate;
    bool tie;
    int mode;
    const char *note;
    sgm_int_list steps;
    sgm_real_list weights;
} example_model;

static const sgm_param example_model_params[] = {
    {"layers", SGM_PARAM_INT, offsetof(example_model, layers), "8", 1, 512, false, NULL, "layers", "how deep"},
    {"window", SGM_PARAM_INT, offsetof(example_model, window), "auto", 1, 4096, true, NULL, "tokens", "how far"},
    {"rate", SGM_PARAM_REAL, offsetof(example_model, rate), "1e-3", 0, 1, false, NULL, "", "how fast"},
    {"tie", SGM_PARAM_BOOL, offsetof(example_model, tie), "true", 1, 0, false, NULL, "", "whether"},
    {"mode", SGM_PARAM_ENUM, offsetof(example_model, mode), "buffer", 1, 0, false, "exact|buffer|lagged", "", "which"},
    {"note", SGM_PARAM_TEXT, offsetof(example_model, note), "", 1, 0, false, NULL, "", "what"},
    {"steps", SGM_PARAM_INT_LIST, offsetof(example_model, steps), "8,2", 1, 64, true, NULL, "", "in turn"},
    {"weights", SGM_PARAM_REAL_LIST, offsetof(example_model, weights), "[]", 0, INFINITY, false, NULL, "", "shares"},
};

typedef struct example_kind {
    double coefficient;
    int scope;
    int64_t groups;
} example_kind;

static const sgm_param example_common_params[] = {
    {"seed", SGM_PARAM_INT, 0, "0", 1, 0, false, NULL, "", "seed"},
};
static const sgm_param example_first_params[] = {
    {"coefficient", SGM_PARAM_REAL, offsetof(example_kind, coefficient), "0.01", 0, 10, false, NULL, "", "weight"},
    {"scope", SGM_PARAM_ENUM, offsetof(example_kind, scope), "sequence", 1, 0, false, "sequence|micro|global", "",
     "scope"},
};
static const sgm_param example_second_params[] = {
    {"groups", SGM_PARAM_INT, offsetof(example_kind, groups), "4", 1, 96, false, NULL, "", "groups"},
    {"coefficient", SGM_PARAM_REAL, offsetof(example_kind, coefficient), "0.5", 0, 10, false, NULL, "", "weight"},
};
static const sgm_plugin example_plugins[] = {
    {"load_loss", "the first", "", example_first_params, 2, sizeof(example_kind)},
    {"z_loss", "the second", "", example_second_params, 2, sizeof(example_kind)},
    {"bare", "no parameters", "", NULL, 0, 1},
};

static inline const sgm_plugin *example_find(const char *registry, const char *name, sgm_error *error) {
    const char *names[4] = {0};
    for (int i = 0; i < 3; i++) {
        names[i] = example_plugins[i].name;
        if (strcmp(names[i], name) == 0)
            return &example_plugins[i];
    }
    const char *near = sgm_nearest(name, names);
    sgm_fail(error, SGM_ENOTFOUND, near ? near : "no hint", "there is no %s of that name", registry);
    return NULL;
}

static inline const sgm_plugin *example_at(const char *registry, size_t index) {
    (void)registry;
    return index < 3 ? &example_plugins[index] : NULL;
}

static inline sgm_status example_preset(const char *name, const char **yaml, sgm_error *error) {
    if (strcmp(name, "nano") != 0)
        return sgm_fail(error, SGM_ENOTFOUND, "presets: nano", "there is no preset %s", name);
    *yaml = "model:\n  layers: 12\nrouter:\n  kind: z_loss\n  groups: 8\n";
    return SGM_OK;
}

static inline sgm_status example_check(const sgm_config *config, sgm_error *error) {
    if (atoi(sgm_config_get(config, "model.layers")) % 2)
        return sgm_fail(error, SGM_EARGUMENT, "take an even number", "model.layers is odd");
    return SGM_OK;
}

static const sgm_section example_sections[] = {
    {"model", SGM_SECTION_FIXED, example_model_params, 8, NULL, NULL},
    {"router", SGM_SECTION_PLUGIN, example_common_params, 1, "router", "load_loss"},
    {"balance", SGM_SECTION_PLUGIN_LIST, NULL, 0, "balance", "none"},
    {"extra", SGM_SECTION_PLUGIN_LIST, NULL, 0, "balance", "bare,z_loss"},
};
static const sgm_schema example_schema = {example_sections, 4, example_preset, example_check, example_find, example_at};

#endif
