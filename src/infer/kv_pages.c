// SPDX-License-Identifier: Apache-2.0
/* The pool of key/value pages: one block, a stack of free pages, a reference count each. */
#include "infer/kv_pages.h"

#include <string.h>

#include "base/memory.h"

static const char *const type_names[SGM_KV_TYPES] = {"f32", "f16", "q8"};

const char *sgm_kv_type_name(int index) {
    return index < SGM_KV_TYPES ? type_names[index] : NULL;
}

sgm_status sgm_kv_type_choose(const char *name, bool weights_are_f32, sgm_kv_type *type, sgm_error *error) {
    if (!name || strcmp(name, "auto") == 0) {
        *type = weights_are_f32 ? SGM_KV_F32 : SGM_KV_F16;
        return SGM_OK;
    }
    for (int i = 0; i < SGM_KV_TYPES; i++)
        if (strcmp(name, type_names[i]) == 0) {
            *type = (sgm_kv_type)i;
            return SGM_OK;
        }
    return sgm_fail(error, SGM_EARGUMENT, "there are auto, f32, f16 and q8", "'%s' is no type of keys and values",
                    name);
}

uint64_t sgm_kv_pool_bytes(sgm_kv_type type, int64_t layers, int64_t pages, int64_t kv_heads, int64_t head_size) {
    uint64_t bytes = sgm_kv_head_bytes(type, head_size);
    if (__builtin_mul_overflow(bytes, (uint64_t)kv_heads, &bytes) ||
        __builtin_mul_overflow(bytes, (uint64_t)layers, &bytes) ||
        __builtin_mul_overflow(bytes, (uint64_t)pages, &bytes))
        return UINT64_MAX;
    return bytes;
}

sgm_status sgm_kv_pool_init(sgm_kv_pool *pool, sgm_kv_type type, int64_t layers, int64_t pages, int64_t kv_heads,
                            int64_t head_size, sgm_error *error) {
    *pool = (sgm_kv_pool){.type = type,
                          .layers = layers,
                          .pages = pages,
                          .layer_bytes = (size_t)kv_heads * sgm_kv_head_bytes(type, head_size)};
    pool->block = sgm_alloc((size_t)sgm_kv_pool_bytes(type, layers, pages, kv_heads, head_size));
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

char *sgm_kv_page_data(const sgm_kv_pool *pool, int32_t page, int64_t layer) {
    return pool->block + (size_t)(page * pool->layers + layer) * pool->layer_bytes;
}

void sgm_kv_page_copy(const sgm_kv_pool *pool, int32_t from, int32_t to) {
    memcpy(sgm_kv_page_data(pool, to, 0), sgm_kv_page_data(pool, from, 0), (size_t)pool->layers * pool->layer_bytes);
}
