// SPDX-License-Identifier: Apache-2.0
/* Models from and to GGUF, the container of llama.cpp's models, with weights in any of its types we have.
 *
 * Everything is streamed: one tensor's rows at a time, packed by all threads; a model is never in memory at once. The file is
 * written beside its name and renamed. */
#ifndef SIGMOE_CONVERT_H
#define SIGMOE_CONVERT_H

#include <stddef.h>
#include <stdint.h>

#include "sigmoe/config.h"
#include "sigmoe/error.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Which matrix is stored as what. Routers and norm gains stay f32 whatever is asked for: they are a thousandth of a model and
 * decide where tokens go. Rows that do not fit a type's blocks get its fallback, and a note says so. */
typedef struct sgm_convert_options {
    /* Of every other matrix, embeddings and head too: "f32", "f16", "bf16", "q8_0", "q4_0", …; NULL: f32. */
    const char *type;
    /* "PATTERN=TYPE": tensors whose name in the file matches; the last that matches decides. A pattern is a shell glob over the
     * whole name ("blk.[0-3].attn_*") or the name of a kind ("ffn_down_exps", "token_embd"). */
    const char *const *tensor_types;
    size_t tensor_type_count;
    /* "LAYERS:EXPERTS=TYPE", each a number, a range A-B or *: all three matrices of these experts; decides over the above. */
    const char *const *expert_types;
    size_t expert_type_count;
    const char *architecture; /* "qwen3moe" or "sigmoe"; NULL: qwen3moe where it can say what the model is */
    const char *tokenizer;    /* a tokenizer to put into the file; NULL: the model's own, if it has one */
    int threads;              /* 0: as many as there are cores */
    /* Called now and then from the calling thread; NULL: nobody. */
    void (*progress)(void *context, int64_t done_bytes, int64_t total_bytes);
    void *context;
    const volatile int *stop; /* may be NULL; polled: non-zero → nothing is left behind, SGM_EINTERRUPTED */
} sgm_convert_options;

typedef struct sgm_convert_report {
    char architecture[16];
    int64_t tensors, bytes; /* of the file */
    /* Lines the user should read, each ended by a newline: types that fell back and why, and what other programs will do
     * differently; never NULL after success. */
    char *notes;
} sgm_convert_report;
void sgm_convert_report_free(sgm_convert_report *report);

/* `from`: whatever sgm_engine_open takes; `to`: a .gguf file. A matrix that has the wanted type already is copied as it is.
 * What `to` names is replaced if it is a GGUF file. Errors: SGM_EARGUMENT for an unknown type, a rule that fits nothing, a `to`
 * that is the model itself or another kind of file; SGM_EFORMAT for a matrix with values that are not finite in its type (one
 * that stays f32 keeps whatever it has); those of reading `from` and of writing `to`. */
sgm_status sgm_model_quantize(const char *from, const sgm_convert_options *options, const char *to,
                              sgm_convert_report *report, sgm_error *error);
/* A model with random weights in a new file (SGM_EEXISTS). In types of floats each element is the one sgm_model_init gives it;
 * in quantised types blocks are drawn from a pool of packed normal deviates, so that 20 billion parameters take a minute.
 * Errors as above. */
sgm_status sgm_model_init_gguf(const sgm_config *config, uint64_t seed, const sgm_convert_options *options,
                               const char *to, sgm_convert_report *report, sgm_error *error);

/* What a GGUF file holds: tensors of the same kind and type together, in file order ("attn_q q8_0 56 tensors"). */
typedef struct sgm_tensor_group {
    char kind[64], type[16];          /* "ffn_down_exps"; a type that is none of ours is "type 23" */
    int64_t tensors, elements, bytes; /* bytes: 0 for a type that is none of ours */
} sgm_tensor_group;
/* `groups` is one heap block: sgm_tensor_groups_free. SGM_EARGUMENT: not a GGUF file. */
sgm_status sgm_model_tensor_groups(const char *path, sgm_tensor_group **groups, size_t *count, sgm_error *error);
void sgm_tensor_groups_free(sgm_tensor_group *groups);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
