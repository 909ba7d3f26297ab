// SPDX-License-Identifier: Apache-2.0
/* A run's configuration: an ordered list of dotted keys with values and origins, shaped by a schema.
 *
 * A plug-in section owns the keys "router.kind", its common keys and those of the chosen kind; changing the kind
 * replaces the latter by the new kind's defaults, setting the same kind again changes nothing. A list section owns the
 * key "balance" (the kinds, or "none") and for each entry the keys "balance.0.kind", …; setting the list makes all its
 * entries anew. Every change is made on a copy that is swapped in at the end, so a failure changes nothing. */
#include "base/config_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

static const sgm_param kind_param = {
    .name = "kind", .type = SGM_PARAM_TEXT, .fallback = "", .min = 1, .unit = "", .help = "which plug-in"};
static const sgm_param list_param = {.name = "",
                                     .type = SGM_PARAM_TEXT,
                                     .fallback = "none",
                                     .min = 1,
                                     .unit = "",
                                     .help = "plug-ins, in order, or none"};

bool sgm_config_is_kind(const sgm_config_entry *entry) {
    return entry->param == &kind_param;
}

bool sgm_config_is_list(const sgm_config_entry *entry) {
    return entry->param == &list_param;
}

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the configuration");
}

/* ---- entries ---- */

static void entry_free(sgm_config_entry *entry) {
    sgm_free(entry->key);
    sgm_free(entry->origin);
    sgm_param_value_free(&entry->value);
}

static sgm_status entry_make(sgm_config_entry *entry, const char *key, const sgm_param *param, size_t section,
                             const char *text, const char *origin, sgm_error *error) {
    *entry = (sgm_config_entry){.param = param, .section = section};
    sgm_status status = sgm_param_parse(param, key, text, origin, &entry->value, error);
    if (status)
        return status;
    entry->key = sgm_strdup(key);
    entry->origin = sgm_strdup(origin);
    if (entry->key && entry->origin)
        return SGM_OK;
    entry_free(entry);
    return no_memory(error);
}

static sgm_config_entry *find(const sgm_config *config, const char *key) {
    for (size_t i = 0; i < config->count; i++)
        if (strcmp(config->entries[i].key, key) == 0)
            return &config->entries[i];
    return NULL;
}

/* Make an entry and put it at `at`. */
static sgm_status insert(sgm_config *config, size_t at, const char *prefix, const char *name, const sgm_param *param,
                         size_t section, const char *text, const char *origin, sgm_error *error) {
    if (config->count == config->capacity) {
        size_t capacity = config->capacity ? config->capacity * 2 : 64;
        sgm_config_entry *entries =
            sgm_resize(config->entries, config->count * sizeof *entries, capacity * sizeof *entries);
        if (!entries)
            return no_memory(error);
        config->entries = entries;
        config->capacity = capacity;
    }
    char *key = *name ? sgm_format("%s.%s", prefix, name) : sgm_strdup(prefix);
    if (!key)
        return no_memory(error);
    sgm_config_entry entry;
    sgm_status status = entry_make(&entry, key, param, section, text, origin, error);
    sgm_free(key);
    if (status)
        return status;
    memmove(config->entries + at + 1, config->entries + at, (config->count - at) * sizeof entry);
    config->entries[at] = entry;
    config->count++;
    return SGM_OK;
}

static sgm_status insert_defaults(sgm_config *config, size_t *at, const char *prefix, const sgm_param *params,
                                  size_t count, size_t section, sgm_error *error) {
    for (size_t i = 0; i < count; i++) {
        sgm_status status =
            insert(config, *at, prefix, params[i].name, &params[i], section, params[i].fallback, "default", error);
        if (status)
            return status;
        ++*at;
    }
    return SGM_OK;
}

static void remove_range(sgm_config *config, size_t first, size_t end) {
    for (size_t i = first; i < end; i++)
        entry_free(&config->entries[i]);
    memmove(config->entries + first, config->entries + end, (config->count - end) * sizeof *config->entries);
    config->count -= end - first;
}

/* Does `key` lie under `prefix`, as "balance.1.scope" under "balance.1" and under "balance"? */
static bool under(const char *key, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(key, prefix, n) == 0 && key[n] == '.';
}

static size_t end_of(const sgm_config *config, size_t first, const char *prefix) {
    while (first < config->count && under(config->entries[first].key, prefix))
        first++;
    return first;
}

