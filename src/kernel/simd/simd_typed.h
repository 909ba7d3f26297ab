// SPDX-License-Identifier: Apache-2.0
/* Products with weights in blocks of integers, for any vector width: C (M,N) = or += A (M,K) · B (N,K)ᵀ, B read where it
 * lies (simd_typed_unpack.h). Included by one .c file of each table after its ivec_<table>.h and simd_matmul.h.
 *
 * Outputs are in lanes: a panel is WIDTH rows of B. Per block of 32 elements the integer dot product is exact (its zero
 * point is where the sum starts: -zero · Σ activations), and the order of the operations in f32 is that of the reference
 * (ref_typed.c), so the bytes are the same in every table, whatever M, N and the tile.
 *
 * Two loops over the same unpacked blocks. Few rows of A: each block is used by all of them while it is in registers.
 * Many: 256 elements of TILE_PANELS panels are unpacked into a buffer in the nearest cache, and tiles of TILE_ROWS rows
 * run over it with their sums in registers. */

#define FEW_ROWS 8 /* most rows of the first loop */
#define MANY_ROWS 64
#define NOTES 4096 /* blocks of 32 activations prepared at once */

/* What a product needs to know about 32 activations of one row besides their bytes. */
typedef struct note {
    int32_t start; /* -zero · sum; q6_k: of the first half */
    float scale;
    union {
        int32_t wrap[2];      /* shifted blocks: the quads that wrap round; q8_0 has one */
        int32_t second_start; /* q6_k: of the second half */
        float sum;            /* q4_k: of the 32 integers */
    } extra;
} note;

typedef struct typed_product {
    int64_t M, blocks; /* rows of A, blocks of 32 elements in this part of K */
    const int8_t *q;   /* A at this part of K */
    int64_t ldq;       /* elements, bytes */
    const note *notes; /* (M, blocks) */
    const uint8_t *B;  /* row 0 at this part of K */
    size_t stride;
    int64_t N;
    float *C;
    int64_t ldc;
    bool add;
} typed_product;

INLINE int32_t two_and_two(const int8_t *last, const int8_t *first) {
    int32_t quad;
    int8_t bytes[4] = {last[0], last[1], first[0], first[1]};
    memcpy(&quad, bytes, sizeof quad);
    return quad;
}

INLINE void prepare(const int type, int64_t M, int64_t blocks, const sgm_activations *A, int64_t ldq, int64_t row,
                    int64_t first, note *notes) {
    for (int64_t i = 0; i < M; i++)
        for (int64_t b = 0; b < blocks; b++, notes++) {
            const int64_t at = (row + i) * (ldq / 32) + first + b;
            const int8_t *q = A->q + 32 * at;
            notes->scale = A->scale[at];
            notes->start = -typed_zero(type) * A->sum[at];
            if (type == SGM_TYPE_Q4_K)
                notes->extra.sum = (float)A->sum[at];
            else if (type == SGM_TYPE_Q6_K) {
                int32_t half = 0;
                for (int k = 0; k < 16; k++)
                    half += q[k];
                notes->start = -32 * half;
                notes->extra.second_start = -32 * (A->sum[at] - half);
            } else if (type == SGM_TYPE_Q8_0)
                notes->extra.wrap[0] = two_and_two(q + 30, q);
            else {
                notes->extra.wrap[0] = two_and_two(q + 14, q);
                notes->extra.wrap[1] = two_and_two(q + 30, q + 16);
            }
        }
}

/* The activations that belong to quad q of block b of a step, in every lane. */
INLINE ivec activation_quad(const int type, const int b, const int q, const int8_t *a, const note *n) {
    if (!typed_shifted(type, b))
        return iv_broadcast(a + 4 * q);
    if (type == SGM_TYPE_Q8_0)
        return q < 7 ? iv_broadcast(a + 2 + 4 * q) : iv_broadcast(&n->extra.wrap[0]);
    return q % 4 < 3 ? iv_broadcast(a + 2 + 4 * q) : iv_broadcast(&n->extra.wrap[q / 4]);
}

INLINE vec float_broadcast(const float *x) {
    return v_set(*x);
}

