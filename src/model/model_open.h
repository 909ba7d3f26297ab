// SPDX-License-Identifier: Apache-2.0
/* Opening a model, whatever it is stored as: a GGUF file, a model folder, a checkpoint or a run folder (its latest). */
#ifndef SGM_MODEL_MODEL_OPEN_H
#define SGM_MODEL_MODEL_OPEN_H

#include "format/hf_config.h"
#include "model/transformer.h"
#include "sigmoe/text.h"

/* For inference. A GGUF file is mapped: weights are used where they lie, with weight.stored and expert.stored_*, weight.data
 * being NULL unless the file holds f32. `experts_per_token` (may be NULL) receives a heap array of L values, sgm_free. */
sgm_status sgm_model_open(const char *path, sgm_model **model, int64_t **experts_per_token, sgm_error *error);

/* Its settings alone; fini with sgm_hf_config_fini. `resolved` (4096 bytes) receives the file or the model folder. */
sgm_status sgm_model_open_config(const char *path, char *resolved, sgm_hf_config *config, sgm_error *error);

/* The tokenizer that is stored with it; NULL when there is none (or, in a GGUF file, one of another kind than byte-level
 * BPE). `resolved` as above. */
sgm_status sgm_model_open_tokenizer(const char *resolved, sgm_tokenizer **tokenizer, sgm_error *error);

#endif
