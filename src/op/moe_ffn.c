// SPDX-License-Identifier: Apache-2.0
/* The mixture-of-experts feed-forward: y = residual + Σ_k weight_k · expert_k(x), in four steps: route, dispatch,
 * experts, combine. Dropless but where the router drops: every chosen expert computes every row that chose it. Null experts
 * are chosen and compute nothing.
 *
 * Rows are sorted by expert, so that an expert's rows are one product. Threads draw tasks: with many rows a task is a
 * block of one expert's rows; with few (decoding) it is a block of one expert's output columns, so that all threads
 * read weights. Neither cut changes a result, because an output element's sum depends on its length alone (kernels.h).
 *
 * Kept for the backward pass: the routing record and the two pre-activations of each row. silu(gate)·up is computed
 * again, and d(weight) = h · (dy W_down) needs no expert output. An expert's weight gradients add its rows in token
 * order, whatever the number of threads and micro-batches. */
#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "op/moe_inference.h"
#include "op/ops.h"
#include "tensor/products.h"

/* Rows of an expert that make a task; columns that a cut in columns keeps together (two of the widest vectors). */
enum { BLOCK_ROWS = 128, BLOCK_COLS = 32, TASKS_PER_THREAD = 4 };

/* One application of the op, as each thread sees it. */
typedef struct moe {
    const sgm_moe_args *args;
    sgm_worker *worker;
    const sgm_kernels *kernels;
    sgm_matmul *nt, *nn, *tn;      /* of the experts' products; the router's are always f32 */
    sgm_routing *record;           /* shared */
    int64_t T, E, K, D, F, N;      /* K: slots of the record; N: columns of what the router reads */
    int64_t A;                     /* most rows that the experts compute */
    bool together;                 /* the router looks at all items of the record */
    const sgm_real *x, *scored;    /* (T, D); what the router reads (T, N): x, or its hidden layer */
    sgm_real *gate, *up;           /* (A, F) pre-activations, kept */
    sgm_real *x_rows, *h, *out;    /* (A, D), (A, F), (A, D) by expert */
    sgm_real *dy_rows, *dh;        /* backward: (A, D), (A, F) */
    sgm_real *d_weight, *d_logits; /* (T, K), (T, E) */
    int64_t *wanted;               /* (E) experts with rows */
    const sgm_real *dy;
} moe;

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static void *carve(char *block, size_t *used, int64_t rows, int64_t cols, size_t size) {
    return sgm_carve(block, used, (size_t)rows * (size_t)cols, size);
}

static sgm_router_room room_of(const sgm_node *node, int threads) {
    const sgm_moe_args *a = node->args;
    return sgm_router_room_of(a->router, a->together && sgm_router_sees_batch(a->router), node->in[0].rows,
                              a->gate->rows, a->experts_per_token, threads);
}

/* The input that the router reads: x, or its hidden layer where there is one. */
static int scored_input(const sgm_node *node) {
    return node->op->inputs == 3 ? 2 : 0;
}

static moe sizes(const sgm_node *node) {
    const sgm_moe_args *a = node->args;
    sgm_router_room room = room_of(node, 1);
    return (moe){.args = a,
                 .T = node->in[0].rows,
                 .E = a->gate->rows,
                 .K = room.slots,
                 .A = room.rows,
                 .together = a->together && sgm_router_sees_batch(a->router),
                 .D = node->in[0].cols,
                 .F = a->bank->max_width,
                 .N = a->gate->cols,
                 .x = node->in[0].data,
                 .scored = node->in[scored_input(node)].data};
}

static void run_on(moe *m, const sgm_walk *walk) {
    m->worker = walk->worker;
    m->kernels = walk->kernels;
    m->nt = sgm_product_kernel(walk->kernels, SGM_NT, walk->compute);
    m->nn = sgm_product_kernel(walk->kernels, SGM_NN, walk->compute);
    m->tn = sgm_product_kernel(walk->kernels, SGM_TN, walk->compute);
}

