// SPDX-License-Identifier: Apache-2.0
/* The mixture-of-experts feed-forward: y = residual + Σ_k weight_k · expert_k(x), in four steps: route, dispatch,
 * experts, combine. Dropless but where the router drops: every chosen expert computes every row that chose it. Null experts
 * are chosen and compute nothing.
 *
 * Rows are sorted by expert, so that an expert's rows are one product. Threads draw tasks: with many rows a task is a
 * block of one expert's rows; with few (decoding) it is a block of one expert's output columns, so that all threads
 * read weights. Neither cut changes a result, because an output element's sum depends on its length alone (kernels.h).
 *
 * Kept for the backward pass (moe_ffn_backward.c): the routing record and the two pre-activations of each row. */
#include "op/moe_ffn.h"

#include <string.h>

#include "base/memory.h"
#include "op/moe_inference.h"

/* Columns that a cut in columns keeps together: two of the widest vectors. */
enum { BLOCK_COLS = 32, TASKS_PER_THREAD = 4 };

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static void *carve(char *block, size_t *used, int64_t rows, int64_t cols, size_t size) {
    return sgm_carve(block, used, (size_t)rows * (size_t)cols, size);
}

static sgm_router_room room_of(const sgm_node *node, int threads) {
    const sgm_moe_args *a = node->args;
    return sgm_router_room_of(a->router, a->together && sgm_router_sees_batch(a->router), node->in[0].rows,
                              a->gate->rows, a->experts_per_token, threads);
}

sgm_moe sgm_moe_of(const sgm_node *node) {
    const sgm_moe_args *a = node->args;
    sgm_router_room room = room_of(node, 1);
    return (sgm_moe){.args = a,
                     .T = node->in[0].rows,
                     .E = a->gate->rows,
                     .K = room.slots,
                     .A = room.rows,
                     .together = a->together && sgm_router_sees_batch(a->router),
                     .D = node->in[0].cols,
                     .F = a->bank->max_width,
                     .N = a->gate->cols,
                     .x = node->in[0].data,
                     .scored = node->in[sgm_moe_scored_input(node)].data};
}

void sgm_moe_run_on(sgm_moe *m, const sgm_walk *walk) {
    m->worker = walk->worker;
    m->kernels = walk->kernels;
    m->sets_gradients = walk->sets_gradients;
    m->compute = walk->compute;
}

/* The record, and the memory behind it. */
static size_t place_record(sgm_moe *m, char *block, void **arrays) {
    size_t used = 0;
    m->record = carve(block, &used, 1, 1, sizeof *m->record);
    *arrays = carve(block, &used, 1, 1, sgm_routing_bytes(m->T, m->E, m->K));
    return used;
}

/* What lives from forward to backward; a part that is walked twice has the record elsewhere. */
size_t sgm_moe_place_kept(const sgm_node *node, sgm_moe *m, char *block, void **arrays) {
    size_t used = place_record(m, node->keeps ? node->kept : block, arrays);
    if (node->keeps)
        used = 0;
    m->gate = carve(block, &used, m->A, m->F, sizeof(sgm_real));
    m->up = carve(block, &used, m->A, m->F, sizeof(sgm_real));
    return used;
}

static size_t place_forward(sgm_moe *m, char *block) {
    size_t used = 0;
    m->x_rows = carve(block, &used, m->A, m->D, sizeof(sgm_real));
    m->h = carve(block, &used, m->A, m->F, sizeof(sgm_real));
    m->out = carve(block, &used, m->A, m->D, sizeof(sgm_real));
    m->wanted = carve(block, &used, m->E, 1, sizeof *m->wanted);
    return used;
}

size_t sgm_moe_place_backward(sgm_moe *m, char *block) {
    size_t used = place_forward(m, block);
    m->dy_rows = carve(block, &used, m->A, m->D, sizeof(sgm_real));
    m->dh = carve(block, &used, m->A, m->F, sizeof(sgm_real));
    m->d_weight = carve(block, &used, m->T, m->K, sizeof(sgm_real));
    m->d_logits = carve(block, &used, m->T, m->E, sizeof(sgm_real));
    return used;
}

static size_t saved_bytes(const sgm_node *node) {
    sgm_moe m = sgm_moe_of(node);
    void *arrays;
    return sgm_moe_place_kept(node, &m, NULL, &arrays);
}

static size_t kept_bytes(const sgm_node *node) {
    sgm_moe m = sgm_moe_of(node);
    void *arrays;
    return place_record(&m, NULL, &arrays);
}

