// SPDX-License-Identifier: Apache-2.0
/* The pool of key/value pages of an engine.
 *
 * A page holds SGM_KV_PAGE positions of one sequence in every layer. It is shared by any number of sessions (reference
 * count) and written only while a single one holds it. All memory is one block made at the start. Not thread-safe: the
 * engine's owner is the one who takes and gives. */
#ifndef SGM_INFER_KV_PAGES_H
#define SGM_INFER_KV_PAGES_H

#include <stdint.h>

#include "sigmoe/error.h"
#include "tensor/batch.h"

typedef struct sgm_kv_pool {
    int64_t layers, pages;
    int64_t layer_elements; /* of one page in one layer: keys and values of SGM_KV_PAGE positions */
    sgm_real *block;        /* [page][layer][layer_elements] */
    int32_t *references;    /* (pages) */
    int32_t *unused;        /* stack of free pages */
    int64_t unused_count;
} sgm_kv_pool;

/* `width`: key/value heads × head size. */
uint64_t sgm_kv_pool_bytes(int64_t layers, int64_t pages, int64_t width);
sgm_status sgm_kv_pool_init(sgm_kv_pool *pool, int64_t layers, int64_t pages, int64_t width, sgm_error *error);
void sgm_kv_pool_fini(sgm_kv_pool *pool);

int32_t sgm_kv_page_take(sgm_kv_pool *pool); /* a free page with one reference; -1: none left */
void sgm_kv_page_share(sgm_kv_pool *pool, int32_t page);
void sgm_kv_page_give(sgm_kv_pool *pool, int32_t page);
sgm_real *sgm_kv_page_data(const sgm_kv_pool *pool, int32_t page, int64_t layer);
/* Copy the first `positions` positions, in all layers. */
void sgm_kv_page_copy(const sgm_kv_pool *pool, int32_t from, int32_t to, int64_t positions);

#endif
