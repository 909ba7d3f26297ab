// SPDX-License-Identifier: Apache-2.0
/* Kernels: every entry of every table that runs here, the reference included, against loops in f64 and libm written for
 * this test, within docs/numerics.md; and the rules about the order of sums, byte for byte. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/elementary.h"
#include "base/memory.h"
#include "kernel/kernels.h"

#define EPS ((double)FLT_EPSILON) /* 2^-23 */
#define COUNT(a) (sizeof(a) / sizeof *(a))

static uint64_t state = 88172645463325252u;
static float uniform(void) { /* -1 … 1 */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (float)((double)(state >> 11) * 0x1p-52 - 1.0);
}
/* n floats with a guard behind them that must stay as it is. */
static float *numbers(int64_t n) {
    float *p = sgm_alloc((size_t)(n + 16) * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++)
        p[i] = uniform();
    for (int64_t i = n; i < n + 16; i++)
        p[i] = -77.0F;
    return p;
}
static void release(float *p, int64_t n) {
    for (int64_t i = n; i < n + 16; i++)
        assert_true(p[i] == -77.0F);
    sgm_free(p);
}
static float *copy_of(const float *from, int64_t n) {
    float *p = numbers(n);
    memcpy(p, from, (size_t)n * sizeof *p);
    return p;
}
static void near(const char *what, int64_t at, double got, double want, double allowed) {
    if (isnan(want) ? isnan(got) : got == want)
        return;
    if (!(fabs(got - want) <= allowed))
        fail_msg("%s [%lld]: %.9g, not %.9g +- %.2g", what, (long long)at, got, want, allowed);
}
static void same(const char *what, const float *a, const float *b, int64_t n) {
    if (n > 0 && memcmp(a, b, (size_t)n * sizeof *a) != 0)
        fail_msg("%s: bytes differ", what);
}

/* Run `check` for every table that is usable here. */
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

/* ---- matrix products ---- */

typedef enum product { NT, NN, TN } product;
static const char *const product_names[] = {"matmul_nt", "matmul_nn", "matmul_tn"};

static void multiply(const sgm_kernels *k, product p, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
                     const float *B, int64_t ldb, float *C, int64_t ldc, bool add) {
    (p == NT ? k->matmul_nt : p == NN ? k->matmul_nn : k->matmul_tn)(M, N, K, A, lda, B, ldb, C, ldc, add);
}

static void check_product(const sgm_kernels *k, product p, int64_t M, int64_t N, int64_t K, int64_t pad, bool add) {
    int64_t lda = (p == TN ? M : K) + pad, ldb = (p == NT ? K : N) + pad, ldc = N + pad;
    int64_t a_size = (p == TN ? K : M) * lda, b_size = (p == NT ? N : K) * ldb, c_size = M * ldc;
    float *A = numbers(a_size), *B = numbers(b_size), *C = numbers(c_size), *before = copy_of(C, c_size);
    multiply(k, p, M, N, K, A, lda, B, ldb, C, ldc, add);
    for (int64_t i = 0; i < M; i++)
        for (int64_t n = 0; n < ldc; n++) {
            double start = (double)before[i * ldc + n];
            if (n >= N) { /* between the rows nothing is written */
                assert_true(C[i * ldc + n] == before[i * ldc + n]);
                continue;
            }
            double sum = add ? start : 0, size = fabs(sum);
            float chain = add ? before[i * ldc + n] : 0;
            for (int64_t q = 0; q < K; q++) {
                float a = p == TN ? A[q * lda + i] : A[i * lda + q], b = p == NT ? B[n * ldb + q] : B[q * ldb + n];
                sum += (double)a * (double)b;
                size += fabs((double)a * (double)b);
                chain = fmaf(a, b, chain);
            }
            near(product_names[p], i * ldc + n, (double)C[i * ldc + n], sum, ((double)K + 1) * EPS / 2 * size);
            if (strcmp(k->name, "ref") != 0) /* the vector tables promise this very chain */
                assert_true(C[i * ldc + n] == chain);
        }
    release(A, a_size), release(B, b_size), release(C, c_size), release(before, c_size);
}

