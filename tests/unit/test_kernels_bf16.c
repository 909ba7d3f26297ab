// SPDX-License-Identifier: Apache-2.0
/* Products in bf16, and by six products in bf16: every table that runs here against loops in f64, over operands rounded in this
 * test for the former, within docs/numerics.md; the order of sums, byte for byte; denormals, infinities, NaN; and nothing written
 * beside C. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "kernel/kernels.h"

#define EPS ((double)FLT_EPSILON) /* 2^-23 */
#define COUNT(a) (sizeof(a) / sizeof *(a))
#define GUARD 64

static uint64_t state = 88172645463325252u;
static float uniform(void) { /* -1 … 1 */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (float)((double)(state >> 11) * 0x1p-52 - 1.0);
}
/* n floats between two guards that must stay as they are. */
static float *numbers(int64_t n) {
    float *p = sgm_alloc((size_t)(n + 2 * GUARD) * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n + 2 * GUARD; i++)
        p[i] = i < GUARD || i >= n + GUARD ? -77.0F : uniform();
    return p + GUARD;
}
static void release(float *p, int64_t n) {
    for (int64_t i = 0; i < GUARD; i++)
        assert_true(p[i - GUARD] == -77.0F && p[n + i] == -77.0F);
    sgm_free(p - GUARD);
}
static float *copy_of(const float *from, int64_t n) {
    float *p = numbers(n);
    memcpy(p, from, (size_t)n * sizeof *p);
    return p;
}
static void same(const char *what, const float *a, const float *b, int64_t n) {
    if (n > 0 && memcmp(a, b, (size_t)n * sizeof *a) != 0)
        fail_msg("%s: bytes differ", what);
}

/* To bf16 by arithmetic, not by bits: eight significant bits, ties to even. Finite normal numbers only. */
static float rounded(float x) {
    int exponent;
    double fraction = frexp((double)x, &exponent) * 256;
    return (float)ldexp(nearbyint(fraction), exponent - 8);
}

static void each_table(void (*check)(const sgm_kernels *k)) {
    size_t run = 0;
    const sgm_kernels *k;
    for (size_t i = 0; (k = sgm_kernels_at(i)) != NULL; i++)
        if (k->usable()) {
            check(k);
            run++;
        }
    assert_true(run >= 1);
}
static bool flushes(const sgm_kernels *k) { /* has bf16 dot products */
    return k->bf16_group > 1;
}

typedef enum product { NT, NN, TN } product;
static const char *const product_names[] = {"matmul_nt", "matmul_nn", "matmul_tn"};
static bool six; /* which of the two precisions is tested */

static void multiply(const sgm_kernels *k, product p, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
                     const float *B, int64_t ldb, float *C, int64_t ldc, bool add) {
    if (six)
        (p == NT   ? k->matmul_nt_bf16x6
         : p == NN ? k->matmul_nn_bf16x6
                   : k->matmul_tn_bf16x6)(M, N, K, A, lda, B, ldb, C, ldc, add);
    else
        (p == NT   ? k->matmul_nt_bf16
         : p == NN ? k->matmul_nn_bf16
                   : k->matmul_tn_bf16)(M, N, K, A, lda, B, ldb, C, ldc, add);
}

