// SPDX-License-Identifier: Apache-2.0
/* The `model` section of a config: its parameter table. */
#ifndef SGM_MODEL_SETTINGS_H
#define SGM_MODEL_SETTINGS_H

#include "sigmoe/model.h"

extern const sgm_param sgm_model_params[]; /* offsets are into sgm_model_settings */
extern const size_t sgm_model_param_count;

#endif
