// SPDX-License-Identifier: Apache-2.0
/* What writing, reading and inspecting a model folder share. */
#ifndef SGM_MODEL_MODEL_FILES_H
#define SGM_MODEL_MODEL_FILES_H

#include "format/hf_config.h"
#include "format/safetensors.h"
#include "model/model_folder.h"

enum { SGM_PATH_BYTES = 4096 };

/* N of ".../step-N", -1 when it is no such name. */
int64_t sgm_step_of_folder(const char *path);
/* config.json of a folder, checked; fini with sgm_hf_config_fini. */
sgm_status sgm_model_config_read(const char *folder, sgm_hf_config *config, sgm_error *error);
/* The settings, router and k by layer that a run's configuration asks for; fini with sgm_hf_config_fini, whatever comes
 * back. The router's texts and lists are borrowed from `config`. */
sgm_status sgm_model_new_config(const sgm_config *config, sgm_hf_config *out, sgm_error *error);
/* Whether a tokenizer (a folder or a tokenizer.json) opens and has no more tokens than `vocabulary`; its end-of-text id into
 * *end. */
sgm_status sgm_model_tokenizer_check(const char *path, int64_t vocabulary, int32_t *end, sgm_error *error);
/* Everything but the weights: tokenizer (a folder or a tokenizer.json; NULL: none), generation_config.json and, last,
 * config.json. Sets config->end_of_text. */
sgm_status sgm_model_texts_save(sgm_hf_config *config, const char *tokenizer, const char *folder, sgm_error *error);
/* Dimensions of a weight in a file. */
int sgm_weight_file_shape(const sgm_weight *weight, int64_t shape[2]);

#endif
