// SPDX-License-Identifier: Apache-2.0
/* Products with weights stored as f16, bf16 or f32, for any vector width: c = fma(a_k, b_k, c), k = 0, 1, 2, …, the bytes of
 * the reference. Included after ivec_<table>.h and simd_matmul.h.
 *
 * Two 16-bit weights are one lane, so the same transpose as for blocks (iv_quads) brings 8 k of WIDTH rows of B into
 * registers. A few rows of A use them at once; for more, panels are widened to f32 into a packed block that the tiles of
 * simd_matmul.h multiply. f32 is matmul_nt. For bf16 A is rounded to bf16 first. */

#define PIECE 8      /* k of a 16-byte piece of a row */
#define FEW_STORED 4 /* rows of A that use B without a packed block */
#define ROUNDED 4096 /* k of A rounded at once for them */

/* 8 k of WIDTH rows: out[k] has a row a lane. */
INLINE void stored_piece(const sgm_type type, const uint8_t *at, size_t stride, vec out[PIECE]) {
    ivec pairs[4];
    iv_quads(at, stride, pairs);
    UNROLL
    for (int p = 0; p < 4; p++) {
        if (type == SGM_TYPE_F16) {
            out[2 * p] = v_of_low_half(pairs[p]);
            out[2 * p + 1] = v_of_high_half(pairs[p]);
        } else {
            out[2 * p] = v_of_bits(iv_left(pairs[p], 16));
            out[2 * p + 1] = v_of_bits(iv_and(pairs[p], iv_set((int32_t)0xFFFF0000)));
        }
    }
}

/* `rows` rows at `from`, `k` elements of each: the rest zeros. Never reads beyond them. */
static void copy_piece(int64_t rows, int64_t k, const uint8_t *from, size_t stride, uint8_t copy[WIDTH * 16]) {
    memset(copy, 0, WIDTH * 16);
    for (int64_t r = 0; r < rows && r < WIDTH; r++)
        memcpy(copy + r * 16, from + (size_t)r * stride, (size_t)(k < PIECE ? k : PIECE) * 2);
}

INLINE void few_stored(const sgm_type type, const int rows, int64_t N, int64_t K, const float *A, int64_t lda,
                       const uint8_t *B, size_t stride, float *C, int64_t ldc, bool add) {
    uint8_t copy[WIDTH * 16];
    for (int64_t n = 0; n < N; n += WIDTH) {
        const vmask mask = v_mask(N - n < WIDTH ? N - n : WIDTH);
        const uint8_t *from = B + (size_t)n * stride, *next = n + WIDTH < N ? from + WIDTH * stride : from;
        vec sum[FEW_STORED];
        UNROLL
        for (int i = 0; i < rows; i++)
            sum[i] = add ? v_load_tail(C + i * ldc + n, mask) : v_set(0);
        for (int64_t k = 0; k < K; k += PIECE) {
            vec b[PIECE];
            if (n + WIDTH <= N && k + PIECE <= K) {
                for (int line = 0; line < WIDTH / 4; line++) /* the next panel, in the order in which it lies */
                    __builtin_prefetch(next + 2 * WIDTH * k + 64 * line, 0, 2);
                stored_piece(type, from + 2 * k, stride, b);
                UNROLL
                for (int q = 0; q < PIECE; q++)
                    UNROLL
                for (int i = 0; i < rows; i++)
                    sum[i] = v_fma(v_set(A[i * lda + k + q]), b[q], sum[i]);
                continue;
            }
            copy_piece(N - n, K - k, from + 2 * k, stride, copy);
            stored_piece(type, copy, 16, b);
            UNROLL
            for (int q = 0; q < PIECE; q++)
                for (int i = 0; i < rows && k + q < K; i++)
                    sum[i] = v_fma(v_set(A[i * lda + k + q]), b[q], sum[i]);
        }
        UNROLL
        for (int i = 0; i < rows; i++)
            v_store_tail(C + i * ldc + n, mask, sum[i]);
    }
}