/* Without a tape nothing is saved: the kept part is workspace too (balancers may look on). */
static size_t workspace_bytes(const sgm_node *node, int threads, bool backward) {
    if (!backward && sgm_moe_is_inference(node))
        return sgm_moe_inference_bytes(node, threads);
    sgm_moe m = sgm_moe_of(node);
    if (backward)
        return sgm_moe_place_backward(&m, NULL);
    return place_forward(&m, NULL) + sgm_round_up(room_of(node, threads).scratch_bytes) +
           (node->out[0].id < 0 ? saved_bytes(node) : 0);
}

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const sgm_moe_args *a = node->args;
    const sgm_tensor *x = &node->in[0], *r = &node->in[1], *scored = &node->in[sgm_moe_scored_input(node)];
    if (a->gate->cols != scored->cols || scored->rows != x->rows || a->bank->model != x->cols || r->rows != x->rows ||
        r->cols != x->cols)
        return sgm_fail(error, SGM_EARGUMENT, NULL,
                        "moe_ffn, layer %lld: x is (%lld, %lld), residual (%lld, %lld), gate (%lld, %lld), experts for "
                        "width %lld",
                        (long long)a->layer, (long long)x->rows, (long long)x->cols, (long long)r->rows,
                        (long long)r->cols, (long long)a->gate->rows, (long long)a->gate->cols,
                        (long long)a->bank->model);
    if (a->bank->experts + a->null_experts != a->gate->rows)
        return sgm_fail(error, SGM_EARGUMENT, NULL,
                        "moe_ffn, layer %lld: the gate has %lld experts, the bank %lld, and %lld are null",
                        (long long)a->layer, (long long)a->gate->rows, (long long)a->bank->experts,
                        (long long)a->null_experts);
    if (a->comm && a->comm->ranks != 1)
        return sgm_fail(error, SGM_EUNSUPPORTED, "use the communicator of a single machine",
                        "moe_ffn, layer %lld: experts spread over %d ranks", (long long)a->layer, a->comm->ranks);
    sgm_status status = a->router->plugin->check(a->router->settings, a->gate->rows, a->experts_per_token, error);
    if (!status && a->gate->gradient && a->router->plugin->trains)
        status = a->router->plugin->trains(a->router->settings, a->experts_per_token, error);
    int64_t slots = status ? 1 : room_of(node, 1).slots;
    if (x->rows > INT32_MAX / slots) /* the record counts rows in 32 bits */
        return sgm_fail(error, SGM_EARGUMENT, "use smaller micro-batches",
                        "moe_ffn, layer %lld: %lld rows, each to %lld experts", (long long)a->layer, (long long)x->rows,
                        (long long)slots);
    out[0].rows = x->rows;
    out[0].cols = x->cols;
    return status ? status : sgm_moe_check_weights(node, error);
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

/* h = silu(x gateᵀ) ∘ (x upᵀ) for rows from `row`, hidden columns [first, last). */
static void expert_in(const sgm_moe *m, const sgm_expert *expert, const sgm_real *x, int64_t row, int64_t rows,
                      int64_t first, int64_t last) {
    if (last > expert->width)
        last = expert->width;
    if (last <= first)
        return;
    int64_t at = row * m->F + first, cols = last - first;
    sgm_expert_matrix gate = sgm_expert_gate(expert, first), up = sgm_expert_up(expert, first);
    sgm_moe_multiply(m, SGM_NT, rows, cols, m->D, x, m->D, &gate, m->gate + at, m->F, false);
    sgm_moe_multiply(m, SGM_NT, rows, cols, m->D, x, m->D, &up, m->up + at, m->F, false);
    for (int64_t i = 0; i < rows; i++, at += m->F)
        m->kernels->swiglu(cols, m->gate + at, m->up + at, m->h + at);
}

/* out = h downᵀ, output columns [first, last). */
static void expert_out(const sgm_moe *m, const sgm_expert *expert, int64_t row, int64_t rows, int64_t first,
                       int64_t last) {
    if (last > m->D)
        last = m->D;
    sgm_expert_matrix down = sgm_expert_down(expert, first);
    if (last > first)
        sgm_moe_multiply(m, SGM_NT, rows, last - first, expert->width, m->h + row * m->F, m->F, &down,
                         m->out + row * m->D + first, m->D, false);
}

static void experts_by_rows(const sgm_moe *m, bool gathered) {
    const sgm_routing *record = m->record;
    sgm_expert_bank *bank = m->args->bank;
    sgm_moe_cursor at = {0};
    int64_t block;
    while (sgm_moe_advance(&at, record, sgm_task(m->worker), sgm_moe_row_blocks, &block)) {
        sgm_moe_rows r = sgm_moe_block_rows(record, at.expert, block);
        bool in_place = r.in_place && !gathered;
        if (!in_place && !gathered)
            sgm_moe_gather(record, m->x, m->D, m->x_rows, r.begin, r.end);
        for (int64_t begin = r.begin, end; begin < r.end; begin = end) {
            end = sgm_moe_same_replica(record, begin, r.end);
            sgm_expert expert = bank->acquire(bank, record->physical[begin]);
            expert_in(m, &expert, sgm_moe_rows_by_expert(m, in_place, m->x, m->x_rows, begin), begin, end - begin, 0,
                      m->F);
            expert_out(m, &expert, begin, end - begin, 0, m->D);
            bank->release(bank, record->physical[begin]);
        }
    }
}