static void products(const sgm_kernels *k) {
    static const int64_t sizes[][3] = {{1, 1, 1},       {1, 5, 3},     {2, 16, 16},   {3, 17, 31},  {5, 48, 33},
                                       {7, 64, 32},     {13, 33, 96},  {9, 97, 7},    {43, 96, 47}, {1, 200, 65},
                                       {50, 80, 1},     {49, 31, 300}, {6, 112, 513}, {97, 15, 19}, {4, 4, 0},
                                       {25, 1030, 270}, {3, 41, 530},  {2, 33, 300},  {0, 4, 4},    {4, 0, 4}};
    for (size_t s = 0; s < COUNT(sizes); s++)
        for (product p = NT; p <= TN; p++)
            for (int add = 0; add < 2; add++)
                check_product(k, p, sizes[s][0], sizes[s][1], sizes[s][2], add ? 3 : 0, add != 0);
}

/* A row alone, a column block alone and the whole have the same bytes; K in pieces is K in one call for TN. */
static void orders(const sgm_kernels *k) {
    enum { M = 53, N = 113, K = 290, SIZE = 300 * 300 };
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
    }
    for (int64_t step = 1; step < K; step = step * 3 + 4) {
        float *whole = copy_of(A, M * N), *parts = copy_of(A, M * N);
        k->matmul_tn(M, N, K, A, M, B, N, whole, N, true);
        for (int64_t q = 0; q < K; q += step)
            k->matmul_tn(M, N, K - q < step ? K - q : step, A + q * M, M, B + q * N, N, parts, N, true);
        same("K in parts", whole, parts, M * N);
        release(whole, M * N), release(parts, M * N);
    }
    release(A, SIZE), release(B, SIZE), release(C, M * N), release(R, M * N);
}

/* One bad or tiny element reaches exactly the sums that use it. */
static void special_values(const sgm_kernels *k) {
    enum { M = 9, N = 37, K = 41 };
    static const float values[] = {NAN, INFINITY, -INFINITY};
    for (product p = NT; p <= TN; p++)
        for (size_t v = 0; v < COUNT(values); v++) {
            float *A = numbers(M * K), *B = numbers(N * K), *C = numbers(M * N);
            int64_t lda = p == TN ? M : K, ldb = p == NT ? K : N, row = 4, at = K - 1;
            A[p == TN ? at * M + row : row * K + at] = values[v];
            multiply(k, p, M, N, K, A, lda, B, ldb, C, N, false);
            for (int64_t i = 0; i < M * N; i++) {
                float b = p == NT ? B[i % N * K + at] : B[at * N + i % N];
                double want = (double)(values[v] * b);
                if (i / N == row)
                    near("special value", i, (double)C[i], want, 0);
                else
                    assert_true(isfinite(C[i]));
            }
            release(A, M * K), release(B, N * K), release(C, M * N);
        }
    float a[3] = {0x1p-100F, 0x1p-140F, 0}, b[3] = {0x1p-40F, 1, 1}, c[1]; /* denormals are kept */
    k->matmul_nt(1, 1, 3, a, 3, b, 3, c, 1, false);
    assert_true(c[0] == 0x1p-139F);
    k->matmul_nn(1, 1, 3, a, 3, b, 1, c, 1, false);
    assert_true(c[0] == 0x1p-139F);
    k->matmul_tn(1, 1, 3, a, 1, b, 1, c, 1, false);
    assert_true(c[0] == 0x1p-139F);
    float tiny[2] = {0x1p-149F, 0x1p-130F};
    k->scale(2, 3, tiny, tiny);
    assert_true(tiny[0] == 3 * 0x1p-149F && tiny[1] == 3 * 0x1p-130F);
}

/* ---- rows and vectors ---- */

static const int64_t lengths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 96, 127, 192, 257, 1000};

