// SPDX-License-Identifier: Apache-2.0
/* Attention's kernels in every table that runs here: against loops in f64 within docs/numerics.md, and the bytes of a row
 * alone; the storage of keys and values against the definitions of the formats. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "kernel/kernels.h"

#define EPS ((double)FLT_EPSILON)
enum { LD = 67, ROWS = 40 };

static uint64_t state = 88172645463325252u;
static float uniform(void) { /* -1 … 1 */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (float)((double)(state >> 11) * 0x1p-52 - 1.0);
}
static void fill(float *x, int64_t n, float scale) {
    for (int64_t i = 0; i < n; i++)
        x[i] = scale * uniform();
}
static void near(const char *what, double got, double want, double allowed) {
    if (!(fabs(got - want) <= allowed))
        fail_msg("%s: %.9g, not %.9g +- %.2g", what, got, want, allowed);
}

static void each_table(void (*check)(const sgm_kernels *k)) {
    const sgm_kernels *k;
    for (size_t i = 0; (k = sgm_kernels_at(i)) != NULL; i++)
        if (k->usable())
            check(k);
}

static int64_t seen_by(const sgm_score_tile *t, int64_t i) {
    int64_t n = t->seen + i / t->group;
    return n < t->cols ? n : t->cols;
}

static const int64_t shapes[][4] = {/* rows, cols, seen, group */
                                    {1, 1, 1, 1},   {4, 64, 64, 4},  {7, 64, 64, 3},  {40, 64, 3, 4},
                                    {16, 16, 1, 1}, {40, 27, 20, 5}, {6, 63, 62, 2},  {12, 40, 33, 12},
                                    {9, 64, 60, 1}, {3, 17, 16, 2},  {32, 64, 33, 1}, {5, 48, 48, 1}};

static void step_check(const sgm_kernels *k, const sgm_score_tile *t, bool first) {
    float score[ROWS * LD], before[ROWS * LD], largest[ROWS], sum[ROWS], rescale[ROWS], largest0[ROWS], sum0[ROWS];
    fill(score, ROWS * LD, 20);
    memcpy(before, score, sizeof score);
    for (int64_t i = 0; i < ROWS; i++) {
        largest0[i] = largest[i] = first ? -INFINITY : i % 2 ? 30.0F : -2.0F; /* not passed and passed */
        sum0[i] = sum[i] = first ? 0 : 3;
    }
    k->softmax_step(t, score, LD, largest, sum, rescale);
    for (int64_t i = 0; i < t->rows; i++) {
        int64_t n = seen_by(t, i);
        double top = (double)largest0[i], total = 0;
        for (int64_t c = 0; c < n; c++) {
            double x = (double)before[i * LD + c] * (t->key_scale ? (double)t->key_scale[c] : 1) * (double)t->scale;
            top = x > top ? x : top;
        }
        near("largest", (double)largest[i], top, 4 * EPS * fabs(top));
        for (int64_t c = 0; c < n; c++) {
            double x = (double)before[i * LD + c] * (t->key_scale ? (double)t->key_scale[c] : 1) * (double)t->scale;
            double want = exp(x - (double)largest[i]);
            double slack = (4 + 4 * (fabs(x) + fabs(top))) * EPS;
            total += want;
            near("score", (double)score[i * LD + c], want * (t->value_scale ? (double)t->value_scale[c] : 1),
                 slack * want + 0x1p-148);
        }
        near("rescale", (double)rescale[i], exp((double)largest0[i] - (double)largest[i]), 1e-6);
        total += (double)sum0[i] * (double)rescale[i];
        near("sum", (double)sum[i], total, 64 * EPS * (total + 1));
        for (int64_t c = n; c < t->cols; c++)
            assert_true(score[i * LD + c] == 0);
        for (int64_t c = t->cols; c < LD; c++) /* nothing is written beside the tile */
            assert_true(score[i * LD + c] == before[i * LD + c]);
        /* The row alone has the same bytes. */
        sgm_score_tile one = *t;
        float l = largest0[i], s = sum0[i], r;
        one.rows = 1;
        one.seen = n;
        k->softmax_step(&one, before + i * LD, LD, &l, &s, &r);
        assert_memory_equal(before + i * LD, score + i * LD, (size_t)t->cols * sizeof *score);
        assert_true(l == largest[i] && s == sum[i] && r == rescale[i]);
    }
}

