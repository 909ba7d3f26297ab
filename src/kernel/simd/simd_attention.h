// SPDX-License-Identifier: Apache-2.0
/* Attention's kernels for any vector width: included after simd_matmul.h and simd_vector.h. A row of scores (at most 64) is
 * held in registers from the maximum to the sum; sums run over the lanes of one vector, then by halves, as in exp_sum. */
#include <string.h>

#define SCORE_VECTORS (64 / WIDTH)

INLINE int64_t keys_seen(const sgm_score_tile *tile, int64_t i) {
    int64_t n = tile->seen + i / tile->group;
    return n < tile->cols ? n : tile->cols;
}

/* Lanes v·WIDTH … of a row of n; `other` past its end. */
INLINE vec get_scores(const float *row, int64_t n, int v, vec other) {
    int64_t left = n - v * WIDTH;
    if (left >= WIDTH)
        return v_load(row + v * WIDTH);
    if (left <= 0)
        return other;
    vmask mask = v_mask(left);
    return v_select(other, v_load_tail(row + v * WIDTH, mask), mask);
}

/* The first n lanes of x, and zeros up to `cols`. */
INLINE void put_scores(float *row, int64_t n, int64_t cols, int v, vec x) {
    int64_t left = n - v * WIDTH, room = cols - v * WIDTH;
    if (room <= 0)
        return;
    if (left < WIDTH)
        x = left > 0 ? v_select(v_set(0), x, v_mask(left)) : v_set(0);
    put(row + v * WIDTH, room, x);
}

/* One row; `n` is 64 at compile time in whole blocks. */
INLINE void step_row(const sgm_score_tile *tile, int64_t n, float *row, float *largest, float *sum, float *rescale) {
    const vec none = v_set(-INFINITY), zero = v_set(0);
    vec x[SCORE_VECTORS], most = none;
    bool nan = false;
    UNROLL
    for (int v = 0; v < SCORE_VECTORS; v++) {
        x[v] = get_scores(row, n, v, none);
        if (tile->key_scale && n > v * WIDTH) {
            x[v] = v_mul(x[v], get_scores(tile->key_scale, n, v, v_set(1)));
        }
        nan |= v_any_nan(x[v]);
        most = v_max(most, x[v]);
    }
    float top = nan ? NAN : v_largest(most) * tile->scale;
    top = top > *largest || top != top ? top : *largest;
    const vec s = v_set(tile->scale), t = v_set(top);
    vec total = zero;
    UNROLL
    for (int v = 0; v < SCORE_VECTORS; v++) {
        int64_t left = n - v * WIDTH;
        if (left <= 0) {
            put_scores(row, n, tile->cols, v, zero);
            continue;
        }
        vec value = v_exp(v_sub(v_mul(x[v], s), t));
        if (left < WIDTH)
            value = v_select(zero, value, v_mask(left));
        total = v_add(total, value);
        if (tile->value_scale)
            value = v_mul(value, get_scores(tile->value_scale, n, v, zero));
        put_scores(row, n, tile->cols, v, value);
    }
    float factor = *largest == top ? 1.0F : sgm_expf_inline(*largest - top);
    *rescale = factor;
    *sum = *sum * factor + v_total(total);
    *largest = top;
}

static void softmax_step(const sgm_score_tile *tile, float *score, int64_t ld, float *largest, float *sum,
                         float *rescale) {
    for (int64_t i = 0; i < tile->rows; i++) {
        int64_t n = keys_seen(tile, i);
        if (n == 64)
            step_row(tile, 64, score + i * ld, largest + i, sum + i, rescale + i);
        else
            step_row(tile, n, score + i * ld, largest + i, sum + i, rescale + i);
    }
}

static void softmax_step_backward(const sgm_score_tile *tile, float *p, float *dp, int64_t ld, const float *shift,
                                  const float *dot_of, int64_t stride) {
    const vec s = v_set(tile->scale), zero = v_set(0);
    for (int64_t i = 0; i < tile->rows; i++) {
        const vec t = v_set(shift[i * stride]), less = v_set(dot_of[i * stride]);
        float *row = p + i * ld, *gradient = dp + i * ld;
        int64_t n = keys_seen(tile, i);
        for (int v = 0; v * WIDTH < tile->cols; v++) {
            vec value = zero, change = zero;
            if (n > v * WIDTH) {
                value = v_exp(v_sub(v_mul(get_scores(row, n, v, zero), s), t));
                change = v_mul(v_mul(value, v_sub(get_scores(gradient, n, v, zero), less)), s);
            }
            put_scores(row, n, tile->cols, v, value);
            put_scores(gradient, n, tile->cols, v, change);
        }
    }
}