static void vectors(const sgm_kernels *k) {
    for (size_t l = 0; l < COUNT(lengths); l++) {
        int64_t n = lengths[l];
        float *x = numbers(n), *y = numbers(n), *z = copy_of(y, n);
        double sum = 0, size = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) {
            sum += (double)x[i] * (double)y[i];
            size += fabs((double)x[i] * (double)y[i]);
            squares += (double)x[i] * (double)x[i];
        }
        near("dot", n, (double)k->dot(n, x, y), sum, ((double)n + 1) * EPS / 2 * size);
        near("sum_squares", n, k->sum_squares(n, x), squares, 1e-14 * squares);
        k->axpy(n, 0.3F, x, z);
        for (int64_t i = 0; i < n; i++)
            near("axpy", i, (double)z[i], (double)y[i] + (double)0.3F * (double)x[i], EPS);
        k->scale(n, 0.3F, x, z);
        for (int64_t i = 0; i < n; i++)
            assert_true(z[i] == 0.3F * x[i]);
        k->scale(n, 0.3F, x, x);
        same("scale in place", x, z, n);
        release(x, n), release(y, n), release(z, n);
    }
    assert_true(k->dot(0, NULL, NULL) == 0 && k->sum_squares(0, NULL) == 0);
    float big[3] = {1e30F, -1e30F, 0x1p-149F}; /* f64: neither overflow nor loss */
    near("sum_squares", 0, k->sum_squares(3, big), 2e60, 1e54);
    near("sum_squares", 1, k->sum_squares(1, big + 2), 0x1p-298, 0);
}

static void largest(const sgm_kernels *k) {
    assert_true(k->max(0, NULL) == -INFINITY);
    for (size_t l = 0; l < COUNT(lengths); l++) {
        int64_t n = lengths[l];
        float *x = numbers(n);
        for (int64_t i = 0; i < n; i++)
            x[i] -= 5;
        for (int64_t at = 0; at < n; at += 1 + n / 40) {
            float old = x[at];
            x[at] = -3.5F;
            assert_true(k->max(n, x) == -3.5F);
            x[at] = NAN;
            assert_true(isnan(k->max(n, x)));
            x[at] = INFINITY;
            assert_true(k->max(n, x) == INFINITY);
            x[at] = old;
        }
        for (int64_t i = 0; i < n; i++)
            x[i] = -INFINITY;
        assert_true(k->max(n, x) == -INFINITY);
        release(x, n);
    }
}

static void exponentials(const sgm_kernels *k) {
    enum { N = 4099 };
    float *x = numbers(N), *y = numbers(N), *z = numbers(N);
    for (int64_t i = 0; i < N; i++)
        x[i] *= 100;
    x[0] = -INFINITY, x[1] = INFINITY, x[2] = NAN, x[3] = 0, x[4] = -3e38F, x[5] = 3e38F, x[6] = 88.7F, x[7] = -87.4F;
    k->exp_sum(N, x, 1, 0, y);
    assert_true(y[0] == 0 && y[1] == INFINITY && isnan(y[2]) && y[3] == 1 && y[4] == 0 && y[5] == INFINITY);
    for (int64_t i = 6; i < N; i++) {
        double want = exp((double)x[i]);
        near("exp", i, (double)y[i], want > FLT_MAX ? INFINITY : want, 2 * EPS * want + 0x1p-149);
    }
    for (int64_t n = 1; n < 70; n++) { /* not a byte depends on the place or the length */
        memset(z, 0, sizeof *z * N);
        k->exp_sum(n, x + 100 - n, 1, 0, z);
        same("exp elsewhere", z, y + 100 - n, n);
    }
    for (size_t l = 0; l < COUNT(lengths); l++) {
        int64_t n = lengths[l];
        double sum = 0;
        float got = k->exp_sum(n, x + 8, 0.02F, 1.5F, y);
        for (int64_t i = 0; i < n; i++) {
            double want = exp((double)0.02F * (double)x[8 + i] - 1.5);
            near("exp_sum element", i, (double)y[i], want, 8 * EPS * want);
            sum += want;
        }
        near("exp_sum", n, (double)got, sum, (8 + (double)n / 8) * EPS * sum);
        memcpy(z, x + 8, sizeof *z * (size_t)n);
        assert_true(k->exp_sum(n, z, 0.02F, 1.5F, z) == got);
        same("exp_sum in place", z, y, n);
    }
    assert_true(k->exp_sum(0, NULL, 1, 0, NULL) == 0);
    release(x, N), release(y, N), release(z, N);
}

