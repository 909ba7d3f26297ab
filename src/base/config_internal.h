// SPDX-License-Identifier: Apache-2.0
/* What the three files of the config share: config.c (keys and values), config_yaml.c (reading), config_text.c
 * (writing). */
#ifndef SGM_BASE_CONFIG_INTERNAL_H
#define SGM_BASE_CONFIG_INTERNAL_H

#include "base/param.h"
#include "base/param_value.h"

enum {
    SGM_CONFIG_BYTES = 1 << 20, /* a config file is a page or two: larger is a mistake */
    SGM_CONFIG_DEPTH = 16,      /* nesting of a YAML file */
    SGM_CONFIG_PAIRS = 10000,   /* values in one file */
    SGM_CONFIG_PLUGINS = 256,   /* plug-ins in one list */
};

typedef struct sgm_config_entry {
    char *key, *origin;
    const sgm_param *param; /* borrowed from a table, or the table of one entry for `kind` and for lists of plug-ins */
    size_t section;         /* index in the schema */
    sgm_param_value value;
} sgm_config_entry;

struct sgm_config {
    const sgm_schema *schema;
    sgm_config_entry *entries; /* in file order: sections in schema order, keys in table order */
    size_t count, capacity;
};

/* Is this entry the `kind` of a plug-in, or the key that stands for a whole list of plug-ins? */
bool sgm_config_is_kind(const sgm_config_entry *entry);
bool sgm_config_is_list(const sgm_config_entry *entry);

/* The section a key belongs to (by its first part), or NULL. */
const sgm_section *sgm_config_section(const sgm_config *config, const char *key);

/* Set one value. After a failure the config may be half changed: callers work on a copy and swap it in. */
sgm_status sgm_config_apply(sgm_config *config, const char *key, const char *text, const char *origin,
                            sgm_error *error);

/* Read YAML into a copy and swap it in. Origins are "name:line" with `lines`, else `name`. */
sgm_status sgm_config_parse_lines(sgm_config *config, const char *yaml, size_t size, const char *name, bool lines,
                                  sgm_error *error);
void sgm_config_swap(sgm_config *a, sgm_config *b);

#endif
