// SPDX-License-Identifier: Apache-2.0
/* sigmoe list: the plug-ins of every registry with their parameters, and all config keys. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"

/* People say "routers" and "balancers"; the registries are called "router" and "balance". */
static const struct {
    const char *said, *meant;
} synonyms[] = {
    {"balancer", "balance"},
    {"balancers", "balance"},
    {"balances", "balance"},
    {"sparsities", "sparsity"},
};

static const char *find_registry(const char *said) {
    for (size_t i = 0; i < sizeof synonyms / sizeof *synonyms; i++)
        if (strcmp(said, synonyms[i].said) == 0)
            return synonyms[i].meant;
    const char *name;
    for (size_t i = 0; (name = sgm_registry_name(i)); i++) {
        size_t size = strlen(name);
        if (strncmp(said, name, size) == 0 && (said[size] == 0 || strcmp(said + size, "s") == 0))
            return name;
    }
    return NULL;
}

static int unknown_registry(const char *said) {
    const char *names[64];
    size_t count = 0;
    while (count < 60 && (names[count] = sgm_registry_name(count)))
        count++;
    names[count++] = "config";
    names[count] = NULL;
    const char *near = sgm_nearest(said, names);
    char hint[128];
    if (near)
        snprintf(hint, sizeof hint, "did you mean `sigmoe list %s`?", near);
    else
        snprintf(hint, sizeof hint, "`sigmoe list` names the registries");
    return cli_usage(hint, "sigmoe list: there is no registry \"%s\"", said);
}

static const char *type_name(const sgm_param *param) {
    static const char *const names[] = {"whole number",          "number",         "true or false", "choice", "text",
                                        "list of whole numbers", "list of numbers"};
    size_t type = (size_t)param->type;
    return type < sizeof names / sizeof *names ? names[type] : "?";
}

static json_t *param_json(const sgm_param *param) {
    json_t *json = json_pack("{s:s, s:s, s:s, s:b, s:s?, s:s, s:s}", "name", param->name, "type", type_name(param),
                             "default", param->fallback, "auto", param->has_auto, "choices", param->choices, "unit",
                             param->unit ? param->unit : "", "help", param->help ? param->help : "");
    if (json && param->min <= param->max) {
        json_object_set_new(json, "min", cli_json_real(param->min));
        json_object_set_new(json, "max", cli_json_real(param->max));
    }
    return json;
}

static void print_param(const char *key, const sgm_param *param, const char *value) {
    printf("  %s = %s\n      %s", key, value, param->help);
    printf(" (%s", param->choices ? param->choices : type_name(param));
    if (param->unit && *param->unit)
        printf(", %s", param->unit);
    if (param->min <= param->max && !param->choices && param->type != SGM_PARAM_BOOL && param->type != SGM_PARAM_TEXT)
        printf(", %.12g to %.12g", param->min, param->max);
    printf("%s)\n", param->has_auto ? ", or auto" : "");
}

static json_t *plugin_json(const sgm_plugin *plugin) {
    json_t *params = json_array();
    for (size_t i = 0; i < plugin->param_count; i++)
        json_array_append_new(params, param_json(&plugin->params[i]));
    return json_pack("{s:s, s:s, s:s, s:o}", "name", plugin->name, "summary", plugin->summary, "paper", plugin->paper,
                     "params", params);
}

static int list_registries(bool json) {
    json_t *list = json_array();
    const char *name;
    for (size_t i = 0; (name = sgm_registry_name(i)); i++) {
        size_t count = 0;
        json_t *names = json_array();
        for (const sgm_plugin *p; (p = sgm_registry_get(name, count)); count++)
            json_array_append_new(names, json_string(p->name));
        if (!json) {
            printf("%-10s", name);
            for (size_t n = 0; n < count; n++)
                printf(" %s", json_string_value(json_array_get(names, n)));
            putchar('\n');
        }
        json_array_append_new(list, json_pack("{s:s, s:o}", "registry", name, "names", names));
    }
    if (json)
        return cli_json_print(list);
    json_decref(list);
    printf("\n`sigmoe list REGISTRY` says what each does, `sigmoe list REGISTRY NAME` its parameters, `sigmoe list "
           "config`\nall keys of --set.\n");
    return CLI_DONE;
}