static void softmaxes(const sgm_kernels *k) {
    for (size_t l = 0; l < COUNT(lengths); l++) {
        int64_t n = lengths[l], ld = n + 3;
        float *x = numbers(4 * ld), *y = copy_of(x, 4 * ld);
        for (int64_t i = 0; i < ld; i++) {
            x[i] *= 40;
            x[ld + i] = x[ld + i] * 10 + 1e4F;        /* only differences count */
            x[2 * ld + i] = i % 3 ? -INFINITY : x[i]; /* masked scores weigh nothing */
        }
        k->softmax(4, n, x, ld, y, ld);
        for (int64_t r = 0; r < 4; r++) {
            double most = -INFINITY, sum = 0;
            for (int64_t i = 0; i < n; i++)
                most = (double)x[r * ld + i] > most ? (double)x[r * ld + i] : most; /* fmax crashes gcc 12 for arm64 */
            for (int64_t i = 0; i < n; i++)
                sum += exp((double)x[r * ld + i] - most);
            for (int64_t i = 0; i < n; i++) {
                double want = exp((double)x[r * ld + i] - most) / sum;
                near("softmax", i, (double)y[r * ld + i], want, (64 + (double)n / 8) * EPS * want + 0x1p-148);
            }
        }
        float *one = copy_of(x + ld, n);
        k->softmax(1, n, one, n, one, n);
        same("softmax of a row alone, in place", one, y + ld, n);
        x[n - 1] = NAN;
        k->softmax(1, n, x, ld, y, ld);
        for (int64_t i = 0; i < n; i++)
            assert_true(isnan(y[i]));
        release(x, 4 * ld), release(y, 4 * ld), release(one, n);
    }
}

