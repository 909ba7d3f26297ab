// SPDX-License-Identifier: Apache-2.0
/* Writing a config as YAML that reads back as the same config. */
#include <string.h>

#include "base/config_internal.h"
#include "base/memory.h"
#include "base/utf8.h"

void sgm_text_free(void *text) {
    sgm_free(text);
}

/* Characters that a YAML reader refuses, folds or takes for the end of a line. */
static bool needs_escape(uint32_t code) {
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x2028 || code == 0x2029 || code == 0xFEFF ||
           code == 0xFFFE || code == 0xFFFF || code == '"' || code == '\\';
}

static sgm_status add_quoted(sgm_buffer *out, const char *text) {
    sgm_status status = sgm_buffer_add(out, "\"", 1);
    size_t length;
    for (const char *c = text; *c && !status; c += length) {
        uint32_t code = sgm_utf8_decode(c, &length);
        if (!needs_escape(code))
            status = sgm_buffer_add(out, c, length);
        else if (code == '"' || code == '\\')
            status = sgm_buffer_print(out, "\\%c", (int)code);
        else
            status = sgm_buffer_print(out, "\\u%04X", (unsigned)code);
    }
    return status ? status : sgm_buffer_add(out, "\"", 1);
}

static sgm_status add_value(sgm_buffer *out, const sgm_config_entry *entry) {
    const char *text = entry->value.text;
    if (entry->param->type == SGM_PARAM_TEXT && !sgm_config_is_kind(entry))
        return add_quoted(out, text);
    bool list = entry->param->type == SGM_PARAM_INT_LIST || entry->param->type == SGM_PARAM_REAL_LIST;
    if (!list || strcmp(text, "auto") == 0)
        return sgm_buffer_add(out, text, strlen(text));
    sgm_status status = sgm_buffer_add(out, "[", 1);
    for (const char *c = text; *c && !status; c++)
        status = sgm_buffer_add(out, *c == ',' ? ", " : c, *c == ',' ? 2 : 1);
    return status ? status : sgm_buffer_add(out, "]", 1);
}

/* Origins hold file names, which may hold anything: what a YAML comment cannot carry becomes '?'. */
static sgm_status end_line(sgm_buffer *out, const sgm_config_entry *entry, bool origins) {
    sgm_status status = SGM_OK;
    if (origins) {
        status = sgm_buffer_add(out, "  # ", 4);
        bool valid = sgm_text_is_utf8(entry->origin);
        size_t length = 1;
        for (const char *c = entry->origin; *c && !status; c += length) {
            uint32_t code = valid ? sgm_utf8_decode(c, &length) : (unsigned char)*c;
            bool plain = !needs_escape(code) || code == '"' || code == '\\';
            if (plain && (valid || code < 0x80))
                status = sgm_buffer_add(out, c, length);
            else
                status = sgm_buffer_add(out, "?", 1);
        }
    }
    return status ? status : sgm_buffer_add(out, "\n", 1);
}

/* One entry: the name of its section goes ahead of the section's first key, "- " ahead of a list entry's kind. */
static sgm_status add_entry(sgm_buffer *out, const sgm_config *config, size_t index, bool origins) {
    const sgm_config_entry *entry = &config->entries[index];
    const sgm_section *section = &config->schema->sections[entry->section];
    bool first = index == 0 || config->entries[index - 1].section != entry->section;
    sgm_status status = SGM_OK;
    if (sgm_config_is_list(entry)) {
        bool none = sgm_config_list_count(config, section->name) == 0;
        status = sgm_buffer_print(out, "%s:%s", section->name, none ? " none" : "");
        return status ? status : end_line(out, entry, origins);
    }
    if (first)
        status = sgm_buffer_print(out, "%s:\n", section->name);
    const char *name = entry->key + strlen(section->name) + 1, *indent = "  ";
    if (section->shape == SGM_SECTION_PLUGIN_LIST) {
        name = strchr(name, '.') + 1;
        indent = sgm_config_is_kind(entry) ? "  - " : "    ";
    }
    if (!status)
        status = sgm_buffer_print(out, "%s%s: ", indent, name);
    if (!status)
        status = add_value(out, entry);
    return status ? status : end_line(out, entry, origins);
}

sgm_status sgm_config_text(const sgm_config *config, bool origins, char **yaml, sgm_error *error) {
    sgm_buffer out = {0};
    sgm_status status = sgm_buffer_add(&out, "", 0);
    for (size_t i = 0; i < config->count && !status; i++)
        status = add_entry(&out, config, i, origins);
    if (status) {
        sgm_buffer_free(&out);
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the text of the configuration");
    }
    *yaml = out.data;
    return SGM_OK;
}