/* The record, and the memory behind it. */
static size_t place_record(moe *m, char *block, void **arrays) {
    size_t used = 0;
    m->record = carve(block, &used, 1, 1, sizeof *m->record);
    *arrays = carve(block, &used, 1, 1, sgm_routing_bytes(m->T, m->E, m->K));
    return used;
}

/* What lives from forward to backward; a part that is walked twice has the record elsewhere. */
static size_t place_kept(const sgm_node *node, moe *m, char *block, void **arrays) {
    size_t used = place_record(m, node->keeps ? node->kept : block, arrays);
    if (node->keeps)
        used = 0;
    m->gate = carve(block, &used, m->A, m->F, sizeof(sgm_real));
    m->up = carve(block, &used, m->A, m->F, sizeof(sgm_real));
    return used;
}

static size_t place_forward(moe *m, char *block) {
    size_t used = 0;
    m->x_rows = carve(block, &used, m->A, m->D, sizeof(sgm_real));
    m->h = carve(block, &used, m->A, m->F, sizeof(sgm_real));
    m->out = carve(block, &used, m->A, m->D, sizeof(sgm_real));
    m->wanted = carve(block, &used, m->E, 1, sizeof *m->wanted);
    return used;
}

static size_t place_backward(moe *m, char *block) {
    size_t used = place_forward(m, block);
    m->dy_rows = carve(block, &used, m->A, m->D, sizeof(sgm_real));
    m->dh = carve(block, &used, m->A, m->F, sizeof(sgm_real));
    m->d_weight = carve(block, &used, m->T, m->K, sizeof(sgm_real));
    m->d_logits = carve(block, &used, m->T, m->E, sizeof(sgm_real));
    return used;
}

static size_t saved_bytes(const sgm_node *node) {
    moe m = sizes(node);
    void *arrays;
    return place_kept(node, &m, NULL, &arrays);
}

static size_t kept_bytes(const sgm_node *node) {
    moe m = sizes(node);
    void *arrays;
    return place_record(&m, NULL, &arrays);
}

/* Without a tape nothing is saved: the kept part is workspace too (balancers may look on). */
static size_t workspace_bytes(const sgm_node *node, int threads, bool backward) {
    if (!backward && sgm_moe_is_inference(node))
        return sgm_moe_inference_bytes(node, threads);
    moe m = sizes(node);
    if (backward)
        return place_backward(&m, NULL);
    return place_forward(&m, NULL) + sgm_round_up(room_of(node, threads).scratch_bytes) +
           (node->out[0].id < 0 ? saved_bytes(node) : 0);
}

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const sgm_moe_args *a = node->args;
    const sgm_tensor *x = &node->in[0], *r = &node->in[1], *scored = &node->in[scored_input(node)];
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

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

/* Turns rising task numbers into (expert, piece), where an expert with n rows has pieces_of(n) of them. */
typedef struct cursor {
    int64_t expert, first; /* first: number of that expert's first task */
} cursor;