static void norms(const sgm_kernels *k) {
    for (size_t l = 0; l < COUNT(lengths); l++) {
        int64_t n = lengths[l], rows = 5, ld = n + 2;
        float *x = numbers(rows * ld), *gain = numbers(n), *y = numbers(rows * ld), *inv = numbers(rows);
        float *dy = numbers(rows * ld), *dx = numbers(rows * ld), *old = copy_of(dx, rows * ld);
        float *dgain = numbers(n), *before = copy_of(dgain, n), *again = copy_of(dgain, n);
        k->rms_norm(rows, n, x, ld, gain, 1e-5, y, ld, inv);
        k->rms_norm_backward(rows, n, x, ld, gain, inv, dy, ld, dx, ld, true);
        k->rms_norm_gain(rows, n, x, ld, inv, dy, ld, dgain);
        double slack = (8 + (double)n / 8) * EPS;
        for (int64_t r = 0; r < rows; r++) {
            const float *in = x + r * ld, *up = dy + r * ld;
            double squares = 0, mean = 0, size = 0;
            for (int64_t i = 0; i < n; i++) {
                squares += (double)in[i] * (double)in[i];
                mean += (double)up[i] * (double)gain[i] * (double)in[i] / (double)n;
                size += fabs((double)up[i] * (double)gain[i] * (double)in[i]) / (double)n;
            }
            double f = 1 / sqrt(squares / (double)n + 1e-5);
            near("inv", r, (double)inv[r], f, slack * f);
            for (int64_t i = 0; i < n; i++) {
                double want = (double)in[i] * f * (double)gain[i];
                near("rms_norm", i, (double)y[r * ld + i], want, slack * fabs(want));
                double g = (double)up[i] * (double)gain[i], drop = (double)in[i] * f * f;
                near("rms_norm_backward", i, (double)dx[r * ld + i], (double)old[r * ld + i] + f * (g - drop * mean),
                     slack * (1 + f * (fabs(g) + 3 * fabs(drop) * size)));
            }
            assert_true(dx[r * ld + n] == old[r * ld + n]);
        }
        for (int64_t i = 0; i < n; i++) {
            double want = (double)before[i], size = 1;
            for (int64_t r = 0; r < rows; r++) {
                want += (double)dy[r * ld + i] * (double)x[r * ld + i] * (double)inv[r];
                size += fabs((double)dy[r * ld + i] * (double)x[r * ld + i] * (double)inv[r]);
            }
            near("rms_norm_gain", i, (double)dgain[i], want, 8 * EPS * size);
        }
        /* rows alone, columns alone, dx without add, inv not wanted */
        for (int64_t r = 0; r < rows; r++)
            k->rms_norm_gain(1, n, x + r * ld, ld, inv + r, dy + r * ld, ld, again);
        same("gain, row by row", dgain, again, n);
        memcpy(again, before, sizeof *again * (size_t)n);
        for (int64_t i = 0; i < n; i += 5)
            k->rms_norm_gain(rows, n - i < 5 ? n - i : 5, x + i, ld, inv, dy + i, ld, again + i);
        same("gain, columns apart", dgain, again, n);
        k->rms_norm(1, n, x + ld, ld, gain, 1e-5, again, n, NULL);
        same("rms_norm of a row alone", again, y + ld, n);
        k->rms_norm_backward(1, n, x, ld, gain, inv, dy, ld, again, n, false);
        for (int64_t i = 0; i < n; i++)
            near("rms_norm_backward without add", i, (double)again[i] + (double)old[i], (double)dx[i], 1e-5);
        release(x, rows * ld), release(gain, n), release(y, rows * ld), release(inv, rows), release(dy, rows * ld);
        release(dx, rows * ld), release(old, rows * ld), release(dgain, n), release(before, n), release(again, n);
    }
}

static void swiglus(const sgm_kernels *k) {
    for (size_t l = 0; l < COUNT(lengths); l++) {
        int64_t n = lengths[l];
        float *gate = numbers(n), *up = numbers(n), *h = numbers(n), *dh = numbers(n), *dg = numbers(n),
              *du = numbers(n);
        for (int64_t i = 0; i < n; i++)
            gate[i] *= 20;
        k->swiglu(n, gate, up, h);
        k->swiglu_backward(n, gate, up, dh, dg, du);
        for (int64_t i = 0; i < n; i++) {
            double g = (double)gate[i], u = (double)up[i], d = (double)dh[i], s = 1 / (1 + exp(-g));
            near("swiglu", i, (double)h[i], g * s * u, 8 * EPS * fabs(g * s * u));
            near("dgate", i, (double)dg[i], d * u * (s + g * s * (1 - s)), 8 * EPS * fabs(d * u * s) * (1 + fabs(g)));
            near("dup", i, (double)du[i], d * g * s, 8 * EPS * fabs(d * g * s));
        }
        k->swiglu_backward(n, gate, up, dh, gate, up);
        same("swiglu_backward in place", gate, dg, n);
        same("swiglu_backward in place", up, du, n);
        release(gate, n), release(up, n), release(h, n), release(dh, n), release(dg, n), release(du, n);
    }
    float far[4] = {-200, 200, 0, NAN}, one[4] = {1, 1, 1, 1}, out[4];
    k->swiglu(4, far, one, out);
    assert_true(out[0] == 0 && out[1] == 200 && out[2] == 0 && isnan(out[3]));
}