/* sum + 32 elements, from their integer dot product. */
INLINE vec add_block(const int type, vec sum, ivec dot, vec scale, const vec *minimum, const note *n) {
    vec t = v_mul(scale, v_of_int(dot));
    if (type == SGM_TYPE_Q4_K)
        t = v_fnma(*minimum, float_broadcast(&n->extra.sum), t);
    return v_fma(t, float_broadcast(&n->scale), sum);
}

INLINE ivec dot_quads(const int type, const int b, const ivec *w, const int first, const int count, const int8_t *a,
                      const note *n, ivec sum) {
    UNROLL
    for (int q = first; q < first + count; q += DOT_QUADS) {
        ivec x[DOT_QUADS];
        UNROLL
        for (int g = 0; g < DOT_QUADS; g++)
            x[g] = activation_quad(type, b, q + g, a, n);
        sum = iv_dot(sum, w + q, x, typed_bits(type));
    }
    return sum;
}

INLINE ivec dot_block(const int type, const int b, const unpacked *w, const int8_t *a, const note *n) {
    if (type != SGM_TYPE_Q6_K)
        return dot_quads(type, b, w->q, 0, QUADS, a, n, iv_set(n->start));
    ivec first = dot_quads(type, b, w->q, 0, 4, a, n, iv_set(n->start));
    ivec second = dot_quads(type, b, w->q, 4, 4, a, n, iv_set(n->extra.second_start));
    return iv_add(iv_mul(first, w->inner[0]), iv_mul(second, w->inner[1]));
}

/* Where the rows of a panel are to be read: where they are, unless that would touch what lies beyond the last row's last byte,
 * for a file's mapping may end there. A step that is not whole reads up to 15 bytes more than it has, which are the next row's
 * but for the last panel; that one, and one with fewer than WIDTH rows, is copied first. */
#define COPY_STRIDE 288
INLINE rows_at panel_rows(const int type, const typed_product *p, int64_t n, int64_t step, int64_t blocks,
                          uint8_t copy[WIDTH * COPY_STRIDE]) {
    const uint8_t *from = p->B + (size_t)n * p->stride + (size_t)step * typed_step_bytes(type);
    if (n + WIDTH + (blocks < STEP_BLOCKS) <= p->N)
        return (rows_at){from, p->stride};
    const size_t bytes = blocks == STEP_BLOCKS ? typed_step_bytes(type) : (size_t)(blocks * typed_block_bytes(type));
    for (int64_t r = 0; r < WIDTH; r++) {
        const int64_t row = n + r < p->N ? r : p->N - 1 - n;
        memcpy(copy + r * COPY_STRIDE, from + (size_t)row * p->stride, bytes);
        memset(copy + (size_t)r * COPY_STRIDE + bytes, 0, COPY_STRIDE - bytes);
    }
    return (rows_at){copy, COPY_STRIDE};
}

INLINE vec load_c(const typed_product *p, int64_t i, int64_t n) {
    const float *c = p->C + i * p->ldc + n;
    return n + WIDTH <= p->N ? v_load(c) : v_load_tail(c, v_mask(p->N - n));
}
INLINE vec load_sum(const typed_product *p, int64_t i, int64_t n) {
    return p->add ? load_c(p, i, n) : v_set(0);
}
INLINE void store_sum(const typed_product *p, int64_t i, int64_t n, vec sum) {
    float *c = p->C + i * p->ldc + n;
    if (n + WIDTH <= p->N)
        v_store(c, sum);
    else
        v_store_tail(c, v_mask(p->N - n), sum);
}

/* Reading ahead. WIDTH rows at once are many short streams to the processor's prefetcher, so the bytes are asked for here,
 * in the order in which they lie: as much as a step needs, a panel and ASK_AHEAD bytes before its turn. */
#define ASK_AHEAD 16384
INLINE const uint8_t *ask_from(const typed_product *p, int64_t row) {
    return (const uint8_t *)((uintptr_t)p->B + (uintptr_t)row * p->stride + ASK_AHEAD);
}
/* Where to ask for `lines` lines now: what lies behind the last row is not wanted, row 0 costs nothing. */
INLINE const uint8_t *ask_next(const typed_product *p, const uint8_t **ask, size_t lines) {
    const uintptr_t at = (uintptr_t)*ask, end = (uintptr_t)p->B + (uintptr_t)p->N * p->stride;
    *ask = (const uint8_t *)(at + 64 * lines);
    return at + 64 * lines <= end ? (const uint8_t *)at : p->B;
}
INLINE void ask_for_lines(const uint8_t *from, size_t first, size_t last) {
    for (size_t l = first; l < last; l++)
        __builtin_prefetch((const void *)((uintptr_t)from + 64 * l), 0, 2);
}

