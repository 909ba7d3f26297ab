// SPDX-License-Identifier: Apache-2.0
/* The MoE feed-forward without a tape. It gives the bytes of the form in moe_ffn.c, reads weights as they are stored,
 * and normalises its input where the caller asks for that.
 *
 * Few rows (decoding): what is small (norm, routing, quantisation) every thread does for itself in memory of its own; only
 * the reading of weights is shared, in three phases: router, gate and up, down with the sum. In the latter two a task is a
 * run of consecutive rows of every chosen expert's matrices. Nothing here goes through all experts but the router and its
 * record.
 *
 * Many rows: rows are gathered (and quantised) in the order of their experts; a task is a block of one expert's rows, or, where
 * few blocks are there, a part of its columns. With one expert per token the block adds its result to the output itself. */
#include "op/moe_inference.h"

#include <string.h>

#include "base/memory.h"
#include "op/operand.h"

enum {
    FEW_ASSIGNMENTS = 8, /* rows of experts that are still few */
    BLOCK_ROWS = 64,     /* of an expert in one task */
    BLOCK_COLS = 32,     /* columns that a cut keeps together */
    PIECES_PER_THREAD = 2,
    BLOCKS_PER_THREAD = 4 /* fewer blocks than that: cut the columns instead */
};

typedef struct inference {
    const sgm_moe_args *args;
    sgm_walk *walk;
    sgm_worker *worker;
    const sgm_kernels *kernels;
    int64_t T, E, K, D, F, N; /* K: slots of the record; N: columns of what the router reads */
    int64_t most, A;          /* rows of experts: most there can be; there are (when planning: the most) */
    bool few, together;
    const sgm_real *x, *residual, *scored; /* scored: what the router reads (T, N), x or its hidden layer */
    sgm_real *y;
    sgm_routing *record;
    void *arrays;  /* behind the record */
    void *scratch; /* of a router that chooses for all rows together */
    sgm_real *logits;
    char *norm;                    /* workspace of the operand */
    void *x_bytes, *h_bytes;       /* 8-bit forms: of x by expert (few: by token), of h */
    sgm_real *x_rows;              /* (A, D) by expert; not when few */
    sgm_real *gate, *up, *h, *out; /* (hidden_rows, F) three times; (A or hidden_rows, D) */
} inference;

static bool is_few(const inference *m) {
    return m->T <= SGM_OPERAND_FEW && m->T * m->K <= FEW_ASSIGNMENTS && !m->together && !m->args->load &&
           !m->args->observe;
}

static sgm_router_room room_of(const inference *m, int threads) {
    const sgm_moe_args *a = m->args;
    return sgm_router_room_of(a->router, m->together, m->T, m->E, a->experts_per_token, threads);
}

static inference sizes(const sgm_node *node) {
    const sgm_moe_args *a = node->args;
    inference m = {.args = a,
                   .together = a->together && sgm_router_sees_batch(a->router),
                   .T = node->in[0].rows,
                   .E = a->gate->rows,
                   .D = node->in[0].cols,
                   .F = a->bank->max_width,
                   .N = a->gate->cols,
                   .residual = node->in[1].data,
                   .y = node->out[0].data};
    sgm_router_room room = room_of(&m, 1);
    m.K = room.slots;
    m.A = m.most = room.rows;
    m.few = is_few(&m);
    return m;
}

