// SPDX-License-Identifier: Apache-2.0
/* Products in bf16 for tables without bf16 instructions; included after simd_matmul.h. Both operands are rounded on the way
 * into packed blocks of f32, which the tiles of simd_matmul.h multiply: k = 0, 1, 2, … fused, nothing flushed, hence the
 * bytes of the reference (a product of two bf16 numbers is exact in f32). They stand in for the real thing and are somewhat
 * slower than the f32 products. */

/* (rows, cols) of a packed block, whole vectors, rounded where they lie. */
static void round_block(float *packed, int64_t rows, int64_t cols, int64_t stride) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c += WIDTH)
            v_store(packed + r * stride + c, v_round_bf16(v_load(packed + r * stride + c)));
}

typedef enum bf16_kind { BF16_NT, BF16_NN, BF16_TN } bf16_kind;

static void multiply_bf16(bf16_kind kind, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B,
                          int64_t ldb, float *C, int64_t ldc, bool add) {
    _Alignas(64) float left[BLOCK_ROWS * DEPTH], right[DEPTH * PANEL];
    if (nothing_to_sum(M, N, K, C, ldc, add))
        return;
    for (int64_t n = 0; n < N;) {
        const int64_t width = panel_width(N - n), padded = (width + WIDTH - 1) / WIDTH * WIDTH;
        for (int64_t k = 0; k < K; k += DEPTH) {
            const int64_t depth = K - k < DEPTH ? K - k : DEPTH;
            if (kind == BF16_NT)
                pack_transposed(width, depth, B + n * ldb + k, ldb, k + depth < K ? depth : width * ldb - k, right);
            else
                pack_straight(width, depth, B + k * ldb + n, ldb, right);
            round_block(right, depth, padded, PANEL);
            for (int64_t i = 0; i < M; i += BLOCK_ROWS) {
                const int64_t rows = M - i < BLOCK_ROWS ? M - i : BLOCK_ROWS;
                operands o = {left, DEPTH, 1, right, PANEL, C + i * ldc + n, ldc, depth, add || k > 0, false};
                if (kind == BF16_TN) { /* element (i, k) at k · BLOCK_ROWS + i */
                    pack_rows(rows, depth, A + k * lda + i, lda, BLOCK_ROWS, left);
                    round_block(left, depth, (rows + WIDTH - 1) / WIDTH * WIDTH, BLOCK_ROWS);
                    o.row = 1, o.step = BLOCK_ROWS;
                } else {
                    pack_rows(depth, rows, A + i * lda + k, lda, DEPTH, left);
                    round_block(left, rows, (depth + WIDTH - 1) / WIDTH * WIDTH, DEPTH);
                }
                columns(&o, rows, width);
            }
        }
        n += width;
    }
}

static void matmul_nt_bf16(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                           float *C, int64_t ldc, bool add) {
    multiply_bf16(BF16_NT, M, N, K, A, lda, B, ldb, C, ldc, add);
}

static void matmul_nn_bf16(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                           float *C, int64_t ldc, bool add) {
    multiply_bf16(BF16_NN, M, N, K, A, lda, B, ldb, C, ldc, add);
}

static void matmul_tn_bf16(int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                           float *C, int64_t ldc, bool add) {
    multiply_bf16(BF16_TN, M, N, K, A, lda, B, ldb, C, ldc, add);
}

#define SIMD_BF16_ENTRIES                                                                                              \
    .matmul_nt_bf16 = matmul_nt_bf16, .matmul_nn_bf16 = matmul_nn_bf16, .matmul_tn_bf16 = matmul_tn_bf16
