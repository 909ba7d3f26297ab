// SPDX-License-Identifier: Apache-2.0
/* Opening a model for inference, whatever it is stored as. */
#ifndef SGM_MODEL_MODEL_OPEN_H
#define SGM_MODEL_MODEL_OPEN_H

#include "model/transformer.h"

/* `path`: a GGUF file (mapped: weights are used where they lie, with weight.stored and expert.stored_*, weight.data being
 * NULL unless the file holds f32), a model folder, a checkpoint or a run folder. `experts_per_token` (may be NULL) receives a
 * heap array of L values, sgm_free. */
sgm_status sgm_model_open(const char *path, sgm_model **model, int64_t **experts_per_token, sgm_error *error);

#endif
