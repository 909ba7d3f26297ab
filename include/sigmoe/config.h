// SPDX-License-Identifier: Apache-2.0
/* A run's configuration: dotted keys, each with its value and where it came from.
 *
 * A new config holds the defaults. Presets, YAML files, checkpoint metadata and command-line flags are layered on top;
 * the last one wins and the origin is remembered ("default", "preset nano", "run.yaml:12", "--set"). Keys and their
 * types come from parameter tables (registry.h): fixed sections `model`, `data`, `train`, and plug-in sections `router`,
 * `sparsity`, `optimizer`, `schedule` (each with a `kind`) and `balance`, a list: `balance.0.kind`, `balance.0.scope`, …
 * Setting a section's `kind` replaces its keys by the plug-in's own. `balance` itself takes a comma-separated list of
 * kinds, or `none`. */
#ifndef SIGMOE_CONFIG_H
#define SIGMOE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "sigmoe/error.h"
#include "sigmoe/registry.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct sgm_config sgm_config;

sgm_status sgm_config_new(sgm_config **config, sgm_error *error);
void sgm_config_free(sgm_config *config);
sgm_status sgm_config_copy(const sgm_config *config, sgm_config **copy, sgm_error *error);

/* Layer values on top. Unknown keys, values out of range and values of the wrong type are SGM_EARGUMENT with the nearest
 * known key or the legal range as the hint; the config is unchanged then. */
sgm_status sgm_config_preset(sgm_config *config, const char *preset, sgm_error *error);
sgm_status sgm_config_load(sgm_config *config, const char *path, sgm_error *error);
sgm_status sgm_config_parse(sgm_config *config, const char *yaml, size_t size, const char *origin, sgm_error *error);
sgm_status sgm_config_set(sgm_config *config, const char *key, const char *value, const char *origin, sgm_error *error);

/* Cross-checks between keys (heads divide, k ≤ experts, …). SGM_EARGUMENT with a hint. */
sgm_status sgm_config_check(const sgm_config *config, sgm_error *error);

/* Read. Text of a value ("" never NULL when the key exists; NULL when unknown), its origin. */
const char *sgm_config_get(const sgm_config *config, const char *key);
const char *sgm_config_origin(const sgm_config *config, const char *key);
size_t sgm_config_count(const sgm_config *config);
const char *sgm_config_key(const sgm_config *config, size_t index); /* in file order */
const sgm_param *sgm_config_param(const sgm_config *config, const char *key);

/* The whole config as YAML; with origins each line ends in a comment that says where its value came from.
 * Heap string; free with sgm_text_free. Loading it again gives the same config. */
sgm_status sgm_config_text(const sgm_config *config, bool origins, char **yaml, sgm_error *error);
/* Give back what a function handed out with "free with sgm_text_free": text, or token ids. NULL is fine. */
void sgm_text_free(void *text);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