/* All rows of A (one, or up to FEW_ROWS) against one panel. */
INLINE void few_against_panel(const int type, const bool one, const typed_product *p, int64_t n) {
    _Alignas(64) uint8_t copy[WIDTH * COPY_STRIDE];
    const int64_t M = one ? 1 : p->M;
    vec sum[FEW_ROWS];
    for (int64_t i = 0; i < M; i++)
        sum[i] = load_sum(p, i, n);
    const size_t lines = typed_step_bytes(type) * WIDTH / 64;
    const uint8_t *ask = ask_from(p, n + WIDTH);
    for (int64_t step = 0; step * STEP_BLOCKS < p->blocks; step++) {
        const uint8_t *next = ask_next(p, &ask, lines);
        const int64_t left = p->blocks - step * STEP_BLOCKS, blocks = left < STEP_BLOCKS ? left : STEP_BLOCKS;
        const rows_at rows = panel_rows(type, p, n, step, blocks, copy);
        unpacking state;
        UNROLL
        for (int b = 0; b < STEP_BLOCKS; b++) {
            if (b >= blocks)
                break;
            ask_for_lines(next, lines * (size_t)b / STEP_BLOCKS, lines * ((size_t)b + 1) / STEP_BLOCKS);
            unpacked w;
            unpack(type, &rows, b, &state, &w);
            for (int64_t i = 0; i < M; i++) {
                const note *at = p->notes + i * p->blocks + step * STEP_BLOCKS + b;
                const int8_t *a = p->q + i * p->ldq + step * STEP + 32 * b;
                sum[i] = add_block(type, sum[i], dot_block(type, b, &w, a, at), w.scale, &w.minimum, at);
            }
        }
    }
    for (int64_t i = 0; i < M; i++)
        store_sum(p, i, n, sum[i]);
}

/* A step of a panel, unpacked. */
typedef struct unpacked_step {
    ivec q[STEP_BLOCKS][QUADS];
    vec scale[STEP_BLOCKS], minimum[STEP_BLOCKS];
    ivec inner[STEP_BLOCKS][2];
} unpacked_step;

INLINE void unpack_step(const int type, const rows_at *rows, int64_t blocks, unpacked_step *to) {
    unpacking state;
    UNROLL
    for (int b = 0; b < STEP_BLOCKS; b++) {
        if (b >= blocks)
            break;
        unpacked w;
        unpack(type, rows, b, &state, &w);
        UNROLL
        for (int q = 0; q < QUADS; q++)
            to->q[b][q] = w.q[q];
        to->scale[b] = w.scale;
        if (type == SGM_TYPE_Q4_K)
            to->minimum[b] = w.minimum;
        if (type == SGM_TYPE_Q6_K)
            to->inner[b][0] = w.inner[0], to->inner[b][1] = w.inner[1];
    }
}