const sgm_section *sgm_config_section(const sgm_config *config, const char *key) {
    size_t n = strcspn(key, ".");
    for (size_t i = 0; i < config->schema->section_count; i++) {
        const char *name = config->schema->sections[i].name;
        if (strlen(name) == n && memcmp(name, key, n) == 0)
            return &config->schema->sections[i];
    }
    return NULL;
}

/* ---- plug-ins ---- */

static sgm_status find_plugin(const sgm_config *config, const sgm_section *section, const char *key, const char *kind,
                              const char *origin, const sgm_plugin **plugin, sgm_error *error) {
    sgm_error inner = {0};
    *plugin = config->schema->find(section->registry, kind, &inner);
    if (*plugin)
        return SGM_OK;
    return sgm_fail(error, SGM_EARGUMENT, inner.hint, "%s = %s (%s): %s", key, *kind ? kind : "\"\"", origin,
                    inner.message[0] ? inner.message : "unknown kind");
}

/* Keys of a section's kind follow the `kind` entry and the common ones. */
static sgm_status set_kind(sgm_config *config, sgm_config_entry *entry, const char *kind, const char *origin,
                           sgm_error *error) {
    size_t at = (size_t)(entry - config->entries), section = entry->section;
    const sgm_section *shape = &config->schema->sections[section];
    const sgm_plugin *plugin;
    sgm_status status = find_plugin(config, shape, entry->key, kind, origin, &plugin, error);
    if (status)
        return status;
    bool same = strcmp(entry->value.text, kind) == 0;
    sgm_config_entry fresh;
    status = entry_make(&fresh, entry->key, &kind_param, section, kind, origin, error);
    if (status)
        return status;
    entry_free(entry);
    *entry = fresh;
    if (same)
        return SGM_OK;
    char *prefix = sgm_format("%.*s", (int)(strlen(fresh.key) - strlen(".kind")), fresh.key);
    if (!prefix)
        return no_memory(error);
    size_t first = at + 1;
    if (shape->shape == SGM_SECTION_PLUGIN)
        first += shape->param_count;
    remove_range(config, first, end_of(config, first, prefix));
    status = insert_defaults(config, &first, prefix, plugin->params, plugin->param_count, section, error);
    sgm_free(prefix);
    return status;
}

/* The value of "balance" says its kinds; it is spelled from the entries, so that it always agrees with them. */
static sgm_status spell_list(sgm_config *config, size_t section, const char *origin, sgm_error *error) {
    const char *name = config->schema->sections[section].name;
    sgm_buffer kinds = {0};
    sgm_status status = SGM_OK;
    sgm_config_entry *list = find(config, name), fresh;
    for (size_t i = 0; i < config->count && !status; i++) {
        const sgm_config_entry *entry = &config->entries[i];
        if (entry->section == section && sgm_config_is_kind(entry))
            status = sgm_buffer_print(&kinds, "%s%s", kinds.size ? "," : "", entry->value.text);
    }
    if (!status && !kinds.size)
        status = sgm_buffer_add(&kinds, "none", 4);
    if (status)
        status = no_memory(error);
    else
        status = entry_make(&fresh, name, &list_param, section, kinds.data, origin, error);
    sgm_buffer_free(&kinds);
    if (status)
        return status;
    entry_free(list);
    *list = fresh;
    return SGM_OK;
}

/* One more plug-in at the end of a list. */
static sgm_status append_plugin(sgm_config *config, size_t section, size_t index, const char *kind, const char *origin,
                                sgm_error *error) {
    const sgm_section *shape = &config->schema->sections[section];
    const sgm_plugin *plugin;
    if (index >= SGM_CONFIG_PLUGINS)
        return sgm_fail(error, SGM_EARGUMENT, "name fewer plug-ins", "%s (%s): more than %d entries", shape->name,
                        origin, SGM_CONFIG_PLUGINS);
    sgm_status status = find_plugin(config, shape, shape->name, kind, origin, &plugin, error);
    if (status)
        return status;
    char *prefix = sgm_format("%s.%zu", shape->name, index);
    if (!prefix)
        return no_memory(error);
    size_t at = (size_t)(find(config, shape->name) - config->entries) + 1;
    at = end_of(config, at, shape->name);
    status = insert(config, at++, prefix, "kind", &kind_param, section, kind, origin, error);
    if (!status)
        status = insert_defaults(config, &at, prefix, plugin->params, plugin->param_count, section, error);
    sgm_free(prefix);
    return status;
}