static int64_t row_blocks(int64_t rows) {
    return (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

/* Weight gradients: each of the three matrices, in halves, thirds, … for the experts that got many rows. */
static int64_t gradient_pieces(int64_t rows) {
    return rows ? 1 + rows / 256 : 0;
}

static bool advance(cursor *c, const sgm_routing *record, int64_t task, int64_t (*pieces_of)(int64_t rows),
                    int64_t *piece) {
    for (; c->expert < record->experts; c->expert++) {
        int64_t pieces = pieces_of(record->offset[c->expert + 1] - record->offset[c->expert]);
        if (task < c->first + pieces) {
            *piece = task - c->first;
            return true;
        }
        c->first += pieces;
    }
    return false;
}

/* Rows [begin, end) that one physical expert computes. */
typedef struct rows_of_expert {
    int64_t begin, end;
    bool in_place; /* the expert's items are consecutive: its rows are found where they are */
} rows_of_expert;

static rows_of_expert block_rows(const sgm_routing *record, int64_t expert, int64_t block) {
    int64_t first = record->offset[expert], last = record->offset[expert + 1], begin = first + block * BLOCK_ROWS;
    return (rows_of_expert){begin, begin + BLOCK_ROWS < last ? begin + BLOCK_ROWS : last,
                            record->item[last - 1] - record->item[first] == last - 1 - first};
}

/* The part of them that is the same replica as the first; advances `begin`. */
static int64_t same_replica(const sgm_routing *record, int64_t begin, int64_t end) {
    int64_t at = begin + 1;
    while (at < end && record->physical[at] == record->physical[begin])
        at++;
    return at;
}

static void gather(const sgm_routing *record, const sgm_real *from, int64_t cols, sgm_real *to, int64_t begin,
                   int64_t end) {
    for (int64_t row = begin; row < end; row++)
        memcpy(to + row * cols, from + record->item[row] * cols, (size_t)cols * sizeof *to);
}

/* The rows [begin, end) of a (T, D) matrix in the order of the experts: where they are, or in `copies`. */
static const sgm_real *rows_by_expert(const moe *m, bool in_place, const sgm_real *matrix, const sgm_real *copies,
                                      int64_t begin) {
    return in_place ? matrix + m->record->item[begin] * m->D : copies + begin * m->D;
}

/* ---- forward ----------------------------------------------------------------------------------------------------- */

/* h = silu(x gateᵀ) ∘ (x upᵀ) for rows from `row`, hidden columns [first, last). */
static void expert_in(const moe *m, const sgm_expert *expert, const sgm_real *x, int64_t row, int64_t rows,
                      int64_t first, int64_t last) {
    if (last > expert->width)
        last = expert->width;
    if (last <= first)
        return;
    int64_t at = row * m->F + first, cols = last - first;
    m->nt(rows, cols, m->D, x, m->D, expert->gate + first * expert->gate_stride, expert->gate_stride, m->gate + at,
          m->F, false);
    m->nt(rows, cols, m->D, x, m->D, expert->up + first * expert->up_stride, expert->up_stride, m->up + at, m->F,
          false);
    for (int64_t i = 0; i < rows; i++, at += m->F)
        m->kernels->swiglu(cols, m->gate + at, m->up + at, m->h + at);
}

/* out = h downᵀ, output columns [first, last). */
static void expert_out(const moe *m, const sgm_expert *expert, int64_t row, int64_t rows, int64_t first, int64_t last) {
    if (last > m->D)
        last = m->D;
    if (last > first)
        m->nt(rows, last - first, expert->width, m->h + row * m->F, m->F, expert->down + first * expert->down_stride,
              expert->down_stride, m->out + row * m->D + first, m->D, false);
}

static void experts_by_rows(const moe *m, bool gathered) {
    const sgm_routing *record = m->record;
    sgm_expert_bank *bank = m->args->bank;
    cursor at = {0};
    int64_t block;
    while (advance(&at, record, sgm_task(m->worker), row_blocks, &block)) {
        rows_of_expert r = block_rows(record, at.expert, block);
        bool in_place = r.in_place && !gathered;
        if (!in_place && !gathered)
            gather(record, m->x, m->D, m->x_rows, r.begin, r.end);
        for (int64_t begin = r.begin, end; begin < r.end; begin = end) {
            end = same_replica(record, begin, r.end);
            sgm_expert expert = bank->acquire(bank, record->physical[begin]);
            expert_in(m, &expert, rows_by_expert(m, in_place, m->x, m->x_rows, begin), begin, end - begin, 0, m->F);
            expert_out(m, &expert, begin, end - begin, 0, m->D);
            bank->release(bank, record->physical[begin]);
        }
    }
}

/* Few rows: the columns are cut into `pieces`; first all hidden columns, then all output columns. */
static void experts_by_columns(const moe *m, bool gathered, int64_t blocks) {
    const sgm_routing *record = m->record;
    sgm_expert_bank *bank = m->args->bank;
    for (int out = 0; out < 2; out++) {
        int64_t width = out ? m->D : m->F, wanted = TASKS_PER_THREAD * m->worker->threads;
        int64_t cols = (width * blocks / wanted + BLOCK_COLS) / BLOCK_COLS * BLOCK_COLS;
        int64_t pieces = (width + cols - 1) / cols, block, task;
        cursor at = {0};
        if (out)
            sgm_barrier(m->worker);
        while (task = sgm_task(m->worker), advance(&at, record, task / pieces, row_blocks, &block)) {
            rows_of_expert r = block_rows(record, at.expert, block);
            int64_t first = task % pieces * cols;
            for (int64_t begin = r.begin, end; begin < r.end; begin = end) {
                end = same_replica(record, begin, r.end);
                sgm_expert expert = bank->acquire(bank, record->physical[begin]);
                if (out)
                    expert_out(m, &expert, begin, end - begin, first, first + cols);
                else if (r.in_place || gathered)
                    expert_in(m, &expert, rows_by_expert(m, !gathered, m->x, m->x_rows, begin), begin, end - begin,
                              first, first + cols);
                else
                    for (int64_t row = begin; row < end; row++)
                        expert_in(m, &expert, m->x + record->item[row] * m->D, row, 1, first, first + cols);
                bank->release(bank, record->physical[begin]);
            }
        }
    }
}

/* Thread 0: say which experts come next, so that a bank that pages can fetch them. */
static void announce(const moe *m) {
    int64_t count = 0;
    for (int64_t e = 0; e < m->E; e++)
        if (m->record->offset[e + 1] > m->record->offset[e])
            m->wanted[count++] = e;
    m->args->bank->ahead(m->args->bank, m->wanted, count);
}

/* From logits to a finished record; ends in a barrier, or in nothing that others wait for. */
static void route(const moe *m, void *scratch) {
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
static void dispatch(moe *m) {
    sgm_comm *comm = m->args->comm;
    int64_t begin, end;
    sgm_split(m->worker, m->record->assignments, 16, &begin, &end);
    gather(m->record, m->x, m->D, m->x_rows, begin, end);
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
static void combine(const moe *m, const sgm_real *residual, sgm_real *y) {
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
static void begin_record(const moe *m) {
    const sgm_moe_args *a = m->args;
    sgm_router_begin(a->router, a->layer, a->experts_per_token, a->rows, a->selection_bias, m->record);
    m->record->null_experts = a->null_experts;
}

/* A new record, filled and told to whoever listens. */
static void decide(sgm_walk *walk, moe *m, void *arrays, void *scratch) {
    /* Every thread knows where the record's arrays are; one of them writes the record that all share. */
    sgm_routing mine;
    sgm_routing_place(&mine, arrays, m->T, m->E, m->K);
    if (m->worker->thread == 0) {
        *m->record = mine;
        begin_record(m);
    }
    sgm_product logits = {SGM_NT, m->T,        m->E, m->N,  m->scored, m->N,           m->args->gate->data,
                          m->N,   mine.logits, m->E, false, NULL,      SGM_COMPUTE_F32};
    sgm_products_run(walk, &logits, 1);
    sgm_barrier(m->worker);
    route(m, scratch);
}

static void forward(sgm_walk *walk, sgm_node *node) {
    if (sgm_moe_is_inference(node)) {
        sgm_moe_inference_forward(walk, node);
        return;
    }
    moe m = sizes(node);
    run_on(&m, walk);
    char *scratch = (char *)node->workspace + place_forward(&m, node->workspace), *kept = scratch;
    kept += sgm_round_up(room_of(node, walk->worker->threads).scratch_bytes);
    void *arrays;
    place_kept(node, &m, node->saved ? node->saved : kept, &arrays);
    if (!node->replayed)
        decide(walk, &m, arrays, scratch);
    bool gathered = m.args->comm != NULL;
    if (gathered)
        dispatch(&m);
    int64_t blocks = 0;
    for (int64_t e = 0; e < m.E; e++)
        blocks += row_blocks(m.record->offset[e + 1] - m.record->offset[e]);
    if (blocks >= TASKS_PER_THREAD * m.worker->threads)
        experts_by_rows(&m, gathered);
    else
        experts_by_columns(&m, gathered, blocks);
    sgm_barrier(m.worker);
    combine(&m, node->in[1].data, node->out[0].data);
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* One block of an expert's rows: from dy to d(weight), to d(gate), d(up) (over the pre-activations), to dx of the row
 * (in `out`). h becomes weight · h, which is what d(down) multiplies. */
static void block_backward(const moe *m, const sgm_expert *expert, const sgm_real *dy, int64_t begin, int64_t end) {
    const sgm_kernels *k = m->kernels;
    const sgm_routing *record = m->record;
    int64_t rows = end - begin, width = expert->width, at = begin * m->F;
    m->nn(rows, width, m->D, dy, m->D, expert->down, expert->down_stride, m->dh + at, m->F, false);
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
    m->nn(rows, m->D, width, m->gate + at, m->F, expert->gate, expert->gate_stride, dx, m->D, false);
    m->nn(rows, m->D, width, m->up + at, m->F, expert->up, expert->up_stride, dx, m->D, true);
}

static void experts_backward(const moe *m) {
    const sgm_routing *record = m->record;
    sgm_expert_bank *bank = m->args->bank;
    cursor at = {0};
    int64_t block;
    while (advance(&at, record, sgm_task(m->worker), row_blocks, &block)) {
        rows_of_expert r = block_rows(record, at.expert, block);
        if (!r.in_place) {
            gather(record, m->x, m->D, m->x_rows, r.begin, r.end);
            gather(record, m->dy, m->D, m->dy_rows, r.begin, r.end);
        }
        for (int64_t begin = r.begin, end; begin < r.end; begin = end) {
            end = same_replica(record, begin, r.end);
            sgm_expert expert = bank->acquire(bank, record->physical[begin]);
            block_backward(m, &expert, rows_by_expert(m, r.in_place, m->dy, m->dy_rows, begin), begin, end);
            bank->release(bank, record->physical[begin]);
        }
    }
}

/* Rows [first, last) of one matrix's gradient: += leftᵀ right over the expert's rows in token order. */
static void add_weight_gradient(const moe *m, sgm_real *gradient, int64_t stride, int64_t first, int64_t last,
                                const sgm_real *left, int64_t left_stride, const sgm_real *right, int64_t cols,
                                int64_t right_stride, int64_t rows) {
    if (gradient && last > first)
        m->tn(last - first, cols, rows, left + first, left_stride, right, right_stride, gradient + first * stride,
              stride, true);
}

static void weights_backward(const moe *m) {
    const sgm_routing *record = m->record;
    sgm_expert_bank *bank = m->args->bank;
    cursor at = {0};
    int64_t piece, task;
    while (task = sgm_task(m->worker), advance(&at, record, task / 3, gradient_pieces, &piece)) {
        int64_t last_row = record->offset[at.expert + 1],
                pieces = gradient_pieces(last_row - record->offset[at.expert]);
        assert(pieces > 0); /* `piece` is one of them */
        bool in_place = block_rows(record, at.expert, 0).in_place;
        for (int64_t begin = record->offset[at.expert], end; begin < last_row; begin = end) {
            end = same_replica(record, begin, last_row);
            sgm_expert e = bank->acquire(bank, record->physical[begin]);
            const sgm_real *x = rows_by_expert(m, in_place, m->x, m->x_rows, begin);
            const sgm_real *dy = rows_by_expert(m, in_place, m->dy, m->dy_rows, begin);
            int64_t height = task % 3 == 2 ? m->D : e.width;
            int64_t first = height * piece / pieces, last = height * (piece + 1) / pieces, hidden = begin * m->F;
            if (task % 3 == 0)
                add_weight_gradient(m, e.d_gate, e.gate_stride, first, last, m->gate + hidden, m->F, x, m->D, m->D,
                                    end - begin);
            else if (task % 3 == 1)
                add_weight_gradient(m, e.d_up, e.up_stride, first, last, m->up + hidden, m->F, x, m->D, m->D,
                                    end - begin);
            else
                add_weight_gradient(m, e.d_down, e.down_stride, first, last, dy, m->D, m->h + hidden, e.width, m->F,
                                    end - begin);
            bank->release(bank, record->physical[begin]);
        }
    }
}

/* d(gate weights), d(scored), and dx: through the logits (where the router reads x), then through the experts in slot order. */
static void input_backward(sgm_walk *walk, const sgm_node *node, const moe *m) {
    const sgm_weight *gate = m->args->gate;
    bool add = false, add_x = true;
    sgm_real *d_scored = sgm_gradient_in(walk, node, scored_input(node), &add), *dx = d_scored;
    if (scored_input(node) != 0)
        dx = sgm_gradient_in(walk, node, 0, &add_x);
    sgm_product products[2];
    int count = 0;
    if (d_scored)
        products[count++] = (sgm_product){SGM_NN, m->T,     m->N, m->E, m->d_logits, m->E,           gate->data,
                                          m->N,   d_scored, m->N, add,  NULL,        SGM_COMPUTE_F32};
    if (gate->gradient)
        products[count++] = (sgm_product){SGM_TN, m->E,           m->N, m->T, m->d_logits, m->E,           m->scored,
                                          m->N,   gate->gradient, m->N, true, NULL,        SGM_COMPUTE_F32};
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

static void backward(sgm_walk *walk, sgm_node *node) {
    moe m = sizes(node);
    run_on(&m, walk);
    m.dy = sgm_gradient_out(walk, node, 0);
    void *arrays;
    place_kept(node, &m, node->saved, &arrays);
    place_backward(&m, node->workspace);
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

extern const struct sgm_op_cases sgm_moe_ffn_cases, sgm_moe_ffn_hidden_cases; /* moe_ffn_cases.c */

const sgm_op sgm_op_moe_ffn = {
    .name = "moe_ffn",
    .summary = "residual + sum over the chosen experts of weight · SwiGLU expert",
    .inputs = 2,
    .outputs = 1,
    .args_bytes = sizeof(sgm_moe_args),
    .residual = 1,
    .shape = shape,
    .saved_bytes = saved_bytes,
    .kept_bytes = kept_bytes,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .backward = backward,
    .cases = &sgm_moe_ffn_cases,
};

const sgm_op sgm_op_moe_ffn_hidden = {
    .name = "moe_ffn_hidden",
    .summary = "moe_ffn whose router reads a hidden layer, the third input",
    .inputs = 3,
    .outputs = 1,
    .args_bytes = sizeof(sgm_moe_args),
    .residual = 1,
    .shape = shape,
    .saved_bytes = saved_bytes,
    .kept_bytes = kept_bytes,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .backward = backward,
    .cases = &sgm_moe_ffn_hidden_cases,
};

sgm_tensor sgm_moe_ffn(sgm_walk *walk, sgm_tensor x, sgm_tensor residual, const sgm_moe_args *args) {
    sgm_tensor in[3] = {x, residual}, out = {0};
    if (args->gate_hidden)
        in[2] = sgm_gate_hidden(walk, x, args->gate_hidden, args->gate_bias);
    sgm_apply(walk, args->gate_hidden ? &sgm_op_moe_ffn_hidden : &sgm_op_moe_ffn, args, in, &out);
    return out;
}