static int list_registry(const char *registry, bool json) {
    json_t *list = json_array();
    const sgm_plugin *plugin;
    for (size_t i = 0; (plugin = sgm_registry_get(registry, i)); i++) {
        if (json)
            json_array_append_new(list, plugin_json(plugin));
        else
            printf("%-20s %s%s%s%s\n", plugin->name, plugin->summary, *plugin->paper ? " (" : "", plugin->paper,
                   *plugin->paper ? ")" : "");
    }
    if (json)
        return cli_json_print(list);
    json_decref(list);
    return CLI_DONE;
}

static int list_plugin(const char *registry, const char *name, bool json) {
    sgm_error error = {0};
    const sgm_plugin *plugin = sgm_registry_find(registry, name, &error);
    if (!plugin) {
        cli_fail(&error);
        return CLI_USAGE;
    }
    if (json)
        return cli_json_print(plugin_json(plugin));
    printf("%s: %s%s%s%s\n", plugin->name, plugin->summary, *plugin->paper ? " (" : "", plugin->paper,
           *plugin->paper ? ")" : "");
    for (size_t i = 0; i < plugin->param_count; i++)
        print_param(plugin->params[i].name, &plugin->params[i], plugin->params[i].fallback);
    return CLI_DONE;
}

/* Whether `key` is `wanted` or one of its section: "model" and "model.layers" both want "model.layers". */
static bool key_wanted(const char *key, const char *wanted) {
    size_t size = wanted ? strlen(wanted) : 0;
    return !wanted || (strncmp(key, wanted, size) == 0 && (key[size] == 0 || key[size] == '.'));
}

static int unknown_key(const sgm_config *config, const char *wrong) {
    size_t count = sgm_config_count(config);
    const char **keys = calloc(count + 1, sizeof *keys);
    for (size_t i = 0; keys && i < count; i++)
        keys[i] = sgm_config_key(config, i);
    const char *near = keys ? sgm_nearest(wrong, keys) : NULL;
    char hint[160];
    if (near)
        snprintf(hint, sizeof hint, "did you mean `sigmoe list config %s`?", near);
    else
        snprintf(hint, sizeof hint, "`sigmoe list config` names all keys");
    free(keys);
    return cli_usage(hint, "sigmoe list config: there is no key or section \"%s\"", wrong);
}

/* Keys of a config with their values: all, a section's, or one; --preset and --set show what they change. */
static int list_config(const cli_args *args, const char *wanted, bool json) {
    sgm_config *config = NULL;
    int code = cli_config(args, &config);
    if (code != CLI_DONE)
        return code;
    json_t *list = json_array();
    size_t shown = 0;
    for (size_t i = 0; i < sgm_config_count(config); i++) {
        const char *key = sgm_config_key(config, i), *value = sgm_config_get(config, key);
        if (!key_wanted(key, wanted))
            continue;
        shown++;
        const sgm_param *param = sgm_config_param(config, key);
        if (json) {
            json_t *entry = param ? param_json(param) : json_object();
            json_object_set_new(entry, "key", json_string(key));
            json_object_set_new(entry, "value", json_string(value));
            json_object_set_new(entry, "origin", json_string(sgm_config_origin(config, key)));
            json_array_append_new(list, entry);
        } else if (param) {
            print_param(key, param, value);
        } else {
            printf("  %s = %s\n", key, value);
        }
    }
    if (!shown)
        code = unknown_key(config, wanted ? wanted : "");
    if (json && shown)
        code = cli_json_print(list);
    else
        json_decref(list);
    sgm_config_free(config);
    return code;
}

static int run(const cli_args *args) {
    bool json = cli_switch(args, "json");
    const char *said = cli_operand(args, 0), *name = cli_operand(args, 1);
    if (!said)
        return list_registries(json);
    if (strcmp(said, "config") == 0)
        return list_config(args, name, json);
    const char *registry = find_registry(said);
    if (!registry)
        return unknown_registry(said);
    return name ? list_plugin(registry, name, json) : list_registry(registry, json);
}

static const cli_flag flags[] = {
    CLI_CONFIG_FLAGS,
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_list = {
    .name = "list",
    .group = "help",
    .summary = "routers, balancers, presets, … and every config key",
    .operands = "[REGISTRY [NAME] | config [SECTION | KEY]]",
    .max_operands = 2,
    .flags = flags,
    .details = "--preset, --config and --set matter to `sigmoe list config` only: it shows the values they lead to.",
    .example = "sigmoe list routers\nsigmoe list balance load_balance_loss\nsigmoe list config --preset nano\n"
               "sigmoe list config model.experts",
    .run = run,
};