/* Stick-breaking: σ and 1 − σ of a group of rows are made by vectors; the product over a row's keys is a chain, so the chains of
 * a group run side by side. Keys that a row does not see take nothing and leave everything. */
enum { STICKS = 8 };

typedef struct sticks {
    float take[STICKS][64], leave[STICKS][64];
    float kept[STICKS];
} sticks;

INLINE void stick_shares(const sgm_score_tile *tile, int64_t n, const float *row, float *take, float *leave) {
    const vec zero = v_set(0), one = v_set(1), s = v_set(tile->scale);
    UNROLL
    for (int v = 0; v < SCORE_VECTORS; v++) {
        int64_t seen = n - v * WIDTH;
        vec t = zero, l = one;
        if (seen > 0) {
            vec x = get_scores(row, n, v, zero);
            if (tile->key_scale)
                x = v_mul(x, get_scores(tile->key_scale, n, v, one));
            x = v_mul(x, s);
            vec less = v_min(x, v_sub(zero, x)); /* -|x|: NaN is the second operand, and stays */
            vec e = v_exp(less), d = v_div(one, v_add(one, e)), other = v_mul(e, d);
            vmask below = v_below(x, zero);
            t = v_select(d, other, below), l = v_select(other, d, below);
            if (seen < WIDTH)
                t = v_select(zero, t, v_mask(seen)), l = v_select(one, l, v_mask(seen));
        }
        v_store(take + v * WIDTH, t);
        v_store(leave + v * WIDTH, l);
    }
}

/* take becomes the weight but for the factor that all keys of the row share. */
INLINE void stick_break(sticks *k) {
    float kept[STICKS];
    for (int r = 0; r < STICKS; r++)
        kept[r] = 1;
    for (int c = 63; c >= 0; c--) {
        UNROLL
        for (int r = 0; r < STICKS; r++) {
            k->take[r][c] *= kept[r];
            kept[r] *= k->leave[r][c];
        }
    }
    memcpy(k->kept, kept, sizeof kept);
}

/* The keys that a row sees while something is left of it. */
INLINE int64_t stick_keys(const sgm_score_tile *tile, int64_t i, float rest) {
    return rest == 0 ? 0 : keys_seen(tile, i);
}

static void stick_step(const sgm_score_tile *tile, float *score, int64_t ld, float *rest) {
    sticks k = {0};
    for (int64_t first = 0; first < tile->rows; first += STICKS) {
        int64_t rows = tile->rows - first < STICKS ? tile->rows - first : STICKS;
        for (int64_t r = 0; r < rows; r++)
            stick_shares(tile, stick_keys(tile, first + r, rest[first + r]), score + (first + r) * ld, k.take[r],
                         k.leave[r]);
        stick_break(&k);
        for (int64_t r = 0; r < rows; r++) {
            int64_t n = stick_keys(tile, first + r, rest[first + r]);
            const vec whole = v_set(rest[first + r]);
            for (int v = 0; v * WIDTH < tile->cols; v++) {
                vec value = v_mul(v_load(k.take[r] + v * WIDTH), whole);
                if (tile->value_scale)
                    value = v_mul(value, get_scores(tile->value_scale, tile->cols, v, v_set(0)));
                put_scores(score + (first + r) * ld, n, tile->cols, v, value);
            }
            float left = rest[first + r] * k.kept[r];
            rest[first + r] = left < SGM_STICK_EMPTY ? 0 : left;
        }
    }
}

