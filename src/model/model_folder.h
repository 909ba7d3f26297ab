// SPDX-License-Identifier: Apache-2.0
/* Model folders in Hugging Face layout: write and read config.json and the weights of an sgm_model. */
#ifndef SGM_MODEL_MODEL_FOLDER_H
#define SGM_MODEL_MODEL_FOLDER_H

#include "model/transformer.h"

/* Find the model folder behind a path: a model folder, a checkpoint, or a run folder (its checkpoints/latest). Names the
 * candidates in the error when there is none. `folder` has 4096 bytes. */
sgm_status sgm_model_folder_resolve(const char *path, char *folder, sgm_error *error);

/* config.json, generation_config.json and model.safetensors; `selection_bias` (L, E), NULL: none, is the model's own or, in
 * training, the balancers'; `experts_per_token` (L) of the step being saved: model_type is qwen3_moe only when it is the same
 * in every layer, the router is softmax top-k and there is no bias on selection. Files are fsynced; the caller renames
 * the folder. The tokenizer, if any, is copied in from `tokenizer_folder`. */
sgm_status sgm_model_folder_save(const sgm_model *model, const sgm_real *selection_bias,
                                 const int64_t *experts_per_token, const char *tokenizer_folder, const char *folder,
                                 sgm_error *error);
/* `experts_per_token` (may be NULL) receives a heap array of L values, sgm_free. Checksums are verified. */
sgm_status sgm_model_folder_load(const char *folder, bool gradients, sgm_model **model, int64_t **experts_per_token,
                                 sgm_error *error);
/* Load only the weights into an existing model of the same shape. A bias on selection is not among them: in training it
 * belongs to the balancers, who have it in their state. `bias` (may be NULL, for who has that state) receives it as a heap
 * array (L, E), sgm_free; NULL where the folder holds none. */
sgm_status sgm_model_folder_load_weights(const char *folder, sgm_model *model, sgm_real **bias, sgm_error *error);

#endif