static void check_product(const sgm_kernels *k, product p, int64_t M, int64_t N, int64_t K, int64_t pad, bool add) {
    int64_t lda = (p == TN ? M : K) + pad, ldb = (p == NT ? K : N) + pad, ldc = N + pad;
    int64_t a_size = (p == TN ? K : M) * lda, b_size = (p == NT ? N : K) * ldb, c_size = M * ldc;
    float *A = numbers(a_size), *B = numbers(b_size), *C = numbers(c_size), *before = copy_of(C, c_size);
    multiply(k, p, M, N, K, A, lda, B, ldb, C, ldc, add);
    for (int64_t i = 0; i < a_size && !six; i++)
        A[i] = rounded(A[i]);
    for (int64_t i = 0; i < b_size && !six; i++)
        B[i] = rounded(B[i]);
    for (int64_t i = 0; i < M; i++)
        for (int64_t n = 0; n < ldc; n++) {
            if (n >= N) { /* between the rows nothing is written */
                assert_true(C[i * ldc + n] == before[i * ldc + n]);
                continue;
            }
            float chain = add ? before[i * ldc + n] : 0;
            double sum = (double)chain, size = fabs(sum);
            for (int64_t q = 0; q < K; q++) {
                float a = p == TN ? A[q * lda + i] : A[i * lda + q], b = p == NT ? B[n * ldb + q] : B[q * ldb + n];
                sum += (double)a * (double)b;
                size += fabs((double)a * (double)b);
                chain += a * b;
            }
            double got = (double)C[i * ldc + n];
            if (!(fabs(got - sum) <= ((double)K + (six ? 8 : 1)) * EPS / 2 * size))
                fail_msg("%s %s%s %lldx%lldx%lld [%lld, %lld]: %.9g, not %.9g", k->name, product_names[p],
                         six ? "_bf16x6" : "_bf16", (long long)M, (long long)N, (long long)K, (long long)i,
                         (long long)n, got, sum);
            if (!flushes(k) && !six) /* k after k, the products exact: every table has the bytes of the reference */
                assert_true(C[i * ldc + n] == chain);
        }
    release(A, a_size), release(B, b_size), release(C, c_size), release(before, c_size);
}

static void products(const sgm_kernels *k) {
    static const int64_t sizes[][3] = {{1, 1, 1},       {1, 5, 3},     {2, 16, 16},   {3, 17, 31},    {5, 48, 33},
                                       {7, 64, 32},     {13, 33, 96},  {9, 97, 7},    {43, 96, 47},   {1, 200, 65},
                                       {50, 80, 1},     {49, 31, 300}, {6, 112, 513}, {97, 15, 19},   {4, 4, 0},
                                       {25, 1030, 270}, {3, 41, 530},  {2, 33, 300},  {0, 4, 4},      {4, 0, 4},
                                       {5, 96, 192},    {16, 144, 64}, {300, 37, 97}, {513, 64, 258}, {8, 65, 1025},
                                       {4, 192, 95},    {11, 79, 2},   {12, 95, 34},  {160, 112, 60}, {131, 144, 150},
                                       {160, 112, 0}}; /* the last three: gradients that are written past the caches */
    for (size_t s = 0; s < COUNT(sizes); s++)
        for (product p = NT; p <= TN; p++)
            for (int add = 0; add < 2; add++)
                check_product(k, p, sizes[s][0], sizes[s][1], sizes[s][2], add ? 3 : 0, add != 0);
    for (int64_t M = 1; M <= 17; M++) /* every height of a tile, every width of a panel with and without a tail */
        for (int64_t N = 1; N <= 96; N += 1 + (N % 16 == 1) * 13)
            check_product(k, (product)((M + N) % 3), M, N, 37, 1, M % 2 == 0);
}