static void steps(const sgm_kernels *k) {
    float key_scale[64], value_scale[64];
    for (int c = 0; c < 64; c++) {
        key_scale[c] = 0.5F + 0.4F * uniform();
        value_scale[c] = 0.01F + 0.009F * uniform();
    }
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int first = 0; first < 2; first++) {
            sgm_score_tile tile = {shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3], 0.177F, NULL, NULL};
            step_check(k, &tile, first);
            tile.key_scale = key_scale;
            tile.value_scale = value_scale;
            step_check(k, &tile, first);
        }
    /* NaN reaches the sum; scores that are not seen do not. */
    float score[64] = {1, 2, NAN, 4}, largest = -INFINITY, sum = 0, rescale;
    sgm_score_tile tile = {1, 64, 2, 1, 1, NULL, NULL};
    k->softmax_step(&tile, score, 64, &largest, &sum, &rescale);
    assert_true(largest == 2 && isfinite(sum) && score[2] == 0);
    float again[64] = {1, 2, NAN, 4};
    tile.seen = 3;
    k->softmax_step(&tile, again, 64, &largest, &sum, &rescale);
    assert_true(isnan(largest) && isnan(sum));
}

static void gradients(const sgm_kernels *k) {
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        sgm_score_tile t = {shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3], 0.25F, NULL, NULL};
        float p[ROWS * LD], dp[ROWS * LD], p0[ROWS * LD], dp0[ROWS * LD], shift[3 * ROWS], dot[3 * ROWS];
        fill(p, ROWS * LD, 10), fill(dp, ROWS * LD, 1), fill(dot, 3 * ROWS, 1);
        memcpy(p0, p, sizeof p), memcpy(dp0, dp, sizeof dp);
        for (int i = 0; i < 3 * ROWS; i++)
            shift[i] = 3 + uniform();
        k->softmax_step_backward(&t, p, dp, LD, shift, dot, 3);
        for (int64_t i = 0; i < t.rows; i++) {
            int64_t n = seen_by(&t, i);
            for (int64_t c = 0; c < LD; c++) {
                float *at = p + i * LD + c, *change = dp + i * LD + c;
                if (c >= t.cols) {
                    assert_true(*at == p0[i * LD + c] && *change == dp0[i * LD + c]);
                } else if (c >= n) {
                    assert_true(*at == 0 && *change == 0);
                } else {
                    double want = exp(0.25 * (double)p0[i * LD + c] - (double)shift[3 * i]);
                    double gradient = want * ((double)dp0[i * LD + c] - (double)dot[3 * i]) * 0.25;
                    near("p", (double)*at, want, 32 * EPS * want);
                    near("dp", (double)*change, gradient, 64 * EPS * want);
                }
            }
        }
    }
}

/* Breaking sticks against the definition in f64, forward and backward, with rows of which much, little and nothing is left. */
static void stick_case(const sgm_kernels *k, const sgm_score_tile *t) {
    float score[ROWS * LD], p[ROWS * LD], dp[ROWS * LD], before[ROWS * LD], dp0[ROWS * LD];
    float rest[ROWS], rest3[3 * ROWS], left[3 * ROWS];
    fill(score, ROWS * LD, 20), fill(dp, ROWS * LD, 1);
    memcpy(before, score, sizeof score), memcpy(p, score, sizeof p), memcpy(dp0, dp, sizeof dp);
    for (int i = 0; i < ROWS; i++) {
        rest[i] = rest3[3 * i] = i % 5 == 3 ? 0 : i % 5 == 4 ? 1e-6F : i % 2 ? 1 : 0.3F;
        left[3 * i] = 0.7F;
    }
    k->stick_step(t, score, LD, rest);
    sgm_score_tile plain = *t;
    plain.key_scale = plain.value_scale = NULL;
    if (!t->key_scale)
        k->stick_step_backward(&plain, p, dp, LD, rest3, left, 3);
    for (int64_t i = 0; i < t->rows; i++) {
        int64_t n = seen_by(t, i);
        double now = (double)(i % 5 == 3 ? 0 : i % 5 == 4 ? 1e-6F : i % 2 ? 1 : 0.3F), all = now, sum = (double)0.7F;
        for (int64_t c = n - 1; c >= 0; c--) {
            int64_t at = i * LD + c;
            double x = (double)before[at] * (t->key_scale ? (double)t->key_scale[c] : 1) * (double)t->scale;
            double take = 1 / (1 + exp(-x)), weight = now * take;
            double slack = (64 + 4 * (double)n + 4 * fabs(x)) * EPS;
            near("weight", (double)score[at], weight * (t->value_scale ? (double)t->value_scale[c] : 1),
                 slack * weight + 0x1p-126);
            if (!t->key_scale) {
                near("p", (double)p[at], weight, slack * weight + 0x1p-126);
                double change = weight * (double)dp0[at];
                near("dp", (double)dp[at], all == 0 ? 0 : (change - take * sum) * (double)t->scale,
                     slack * (all + fabs(sum)));
                sum -= all == 0 ? 0 : change;
            }
            now *= 1 / (1 + exp(x));
        }
        near("rest", (double)rest[i], now < 0x1p-64 ? 0 : now,
             (64 + 40 * (double)n) * EPS * now + 0x1p-63 * (now < 0x1p-63));
        if (!t->key_scale) {
            assert_true(rest3[3 * i] == rest[i]);
            near("left", (double)left[3 * i], sum, (64 + 4 * (double)n) * EPS);
        }
        for (int64_t c = n; c < t->cols; c++)
            assert_true(score[i * LD + c] == 0 && (t->key_scale || (p[i * LD + c] == 0 && dp[i * LD + c] == 0)));
        for (int64_t c = t->cols; c < LD; c++) /* nothing is written beside the tile */
            assert_true(score[i * LD + c] == before[i * LD + c]);
        /* The row alone has the same bytes. */
        sgm_score_tile one = *t;
        float r = i % 5 == 3 ? 0 : i % 5 == 4 ? 1e-6F : i % 2 ? 1 : 0.3F;
        one.rows = 1;
        one.seen = n;
        k->stick_step(&one, before + i * LD, LD, &r);
        assert_memory_equal(before + i * LD, score + i * LD, (size_t)t->cols * sizeof *score);
        assert_true(r == rest[i]);
    }
}