static void optimizers(const sgm_kernels *k) {
    sgm_adamw_step step = {.learning_rate = 3e-3,
                           .beta1 = 0.9,
                           .beta2 = 0.95,
                           .epsilon = 1e-8,
                           .weight_decay = 0.1,
                           .correction1 = 0.1,
                           .correction2 = 0.05,
                           .gradient_scale = 0.5};
    for (size_t l = 0; l < COUNT(lengths); l++) {
        int64_t n = lengths[l];
        float *g = numbers(n), *w = numbers(n), *m = numbers(n), *v = numbers(n);
        for (int64_t i = 0; i < n; i++)
            v[i] = fabsf(v[i]);
        float *w0 = copy_of(w, n), *m0 = copy_of(m, n), *v0 = copy_of(v, n);
        k->adamw(n, &step, g, w, m, v);
        for (int64_t i = 0; i < n; i++) {
            double grad = 0.5 * (double)g[i], mean = 0.9 * (double)m0[i] + 0.1 * grad;
            double square = 0.95 * (double)v0[i] + 0.05 * grad * grad;
            near("moment1", i, (double)m[i], mean, 4 * EPS);
            near("moment2", i, (double)v[i], square, 4 * EPS * square);
            double move = 3e-3 * (mean / 0.1 / (sqrt(square / 0.05) + 1e-8) + 0.1 * (double)w0[i]);
            near("adamw", i, (double)w[i], (double)w0[i] - move, EPS * (1 + 16 * fabs(move)));
        }
        for (int64_t i = 0; i < n; i++) /* each element alone */
            k->adamw(1, &step, g + i, w0 + i, m0 + i, v0 + i);
        same("adamw, one by one", w, w0, n);
        same("adamw, one by one", v, v0, n);
        release(g, n), release(w, n), release(m, n), release(v, n), release(w0, n), release(m0, n), release(v0, n);
    }
}

#define EACH(check)                                                                                                    \
    static void test_##check(void **unused) {                                                                          \
        (void)unused;                                                                                                  \
        each_table(check);                                                                                             \
    }
EACH(products)
EACH(orders)
EACH(special_values)
EACH(vectors)
EACH(largest)
EACH(exponentials)
EACH(softmaxes)
EACH(norms)
EACH(swiglus)
EACH(optimizers)

/* ---- elementary functions against libm ---- */

static void test_elementary(void **unused) {
    (void)unused;
    for (uint64_t i = 0; i < (1ull << 32); i += 65521) { /* all exponents of f32, both signs */
        uint32_t bits = (uint32_t)i;
        float x;
        memcpy(&x, &bits, sizeof x);
        double e = exp((double)x), l = log((double)x);
        near("sgm_expf", (int64_t)i, (double)sgm_expf(x), e > FLT_MAX ? INFINITY : e, EPS * e + 0x1p-149);
        near("sgm_logf", (int64_t)i, (double)sgm_logf(x), l, EPS * fabs(l));
        double y = (double)x, s, c;
        near("sgm_exp64", (int64_t)i, sgm_exp64(y), e, 2 * DBL_EPSILON * e + 0x1p-1074);
        near("sgm_log64", (int64_t)i, sgm_log64(y), l, 2 * DBL_EPSILON * fabs(l));
        if (fabs(y) < 1e9) {
            sgm_sincos(y, &s, &c);
            near("sine", (int64_t)i, s, sin(y), 2 * DBL_EPSILON * fabs(sin(y)));
            near("cosine", (int64_t)i, c, cos(y), 2 * DBL_EPSILON * fabs(cos(y)));
        }
    }
    for (int n = -300; n <= 300; n++) { /* beyond the range of f32; multiples of pi/2, where sine or cosine is tiny */
        double x = n * 2.4 + 0.1, s, c;
        near("sgm_exp64", n, sgm_exp64(x), exp(x), 2 * DBL_EPSILON * exp(x) + 0x1p-1074);
        near("sgm_log64", n, sgm_log64(exp(x)), log(exp(x)), 2 * DBL_EPSILON * fabs(log(exp(x))));
        sgm_sincos(n * 1.5707963267948966, &s, &c);
        near("sine", n, s, sin(n * 1.5707963267948966), 2 * DBL_EPSILON * fabs(sin(n * 1.5707963267948966)));
        near("cosine", n, c, cos(n * 1.5707963267948966), 2 * DBL_EPSILON * fabs(cos(n * 1.5707963267948966)));
    }
    assert_true(sgm_expf(-INFINITY) == 0 && sgm_expf(INFINITY) == INFINITY && isnan(sgm_expf(NAN)));
    assert_true(sgm_exp64(-INFINITY) == 0 && sgm_exp64(INFINITY) == INFINITY && isnan(sgm_exp64(NAN)));
    assert_true(sgm_logf(0) == -INFINITY && sgm_log64(0) == -INFINITY && isnan(sgm_logf(-1)) && isnan(sgm_log64(-1)));
    assert_true(sgm_logf(1) == 0 && sgm_log64(1) == 0 && sgm_expf(0) == 1 && sgm_exp64(0) == 1);
}

