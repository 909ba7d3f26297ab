// SPDX-License-Identifier: Apache-2.0
/* The pool of key/value pages of an engine.
 *
 * A page holds SGM_KV_PAGE positions of one sequence in every layer. It is shared by any number of sessions (reference
 * count) and written only while a single one holds it. All memory is one block made at the start. Not thread-safe: the
 * engine's owner is the one who takes and gives. */
#ifndef SGM_INFER_KV_PAGES_H
#define SGM_INFER_KV_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "sigmoe/error.h"
#include "tensor/batch.h"

typedef struct sgm_kv_pool {
    sgm_kv_type type;
    int64_t layers, pages;
    size_t layer_bytes;  /* of one page in one layer: SGM_KV_PAGE positions of all heads (tensor/batch.h) */
    char *block;         /* [page][layer][layer_bytes] */
    int32_t *references; /* (pages) */
    int32_t *unused;     /* stack of free pages */
    int64_t unused_count;
} sgm_kv_pool;

/* UINT64_MAX: more than can be counted. */
uint64_t sgm_kv_pool_bytes(sgm_kv_type type, int64_t layers, int64_t pages, int64_t kv_heads, int64_t head_size);
sgm_status sgm_kv_pool_init(sgm_kv_pool *pool, sgm_kv_type type, int64_t layers, int64_t pages, int64_t kv_heads,
                            int64_t head_size, sgm_error *error);
void sgm_kv_pool_fini(sgm_kv_pool *pool);

int32_t sgm_kv_page_take(sgm_kv_pool *pool); /* a free page with one reference; -1: none left */
void sgm_kv_page_share(sgm_kv_pool *pool, int32_t page);
void sgm_kv_page_give(sgm_kv_pool *pool, int32_t page);
char *sgm_kv_page_data(const sgm_kv_pool *pool, int32_t page, int64_t layer);
void sgm_kv_page_copy(const sgm_kv_pool *pool, int32_t from, int32_t to);

/* "f32", "f16", "q8"; NULL past the last. */
const char *sgm_kv_type_name(int index);
/* NULL and "auto": f32 for a model whose weights are f32, f16 for the others. SGM_EARGUMENT: no such type. */
sgm_status sgm_kv_type_choose(const char *name, bool weights_are_f32, sgm_kv_type *type, sgm_error *error);

#endif
