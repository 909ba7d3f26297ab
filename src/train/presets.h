// SPDX-License-Identifier: Apache-2.0
/* Presets: a name for a size of model and the training settings that go with it. */
#ifndef SGM_TRAIN_PRESETS_H
#define SGM_TRAIN_PRESETS_H

#include "sigmoe/registry.h"

const sgm_plugin *sgm_preset_at(size_t index); /* NULL past the end */
/* Its settings as YAML, static. */
sgm_status sgm_preset_yaml(const char *name, const char **yaml, sgm_error *error);

#endif