/* packed (depth, PANEL) = the transpose of `count` rows of B in f32, rounded up to whole vectors with zeros. */
INLINE void pack_stored(const sgm_type type, int64_t count, int64_t depth, const uint8_t *B, size_t stride,
                        float *packed) {
    uint8_t copy[WIDTH * 16];
    for (int64_t n = 0; n < count; n += WIDTH)
        for (int64_t k = 0; k < depth; k += PIECE) {
            const uint8_t *from = B + (size_t)n * stride + 2 * k;
            vec b[PIECE];
            if (n + WIDTH <= count && k + PIECE <= depth)
                stored_piece(type, from, stride, b);
            else {
                copy_piece(count - n, depth - k, from, stride, copy);
                stored_piece(type, copy, 16, b);
            }
            UNROLL
            for (int q = 0; q < PIECE; q++)
                v_store(packed + (k + q) * PANEL + n, b[q]);
        }
}

INLINE void many_stored(const sgm_type type, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
                        const uint8_t *B, size_t stride, float *C, int64_t ldc, bool add) {
    _Alignas(64) float left[BLOCK_ROWS * DEPTH], right[DEPTH * PANEL];
    for (int64_t n = 0; n < N;) {
        const int64_t width = panel_width(N - n);
        for (int64_t k = 0; k < K; k += DEPTH) {
            const int64_t depth = K - k < DEPTH ? K - k : DEPTH;
            pack_stored(type, width, depth, B + (size_t)n * stride + 2 * k, stride, right);
            if (type == SGM_TYPE_F16) {
                const operands o = {A + k, lda, 1, right, PANEL, C + n, ldc, depth, add || k > 0, false};
                columns(&o, M, width);
                continue;
            }
            for (int64_t i = 0; i < M; i += BLOCK_ROWS) {
                const int64_t rows = M - i < BLOCK_ROWS ? M - i : BLOCK_ROWS;
                const operands o = {left, DEPTH, 1, right, PANEL, C + i * ldc + n, ldc, depth, add || k > 0, false};
                pack_rows(depth, rows, A + i * lda + k, lda, DEPTH, left);
                for (int64_t r = 0; r < rows * DEPTH; r += WIDTH)
                    v_store(left + r, v_round_bf16(v_load(left + r)));
                columns(&o, rows, width);
            }
        }
        n += width;
    }
}

INLINE void few_stored_of(const sgm_type type, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
                          const uint8_t *B, size_t stride, float *C, int64_t ldc, bool add) {
    switch (M) {
    case 1:
        few_stored(type, 1, N, K, A, lda, B, stride, C, ldc, add);
        break;
    case 2:
        few_stored(type, 2, N, K, A, lda, B, stride, C, ldc, add);
        break;
    case 3:
        few_stored(type, 3, N, K, A, lda, B, stride, C, ldc, add);
        break;
    default:
        few_stored(type, 4, N, K, A, lda, B, stride, C, ldc, add);
    }
}

static void matmul_f16(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const void *B, size_t stride,
                       float *C, int64_t ldc, bool add) {
    if (M <= FEW_STORED)
        few_stored_of(SGM_TYPE_F16, M, N, K, A, lda, B, stride, C, ldc, add);
    else
        many_stored(SGM_TYPE_F16, M, N, K, A, lda, B, stride, C, ldc, add);
}

#ifndef MATMUL_STORED_BF16 /* a table with bf16 dot products has its own */
#define MATMUL_STORED_BF16 matmul_bf16
static void matmul_bf16(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const void *B, size_t stride,
                        float *C, int64_t ldc, bool add) {
    float rounded[FEW_STORED * ROUNDED];
    if (M > FEW_STORED) {
        many_stored(SGM_TYPE_BF16, M, N, K, A, lda, B, stride, C, ldc, add);
        return;
    }
    for (int64_t k = 0; k < K; k += ROUNDED) {
        const int64_t depth = K - k < ROUNDED ? K - k : ROUNDED;
        for (int64_t i = 0; i < M; i++)
            for (int64_t q = 0; q < depth; q++)
                rounded[i * ROUNDED + q] = sgm_bf16_widen(sgm_bf16_round(A[i * lda + k + q]));
        few_stored_of(SGM_TYPE_BF16, M, N, depth, rounded, ROUNDED, (const uint8_t *)B + 2 * k, stride, C, ldc,
                      add || k > 0);
    }
}
#endif

static void matmul_f32(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const void *B, size_t stride,
                       float *C, int64_t ldc, bool add) {
    matmul_nt(M, N, K, A, lda, B, (int64_t)(stride / sizeof(float)), C, ldc, add);
}
