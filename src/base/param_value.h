// SPDX-License-Identifier: Apache-2.0
/* One parsed value of a parameter: what config.c stores per key and what lands in settings structs. */
#ifndef SGM_BASE_PARAM_VALUE_H
#define SGM_BASE_PARAM_VALUE_H

#include "base/param.h"

typedef struct sgm_param_value {
    char *text;      /* the value in its canonical spelling: "8", "1e-3", "true", "8,2", "auto"; owned */
    int64_t integer; /* INT; ENUM: index of the choice */
    double real;
    bool boolean;
    int64_t *integers; /* lists; owned */
    double *reals;
    int64_t count;
} sgm_param_value;

/* Parse `text` as a value of `param` and check its range. `label` ("model.layers", as the user knows it) and `origin`
 * (may be NULL) only appear in messages. SGM_EARGUMENT with the legal values as the hint; nothing is owned then. */
sgm_status sgm_param_parse(const sgm_param *param, const char *label, const char *text, const char *origin,
                           sgm_param_value *value, sgm_error *error);
void sgm_param_value_free(sgm_param_value *value);

/* Write a value at the parameter's offset. Lists and texts are borrowed from `value`. */
void sgm_param_store(const sgm_param *param, const sgm_param_value *value, void *settings);

#endif
