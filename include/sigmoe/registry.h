// SPDX-License-Identifier: Apache-2.0
/* Plug-ins and their parameters.
 *
 * One idea is one file, one const struct and one line in its folder's list.h. Each plug-in declares its parameters once;
 * that table drives configuration files, --set, --help, `sigmoe list`, checkpoint metadata and the range checks.
 * Registries: "router", "balance", "sparsity", "placement", "cache", "optimizer", "schedule", "op", "kernel", "type" (storage types of weights), "preset". */
#ifndef SIGMOE_REGISTRY_H
#define SIGMOE_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sigmoe/error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Where a value of each type lands in the plug-in's settings struct:
 * INT int64_t · REAL double · BOOL bool · ENUM int (index into choices) · TEXT char * (borrowed from the config) ·
 * INT_LIST sgm_int_list · REAL_LIST sgm_real_list (items borrowed from the config). */
typedef enum sgm_param_type {
    SGM_PARAM_INT,
    SGM_PARAM_REAL,
    SGM_PARAM_BOOL,
    SGM_PARAM_ENUM,
    SGM_PARAM_TEXT,
    SGM_PARAM_INT_LIST,
    SGM_PARAM_REAL_LIST,
} sgm_param_type;

typedef struct sgm_int_list {
    const int64_t *items;
    int64_t count;
} sgm_int_list;
typedef struct sgm_real_list {
    const double *items;
    int64_t count;
} sgm_real_list;

/* "auto" is accepted for INT, REAL and the lists where `has_auto` is set; it lands as SGM_AUTO (INT), NaN (REAL) or an
 * empty list. */
#define SGM_AUTO INT64_MIN

typedef struct sgm_param {
    const char *name; /* "coefficient" */
    sgm_param_type type;
    size_t offset;        /* of the value in the settings struct */
    const char *fallback; /* default value as text, as one would write it in the file; never NULL */
    double min, max;      /* inclusive range of a number or of each list item; ignored when min > max */
    bool has_auto;        /* "auto" is a legal value */
    const char *choices;  /* ENUM: "exact|buffer|lagged" */
    const char *unit;     /* "tokens", "seconds", "" */
    const char *help;     /* one line */
} sgm_param;

/* What every plug-in struct starts with. */
typedef struct sgm_plugin {
    const char *name;    /* "top_k", "load_balance_loss": lower case, underscores */
    const char *summary; /* one line */
    const char *paper;   /* "arXiv 2101.03961", or "" */
    const sgm_param *params;
    size_t param_count;
    size_t settings_bytes; /* sizeof its settings struct */
} sgm_plugin;

/* The registries by name, for `sigmoe list` and for tools. NULL past the end / for an unknown registry. */
const char *sgm_registry_name(size_t index);
const sgm_plugin *sgm_registry_get(const char *registry, size_t index);
const sgm_plugin *sgm_registry_find(const char *registry, const char *name, sgm_error *error);

/* The known name nearest to `wrong` (edit distance), or NULL when none is near. Names: NULL-terminated array. */
const char *sgm_nearest(const char *wrong, const char *const *names);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
