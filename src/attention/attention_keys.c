// SPDX-License-Identifier: Apache-2.0
/* Keys and values as attention reads and stores them: rows of the batch in training, pages of three types in inference. */
#include <string.h>

#include "attention/attention.h"
#include "tensor/products.h"

enum { BLOCK = SGM_KEY_BLOCK, FEW_ROWS = 8 /* up to so many rows multiply with keys and values as they are stored */ };

static char *page_of(const sgm_kv_pages *past, const sgm_attention_args *a, int64_t S, int64_t head, int64_t block) {
    return past->page[a->layer * past->pages_per_layer + block] + (size_t)head * sgm_kv_head_bytes(past->type, S);
}

sgm_key_block sgm_key_block_get(const sgm_kernels *kernels, const sgm_node *node, const sgm_segment *segment,
                                int64_t head, int64_t block, int64_t count, int64_t rows, sgm_real *keys,
                                sgm_real *values) {
    const sgm_attention_args *a = node->args;
    int64_t narrow = node->in[1].cols, S = narrow / a->kv_heads;
    if (!segment->past) {
        int64_t at = (segment->row + block * BLOCK) * narrow + head * S;
        kernels->transpose(count, S, node->in[1].data + at, narrow, keys, BLOCK);
        return (sgm_key_block){SGM_KV_F32, keys, node->in[2].data + at, narrow, NULL, NULL, false};
    }
    sgm_kv_type type = segment->past->type;
    const char *page = page_of(segment->past, a, S, head, block);
    const char *after = page + (size_t)(S * BLOCK) * sgm_kv_element_bytes(type);
    sgm_key_block stored = {type, page, after, S, NULL, NULL, true};
    if (type == SGM_KV_Q8) {
        stored.key_scale = (const float *)(const void *)(after + S * BLOCK);
        stored.value_scale = stored.key_scale + BLOCK;
    }
    if (type == SGM_KV_F32 || rows <= FEW_ROWS)
        return stored;
    if (type == SGM_KV_F16) {
        kernels->f16_widen(S * BLOCK, stored.keys, keys);
        kernels->f16_widen(count * S, stored.values, values);
    } else {
        kernels->int8_widen(S * BLOCK, stored.keys, keys);
        kernels->int8_widen(count * S, stored.values, values);
    }
    return (sgm_key_block){SGM_KV_F32, keys, values, S, stored.key_scale, stored.value_scale, true};
}

void sgm_key_multiply(const sgm_kernels *kernels, sgm_compute compute, const sgm_key_block *block, bool values,
                      int64_t M, int64_t N, int64_t K, const sgm_real *A, int64_t lda, sgm_real *C, int64_t ldc,
                      bool add) {
    const void *B = values ? block->values : block->keys;
    const int64_t ldb = values ? block->value_stride : BLOCK;
    if (block->type == SGM_KV_F32)
        sgm_product_kernel(kernels, SGM_NN, block->cached ? SGM_COMPUTE_F32 : compute)(M, N, K, A, lda, B, ldb, C, ldc,
                                                                                       add);
    else if (block->type == SGM_KV_F16)
        kernels->matmul_nn_f16(M, N, K, A, lda, B, ldb, C, ldc, add);
    else
        kernels->matmul_nn_int8(M, N, K, A, lda, B, ldb, C, ldc, add);
}

/* Position of the sequence gets its key and value of one head. `scratch` holds S elements of the stored type. */
static void store(const sgm_kernels *kernels, sgm_kv_type type, int64_t S, int64_t slot, const sgm_real *key,
                  const sgm_real *value, char *page, void *scratch) {
    if (type == SGM_KV_F32) {
        sgm_real *keys = (sgm_real *)(void *)page;
        for (int64_t i = 0; i < S; i++)
            keys[i * BLOCK + slot] = key[i];
        memcpy(keys + S * BLOCK + slot * S, value, (size_t)S * sizeof *value);
    } else if (type == SGM_KV_F16) {
        uint16_t *keys = (uint16_t *)(void *)page, *narrow = scratch;
        kernels->f16_round(S, key, narrow);
        for (int64_t i = 0; i < S; i++)
            keys[i * BLOCK + slot] = narrow[i];
        kernels->f16_round(S, value, keys + S * BLOCK + slot * S);
    } else {
        int8_t *keys = (int8_t *)page, *narrow = scratch;
        float *scale = (float *)(void *)(page + 2 * S * BLOCK);
        scale[slot] = kernels->int8_round(S, key, narrow);
        for (int64_t i = 0; i < S; i++)
            keys[i * BLOCK + slot] = narrow[i];
        scale[BLOCK + slot] = kernels->int8_round(S, value, keys + S * BLOCK + slot * S);
    }
}

void sgm_key_append(const sgm_kernels *kernels, const sgm_node *node, const sgm_segment *segment, int64_t begin,
                    int64_t end, int64_t head, int64_t heads, void *scratch) {
    const sgm_attention_args *a = node->args;
    int64_t narrow = node->in[1].cols, S = narrow / a->kv_heads;
    for (int64_t i = begin; i < end; i++)
        for (int64_t h = head; h < head + heads; h++) {
            int64_t position = segment->position + i, at = (segment->row + i) * narrow + h * S;
            store(kernels, segment->past->type, S, position % BLOCK, node->in[1].data + at, node->in[2].data + at,
                  page_of(segment->past, a, S, h, position / BLOCK), scratch);
        }
}