/* A row alone, a column block alone and the whole have the same bytes; so have parts of K cut between groups. */
static void orders(const sgm_kernels *k) {
    enum { M = 53, N = 113, K = 291, SIZE = 300 * 300 };
    float *A = numbers(SIZE), *B = numbers(SIZE), *C = numbers(M * N), *R = numbers(M * N);
    for (product p = NT; p <= TN; p++) {
        int64_t lda = p == TN ? M : K, ldb = p == NT ? K : N, row = p == TN ? 1 : K, column = p == NT ? K : 1;
        multiply(k, p, M, N, K, A, lda, B, ldb, C, N, false);
        for (int64_t i = 0; i < M; i++) /* each row alone */
            multiply(k, p, 1, N, K, A + i * row, lda, B, ldb, R + i * N, N, false);
        same("row alone", C, R, M * N);
        memset(R, 0, sizeof *R * M * N);
        for (int64_t i = 0; i < M; i += 11) /* chunks of rows and of columns */
            for (int64_t n = 0; n < N; n += 29)
                multiply(k, p, M - i < 11 ? M - i : 11, N - n < 29 ? N - n : 29, K, A + i * row, lda, B + n * column,
                         ldb, R + i * N + n, N, false);
        same("tiles", C, R, M * N);
        if (six && p == NT && !flushes(k)) /* f32's own, which promises that for nn and tn alone */
            continue;
        for (int64_t step = k->bf16_group; step < K; step = step * 3 + 4 * k->bf16_group) {
            float *whole = copy_of(A, M * N), *parts = copy_of(A, M * N);
            multiply(k, p, M, N, K, A, lda, B, ldb, whole, N, true);
            for (int64_t q = 0; q < K; q += step)
                multiply(k, p, M, N, K - q < step ? K - q : step, A + q * (p == TN ? M : 1), lda,
                         B + q * (p == NT ? 1 : N), ldb, parts, N, true);
            same("K in parts", whole, parts, M * N);
            release(whole, M * N), release(parts, M * N);
        }
    }
    release(A, SIZE), release(B, SIZE), release(C, M * N), release(R, M * N);
}

/* One bad element reaches exactly the sums that use it, wherever in a pair it stands. */
static void special_values(const sgm_kernels *k) {
    enum { M = 9, N = 37, K = 41 };
    static const float values[] = {NAN, -NAN, INFINITY, -INFINITY, FLT_MAX, 0x1.FFp127F};
    static const float results[] = {NAN, NAN, INFINITY, -INFINITY, INFINITY, INFINITY}; /* the last two round up */
    for (product p = NT; p <= TN; p++)
        for (size_t v = 0; v < COUNT(values); v++)
            for (int64_t at = K - 3; at < K; at++) {
                float *A = numbers(M * K), *B = numbers(N * K), *C = numbers(M * N);
                int64_t lda = p == TN ? M : K, ldb = p == NT ? K : N, row = 4;
                A[p == TN ? at * M + row : row * K + at] = values[v];
                multiply(k, p, M, N, K, A, lda, B, ldb, C, N, false);
                for (int64_t i = 0; i < M * N; i++) {
                    float want = results[v] * rounded(p == NT ? B[i % N * K + at] : B[at * N + i % N]);
                    if (i / N != row)
                        assert_true(isfinite(C[i]));
                    else
                        assert_true(isnan(want) ? isnan(C[i]) : C[i] == want);
                }
                release(A, M * K), release(B, N * K), release(C, M * N);
            }
    uint32_t bits = 0x7F800001u; /* a NaN whose upper half alone would be an infinity */
    float nan, one = 1, c[1];
    memcpy(&nan, &bits, sizeof nan);
    for (product p = NT; p <= TN; p++) {
        multiply(k, p, 1, 1, 1, &nan, 1, &one, 1, c, 1, false);
        assert_true(isnan(c[0]));
        multiply(k, p, 1, 1, 1, &one, 1, &nan, 1, c, 1, false);
        assert_true(isnan(c[0]));
    }
}

/* Ties go to the even neighbour, everything else to the nearest: products with 1 show the rounding itself. */
static void rounding(const sgm_kernels *k) {
    static const float from[] = {0x1.01p0F,  0x1.03p0F, 0x1.010002p0F, 0x1.00FFFEp0F,
                                 -0x1.01p0F, 0x1.FFp3F, 0x1.FEFFFEp3F};
    static const float to[] = {0x1p0F, 0x1.04p0F, 0x1.02p0F, 0x1p0F, -0x1p0F, 0x1p4F, 0x1.FEp3F};
    const float one = 1;
    for (size_t i = 0; i < COUNT(from); i++)
        for (product p = NT; p <= TN; p++) {
            float c[2] = {5, 5};
            multiply(k, p, 1, 1, 1, from + i, 1, &one, 1, c, 1, false);
            multiply(k, p, 1, 1, 1, &one, 1, from + i, 1, c + 1, 1, false);
            assert_true(c[0] == to[i] && c[1] == to[i]);
        }
}

