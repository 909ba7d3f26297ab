// SPDX-License-Identifier: Apache-2.0
/* The backward pass of moe_ffn, from the record and the two pre-activations of each row that the forward pass kept. silu(gate)·up
 * is computed again, and d(weight) = h · (dy W_down) needs no expert output. An expert's weight gradients add its rows in token
 * order, whatever the number of threads and micro-batches. */
#include <assert.h>
#include <string.h>

#include "op/moe_ffn.h"

/* One block of an expert's rows: from dy to d(weight), to d(gate), d(up) (over the pre-activations), to dx of the row
 * (in `out`). h becomes weight · h, which is what d(down) multiplies. */
static void block_backward(const sgm_moe *m, const sgm_expert *expert, const sgm_real *dy, int64_t begin, int64_t end) {
    const sgm_kernels *k = m->kernels;
    const sgm_routing *record = m->record;
    int64_t rows = end - begin, width = expert->width, at = begin * m->F;
    sgm_expert_matrix gate_matrix = sgm_expert_gate(expert, 0), up_matrix = sgm_expert_up(expert, 0);
    sgm_expert_matrix down_matrix = sgm_expert_down(expert, 0);
    sgm_moe_multiply(m, SGM_NN, rows, width, m->D, dy, m->D, &down_matrix, m->dh + at, m->F, false);
    for (int64_t row = begin; row < end; row++) {
        sgm_real *gate = m->gate + row * m->F, *up = m->up + row * m->F;
        sgm_real *h = m->h + row * m->F, *dh = m->dh + row * m->F;
        int64_t place = record->item[row] * m->K + record->slot[row];
        k->swiglu(width, gate, up, h);
        record->d_weight[place] = k->dot(width, h, dh);
        k->scale(width, record->weight[place], h, h);
        k->scale(width, record->weight[place], dh, dh);
        k->swiglu_backward(width, gate, up, dh, gate, up);
    }
    sgm_real *dx = m->out + begin * m->D;
    sgm_moe_multiply(m, SGM_NN, rows, m->D, width, m->gate + at, m->F, &gate_matrix, dx, m->D, false);
    sgm_moe_multiply(m, SGM_NN, rows, m->D, width, m->up + at, m->F, &up_matrix, dx, m->D, true);
}

static void experts_backward(const sgm_moe *m) {
    const sgm_routing *record = m->record;
    sgm_expert_bank *bank = m->args->bank;
    sgm_moe_cursor at = {0};
    int64_t block;
    while (sgm_moe_advance(&at, record, sgm_task(m->worker), sgm_moe_row_blocks, &block)) {
        sgm_moe_rows r = sgm_moe_block_rows(record, at.expert, block);
        if (!r.in_place) {
            sgm_moe_gather(record, m->x, m->D, m->x_rows, r.begin, r.end);
            sgm_moe_gather(record, m->dy, m->D, m->dy_rows, r.begin, r.end);
        }
        for (int64_t begin = r.begin, end; begin < r.end; begin = end) {
            end = sgm_moe_same_replica(record, begin, r.end);
            sgm_expert expert = bank->acquire(bank, record->physical[begin]);
            block_backward(m, &expert, sgm_moe_rows_by_expert(m, r.in_place, m->dy, m->dy_rows, begin), begin, end);
            bank->release(bank, record->physical[begin]);
        }
    }
}

/* Weight gradients: each of the three matrices, in halves, thirds, … for the experts that got many rows. */
static int64_t pieces_of_any(int64_t rows) {
    return 1 + rows / 256;
}

static int64_t pieces_of_some(int64_t rows) {
    return rows ? pieces_of_any(rows) : 0;
}

/* A part of the weight gradients' work: a matrix of an expert (gate, up, down), and which of its pieces. */
typedef struct gradient_task {
    int64_t matrix, piece, pieces;
} gradient_task;

/* Rows [first, last) of one matrix's gradient: = or += leftᵀ right over the expert's rows in token order. */
static void weight_gradient(const sgm_moe *m, sgm_real *gradient, int64_t stride, int64_t first, int64_t last,
                            const sgm_real *left, int64_t left_stride, const sgm_real *right, int64_t cols,
                            int64_t right_stride, int64_t rows, bool add) {
    if (gradient && last > first)
        sgm_product_kernel(m->kernels, SGM_TN, m->compute)(last - first, cols, rows, left + first, left_stride, right,
                                                           right_stride, gradient + first * stride, stride, add);
}

/* Of rows [begin, end), which one physical expert computes; x and dy: those of `begin`. */
static void expert_gradient(const sgm_moe *m, const gradient_task *task, int64_t physical, int64_t begin, int64_t end,
                            const sgm_real *x, const sgm_real *dy, bool add) {
    sgm_expert_bank *bank = m->args->bank;
    sgm_expert e = bank->acquire(bank, physical);
    int64_t height = task->matrix == 2 ? m->D : e.width, hidden = begin * m->F, rows = end - begin;
    int64_t first = height * task->piece / task->pieces, last = height * (task->piece + 1) / task->pieces;
    if (task->matrix == 0)
        weight_gradient(m, e.d_gate, e.gate_stride, first, last, m->gate + hidden, m->F, x, m->D, m->D, rows, add);
    else if (task->matrix == 1)
        weight_gradient(m, e.d_up, e.up_stride, first, last, m->up + hidden, m->F, x, m->D, m->D, rows, add);
    else
        weight_gradient(m, e.d_down, e.down_stride, first, last, dy, m->D, m->h + hidden, e.width, m->F, rows, add);
    bank->release(bank, physical);
}

