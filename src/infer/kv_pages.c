// SPDX-License-Identifier: Apache-2.0
/* The pool of key/value pages: one block, a stack of free pages, a reference count each. */
#include "infer/kv_pages.h"

#include <string.h>

#include "base/memory.h"

uint64_t sgm_kv_pool_bytes(int64_t layers, int64_t pages, int64_t width) {
    return (uint64_t)layers * (uint64_t)pages * 2 * SGM_KV_PAGE * (uint64_t)width * sizeof(sgm_real);
}

sgm_status sgm_kv_pool_init(sgm_kv_pool *pool, int64_t layers, int64_t pages, int64_t width, sgm_error *error) {
    *pool = (sgm_kv_pool){.layers = layers, .pages = pages, .layer_elements = 2 * SGM_KV_PAGE * width};
    pool->block = sgm_alloc((size_t)sgm_kv_pool_bytes(layers, pages, width));
    pool->references = sgm_alloc((size_t)pages * sizeof *pool->references);
    pool->unused = sgm_alloc((size_t)pages * sizeof *pool->unused);
    if (!pool->block || !pool->references || !pool->unused) {
        sgm_kv_pool_fini(pool);
        return sgm_fail(error, SGM_EMEMORY, "ask for fewer positions (kv_tokens)",
                        "not enough memory for the keys and values of %lld positions",
                        (long long)(pages * SGM_KV_PAGE));
    }
    for (int64_t i = 0; i < pages; i++) /* page 0 is taken first */
        pool->unused[i] = (int32_t)(pages - 1 - i);
    pool->unused_count = pages;
    return SGM_OK;
}

void sgm_kv_pool_fini(sgm_kv_pool *pool) {
    sgm_free(pool->block);
    sgm_free(pool->references);
    sgm_free(pool->unused);
    *pool = (sgm_kv_pool){0};
}

int32_t sgm_kv_page_take(sgm_kv_pool *pool) {
    if (pool->unused_count == 0)
        return -1;
    int32_t page = pool->unused[--pool->unused_count];
    pool->references[page] = 1;
    return page;
}

void sgm_kv_page_share(sgm_kv_pool *pool, int32_t page) {
    pool->references[page]++;
}

void sgm_kv_page_give(sgm_kv_pool *pool, int32_t page) {
    if (--pool->references[page] == 0)
        pool->unused[pool->unused_count++] = page;
}

sgm_real *sgm_kv_page_data(const sgm_kv_pool *pool, int32_t page, int64_t layer) {
    return pool->block + (page * pool->layers + layer) * pool->layer_elements;
}

void sgm_kv_page_copy(const sgm_kv_pool *pool, int32_t from, int32_t to, int64_t positions) {
    int64_t half = pool->layer_elements / 2, elements = half / SGM_KV_PAGE * positions;
    for (int64_t l = 0; l < pool->layers; l++) {
        const sgm_real *source = sgm_kv_page_data(pool, from, l);
        sgm_real *target = sgm_kv_page_data(pool, to, l);
        memcpy(target, source, (size_t)elements * sizeof(sgm_real));               /* keys */
        memcpy(target + half, source + half, (size_t)elements * sizeof(sgm_real)); /* values */
    }
}
