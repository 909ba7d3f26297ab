// SPDX-License-Identifier: Apache-2.0
/* Parameter tables: parse one value, check its range, bind a section of a config to a settings struct. */
#ifndef SGM_BASE_PARAM_H
#define SGM_BASE_PARAM_H

#include "sigmoe/config.h"

/* A fixed section, a plug-in section (exactly one kind) or a list of plug-ins, in file order. */
typedef enum sgm_section_shape { SGM_SECTION_FIXED, SGM_SECTION_PLUGIN, SGM_SECTION_PLUGIN_LIST } sgm_section_shape;
typedef struct sgm_section {
    const char *name;
    sgm_section_shape shape;
    const sgm_param *params; /* FIXED; for PLUGIN: keys every kind has besides its own (may be NULL) */
    size_t param_count;
    const char *registry;     /* PLUGIN, PLUGIN_LIST */
    const char *default_kind; /* PLUGIN: the kind of a new config; PLUGIN_LIST: comma-separated kinds or "none" */
} sgm_section;

/* What a config is made of; `presets` maps a name to YAML text. Given once by the layer that knows them all. */
typedef struct sgm_schema {
    const sgm_section *sections;
    size_t section_count;
    sgm_status (*preset)(const char *name, const char **yaml, sgm_error *error);
    sgm_status (*check)(const sgm_config *config, sgm_error *error);
    const sgm_plugin *(*find)(const char *registry, const char *name, sgm_error *error);
    const sgm_plugin *(*at)(const char *registry, size_t index); /* NULL past the end */
} sgm_schema;
sgm_status sgm_config_new_with(const sgm_schema *schema, sgm_config **config, sgm_error *error);

/* Write the values under `prefix` ("model", "balance.1") into `settings` by the offsets of `params`. Lists and texts are
 * borrowed from the config until it changes or is freed. */
sgm_status sgm_config_bind(const sgm_config *config, const char *prefix, const sgm_param *params, size_t count,
                           void *settings, sgm_error *error);
/* Number of entries of a PLUGIN_LIST section. */
int64_t sgm_config_list_count(const sgm_config *config, const char *section);

/* Defaults of a parameter table, without a config (tests, conformance). */
sgm_status sgm_param_defaults(const sgm_param *params, size_t count, void *settings, sgm_error *error);

/* Are the values of a parameter in two settings structs the same? auto is only like auto. */
bool sgm_param_same(const sgm_param *param, const void *settings, const void *others);
/* A value in a settings struct as one would write it: "8", "0.5", "true", "softmax", "auto"; a list's items parted by commas.
 * What does not fit is cut off. */
void sgm_param_print(const sgm_param *param, const void *settings, char *text, size_t room);

#endif