/* Where gradients are set, experts without a row have tasks too: theirs become zero. Null experts have none to set. */
static void weights_backward(const sgm_moe *m) {
    const sgm_routing *record = m->record;
    int64_t (*pieces_of)(int64_t) = m->sets_gradients ? pieces_of_any : pieces_of_some;
    sgm_moe_cursor at = {0};
    int64_t piece, drawn;
    while (drawn = sgm_task(m->worker), sgm_moe_advance(&at, record, drawn / 3, pieces_of, &piece)) {
        int64_t first_row = record->offset[at.expert], last_row = record->offset[at.expert + 1];
        gradient_task task = {drawn % 3, piece, pieces_of(last_row - first_row)};
        assert(task.pieces > 0); /* `piece` is one of them */
        if (first_row == last_row && at.expert < m->args->bank->experts)
            expert_gradient(m, &task, at.expert, first_row, last_row, m->x, m->dy, false);
        bool in_place = first_row < last_row && sgm_moe_block_rows(record, at.expert, 0).in_place;
        for (int64_t begin = first_row, end; begin < last_row; begin = end) {
            end = sgm_moe_same_replica(record, begin, last_row);
            expert_gradient(m, &task, record->physical[begin], begin, end,
                            sgm_moe_rows_by_expert(m, in_place, m->x, m->x_rows, begin),
                            sgm_moe_rows_by_expert(m, in_place, m->dy, m->dy_rows, begin),
                            begin > first_row || !m->sets_gradients);
        }
    }
}

/* d(gate weights), d(scored), and dx: through the logits (where the router reads x), then through the experts in slot order. */
static void input_backward(sgm_walk *walk, const sgm_node *node, const sgm_moe *m) {
    const sgm_weight *gate = m->args->gate;
    bool add = false, add_x = true;
    sgm_real *d_scored = sgm_gradient_in(walk, node, sgm_moe_scored_input(node), &add), *dx = d_scored;
    if (sgm_moe_scored_input(node) != 0)
        dx = sgm_gradient_in(walk, node, 0, &add_x);
    sgm_product products[2];
    int count = 0;
    if (d_scored)
        products[count++] = (sgm_product){SGM_NN,   m->T, m->N, m->E, m->d_logits,     m->E, gate->data, m->N,
                                          d_scored, m->N, add,  NULL, SGM_COMPUTE_F32, NULL};
    if (gate->gradient)
        products[count++] = (sgm_product){SGM_TN,          m->E, m->N,           m->T, m->d_logits,        m->E,
                                          m->scored,       m->N, gate->gradient, m->N, !m->sets_gradients, NULL,
                                          SGM_COMPUTE_F32, NULL};
    sgm_products_run(walk, products, count);
    if (!dx)
        return;
    sgm_barrier(m->worker);
    int64_t begin, end;
    sgm_split(m->worker, m->T, 1, &begin, &end);
    if (!add_x && end > begin)
        memset(dx + begin * m->D, 0, (size_t)((end - begin) * m->D) * sizeof *dx);
    for (int64_t place = begin * m->K; place < end * m->K; place++)
        if (m->record->position[place] >= 0)
            m->kernels->axpy(m->D, 1, m->out + m->record->position[place] * m->D, dx + place / m->K * m->D);
}

void sgm_moe_backward(sgm_walk *walk, sgm_node *node) {
    sgm_moe m = sgm_moe_of(node);
    sgm_moe_run_on(&m, walk);
    m.dy = sgm_gradient_out(walk, node, 0);
    void *arrays;
    sgm_moe_place_kept(node, &m, node->saved, &arrays);
    sgm_moe_place_backward(&m, node->workspace);
    const sgm_router *router = m.args->router;
    int64_t begin, end;
    sgm_split(m.worker, m.T, 1, &begin, &end);
    for (int64_t place = begin * m.K; place < end * m.K; place++)
        m.d_weight[place] = 0; /* null, dropped and unused slots keep it */
    if (m.worker->thread == 0) {
        m.record->d_weight = m.d_weight;
        m.record->d_logits = m.d_logits;
    }
    sgm_barrier(m.worker);
    experts_backward(&m);
    sgm_barrier(m.worker);
    router->plugin->backward(router->settings, m.record, begin, end);
    weights_backward(&m);
    sgm_barrier(m.worker);
    if (m.args->balance)
        sgm_balance_set_gradient(m.worker, m.args->balance, m.record);
    input_backward(walk, node, &m);
}