static sgm_operand normalised(const inference *m) {
    return (sgm_operand){.rows = m->T, .cols = m->D, .gain = m->args->norm, .epsilon = m->args->norm_epsilon};
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* One for each thread; the calling one's is returned. */
static void *carve_own(char *block, size_t *used, int thread, int threads, size_t bytes) {
    bytes = sgm_round_up(bytes);
    void *part = block ? block + *used + bytes * (size_t)thread : NULL;
    *used += bytes * (size_t)threads;
    return part;
}

/* Rows of gate, up and h (and of out with one expert per token): a block for each thread, or all rows where columns are cut. */
static int64_t hidden_rows(const inference *m, int threads) {
    return m->few ? m->A : threads * smaller(m->A, BLOCKS_PER_THREAD * BLOCK_ROWS);
}

static size_t place(inference *m, char *block, int thread, int threads) {
    size_t used = 0, real = sizeof(sgm_real);
    sgm_operand norm = normalised(m);
    int64_t hidden = hidden_rows(m, threads);
    int records = m->few ? threads : 1, own = m->few ? thread : 0;
    m->norm = sgm_carve(block, &used, 1, sgm_operand_bytes(&norm, threads));
    m->logits = sgm_carve(block, &used, 1, (size_t)(m->T * m->E) * real);
    m->scratch = sgm_carve(block, &used, 1, room_of(m, threads).scratch_bytes);
    m->record = carve_own(block, &used, own, records, sizeof *m->record);
    m->arrays = carve_own(block, &used, own, records, sgm_routing_bytes(m->T, m->E, m->K));
    m->x_bytes = carve_own(block, &used, own, records, sgm_quantised_bytes(m->few ? m->T : m->A, m->D));
    m->h_bytes = carve_own(block, &used, own, records, (size_t)hidden * sgm_quantised_bytes(1, m->F));
    m->x_rows = m->few ? NULL : sgm_carve(block, &used, 1, (size_t)(m->A * m->D) * real);
    m->gate = sgm_carve(block, &used, 1, (size_t)(hidden * m->F) * real);
    m->up = sgm_carve(block, &used, 1, (size_t)(hidden * m->F) * real);
    m->h = sgm_carve(block, &used, 1, (size_t)(hidden * m->F) * real);
    m->out = sgm_carve(block, &used, 1, (size_t)((m->K == 1 ? hidden : m->A) * m->D) * real);
    return used;
}

bool sgm_moe_is_inference(const sgm_node *node) {
    const sgm_moe_args *a = node->args;
    return !node->recorded && !node->keeps && !a->balance && !a->comm;
}

size_t sgm_moe_inference_bytes(const sgm_node *node, int threads) {
    inference m = sizes(node);
    return place(&m, NULL, 0, threads);
}

sgm_status sgm_moe_check_weights(const sgm_node *node, sgm_error *error) {
    const sgm_moe_args *a = node->args;
    sgm_status status = sgm_weight_check_data(node, a->gate, error);
    if (status || (sgm_moe_is_inference(node) && (!a->norm || a->norm->data)))
        return status;
    if (a->norm)
        return sgm_fail(error, SGM_EUNSUPPORTED, NULL, "moe_ffn, layer %lld: only inference normalises here",
                        (long long)a->layer);
    for (int64_t e = 0; e < a->bank->experts; e++) {
        sgm_expert expert = a->bank->acquire(a->bank, e);
        bool there = expert.gate && expert.up && expert.down;
        a->bank->release(a->bank, e);
        if (!there)
            return sgm_fail(error, SGM_EUNSUPPORTED, "train from a model in safetensors and quantise the result",
                            "moe_ffn, layer %lld: the weights of expert %lld are quantised, but are needed as f32",
                            (long long)a->layer, (long long)e);
    }
    return SGM_OK;
}

/* ---- one expert ---------------------------------------------------------------------------------------------------- */

static sgm_matrix matrix(const sgm_real *data, int64_t stride, const sgm_matrix *stored, int64_t rows, int64_t cols) {
    if (!data)
        return *stored;
    return (sgm_matrix){SGM_TYPE_F32, rows, cols, data, (size_t)stride * sizeof(sgm_real)};
}

typedef struct matrices {
    int64_t width;
    sgm_matrix gate, up, down;
} matrices;

static matrices matrices_of(const inference *m, const sgm_expert *e) {
    return (matrices){e->width, matrix(e->gate, e->gate_stride, &e->stored_gate, e->width, m->D),
                      matrix(e->up, e->up_stride, &e->stored_up, e->width, m->D),
                      matrix(e->down, e->down_stride, &e->stored_down, m->D, e->width)};
}

/* Which forms of its rows do the experts of the record want? */
typedef struct forms {
    bool x_float, x_integer, h_integer;
} forms;

/* The run of rows from `begin` that one physical expert computes. */
static int64_t same_expert(const sgm_routing *record, int64_t begin, int64_t end) {
    int64_t at = begin + 1;
    while (at < end && record->physical[at] == record->physical[begin])
        at++;
    return at;
}

static forms forms_wanted(const inference *m) {
    sgm_expert_bank *bank = m->args->bank;
    forms f = {0};
    for (int64_t row = 0, end; row < m->A; row = end) {
        end = same_expert(m->record, row, m->A);
        sgm_expert expert = bank->acquire(bank, m->record->physical[row]);
        matrices of = matrices_of(m, &expert);
        bool gate = sgm_matrix_is_integer(&of.gate), up = sgm_matrix_is_integer(&of.up);
        f.x_integer = f.x_integer || gate || up;
        f.x_float = f.x_float || !gate || !up;
        f.h_integer = f.h_integer || sgm_matrix_is_integer(&of.down);
        bank->release(bank, m->record->physical[row]);
    }
    return f;
}

/* Hidden columns [first, last) of `rows` rows: h = silu(x gateᵀ) ∘ (x upᵀ). `row`: where gate, up and h have them. */
static void expert_in(const inference *m, const matrices *e, sgm_activations x, int64_t row, int64_t rows,
                      int64_t first, int64_t last) {
    last = smaller(last, e->width);
    if (last <= first)
        return;
    int64_t at = row * m->F;
    sgm_stored_product gate = {.M = rows, .A = x, .B = e->gate, .C = m->gate + at, .ldc = m->F};
    sgm_stored_product up = {.M = rows, .A = x, .B = e->up, .C = m->up + at, .ldc = m->F};
    sgm_stored_product_tile(m->walk, &gate, 0, rows, first, last - first);
    sgm_stored_product_tile(m->walk, &up, 0, rows, first, last - first);
    for (int64_t i = 0; i < rows; i++, at += m->F)
        m->kernels->swiglu(last - first, m->gate + at + first, m->up + at + first, m->h + at + first);
}

/* Output columns [first, last) of rows of h. */
static void expert_out(const inference *m, const matrices *e, sgm_activations h, sgm_real *out, int64_t rows,
                       int64_t first, int64_t last) {
    last = smaller(last, m->D);
    if (last <= first)
        return;
    sgm_stored_product down = {.M = rows, .A = h, .B = e->down, .C = out, .ldc = m->D};
    sgm_stored_product_tile(m->walk, &down, 0, rows, first, last - first);
}

/* Rows of h from `row` on as activations. An expert may be narrower than F: the rows of their 8-bit form are `width` long and
 * follow one another from where row `row` would be if all were F long. */
static sgm_activations hidden(const inference *m, int64_t row, int64_t rows, int64_t width) {
    size_t before = sgm_quantised_bytes(1, m->F) * (size_t)row;
    sgm_activations a = sgm_quantised_place((char *)m->h_bytes + before, m->h + row * m->F, rows, width);
    a.ldx = m->F;
    return a;
}

/* y = residual + Σ weight · out in slot order, for token t and columns [left, right). */
static void combine(const inference *m, int64_t t, int64_t left, int64_t right) {
    sgm_real *y = m->y + t * m->D + left;
    const sgm_real *residual = m->residual + t * m->D + left;
    if (y != residual)
        memcpy(y, residual, (size_t)(right - left) * sizeof *y);
    for (int64_t at = t * m->K; at < (t + 1) * m->K; at++)
        if (m->record->position[at] >= 0)
            m->kernels->axpy(right - left, m->record->weight[at], m->out + m->record->position[at] * m->D + left, y);
}

/* ---- routing ------------------------------------------------------------------------------------------------------- */

static void begin_record(const inference *m) {
    const sgm_moe_args *a = m->args;
    sgm_routing_place(m->record, m->arrays, m->T, m->E, m->K);
    m->record->logits = m->logits;
    sgm_router_begin(a->router, a->layer, a->experts_per_token, a->rows, a->selection_bias, m->record);
    m->record->null_experts = a->null_experts;
}

/* Say which experts come next, so that a bank that pages can fetch them. */
static void announce(const inference *m) {
    sgm_expert_bank *bank = m->args->bank;
    for (int64_t row = 0; bank->ahead && row < m->A; row = same_expert(m->record, row, m->A)) {
        int64_t expert = m->record->physical[row];
        bank->ahead(bank, &expert, 1);
    }
}

/* A record of this thread's own. */
static void route_few(inference *m) {
    const sgm_router *router = m->args->router;
    begin_record(m);
    router->plugin->score(router->settings, m->kernels, m->record, 0, m->T);
    sgm_router_choose_alone(router, m->record);
    m->A = m->record->assignments;
    if (m->worker->thread == 0)
        announce(m);
}

/* The team's record. */
static void route_many(inference *m) {
    const sgm_moe_args *a = m->args;
    const sgm_router *router = a->router;
    int64_t begin, end;
    sgm_split(m->worker, m->T, 1, &begin, &end);
    router->plugin->score(router->settings, m->kernels, m->record, begin, end);
    sgm_router_choose(m->worker, m->kernels, router, m->record, m->together, m->scratch);
    if (a->load)
        sgm_load_add(m->worker, a->load, m->record, a->rows ? a->rows->targets : NULL);
    m->A = m->record->assignments;
    if (m->worker->thread == 0) {
        announce(m);
        if (a->observe)
            a->observe(a->observer, m->record);
    }
}

/* ---- few rows ------------------------------------------------------------------------------------------------------ */

/* Columns of a piece when `width` of them are cut for the whole team. */
static int64_t piece_cols(const inference *m, int64_t width) {
    int64_t pieces = (int64_t)PIECES_PER_THREAD * m->worker->threads;
    return ((width + pieces - 1) / pieces + BLOCK_COLS - 1) / BLOCK_COLS * BLOCK_COLS;
}

/* One piece of all chosen experts: hidden columns from x, or output columns from h. */
static void piece_few(const inference *m, const sgm_activations *x, bool out, int64_t first, int64_t last) {
    const sgm_routing *record = m->record;
    sgm_expert_bank *bank = m->args->bank;
    for (int64_t begin = 0, end; begin < m->A; begin = end) {
        end = same_expert(record, begin, m->A);
        sgm_expert expert = bank->acquire(bank, record->physical[begin]);
        matrices of = matrices_of(m, &expert);
        for (int64_t row = begin; row < end; row++)
            if (out)
                expert_out(m, &of, hidden(m, row, 1, of.width), m->out + row * m->D, 1, first, last);
            else
                expert_in(m, &of, sgm_activations_from(x, m->D, record->item[row]), row, 1, first, last);
        bank->release(bank, record->physical[begin]);
    }
}

/* This thread's copy of the 8-bit form of all rows of h. */
static void quantise_hidden_few(const inference *m) {
    sgm_expert_bank *bank = m->args->bank;
    for (int64_t row = 0; row < m->A; row++) {
        sgm_expert expert = bank->acquire(bank, m->record->physical[row]);
        sgm_activations a = hidden(m, row, 1, expert.width);
        sgm_quantised_fill(m->kernels, &a, expert.width, 0, 1);
        bank->release(bank, m->record->physical[row]);
    }
}

static void forward_few(inference *m) {
    int64_t begin, end;
    sgm_split(m->worker, m->E, 16, &begin, &end);
    if (end > begin)
        m->kernels->matmul_nt(m->T, end - begin, m->N, m->scored, m->N, m->args->gate->data + begin * m->N, m->N,
                              m->logits + begin, m->E, false);
    sgm_barrier(m->worker);
    route_few(m);
    forms wanted = forms_wanted(m);
    sgm_activations x = {.x = (const float *)(const void *)m->x, .ldx = m->D};
    if (wanted.x_integer) {
        x = sgm_quantised_place(m->x_bytes, m->x, m->T, m->D);
        sgm_quantised_fill(m->kernels, &x, m->D, 0, m->T);
    }
    int64_t cols = piece_cols(m, m->F);
    for (int64_t first; (first = sgm_task(m->worker) * cols) < m->F;)
        piece_few(m, &x, false, first, first + cols);
    sgm_barrier(m->worker);
    if (wanted.h_integer)
        quantise_hidden_few(m);
    cols = piece_cols(m, m->D);
    for (int64_t first; (first = sgm_task(m->worker) * cols) < m->D;) {
        piece_few(m, NULL, true, first, first + cols);
        for (int64_t t = 0; t < m->T; t++)
            combine(m, t, first, smaller(first + cols, m->D));
    }
}

/* ---- many rows ----------------------------------------------------------------------------------------------------- */

/* Rising task numbers turned into blocks of one expert's rows. */
typedef struct cursor {
    int64_t expert, first; /* first: number of that expert's first block */
} cursor;

static int64_t blocks_of(const sgm_routing *record, int64_t expert) {
    return (record->offset[expert + 1] - record->offset[expert] + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

static bool advance(cursor *c, const sgm_routing *record, int64_t task, int64_t *begin, int64_t *end) {
    for (; c->expert < record->experts; c->first += blocks_of(record, c->expert), c->expert++)
        if (task < c->first + blocks_of(record, c->expert)) {
            *begin = record->offset[c->expert] + (task - c->first) * BLOCK_ROWS;
            *end = smaller(*begin + BLOCK_ROWS, record->offset[c->expert + 1]);
            return true;
        }
    return false;
}

/* This thread's share of the rows, in the order of their experts and in the forms that are wanted. */
static sgm_activations gather(const inference *m, forms wanted) {
    int64_t begin, end;
    sgm_split(m->worker, m->A, 1, &begin, &end);
    sgm_activations x = sgm_quantised_place(m->x_bytes, m->x_rows, m->A, m->D);
    for (int64_t row = begin; row < end; row++) {
        const sgm_real *from = m->x + m->record->item[row] * m->D;
        if (wanted.x_float)
            memcpy(m->x_rows + row * m->D, from, (size_t)m->D * sizeof *from);
        if (wanted.x_integer) {
            sgm_activations to = sgm_activations_from(&x, m->D, row);
            m->kernels->quantise(1, m->D, (const float *)(const void *)from, m->D, &to);
        }
    }
    if (!wanted.x_integer)
        x.q = NULL;
    return x;
}

static void experts_by_rows(const inference *m, const sgm_activations *x, forms wanted) {
    const sgm_routing *record = m->record;
    sgm_expert_bank *bank = m->args->bank;
    cursor at = {0};
    int64_t first, last, own = m->worker->thread * smaller(m->most, BLOCK_ROWS);
    while (advance(&at, record, sgm_task(m->worker), &first, &last))
        for (int64_t begin = first, end; begin < last; begin = end) {
            end = same_expert(record, begin, last);
            int64_t rows = end - begin;
            sgm_expert expert = bank->acquire(bank, record->physical[begin]);
            matrices of = matrices_of(m, &expert);
            sgm_activations h = hidden(m, own, rows, of.width);
            sgm_real *out = m->out + (m->K == 1 ? own : begin) * m->D;
            expert_in(m, &of, sgm_activations_from(x, m->D, begin), own, rows, 0, m->F);
            if (wanted.h_integer)
                sgm_quantised_fill(m->kernels, &h, of.width, 0, rows);
            expert_out(m, &of, h, out, rows, 0, m->D);
            bank->release(bank, record->physical[begin]);
            for (int64_t row = begin; m->K == 1 && row < end; row++) {
                int64_t t = record->item[row];
                if (m->y != m->residual)
                    memcpy(m->y + t * m->D, m->residual + t * m->D, (size_t)m->D * sizeof *m->y);
                m->kernels->axpy(m->D, record->weight[t], out + (row - begin) * m->D, m->y + t * m->D);
            }
        }
}

/* Few blocks: phases of gate and up, of quantising h, of down. */
typedef enum phase { PHASE_IN, PHASE_QUANTISE, PHASE_OUT } phase;

static void run_of_columns(const inference *m, phase what, const sgm_activations *x, int64_t begin, int64_t end,
                           int64_t left, int64_t right) {
    sgm_expert_bank *bank = m->args->bank;
    int64_t rows = end - begin;
    sgm_expert expert = bank->acquire(bank, m->record->physical[begin]);
    matrices of = matrices_of(m, &expert);
    sgm_activations h = hidden(m, begin, rows, of.width);
    if (what == PHASE_IN)
        expert_in(m, &of, sgm_activations_from(x, m->D, begin), begin, rows, left, right);
    else if (what == PHASE_OUT)
        expert_out(m, &of, h, m->out + begin * m->D, rows, left, right);
    else
        sgm_quantised_fill(m->kernels, &h, of.width, 0, rows);
    bank->release(bank, m->record->physical[begin]);
}

static void experts_by_columns(const inference *m, const sgm_activations *x, forms wanted, int64_t blocks) {
    int64_t widths[] = {m->F, BLOCK_COLS, m->D};
    for (phase what = PHASE_IN; what <= PHASE_OUT; what++) {
        if (what == PHASE_QUANTISE && !wanted.h_integer)
            continue;
        int64_t width = widths[what], tasks = (int64_t)BLOCKS_PER_THREAD * m->worker->threads;
        int64_t cols = (width * blocks / tasks + BLOCK_COLS) / BLOCK_COLS * BLOCK_COLS;
        int64_t pieces = (width + cols - 1) / cols, first, last, task;
        cursor at = {0};
        while (task = sgm_task(m->worker), advance(&at, m->record, task / pieces, &first, &last)) {
            int64_t left = task % pieces * cols;
            for (int64_t begin = first, end; begin < last; begin = end) {
                end = same_expert(m->record, begin, last);
                run_of_columns(m, what, x, begin, end, left, left + cols);
            }
        }
        sgm_barrier(m->worker);
    }
}

static void forward_many(inference *m) {
    int64_t begin, end, blocks = 0;
    if (m->worker->thread == 0)
        begin_record(m);
    sgm_product logits = {.kind = SGM_NT,
                          .M = m->T,
                          .N = m->E,
                          .K = m->N,
                          .A = m->scored,
                          .lda = m->N,
                          .B = m->args->gate->data,
                          .ldb = m->N,
                          .C = m->logits,
                          .ldc = m->E};
    sgm_products_run(m->walk, &logits, 1);
    sgm_barrier(m->worker);
    route_many(m);
    forms wanted = forms_wanted(m);
    sgm_activations x = gather(m, wanted);
    sgm_barrier(m->worker);
    for (int64_t e = 0; e < m->E; e++)
        blocks += blocks_of(m->record, e);
    sgm_split(m->worker, m->T, 1, &begin, &end);
    if (blocks < (int64_t)BLOCKS_PER_THREAD * m->worker->threads)
        experts_by_columns(m, &x, wanted, blocks);
    else {
        experts_by_rows(m, &x, wanted);
        if (m->K == 1) { /* what no expert adds to */
            for (int64_t t = begin; t < end; t++)
                if (m->record->position[t] < 0)
                    combine(m, t, 0, m->D);
            return;
        }
        sgm_barrier(m->worker);
    }
    for (int64_t t = begin; t < end; t++)
        combine(m, t, 0, m->D);
}

void sgm_moe_inference_forward(sgm_walk *walk, sgm_node *node) {
    inference m = sizes(node);
    m.walk = walk;
    m.worker = walk->worker;
    m.kernels = walk->kernels;
    place(&m, node->workspace, m.worker->thread, m.worker->threads);
    sgm_operand norm = normalised(&m);
    m.x = (const sgm_real *)(const void *)sgm_operand_make(walk, &norm, node->in[0].data, m.norm).x;
    m.scored = node->op->inputs == 3 ? node->in[2].data : m.x;
    if (m.few)
        forward_few(&m);
    else
        forward_many(&m);
}

sgm_tensor sgm_norm_moe_ffn(sgm_walk *walk, sgm_tensor x, const sgm_weight *gain, double epsilon,
                            const sgm_moe_args *args) {
    if (walk->tape || walk->keeps || args->balance || args->comm || args->gate_hidden)
        return sgm_moe_ffn(walk, sgm_rms_norm(walk, x, gain, epsilon), x, args);
    sgm_moe_args own = *args;
    own.norm = gain;
    own.norm_epsilon = epsilon;
    return sgm_moe_ffn(walk, x, x, &own);
}