/* FNV-1a over the bytes of what every reference kernel and elementary function gives for fixed numbers: gcc, clang, any
 * optimisation and any processor must agree. The value was taken from a build without optimisation. */
static uint64_t hash = 14695981039346656037u;
static void mix(const void *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
}

static void test_reference_bytes(void **unused) {
    (void)unused;
    enum { M = 21, N = 83, SIZE = 90 * 90 };
    const sgm_kernels *k = sgm_kernels_at(0);
    const sgm_adamw_step step = {.learning_rate = 3e-3,
                                 .beta1 = 0.9,
                                 .beta2 = 0.95,
                                 .epsilon = 1e-8,
                                 .weight_decay = 0.1,
                                 .correction1 = 0.1,
                                 .correction2 = 0.05,
                                 .gradient_scale = 0.5};
    state = 20240607;
    float *a = numbers(SIZE), *b = numbers(SIZE), *c = numbers(SIZE), *d = numbers(SIZE);
    for (product p = NT; p <= TN; p++) {
        multiply(k, p, M, N, 89, a, 90, b, 90, c, N, p == TN);
        mix(c, M * N * sizeof *c);
    }
    k->rms_norm(M, N, a, N, b, 1e-6, c, N, d);
    mix(c, M * N * sizeof *c);
    k->rms_norm_backward(M, N, a, N, b, d, a + 7, N, c, N, true);
    mix(c, M * N * sizeof *c);
    k->rms_norm_gain(M, N, a, N, d, b, N, c);
    mix(c, N * sizeof *c);
    k->softmax(M, N, a, N, c, N);
    mix(c, M * N * sizeof *c);
    float sums[3] = {k->exp_sum(N, a, 30, 1, c), k->dot(N, a, b), k->max(N, a)};
    mix(sums, sizeof sums);
    k->swiglu(M * N, a, b, c);
    mix(c, M * N * sizeof *c);
    k->swiglu_backward(M * N, a, b, b + 9, c, d);
    mix(c, M * N * sizeof *c), mix(d, M * N * sizeof *d);
    k->axpy(M * N, 0.7F, a, c);
    k->scale(M * N, 1.3F, c, c);
    for (int i = 0; i < M * N; i++)
        d[i] = fabsf(b[i]);
    k->adamw(M * N, &step, b, c, a, d);
    mix(a, M * N * sizeof *a), mix(c, M * N * sizeof *c), mix(d, M * N * sizeof *d);
    double squares = k->sum_squares(M * N, b);
    mix(&squares, sizeof squares);
    for (int i = 0; i < 2000; i++) {
        double x = (double)uniform(), both[6];
        float single[2] = {sgm_expf((float)x * 100), sgm_logf(fabsf((float)x) * 1e-20F)};
        sgm_sincos(x * 1e7, &both[0], &both[1]);
        sgm_sincos(x, &both[2], &both[3]);
        both[4] = sgm_exp64(x * 700), both[5] = sgm_log64(x * x);
        mix(single, sizeof single), mix(both, sizeof both);
    }
    release(a, SIZE), release(b, SIZE), release(c, SIZE), release(d, SIZE);
    if (hash != 0x2d4b2de5d9a06cb9u)
        fail_msg("the reference kernels give other bytes: 0x%016llx", (unsigned long long)hash);
}