/* Few rows: the columns are cut into `pieces`; first all hidden columns, then all output columns. */
static void experts_by_columns(const sgm_moe *m, bool gathered, int64_t blocks) {
    const sgm_routing *record = m->record;
    sgm_expert_bank *bank = m->args->bank;
    for (int out = 0; out < 2; out++) {
        int64_t width = out ? m->D : m->F, wanted = TASKS_PER_THREAD * m->worker->threads;
        int64_t cols = (width * blocks / wanted + BLOCK_COLS) / BLOCK_COLS * BLOCK_COLS;
        int64_t pieces = (width + cols - 1) / cols, block, task;
        sgm_moe_cursor at = {0};
        if (out)
            sgm_barrier(m->worker);
        while (task = sgm_task(m->worker), sgm_moe_advance(&at, record, task / pieces, sgm_moe_row_blocks, &block)) {
            sgm_moe_rows r = sgm_moe_block_rows(record, at.expert, block);
            int64_t first = task % pieces * cols;
            for (int64_t begin = r.begin, end; begin < r.end; begin = end) {
                end = sgm_moe_same_replica(record, begin, r.end);
                sgm_expert expert = bank->acquire(bank, record->physical[begin]);
                if (out)
                    expert_out(m, &expert, begin, end - begin, first, first + cols);
                else if (r.in_place || gathered)
                    expert_in(m, &expert, sgm_moe_rows_by_expert(m, !gathered, m->x, m->x_rows, begin), begin,
                              end - begin, first, first + cols);
                else
                    for (int64_t row = begin; row < end; row++)
                        expert_in(m, &expert, m->x + record->item[row] * m->D, row, 1, first, first + cols);
                bank->release(bank, record->physical[begin]);
            }
        }
    }
}

/* Thread 0: say which experts come next, so that a bank that pages can fetch them. */
static void announce(const sgm_moe *m) {
    int64_t count = 0;
    for (int64_t e = 0; e < m->E; e++)
        if (m->record->offset[e + 1] > m->record->offset[e])
            m->wanted[count++] = e;
    m->args->bank->ahead(m->args->bank, m->wanted, count);
}

/* From logits to a finished record; ends in a barrier, or in nothing that others wait for. */
static void route(const sgm_moe *m, void *scratch) {
    const sgm_moe_args *a = m->args;
    const sgm_router *router = a->router;
    int64_t begin, end;
    sgm_split(m->worker, m->T, 1, &begin, &end);
    router->plugin->score(router->settings, m->kernels, m->record, begin, end);
    if (a->balance)
        sgm_balance_set_before_select(m->worker, a->balance, m->record);
    sgm_router_choose(m->worker, m->kernels, router, m->record, m->together, scratch);
    if (a->load)
        sgm_load_add(m->worker, a->load, m->record, a->rows ? a->rows->targets : NULL);
    if (m->worker->thread == 0 && a->bank->ahead)
        announce(m);
    if (m->worker->thread == 0 && a->observe)
        a->observe(a->observer, m->record);
    if (a->balance)
        sgm_balance_set_after_route(m->worker, a->balance, m->record);
}

/* With a communicator all rows are gathered and handed over; without one each task gathers its own. */
static void dispatch(sgm_moe *m) {
    sgm_comm *comm = m->args->comm;
    int64_t begin, end;
    sgm_split(m->worker, m->record->assignments, 16, &begin, &end);
    sgm_moe_gather(m->record, m->x, m->D, m->x_rows, begin, end);
    sgm_barrier(m->worker);
    if (m->worker->thread == 0) {
        comm->dispatch_start(comm, m->x_rows, m->D, m->record->offset, m->E);
        const sgm_real *rows = comm->dispatch_finish(comm);
        if (rows != m->x_rows)
            memcpy(m->x_rows, rows, (size_t)(m->record->assignments * m->D) * sizeof *rows);
    }
    sgm_barrier(m->worker);
}

/* y = residual + Σ weight · out in slot order; the threads cut rows, or columns when there are fewer rows than threads.
 */