/* Kept by the reference; the dot product instruction takes denormals for zeros and makes zeros of them. */
static void denormals(const sgm_kernels *k) {
    static const float a[3][3] = {{0x1p-100F, 0x1p-132F, 0}, {0x1p-100F, 0x1p-100F, 0}, {0x1p-130F, 1, 0}};
    static const float b[3][3] = {{0x1p-30F, 1, 1}, {0x1p-30F, 0x1p20F, 1}, {0x1p100F, 0, 1}};
    static const float kept[3] = {0x1p-130F + 0x1p-132F, 0x1p-80F, 0x1p-30F}, flushed[3] = {0, 0x1p-80F, 0};
    for (size_t i = 0; i < COUNT(kept); i++)
        for (product p = NT; p <= TN; p++) {
            float c = 3;
            multiply(k, p, 1, 1, 3, a[i], p == TN ? 1 : 3, b[i], p == NT ? 3 : 1, &c, 1, false);
            assert_true(c == (flushes(k) ? flushed[i] : kept[i]));
        }
}

/* By six products: floats of any size and sign, also such as three parts hold only just, come back as they were; what is not
 * finite makes NaN of the sums that use it and of no other. */
static void six_exact(const sgm_kernels *k) {
    static const float from[] = {
        1, 0x1.FFFFFEp0F,   0x1.0101p0F,    -0x1.7F7F7Ep5F, 0x1.00FFFEp-30F, 0x1.FEFEFEp60F, 0x1.808080p-60F,
        0, 0x1.FDFFFEp126F, -0x1.000002p0F, 0x1.800001p1F};
    const float one = 1;
    for (size_t i = 0; i < COUNT(from); i++)
        for (product p = NT; p <= TN; p++) {
            float c[2] = {5, 5};
            multiply(k, p, 1, 1, 1, from + i, 1, &one, 1, c, 1, false);
            multiply(k, p, 1, 1, 1, &one, 1, from + i, 1, c + 1, 1, false);
            assert_true(c[0] == from[i] && c[1] == from[i]);
        }
}
static void six_special_values(const sgm_kernels *k) {
    enum { M = 9, N = 37, K = 41, ROW = 4 };
    static const float values[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (product p = NT; p <= TN; p++)
        for (size_t v = 0; v < COUNT(values); v++)
            for (int64_t at = K - 3; at < K; at++) {
                float *A = numbers(M * K), *B = numbers(N * K), *C = numbers(M * N);
                A[p == TN ? at * M + ROW : ROW * K + at] = values[v];
                multiply(k, p, M, N, K, A, p == TN ? M : K, B, p == NT ? K : N, C, N, false);
                for (int64_t i = 0; i < M * N; i++)
                    assert_true(i / N == ROW ? !isfinite(C[i]) : isfinite(C[i]));
                release(A, M * K), release(B, N * K), release(C, M * N);
            }
    uint32_t bits[] = {0x7F800001u, 0x7FFFFFFFu, 0xFFFF8000u}; /* NaNs that rounding would make something else */
    for (size_t i = 0; i < COUNT(bits); i++)
        for (product p = NT; p <= TN; p++) {
            float nan, one = 1, c[2];
            memcpy(&nan, &bits[i], sizeof nan);
            multiply(k, p, 1, 1, 1, &nan, 1, &one, 1, c, 1, false);
            multiply(k, p, 1, 1, 1, &one, 1, &nan, 1, c + 1, 1, false);
            assert_true(isnan(c[0]) && isnan(c[1]));
        }
}

/* B rounded before: the bytes of rounding it on the way, for numbers of every kind, and nothing read or written beside. */
static void check_rounded(const sgm_kernels *k, product p, int64_t M, int64_t N, int64_t K, int64_t pad, bool add) {
    static const uint32_t odd[] = {0x7F800001u, 0xFFC00000u, 0x7F800000u, 0xFF800000u, 0x007FFFFFu, 0x00800000u,
                                   0x80400000u, 0x00000001u, 0x7F7FFFFFu, 0x3F808000u, 0x3F818000u, 0x80000000u};
    int64_t ldb = (p == NT ? K : N) + pad, b_size = (p == NT ? N : K) * ldb, ldc = N + pad;
    float *A = numbers(M * K), *B = numbers(b_size), *C = numbers(M * ldc), *R = copy_of(C, M * ldc);
    for (int64_t i = 0; i < b_size; i += 1 + (int64_t)(state % 97), (void)uniform())
        memcpy(&B[i], &odd[state % COUNT(odd)], sizeof *B);
    for (int64_t at = 0; at < 5; at += 1 + at) { /* places of all alignments */
        uint16_t *rounded = sgm_alloc((size_t)(b_size + 2 * GUARD) * sizeof *rounded), *b = rounded + GUARD - at;
        memset(rounded, 0x5A, (size_t)(b_size + 2 * GUARD) * sizeof *rounded);
        k->bf16_round(b_size, B, b);
        for (int64_t i = 0; i < b_size + 2 * GUARD; i++)
            assert_true((rounded + i >= b && rounded + i < b + b_size) || rounded[i] == 0x5A5A);
        memcpy(C, R, (size_t)(M * ldc) * sizeof *C);
        (p == NT ? k->matmul_nt_rounded : k->matmul_nn_rounded)(M, N, K, A, K, b, ldb, C, ldc, add);
        float *want = copy_of(R, M * ldc);
        multiply(k, p, M, N, K, A, K, B, ldb, want, ldc, add);
        same(product_names[p], want, C, M * ldc);
        release(want, M * ldc);
        sgm_free(rounded);
    }
    release(A, M * K), release(B, b_size), release(C, M * ldc), release(R, M * ldc);
}
static void rounded_before(const sgm_kernels *k) {
    static const int64_t sizes[][3] = {{1, 1, 1},     {1, 5, 3},     {3, 17, 31},   {7, 64, 32},
                                       {13, 33, 96},  {9, 97, 7},    {4, 4, 0},     {25, 530, 270},
                                       {3, 41, 530},  {2, 33, 300},  {0, 4, 4},     {4, 0, 4},
                                       {16, 144, 64}, {300, 37, 97}, {8, 65, 1025}, {64, 256, 512}};
    assert_true((k->matmul_nt_rounded != NULL) == (k->bf16_round != NULL));
    assert_true((k->matmul_nn_rounded != NULL) == (k->bf16_round != NULL));
    for (size_t s = 0; k->bf16_round && s < COUNT(sizes); s++)
        for (product p = NT; p <= NN; p++)
            for (int add = 0; add < 2; add++)
                check_rounded(k, p, sizes[s][0], sizes[s][1], sizes[s][2], add ? 3 : 0, add != 0);
}

static void test_products(void **unused) {
    (void)unused;
    for (int i = 0; i < 2; i++) {
        six = i == 1;
        each_table(products);
    }
    six = false;
}
static void test_orders(void **unused) {
    (void)unused;
    for (int i = 0; i < 2; i++) {
        six = i == 1;
        each_table(orders);
    }
    six = false;
}
static void test_six(void **unused) {
    (void)unused;
    six = true;
    each_table(six_exact);
    each_table(six_special_values);
    six = false;
}
static void test_special_values(void **unused) {
    (void)unused;
    each_table(special_values);
}
static void test_rounding(void **unused) {
    (void)unused;
    each_table(rounding);
}
static void test_rounded_before(void **unused) {
    (void)unused;
    each_table(rounded_before);
}
static void test_denormals(void **unused) {
    (void)unused;
    each_table(denormals);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),       cmocka_unit_test(test_orders),    cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_rounding),       cmocka_unit_test(test_denormals), cmocka_unit_test(test_six),
        cmocka_unit_test(test_rounded_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