static void test_choice(void **unused) {
    (void)unused;
    const sgm_kernels *k = NULL;
    sgm_error error;
    assert_int_equal(sgm_kernels_get("ref", &k, &error), SGM_OK);
    assert_string_equal(k->name, "ref");
    assert_ptr_equal(sgm_kernels_at(0), k);
    assert_int_equal(sgm_kernels_get("auto", &k, &error), SGM_OK);
    for (size_t i = 0; sgm_kernels_at(i); i++) {
        const sgm_kernels *table = sgm_kernels_at(i), *got = NULL;
        sgm_status status = sgm_kernels_get(table->name, &got, &error);
        assert_int_equal(status, table->usable() ? SGM_OK : SGM_EARGUMENT);
        assert_ptr_equal(got, table->usable() ? table : NULL);
        if (table->usable() && !sgm_kernels_at(i + 1))
            assert_ptr_equal(k, table); /* auto: the last usable one */
    }
    assert_int_equal(sgm_kernels_get("avx3", &k, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "avx3"));
    assert_non_null(strstr(error.hint, "auto"));
    assert_int_equal(sgm_kernels_get("reff", &k, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.hint, "did you mean ref?"));
}

#ifdef __SANITIZE_ADDRESS__
enum { A, B, C, OPERANDS };

/* A row of A every 7 numbers, of B and C every 9; one of them is a number short. */
static void multiply_short(int kind, int which) {
    const sgm_kernels *k = sgm_kernels_at(0);
    static const int64_t rows[4][2] = {{3, 9}, {3, 5}, {5, 5}, {1, 1}}; /* of A and B: nt, nn, tn; dot takes C twice */
    static const int64_t cols[4][2] = {{5, 5}, {5, 9}, {3, 9}, {1, 1}};
    float *operand[OPERANDS];
    for (int i = A; i < OPERANDS; i++) {
        int64_t size = i == C ? 3 * 9 : (rows[kind][i] - 1) * (i == A ? 7 : 9) + cols[kind][i];
        operand[i] = calloc((size_t)(size - (which == i)), sizeof *operand[i]);
    }
    if (kind == 0)
        k->matmul_nt(3, 9, 5, operand[A], 7, operand[B], 9, operand[C], 9, true);
    if (kind == 1)
        k->matmul_nn(3, 9, 5, operand[A], 7, operand[B], 9, operand[C], 9, true);
    if (kind == 2)
        k->matmul_tn(3, 9, 5, operand[A], 7, operand[B], 9, operand[C], 9, true);
    if (kind == 3)
        (void)k->dot(27, operand[C], operand[C]);
    for (int i = A; i < OPERANDS; i++)
        free(operand[i]);
}

/* The portable products are not instrumented: base/sanitize.h must see what the sanitizer would. */
static void test_short_operands_are_reported(void **unused) {
    (void)unused;
    for (int kind = 0; kind < 4; kind++)
        for (int which = A; which <= OPERANDS; which++) {
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0) {
                (void)close(STDERR_FILENO);
                multiply_short(kind, which);
                _exit(0);
            }
            int status = 0;
            assert_int_equal(waitpid(child, &status, 0), child);
            bool fits = which == OPERANDS || (kind == 3 && which != C);
            assert_int_equal(WIFEXITED(status) && WEXITSTATUS(status) == 0, fits);
        }
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_exponentials),
        cmocka_unit_test(test_softmaxes),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_swiglus),
        cmocka_unit_test(test_optimizers),
        cmocka_unit_test(test_elementary),
        cmocka_unit_test(test_reference_bytes),
        cmocka_unit_test(test_choice),
#ifdef __SANITIZE_ADDRESS__
        cmocka_unit_test(test_short_operands_are_reported),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