static void combine(const sgm_moe *m, const sgm_real *residual, sgm_real *y) {
    int64_t first = 0, last = m->T, left = 0, right = m->D;
    if (m->T >= m->worker->threads)
        sgm_split(m->worker, m->T, 1, &first, &last);
    else
        sgm_split(m->worker, m->D, BLOCK_COLS, &left, &right);
    if (right == left)
        return;
    for (int64_t t = first; t < last; t++) {
        memcpy(y + t * m->D + left, residual + t * m->D + left, (size_t)(right - left) * sizeof *y);
        for (int64_t place = t * m->K; place < (t + 1) * m->K; place++) {
            int64_t row = m->record->position[place];
            if (row >= 0)
                m->kernels->axpy(right - left, m->record->weight[place], m->out + row * m->D + left,
                                 y + t * m->D + left);
        }
    }
}

/* The record is shared: thread 0 fills in what no plug-in does. */
static void begin_record(const sgm_moe *m) {
    const sgm_moe_args *a = m->args;
    sgm_router_begin(a->router, a->layer, a->experts_per_token, a->rows, a->selection_bias, m->record);
    m->record->null_experts = a->null_experts;
}

/* A new record, filled and told to whoever listens. */
static void decide(sgm_walk *walk, sgm_moe *m, void *arrays, void *scratch) {
    /* Every thread knows where the record's arrays are; one of them writes the record that all share. */
    sgm_routing mine;
    sgm_routing_place(&mine, arrays, m->T, m->E, m->K);
    if (m->worker->thread == 0) {
        *m->record = mine;
        begin_record(m);
    }
    sgm_product logits = {SGM_NT,      m->T, m->E,  m->N, m->scored,       m->N, m->args->gate->data, m->N,
                          mine.logits, m->E, false, NULL, SGM_COMPUTE_F32, NULL};
    sgm_products_run(walk, &logits, 1);
    sgm_barrier(m->worker);
    route(m, scratch);
}

static void forward(sgm_walk *walk, sgm_node *node) {
    if (sgm_moe_is_inference(node)) {
        sgm_moe_inference_forward(walk, node);
        return;
    }
    sgm_moe m = sgm_moe_of(node);
    sgm_moe_run_on(&m, walk);
    char *scratch = (char *)node->workspace + place_forward(&m, node->workspace), *kept = scratch;
    kept += sgm_round_up(room_of(node, walk->worker->threads).scratch_bytes);
    void *arrays;
    sgm_moe_place_kept(node, &m, node->saved ? node->saved : kept, &arrays);
    if (!node->replayed)
        decide(walk, &m, arrays, scratch);
    bool gathered = m.args->comm != NULL;
    if (gathered)
        dispatch(&m);
    int64_t blocks = 0;
    for (int64_t e = 0; e < m.E; e++)
        blocks += sgm_moe_row_blocks(m.record->offset[e + 1] - m.record->offset[e]);
    if (blocks >= TASKS_PER_THREAD * m.worker->threads)
        experts_by_rows(&m, gathered);
    else
        experts_by_columns(&m, gathered, blocks);
    sgm_barrier(m.worker);
    combine(&m, node->in[1].data, node->out[0].data);
}

extern const struct sgm_op_cases sgm_moe_ffn_cases, sgm_moe_ffn_hidden_cases; /* moe_ffn_cases.c */

/* The two differ in how many inputs they have. */
#define MOE_OP(NAME, SUMMARY, INPUTS, CASES)                                                                           \
    {                                                                                                                  \
        .name = (NAME), .summary = (SUMMARY), .inputs = (INPUTS), .outputs = 1, .args_bytes = sizeof(sgm_moe_args),    \
        .residual = 1, .shape = shape, .saved_bytes = saved_bytes, .kept_bytes = kept_bytes,                           \
        .workspace_bytes = workspace_bytes, .forward = forward, .backward = sgm_moe_backward, .cases = (CASES)         \
    }

const sgm_op sgm_op_moe_ffn =
    MOE_OP("moe_ffn", "residual + sum over the chosen experts of weight · SwiGLU expert", 2, &sgm_moe_ffn_cases);
const sgm_op sgm_op_moe_ffn_hidden = MOE_OP(
    "moe_ffn_hidden", "moe_ffn whose router reads a hidden layer, the third input", 3, &sgm_moe_ffn_hidden_cases);

sgm_tensor sgm_moe_ffn(sgm_walk *walk, sgm_tensor x, sgm_tensor residual, const sgm_moe_args *args) {
    sgm_tensor in[3] = {x, residual}, out = {0};
    if (args->gate_hidden)
        in[2] = sgm_gate_hidden(walk, x, args->gate_hidden, args->gate_bias);
    sgm_apply(walk, args->gate_hidden ? &sgm_op_moe_ffn_hidden : &sgm_op_moe_ffn, args, in, &out);
    return out;
}
