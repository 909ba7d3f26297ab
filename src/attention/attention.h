// SPDX-License-Identifier: Apache-2.0
/* Inside of causal attention: what its forward and backward passes share. */
#ifndef SGM_ATTENTION_ATTENTION_H
#define SGM_ATTENTION_ATTENTION_H

#include "op/ops.h"

enum { SGM_KEY_BLOCK = SGM_KV_PAGE }; /* keys that are scored at once */

typedef struct sgm_attention_args {
    int64_t heads, kv_heads, layer;
    const sgm_rows *rows;
} sgm_attention_args;

/* Keys of `block` that position p sees. */
static inline int64_t sgm_keys_visible(int64_t p, int64_t block) {
    int64_t n = p - block * SGM_KEY_BLOCK + 1;
    return n > SGM_KEY_BLOCK ? SGM_KEY_BLOCK : n;
}

/* Tasks are drawn the longest first, by classes: powers of two of their cost. */
static inline int sgm_cost_class(int64_t cost) {
    int class = 0;
    for (; cost > 1; cost >>= 1)
        class ++;
    return class;
}

size_t sgm_attention_backward_workspace(const sgm_node *node, int threads);
void sgm_attention_backward(sgm_walk *walk, sgm_node *node);

#endif
