// SPDX-License-Identifier: Apache-2.0
/* Inside of writing GGUF models: which weight gets which type, and where its values come from. */
#ifndef SGM_MODEL_MODEL_CONVERT_H
#define SGM_MODEL_MODEL_CONVERT_H

#include "base/memory.h"
#include "model/model_gguf.h"
#include "quant/quant.h"
#include "sigmoe/convert.h"

/* ---- types ------------------------------------------------------------------------------------------------------------ */

typedef struct sgm_type_plan {
    const sgm_model *model; /* names and shapes are read */
    const sgm_convert_options *options;
    sgm_type base;
    int8_t *expert; /* (L, E): the type asked for an expert; -1: none */
    bool *split;    /* (L): its experts differ, so that each needs tensors of its own */
    bool any_split;
} sgm_type_plan;

/* SGM_EARGUMENT: an unknown type, a rule that cannot be read or that matches nothing. */
sgm_status sgm_type_plan_make(const sgm_model *model, const sgm_convert_options *options, sgm_type_plan *plan,
                              sgm_error *error);
void sgm_type_plan_free(sgm_type_plan *plan);
/* The type asked for a part (a part's weights have one type), and the type it gets, which may be a fallback. */
sgm_type sgm_type_plan_wanted(const sgm_type_plan *plan, const sgm_gguf_part *part);
sgm_type sgm_type_plan_given(const sgm_type_plan *plan, const sgm_gguf_part *part);
/* "ffn_down_exps" of "blk.3.ffn_down_exps.weight" and of "blk.3.ffn_down.17.weight". */
void sgm_gguf_kind(const char *name, char kind[SGM_GGUF_TENSOR_NAME]);
/* Lines on the parts that got another type than was asked for. */
sgm_status sgm_type_plan_notes(const sgm_type_plan *plan, sgm_buffer *notes);

/* ---- values ----------------------------------------------------------------------------------------------------------- */

/* Rows of weights, from a model's weights or at random. */
typedef struct sgm_row_source {
    bool random;
    uint64_t seed;
    struct sgm_block_pool *pools; /* random rows of quantised types */
    int pool_count;
} sgm_row_source;

/* Random values: pools for every (type, deviation) that the plan needs. */
sgm_status sgm_row_source_random(uint64_t seed, const sgm_type_plan *plan, sgm_team *team, sgm_row_source *source,
                                 sgm_error *error);
void sgm_row_source_free(sgm_row_source *source);
/* Row `row` of a weight, packed as `type` into `out`. `scratch`: a row of floats. Any thread; the same bytes in each. False:
 * the row has values that are not finite in `type`, other than f32; blocks would hide them. */
bool sgm_row_source_pack(const sgm_row_source *source, const sgm_weight *weight, int64_t row, sgm_type type,
                         float *scratch, void *out);

#endif
