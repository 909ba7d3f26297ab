// SPDX-License-Identifier: Apache-2.0
/* A layer's experts: a bank of separate experts, each with its own pointers, width and storage, used between acquire and
 * release; never one (E, F, D) tensor. Paging, pruning, bits per expert, replicas and expert parallelism hang on that. */
#ifndef SGM_MOE_EXPERT_BANK_H
#define SGM_MOE_EXPERT_BANK_H

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "sigmoe/error.h"
#include "tensor/matrix.h"

/* One SwiGLU expert: y = down · (silu(gate · x) ∘ (up · x)). Matrices as rows of the output: gate, up (F, D), down (D, F),
 * each with its row stride. Borrowed between acquire and release. */
typedef struct sgm_expert {
    int64_t width; /* F of this expert */
    const sgm_real *gate, *up, *down;
    const uint16_t *rounded_gate, *rounded_up,
        *rounded_down;                           /* training in bf16: the same rounded, same strides; or NULL */
    int64_t gate_stride, up_stride, down_stride; /* elements between rows */
    sgm_real *d_gate, *d_up, *d_down;            /* gradients, same strides; NULL in inference */
    /* Inference: the same three as their file holds them, each in its own type; .data NULL: the pointers above count. */
    sgm_matrix stored_gate, stored_up, stored_down;
} sgm_expert;

/* One of the three from row `first` on. */
typedef struct sgm_expert_matrix {
    const sgm_real *data;
    const uint16_t *rounded; /* or NULL */
    int64_t stride;
} sgm_expert_matrix;

static inline sgm_expert_matrix sgm_expert_rows(const sgm_real *data, const uint16_t *rounded, int64_t stride,
                                                int64_t first) {
    return (sgm_expert_matrix){data + first * stride, rounded ? rounded + first * stride : NULL, stride};
}
static inline sgm_expert_matrix sgm_expert_gate(const sgm_expert *e, int64_t first) {
    return sgm_expert_rows(e->gate, e->rounded_gate, e->gate_stride, first);
}
static inline sgm_expert_matrix sgm_expert_up(const sgm_expert *e, int64_t first) {
    return sgm_expert_rows(e->up, e->rounded_up, e->up_stride, first);
}
static inline sgm_expert_matrix sgm_expert_down(const sgm_expert *e, int64_t first) {
    return sgm_expert_rows(e->down, e->rounded_down, e->down_stride, first);
}

typedef struct sgm_expert_bank {
    int64_t experts;   /* physical experts */
    int64_t model;     /* D */
    int64_t max_width; /* the widest F, for planning */
    /* Any thread may call; nested per expert. `ahead` may start bringing in experts that will be needed (NULL: no-op). */
    sgm_expert (*acquire)(struct sgm_expert_bank *bank, int64_t expert);
    void (*release)(struct sgm_expert_bank *bank, int64_t expert);
    void (*ahead)(struct sgm_expert_bank *bank, const int64_t *experts, int64_t count);
    void *self;
} sgm_expert_bank;

/* Experts that stay in memory: `table` holds bank->experts entries and is borrowed. */
void sgm_expert_bank_resident(sgm_expert_bank *bank, int64_t experts, int64_t model, sgm_expert *table);

#endif