/* Without the blanks around it; in place. */
static char *trimmed(char *text) {
    text += strspn(text, " \t");
    for (size_t n = strlen(text); n && strchr(" \t", text[n - 1]); n--)
        text[n - 1] = '\0';
    return text;
}

/* "a, b", "[a, b]", "none", "". */
static sgm_status set_list(sgm_config *config, sgm_config_entry *entry, const char *text, const char *origin,
                           sgm_error *error) {
    size_t section = entry->section, first = (size_t)(entry - config->entries) + 1;
    remove_range(config, first, end_of(config, first, config->schema->sections[section].name));
    char *copy = sgm_strdup(text);
    if (!copy)
        return no_memory(error);
    char *rest = trimmed(copy);
    size_t n = strlen(rest);
    if (n > 1 && rest[0] == '[' && rest[n - 1] == ']') {
        rest[n - 1] = '\0';
        rest = trimmed(rest + 1);
    }
    sgm_status status = SGM_OK;
    if (strcmp(rest, "none") == 0)
        rest = NULL;
    for (size_t index = 0; rest && *rest && !status; index++) {
        char *kind = rest, *comma = strchr(rest, ',');
        rest = comma ? comma + 1 : NULL;
        if (comma)
            *comma = '\0';
        status = append_plugin(config, section, index, trimmed(kind), origin, error);
        if (!status && rest && !*rest) /* "a," */
            status = append_plugin(config, section, index + 1, "", origin, error);
    }
    sgm_free(copy);
    return status ? status : spell_list(config, section, origin, error);
}

/* ---- setting ---- */

/* Is `text` made of the first letters of the words of `name`, as "lr" of "learning_rate"? */
static bool is_initials(const char *text, const char *name) {
    for (bool first = true; *name; name++) {
        if (first && *text++ != *name)
            return false;
        first = *name == '_';
    }
    return !*text;
}

/* The known key that was meant: one that ends as this one does in another section, one of its section that is abbreviated or
 * misspelt, one that is near as a whole. `names` has room for all keys. */
static const char *nearest_key(const sgm_config *config, const char *key, const char **names) {
    const sgm_section *section = sgm_config_section(config, key);
    const char *dot = strrchr(key, '.'), *last = dot ? dot + 1 : key;
    size_t section_size = section && dot ? strlen(section->name) + 1 : 0, found = 0;
    for (size_t i = 0; i < config->count; i++) {
        const char *name = config->entries[i].key, *end = strrchr(name, '.');
        bool inside = section_size && under(name, section->name);
        if (end && (strcmp(end + 1, last) == 0 ? !inside || !section_size : inside && is_initials(last, end + 1)))
            return name;
        if (inside)
            names[found++] = name + section_size;
    }
    names[found] = NULL;
    const char *near = section_size ? sgm_nearest(key + section_size, names) : NULL;
    if (near || section_size)
        return near ? near - section_size : NULL;
    for (size_t i = 0; i < config->count; i++)
        names[i] = config->entries[i].key;
    names[config->count] = NULL;
    return sgm_nearest(key, names);
}

/* Is it a key of plug-ins of which another one is chosen there? Then the hint says of which. */
static bool hint_of_kind(const sgm_config *config, const sgm_section *section, const char *key, sgm_buffer *hint) {
    const char *dot = strrchr(key, '.');
    if (!section || section->shape == SGM_SECTION_FIXED || !dot)
        return false;
    char *kind_key = sgm_format("%.*s.kind", (int)(dot - key), key);
    const sgm_config_entry *kind = kind_key ? find(config, kind_key) : NULL;
    sgm_free(kind_key);
    if (!kind)
        return false;
    const sgm_plugin *plugin;
    for (size_t i = 0; (plugin = config->schema->at(section->registry, i)) != NULL; i++)
        for (size_t p = 0; p < plugin->param_count; p++)
            if (strcmp(plugin->params[p].name, dot + 1) == 0)
                sgm_buffer_print(hint, "%s%s%s", hint->size ? ", " : dot + 1, hint->size ? "" : " is a key of ",
                                 plugin->name);
    if (hint->size)
        sgm_buffer_print(hint, "; %s is %s", kind->key, kind->value.text);
    return hint->size > 0;
}