static void sticks(const sgm_kernels *k) {
    float key_scale[64], value_scale[64];
    for (int c = 0; c < 64; c++) {
        key_scale[c] = 0.5F + 0.4F * uniform();
        value_scale[c] = 0.01F + 0.009F * uniform();
    }
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        sgm_score_tile tile = {shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3], 0.177F, NULL, NULL};
        stick_case(k, &tile);
        tile.scale = 0.02F;
        stick_case(k, &tile);
        tile.key_scale = key_scale;
        tile.value_scale = value_scale;
        stick_case(k, &tile);
    }
}

static void transposes(const sgm_kernels *k) {
    static const int64_t sizes[][2] = {{1, 1},   {16, 16}, {64, 96}, {64, 32}, {5, 7},
                                       {17, 33}, {64, 6},  {3, 64},  {8, 24}};
    float x[64 * 101], y[101 * 70];
    fill(x, 64 * 101, 1);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t rows = sizes[s][0], cols = sizes[s][1];
        for (int i = 0; i < 101 * 70; i++)
            y[i] = -77;
        k->transpose(rows, cols, x, 101, y, 70);
        for (int64_t j = 0; j < 101; j++)
            for (int64_t i = 0; i < 70; i++)
                assert_true(y[j * 70 + i] == (j < cols && i < rows ? x[i * 101 + j] : -77.0F));
    }
}

/* Every f16 there is, widened and rounded back; and floats around the places where rounding decides. */
static void halves(const sgm_kernels *k) {
    static uint16_t bits[65536], back[65536];
    static float wide[65536];
    for (int i = 0; i < 65536; i++)
        bits[i] = (uint16_t)i;
    k->f16_widen(65536, bits, wide);
    k->f16_round(65536, wide, back);
    for (int i = 0; i < 65536; i++) {
        int exponent = i >> 10 & 31, fraction = i & 1023;
        double want = exponent == 31  ? (fraction ? NAN : INFINITY)
                      : exponent == 0 ? ldexp(fraction, -24)
                                      : ldexp(1024 + fraction, exponent - 25);
        if (isnan(want)) {
            assert_true(isnan(wide[i]) && (back[i] & 0x7fff) > 0x7c00);
            continue;
        }
        assert_true((double)wide[i] == (i & 0x8000 ? -want : want));
        assert_int_equal(back[i], i);
    }
    static const struct {
        float x;
        uint16_t bits;
    } ties[] = {{1 + 0x1p-11F, 0x3c00}, {1 + 3 * 0x1p-11F, 0x3c02},
                {65519.9F, 0x7bff},     {65520, 0x7c00},
                {0x1p-25F, 0},          {0x1.8p-24F, 2},
                {0x1.000002p-25F, 1},   {-0x1p-14F, 0x8400},
                {-1e30F, 0xfc00},       {0x1.ffep-15F, 0x0400}};
    for (size_t i = 0; i < sizeof ties / sizeof *ties; i++) {
        float x[19];
        uint16_t y[19];
        for (int j = 0; j < 19; j++)
            x[j] = ties[i].x;
        k->f16_round(19, x, y);
        for (int j = 0; j < 19; j++)
            assert_int_equal(y[j], ties[i].bits);
    }
}