static void stick_step_backward(const sgm_score_tile *tile, float *p, float *dp, int64_t ld, float *rest, float *left,
                                int64_t stride) {
    sticks k = {0};
    for (int64_t first = 0; first < tile->rows; first += STICKS) {
        int64_t rows = tile->rows - first < STICKS ? tile->rows - first : STICKS;
        float taken[STICKS][64], change[STICKS][64] = {{0}}, now[STICKS] = {0};
        for (int64_t r = 0; r < rows; r++) {
            int64_t n = stick_keys(tile, first + r, rest[(first + r) * stride]);
            stick_shares(tile, n, p + (first + r) * ld, k.take[r], k.leave[r]);
            memcpy(taken[r], k.take[r], sizeof taken[r]);
            now[r] = left[(first + r) * stride];
        }
        stick_break(&k);
        for (int64_t r = 0; r < rows; r++) {
            int64_t n = stick_keys(tile, first + r, rest[(first + r) * stride]);
            const vec whole = v_set(rest[(first + r) * stride]);
            for (int v = 0; v * WIDTH < tile->cols; v++) {
                vec value = v_mul(v_load(k.take[r] + v * WIDTH), whole);
                put_scores(p + (first + r) * ld, n, tile->cols, v, value);
                v_store(change[r] + v * WIDTH, v_mul(value, get_scores(dp + (first + r) * ld, n, v, v_set(0))));
            }
        }
        /* Each key: what is left of Σ p · g before its own share goes. */
        for (int c = 63; c >= 0; c--) {
            UNROLL
            for (int r = 0; r < STICKS; r++) {
                k.leave[r][c] = now[r];
                now[r] -= change[r][c];
            }
        }
        for (int64_t r = 0; r < rows; r++) {
            int64_t n = stick_keys(tile, first + r, rest[(first + r) * stride]);
            const vec s = v_set(tile->scale);
            for (int v = 0; v * WIDTH < tile->cols; v++) {
                vec t = v_mul(v_load(taken[r] + v * WIDTH), v_load(k.leave[r] + v * WIDTH));
                put_scores(dp + (first + r) * ld, n, tile->cols, v, v_mul(v_sub(v_load(change[r] + v * WIDTH), t), s));
            }
            float at = rest[(first + r) * stride] * k.kept[r];
            rest[(first + r) * stride] = at < SGM_STICK_EMPTY ? 0 : at;
            left[(first + r) * stride] = now[r];
        }
    }
}

static void transpose(int64_t rows, int64_t cols, const float *x, int64_t ldx, float *y, int64_t ldy) {
    for (int64_t i = 0; i < rows; i += WIDTH)
        for (int64_t j = 0; j < cols; j += WIDTH) {
            int64_t height = rows - i < WIDTH ? rows - i : WIDTH, width = cols - j < WIDTH ? cols - j : WIDTH;
            vec square[WIDTH];
            load_square(height, width, x + i * ldx + j, ldx, square);
            v_transpose(square);
            float *to = y + j * ldy + i;
            if (height == WIDTH && width == WIDTH) {
                UNROLL
                for (int r = 0; r < WIDTH; r++)
                    v_store(to + r * ldy, square[r]);
            } else {
                for (int r = 0; r < (int)width; r++)
                    v_store_tail(to + r * ldy, v_mask(height), square[r]);
            }
        }
}

static void f16_widen(int64_t n, const uint16_t *x, float *y) {
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        v_store(y + i, v_load_f16(x + i));
    for (; i < n; i++)
        y[i] = sgm_f16_widen(x[i]);
}

static void f16_round(int64_t n, const float *x, uint16_t *y) {
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        v_store_f16(y + i, v_load(x + i));
    for (; i < n; i++)
        y[i] = sgm_f16_round(x[i]);
}

static void int8_widen(int64_t n, const int8_t *x, float *y) {
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        v_store(y + i, v_load_int8(x + i));
    for (; i < n; i++)
        y[i] = (float)x[i];
}

/* Products with B as it is stored. Columns past the last whole vector are widened into a vector of their own. */
#define STORED_VECTORS (WIDTH == 16 ? 4 : 2)