/* An unknown key: the nearest known one, else the keys of its section, else the sections. */
static sgm_status unknown_key(const sgm_config *config, const char *key, const char *origin, sgm_error *error) {
    sgm_buffer hint = {0};
    const char **names = sgm_alloc((config->count + 1) * sizeof *names);
    const char *near = NULL;
    const sgm_section *section = sgm_config_section(config, key);
    bool list = section && section->shape == SGM_SECTION_PLUGIN_LIST && key[strlen(section->name)];
    bool numbered = list && strchr("0123456789", key[strlen(section->name) + 1]);
    bool beyond = numbered && strtoull(key + strlen(section->name) + 1, NULL, 10) >=
                                  (unsigned long long)sgm_config_list_count(config, section->name);
    const bool of_kind = hint_of_kind(config, section, key, &hint);
    if (names && !of_kind && !beyond && (!list || numbered))
        near = nearest_key(config, key, names);
    if (of_kind) {
        /* said */
    } else if (near) {
        sgm_buffer_print(&hint, "did you mean %s?", near);
    } else if (list && !numbered) {
        sgm_buffer_print(&hint,
                         "%s is a list: write %s: [KIND, KIND], or entries \"- kind: KIND\" with their keys below",
                         section->name, section->name);
    } else if (list) {
        sgm_buffer_print(&hint, "%s has %lld %s; set %s=KIND,KIND first, then its entries by number from 0",
                         section->name, (long long)sgm_config_list_count(config, section->name),
                         sgm_config_list_count(config, section->name) == 1 ? "entry" : "entries", section->name);
    } else if (section) {
        sgm_buffer_print(&hint, "%s has", section->name);
        for (size_t i = 0; i < config->count; i++)
            if (under(config->entries[i].key, section->name))
                sgm_buffer_print(&hint, " %s", config->entries[i].key);
    } else {
        sgm_buffer_print(&hint, "the sections are");
        for (size_t i = 0; i < config->schema->section_count; i++)
            sgm_buffer_print(&hint, " %s", config->schema->sections[i].name);
    }
    sgm_status status = sgm_fail(error, SGM_EARGUMENT, hint.data, "unknown key %s (%s)", *key ? key : "\"\"", origin);
    sgm_buffer_free(&hint);
    sgm_free(names);
    return status;
}

sgm_status sgm_config_apply(sgm_config *config, const char *key, const char *text, const char *origin,
                            sgm_error *error) {
    sgm_config_entry *entry = find(config, key), fresh;
    if (!entry)
        return unknown_key(config, key, origin, error);
    if (sgm_config_is_list(entry))
        return set_list(config, entry, text, origin, error);
    size_t section = entry->section;
    if (sgm_config_is_kind(entry)) {
        sgm_status status = set_kind(config, entry, text, origin, error);
        if (!status && config->schema->sections[section].shape == SGM_SECTION_PLUGIN_LIST)
            status = spell_list(config, section, origin, error);
        return status;
    }
    sgm_status status = entry_make(&fresh, key, entry->param, section, text, origin, error);
    if (status)
        return status;
    entry_free(entry);
    *entry = fresh;
    return SGM_OK;
}

sgm_status sgm_config_set(sgm_config *config, const char *key, const char *value, const char *origin,
                          sgm_error *error) {
    sgm_config *copy;
    sgm_status status = sgm_config_copy(config, &copy, error);
    if (status)
        return status;
    status = sgm_config_apply(copy, key, value, origin, error);
    if (!status)
        sgm_config_swap(config, copy);
    sgm_config_free(copy);
    return status;
}

sgm_status sgm_config_preset(sgm_config *config, const char *preset, sgm_error *error) {
    const char *yaml;
    sgm_status status = config->schema->preset(preset, &yaml, error);
    if (status)
        return status;
    char *origin = sgm_format("preset %s", preset);
    if (!origin)
        return no_memory(error);
    status = sgm_config_parse_lines(config, yaml, strlen(yaml), origin, false, error);
    sgm_free(origin);
    return status;
}

sgm_status sgm_config_parse(sgm_config *config, const char *yaml, size_t size, const char *origin, sgm_error *error) {
    return sgm_config_parse_lines(config, yaml, size, origin, true, error);
}

sgm_status sgm_config_load(sgm_config *config, const char *path, sgm_error *error) {
    char *yaml;
    size_t size;
    sgm_status status = sgm_file_read(path, SGM_CONFIG_BYTES, &yaml, &size, error);
    if (status)
        return status;
    status = sgm_config_parse_lines(config, yaml, size, path, true, error);
    sgm_free(yaml);
    return status;
}

