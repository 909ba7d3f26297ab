// SPDX-License-Identifier: Apache-2.0
/* What a trace says about the model that routed. */
#ifndef SGM_MODEL_MODEL_IDENTITY_H
#define SGM_MODEL_MODEL_IDENTITY_H

#include "model/transformer.h"
#include "sigmoe/text.h"
#include "sigmoe/trace.h"

/* Of all weights, by name, as they are stored, and of the bias on selection (L, E; NULL: none): one number for one function.
 * The same in training and when that checkpoint is loaded; another for another storage type. Reads every weight once. */
uint64_t sgm_model_hash(const sgm_model *model, const sgm_real *selection_bias);

/* The fields that the model, its tokenizer (NULL: none) and the numbers of experts per token (L) decide; source and step are
 * the caller's. `expert_bytes` (L) is filled and, like experts_per_token, borrowed by *about. */
void sgm_model_about(const sgm_model *model, const sgm_real *selection_bias, const sgm_tokenizer *tokenizer,
                     const int64_t *experts_per_token, int64_t *expert_bytes, sgm_trace_info *about);

#endif