/* rows x panels outputs over the unpacked blocks. */
INLINE void typed_tile(const int type, const int rows, const int panels, const typed_product *p, int64_t i0, int64_t n,
                       int64_t step, int64_t blocks, const unpacked_step *w) {
    const int halves = type == SGM_TYPE_Q6_K ? 2 : 1, groups = QUADS / halves / DOT_QUADS;
    vec sum[TILE_ROWS][TILE_PANELS];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int v = 0; v < panels; v++)
        sum[r][v] = step == 0 ? load_sum(p, i0 + r, n + v * WIDTH) : load_c(p, i0 + r, n + v * WIDTH);
    const int8_t *a = p->q + i0 * p->ldq + step * STEP;
    const note *notes = p->notes + i0 * p->blocks + step * STEP_BLOCKS;
    for (int64_t pair = 0; pair < blocks; pair += 2)
        UNROLL
    for (int odd = 0; odd < 2; odd++) {
        const int64_t b = pair + odd;
        if (b >= blocks)
            break;
        ivec dot[TILE_ROWS][TILE_PANELS], first[TILE_ROWS][TILE_PANELS];
        UNROLL
        for (int half = 0; half < halves; half++) {
            UNROLL
            for (int r = 0; r < rows; r++)
                UNROLL
            for (int v = 0; v < panels; v++) {
                const note *at = notes + r * p->blocks + b;
                dot[r][v] = iv_set(half == 0 ? at->start : at->extra.second_start);
            }
            UNROLL
            for (int group = 0; group < groups; group++)
                UNROLL
            for (int r = 0; r < rows; r++) {
                const int q = 4 * half + group * DOT_QUADS;
                ivec x[DOT_QUADS];
                UNROLL
                for (int g = 0; g < DOT_QUADS; g++)
                    x[g] = activation_quad(type, odd, q + g, a + r * p->ldq + 32 * b, notes + r * p->blocks + b);
                UNROLL
                for (int v = 0; v < panels; v++)
                    dot[r][v] = iv_dot(dot[r][v], &w[v].q[b][q], x, typed_bits(type));
            }
            if (halves == 2)
                UNROLL
            for (int r = 0; r < rows; r++)
                UNROLL
            for (int v = 0; v < panels; v++) {
                dot[r][v] = iv_mul(dot[r][v], w[v].inner[b][half]);
                if (half == 0)
                    first[r][v] = dot[r][v];
                else
                    dot[r][v] = iv_add(first[r][v], dot[r][v]);
            }
        }
        UNROLL
        for (int r = 0; r < rows; r++)
            UNROLL
        for (int v = 0; v < panels; v++)
            sum[r][v] =
                add_block(type, sum[r][v], dot[r][v], w[v].scale[b], &w[v].minimum[b], notes + r * p->blocks + b);
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
    for (int v = 0; v < panels; v++)
        store_sum(p, i0 + r, n + v * WIDTH, sum[r][v]);
}

/* All rows of A against `panels` whole panels, or one panel that may be a tail. */
INLINE void many_against_panels(const int type, const int panels, const typed_product *p, int64_t n) {
    unpacked_step w[TILE_PANELS];
    _Alignas(64) uint8_t copy[WIDTH * COPY_STRIDE];
    const size_t lines = typed_step_bytes(type) * WIDTH / 64 * (size_t)panels;
    const uint8_t *ask = ask_from(p, n + panels * WIDTH);
    for (int64_t step = 0; step * STEP_BLOCKS < p->blocks; step++) {
        const int64_t left = p->blocks - step * STEP_BLOCKS, blocks = left < STEP_BLOCKS ? left : STEP_BLOCKS;
        ask_for_lines(ask_next(p, &ask, lines), 0, lines);
        for (int v = 0; v < panels; v++) {
            const rows_at rows = panel_rows(type, p, n + v * WIDTH, step, blocks, copy);
            unpack_step(type, &rows, blocks, &w[v]);
        }
        int64_t i = 0;
        for (; i + TILE_ROWS <= p->M; i += TILE_ROWS)
            typed_tile(type, TILE_ROWS, panels, p, i, n, step, blocks, w);
        for (; i + 2 <= p->M; i += 2)
            typed_tile(type, 2, panels, p, i, n, step, blocks, w);
        if (i < p->M)
            typed_tile(type, 1, panels, p, i, n, step, blocks, w);
    }
}