sgm_status sgm_config_check(const sgm_config *config, sgm_error *error) {
    return config->schema->check ? config->schema->check(config, error) : SGM_OK;
}

/* ---- making ---- */

static sgm_status add_section(sgm_config *config, size_t index, sgm_error *error) {
    const sgm_section *section = &config->schema->sections[index];
    size_t at = config->count;
    sgm_status status;
    if (section->shape == SGM_SECTION_FIXED)
        return insert_defaults(config, &at, section->name, section->params, section->param_count, index, error);
    if (section->shape == SGM_SECTION_PLUGIN_LIST) {
        status = insert(config, at, section->name, "", &list_param, index, "none", "default", error);
        return status ? status : set_list(config, &config->entries[at], section->default_kind, "default", error);
    }
    status = insert(config, at++, section->name, "kind", &kind_param, index, "", "default", error);
    if (!status)
        status = insert_defaults(config, &at, section->name, section->params, section->param_count, index, error);
    if (status)
        return status;
    return set_kind(config, &config->entries[at - section->param_count - 1], section->default_kind, "default", error);
}

sgm_status sgm_config_new_with(const sgm_schema *schema, sgm_config **out, sgm_error *error) {
    sgm_config *config = sgm_alloc(sizeof *config);
    if (!config)
        return no_memory(error);
    config->schema = schema;
    sgm_status status = SGM_OK;
    for (size_t i = 0; i < schema->section_count && !status; i++)
        status = add_section(config, i, error);
    if (status) {
        sgm_config_free(config);
        return status;
    }
    *out = config;
    return SGM_OK;
}

void sgm_config_free(sgm_config *config) {
    if (!config)
        return;
    for (size_t i = 0; i < config->count; i++)
        entry_free(&config->entries[i]);
    sgm_free(config->entries);
    sgm_free(config);
}

sgm_status sgm_config_copy(const sgm_config *config, sgm_config **out, sgm_error *error) {
    sgm_config *copy = sgm_alloc(sizeof *copy);
    if (!copy)
        return no_memory(error);
    copy->schema = config->schema;
    for (size_t i = 0; i < config->count; i++) {
        const sgm_config_entry *e = &config->entries[i];
        sgm_status status = insert(copy, i, e->key, "", e->param, e->section, e->value.text, e->origin, error);
        if (status) {
            sgm_config_free(copy);
            return status;
        }
    }
    *out = copy;
    return SGM_OK;
}

void sgm_config_swap(sgm_config *a, sgm_config *b) {
    sgm_config old = *a;
    *a = *b;
    *b = old;
}

/* ---- reading ---- */

const char *sgm_config_get(const sgm_config *config, const char *key) {
    const sgm_config_entry *entry = find(config, key);
    return entry ? entry->value.text : NULL;
}

const char *sgm_config_origin(const sgm_config *config, const char *key) {
    const sgm_config_entry *entry = find(config, key);
    return entry ? entry->origin : NULL;
}

size_t sgm_config_count(const sgm_config *config) {
    return config->count;
}

const char *sgm_config_key(const sgm_config *config, size_t index) {
    return index < config->count ? config->entries[index].key : NULL;
}

const sgm_param *sgm_config_param(const sgm_config *config, const char *key) {
    const sgm_config_entry *entry = find(config, key);
    return entry ? entry->param : NULL;
}

int64_t sgm_config_list_count(const sgm_config *config, const char *section) {
    int64_t count = 0;
    for (size_t i = 0; i < config->count; i++)
        count += sgm_config_is_kind(&config->entries[i]) && under(config->entries[i].key, section);
    return count;
}

sgm_status sgm_config_bind(const sgm_config *config, const char *prefix, const sgm_param *params, size_t count,
                           void *settings, sgm_error *error) {
    size_t n = strlen(prefix);
    for (size_t i = 0; i < count; i++) {
        const sgm_config_entry *entry = NULL;
        for (size_t j = 0; j < config->count && !entry; j++)
            if (under(config->entries[j].key, prefix) && strcmp(config->entries[j].key + n + 1, params[i].name) == 0)
                entry = &config->entries[j];
        if (!entry || entry->param->type != params[i].type)
            return sgm_fail(error, SGM_EINTERNAL, NULL, "the configuration has no %s.%s of that type", prefix,
                            params[i].name);
        sgm_param_store(&params[i], &entry->value, settings);
    }
    return SGM_OK;
}