#define STORED_PRODUCT(name, type, load, widen)                                                                        \
    INLINE void name##_tile(const int rows, const int vectors, int64_t left, int64_t K, const float *A, int64_t lda,   \
                            const type *B, int64_t ldb, float *C, int64_t ldc, bool add) {                             \
        vec sum[4][4];                                                                                                 \
        const bool tail = vectors == 1 && left < WIDTH;                                                                \
        UNROLL                                                                                                         \
        for (int r = 0; r < rows; r++)                                                                                 \
            UNROLL                                                                                                     \
        for (int v = 0; v < vectors; v++)                                                                              \
            sum[r][v] = add ? get(C + r * ldc + v * WIDTH, tail ? left : WIDTH) : v_set(0);                            \
        for (int64_t k = 0; k < K; k++, B += ldb) {                                                                    \
            vec x[4];                                                                                                  \
            if (tail) {                                                                                                \
                float wide[WIDTH] = {0};                                                                               \
                for (int64_t n = 0; n < left; n++)                                                                     \
                    wide[n] = widen(B[n]);                                                                             \
                x[0] = v_load(wide);                                                                                   \
            } else {                                                                                                   \
                UNROLL                                                                                                 \
                for (int v = 0; v < vectors; v++)                                                                      \
                    x[v] = load(B + v * WIDTH);                                                                        \
            }                                                                                                          \
            UNROLL                                                                                                     \
            for (int r = 0; r < rows; r++) {                                                                           \
                vec a = v_set(A[r * lda + k]);                                                                         \
                UNROLL                                                                                                 \
                for (int v = 0; v < vectors; v++)                                                                      \
                    sum[r][v] = v_fma(a, x[v], sum[r][v]);                                                             \
            }                                                                                                          \
        }                                                                                                              \
        UNROLL                                                                                                         \
        for (int r = 0; r < rows; r++)                                                                                 \
            UNROLL                                                                                                     \
        for (int v = 0; v < vectors; v++)                                                                              \
            put(C + r * ldc + v * WIDTH, tail ? left : WIDTH, sum[r][v]);                                              \
    }                                                                                                                  \
    INLINE void name##_rows(const int rows, int64_t N, int64_t K, const float *A, int64_t lda, const type *B,          \
                            int64_t ldb, float *C, int64_t ldc, bool add) {                                            \
        int64_t n = 0;                                                                                                 \
        for (; n + STORED_VECTORS * WIDTH <= N; n += STORED_VECTORS * WIDTH)                                           \
            name##_tile(rows, STORED_VECTORS, WIDTH, K, A, lda, B + n, ldb, C + n, ldc, add);                          \
        for (; n + 2 * WIDTH <= N; n += 2 * WIDTH)                                                                     \
            name##_tile(rows, 2, WIDTH, K, A, lda, B + n, ldb, C + n, ldc, add);                                       \
        for (; n + WIDTH <= N; n += WIDTH)                                                                             \
            name##_tile(rows, 1, WIDTH, K, A, lda, B + n, ldb, C + n, ldc, add);                                       \
        if (n < N)                                                                                                     \
            name##_tile(rows, 1, N - n, K, A, lda, B + n, ldb, C + n, ldc, add);                                       \
    }                                                                                                                  \
    static void name(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const type *B, int64_t ldb,         \
                     float *C, int64_t ldc, bool add) {                                                                \
        for (int64_t i = 0; i < M;) {                                                                                  \
            const float *a = A + i * lda;                                                                              \
            float *c = C + i * ldc;                                                                                    \
            if (M - i >= 4) {                                                                                          \
                name##_rows(4, N, K, a, lda, B, ldb, c, ldc, add);                                                     \
                i += 4;                                                                                                \
            } else if (M - i == 3) {                                                                                   \
                name##_rows(3, N, K, a, lda, B, ldb, c, ldc, add);                                                     \
                i += 3;                                                                                                \
            } else {                                                                                                   \
                name##_rows(1, N, K, a, lda, B, ldb, c, ldc, add);                                                     \
                i++;                                                                                                   \
            }                                                                                                          \
        }                                                                                                              \
    }
STORED_PRODUCT(matmul_nn_f16, uint16_t, v_load_f16, sgm_f16_widen)
STORED_PRODUCT(matmul_nn_int8, int8_t, v_load_int8, (float))

#define SIMD_ATTENTION_ENTRIES                                                                                         \
    .softmax_step = softmax_step, .softmax_step_backward = softmax_step_backward, .stick_step = stick_step,            \
    .stick_step_backward = stick_step_backward, .transpose = transpose, .f16_round = f16_round,                        \
    .f16_widen = f16_widen, .int8_round = sgm_ref_int8_round, .int8_widen = int8_widen,                                \
    .matmul_nn_f16 = matmul_nn_f16, .matmul_nn_int8 = matmul_nn_int8