static void integers(const sgm_kernels *k) {
    float x[96], y[256];
    int8_t q[256];
    for (int i = 0; i < 256; i++)
        q[i] = (int8_t)(i - 128);
    for (int n = 0; n <= 256; n += n < 40 ? 1 : 27) {
        memset(y, 0, sizeof y);
        k->int8_widen(n, q, y);
        for (int i = 0; i < 256; i++)
            assert_true(y[i] == (i < n ? (float)(i - 128) : 0));
    }
    for (int n = 1; n <= 96; n += 5) {
        fill(x, n, 3);
        x[n / 2] = -5;
        float scale = k->int8_round(n, x, q);
        assert_true(scale == 5.0F / 127);
        for (int i = 0; i < n; i++)
            near("integer", (double)q[i] * (double)scale, (double)x[i], 0.5001 * (double)scale);
        assert_int_equal(q[n / 2], -127);
    }
    float ties[4] = {127, 0.5F, 1.5F, -2.5F}; /* to even */
    assert_true(k->int8_round(4, ties, q) == 1 && q[1] == 0 && q[2] == 2 && q[3] == -2);
    memset(x, 0, sizeof x);
    assert_true(k->int8_round(8, x, q) == 0 && q[0] == 0);
    x[3] = 0x1p-121F;
    assert_true(k->int8_round(8, x, q) == 0 && q[3] == 0);
    x[3] = 0x1p-119F;
    assert_true(k->int8_round(8, x, q) == 0x1p-119F / 127 && q[3] == 127);
    x[5] = NAN;
    assert_true(isnan(k->int8_round(8, x, q)));
    x[5] = -INFINITY;
    assert_true(isnan(k->int8_round(8, x, q)));
}

/* The bytes of widening first, in every shape. */
static void stored_products(const sgm_kernels *k) {
    static const int64_t sizes[][3] = {{4, 64, 96}, {1, 64, 32}, {3, 37, 16},  {2, 1, 5}, {7, 96, 64}, {4, 96, 41},
                                       {5, 64, 6},  {8, 23, 64}, {4, 128, 64}, {6, 6, 1}, {3, 16, 0},  {4, 40, 63}};
    static float a[8 * 100], wide[100 * 130], got[8 * 131], want[8 * 131];
    static uint16_t halves_of[100 * 130];
    static int8_t bytes_of[100 * 130];
    fill(a, 8 * 100, 1);
    for (int i = 0; i < 100 * 130; i++) {
        halves_of[i] = sgm_f16_round(2 * uniform());
        bytes_of[i] = (int8_t)(127 * uniform());
    }
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int kind = 0; kind < 4; kind++) {
            int64_t M = sizes[s][0], N = sizes[s][1], K = sizes[s][2];
            bool add = kind & 1, integers_too = kind & 2;
            fill(got, 8 * 131, 1);
            memcpy(want, got, sizeof got);
            if (integers_too) {
                k->int8_widen(100 * 130, bytes_of, wide);
                k->matmul_nn_int8(M, N, K, a, 100, bytes_of, 130, got, 131, add);
            } else {
                k->f16_widen(100 * 130, halves_of, wide);
                k->matmul_nn_f16(M, N, K, a, 100, halves_of, 130, got, 131, add);
            }
            k->matmul_nn(M, N, K, a, 100, wide, 130, want, 131, add);
            assert_memory_equal(got, want, sizeof got);
        }
}

#define EACH(check)                                                                                                    \
    static void test_##check(void **unused) {                                                                          \
        (void)unused;                                                                                                  \
        each_table(check);                                                                                             \
    }
EACH(steps)
EACH(gradients)
EACH(sticks)
EACH(transposes)
EACH(halves)
EACH(integers)
EACH(stored_products)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),           cmocka_unit_test(test_gradients), cmocka_unit_test(test_transposes),
        cmocka_unit_test(test_sticks),          cmocka_unit_test(test_halves),    cmocka_unit_test(test_integers),
        cmocka_unit_test(test_stored_products),
    };
    return cmocka_run_group_tests_name("attention kernels", tests, NULL, NULL);
}