INLINE void typed_product_of(const int type, int64_t M, int64_t N, int64_t K, const sgm_activations *A, const void *B,
                             size_t stride, float *C, int64_t ldc, bool add,
                             void (*one)(const typed_product *p, int64_t n),
                             void (*few)(const typed_product *p, int64_t n),
                             void (*wide)(const typed_product *p, int64_t n),
                             void (*many)(const typed_product *p, int64_t n)) {
    note notes[NOTES];
    for (int64_t i = 0; i < M;) {
        const int64_t rows = M - i <= FEW_ROWS ? M - i : M - i < MANY_ROWS ? M - i : MANY_ROWS;
        const int64_t most = NOTES / rows / STEP_BLOCKS * STEP_BLOCKS;
        for (int64_t first = 0; first < K / 32; first += most) {
            const int64_t blocks = K / 32 - first < most ? K / 32 - first : most;
            prepare(type, rows, blocks, A, K, i, first, notes);
            const typed_product p = {
                .M = rows,
                .blocks = blocks,
                .q = A->q + i * K + 32 * first,
                .ldq = K,
                .notes = notes,
                .B = (const uint8_t *)B + (size_t)(first / STEP_BLOCKS) * typed_step_bytes(type),
                .stride = stride,
                .N = N,
                .C = C + i * ldc,
                .ldc = ldc,
                .add = add || first > 0,
            };
            const size_t panel = (size_t)(N < WIDTH ? N : WIDTH) * stride; /* the first one, all at once */
            ask_for_lines(p.B, 0, (panel < ASK_AHEAD ? panel : ASK_AHEAD) / 64);
            int64_t n = 0;
            if (rows > FEW_ROWS && TILE_PANELS > 1)
                for (; n + TILE_PANELS * WIDTH <= N; n += TILE_PANELS * WIDTH)
                    wide(&p, n);
            for (; n < N; n += WIDTH)
                (rows == 1 ? one : rows <= FEW_ROWS ? few : many)(&p, n);
        }
        i += rows;
    }
}

#define TYPED(name, type)                                                                                              \
    static __attribute__((noinline)) void one_##name(const typed_product *p, int64_t n) {                              \
        few_against_panel(type, true, p, n);                                                                           \
    }                                                                                                                  \
    static __attribute__((noinline)) void few_##name(const typed_product *p, int64_t n) {                              \
        few_against_panel(type, false, p, n);                                                                          \
    }                                                                                                                  \
    static __attribute__((noinline)) void wide_##name(const typed_product *p, int64_t n) {                             \
        many_against_panels(type, TILE_PANELS, p, n);                                                                  \
    }                                                                                                                  \
    static __attribute__((noinline)) void many_##name(const typed_product *p, int64_t n) {                             \
        many_against_panels(type, 1, p, n);                                                                            \
    }                                                                                                                  \
    static void typed_##name(int64_t M, int64_t N, int64_t K, const sgm_activations *A, const void *B, size_t stride,  \
                             float *C, int64_t ldc, bool add) {                                                        \
        typed_product_of(type, M, N, K, A, B, stride, C, ldc, add, one_##name, few_##name, wide_##name, many_##name);  \
    }

TYPED(q8_0, SGM_TYPE_Q8_0)
TYPED(q4_0, SGM_TYPE_Q4_0)
TYPED(q5_0, SGM_TYPE_Q5_0)
TYPED(q4_k, SGM_TYPE_Q4_K)
TYPED(q6_k, SGM_TYPE_Q6_K)

static void matmul_typed(int64_t M, int64_t N, int64_t K, const sgm_activations *A, sgm_type type, const void *B,
                         size_t stride, float *C, int64_t ldc, bool add) {
    if (nothing_to_sum(M, N, K, C, ldc, add))
        return;
    switch (type) {
    case SGM_TYPE_Q8_0:
        typed_q8_0(M, N, K, A, B, stride, C, ldc, add);
        break;
    case SGM_TYPE_Q4_0:
        typed_q4_0(M, N, K, A, B, stride, C, ldc, add);
        break;
    case SGM_TYPE_Q5_0:
        typed_q5_0(M, N, K, A, B, stride, C, ldc, add);
        break;
    case SGM_TYPE_Q4_K:
        typed_q4_k(M, N, K, A, B, stride, C, ldc, add);
        break;
    case SGM_TYPE_Q6_K:
        typed_q6_k(M, N, K, A, B, stride, C, ldc, add);
        break;
    case SGM_TYPE_F16:
        matmul_f16(M, N, K, A->x, A->ldx, B, stride, C, ldc, add);
        break;
    case SGM_TYPE_BF16:
        MATMUL_STORED_BF16(M, N, K, A->x, A->ldx, B, stride, C, ldc, add);
        break;
    default: /* f32; where a row does not begin at a multiple of 4 bytes, what can read it */
        if (stride % sizeof(float) || (uintptr_t)B % sizeof(float))
            sgm_ref_matmul_typed(M, N, K, A, type, B, stride, C, ldc, add);
        else
            matmul_f32(M, N, K, A->x, A->ldx, B, stride, C, ldc, add);
    }
}
