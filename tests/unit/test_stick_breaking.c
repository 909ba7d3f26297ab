// SPDX-License-Identifier: Apache-2.0
/* Stick-breaking attention: a case worked by hand, values and gradients, its definition in f64 with segments, shared heads and a
 * long past, and the rule for what is left out when a stick is used up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "attention/attention.h"
#include "conformance/op_harness.h"
#include "op/op_case.h"

extern const sgm_op sgm_op_stick_breaking;

/* The op on segments of the given lengths, with inputs of zeros. */
static void open_on(harness *h, const int64_t *lengths, int count, int64_t heads, int64_t kv_heads, int64_t S) {
    assert_true(harness_open(h, &sgm_op_stick_breaking, 0, false));
    sgm_attention_args *a = h->op_case.args;
    a->heads = heads;
    a->kv_heads = kv_heads;
    a->rows = sgm_case_rows(&h->op_case, lengths, count, 7, 1);
    for (int i = 0; i < 3; i++) {
        h->op_case.rows[i] = a->rows->rows;
        h->op_case.cols[i] = (i == 0 ? heads : kv_heads) * S;
        size_t bytes = (size_t)(h->op_case.rows[i] * h->op_case.cols[i]) * sizeof(sgm_real);
        sgm_free(h->input[i]);
        sgm_free(h->input_gradient[i]);
        h->input[i] = sgm_alloc(bytes);
        h->input_gradient[i] = sgm_alloc(bytes);
        assert_true(h->input[i] && h->input_gradient[i]);
    }
}

static void run(harness *h, const sgm_kernels *kernels, int threads, bool tape) {
    assert_int_equal(harness_run_case(h, kernels, threads, tape, 1, NULL, NULL, NULL), SGM_OK);
}

static void near(const char *what, int64_t i, double got, double want, double allowed) {
    if (!(fabs(got - want) <= allowed))
        fail_msg("%s[%lld]: %.9g, not %.9g +- %.2g", what, (long long)i, got, want, allowed);
}

static void each_table(void (*check)(const sgm_kernels *kernels)) {
    for (size_t i = 0; sgm_kernels_at(i); i++)
        if (sgm_kernels_at(i)->usable())
            check(sgm_kernels_at(i));
}

/* Three tokens, one head of size 1, keys 1, so z_ij = q_i: 0, ln 3, −ln 3, and β = 1/2, 3/4, 1/4 for every key of the row.
 *   row 0: A = 1/2                                        y = 64/2 = 32
 *   row 1: A_11 = 3/4, A_10 = 3/4 · 1/4 = 3/16            y = 16 · 3/4 + 64 · 3/16 = 12 + 12 = 24
 *   row 2: A = 1/4, 1/4 · 3/4 = 3/16, 1/4 · 9/16 = 9/64   y = 4/4 + 16 · 3/16 + 64 · 9/64 = 1 + 3 + 9 = 13
 * with values 64, 16, 4. Gradients for dy = c_0, c_1, c_2 by dz_ij = A_ij g_j − β_i Σ over l ≤ j of A_il g_l, g = value · c:
 *   row 0: 32 − 32/2 = 16
 *   row 1: j = 0: 12 − 3/4 · 12 = 3;   j = 1: 12 − 3/4 · 24 = −6
 *   row 2: j = 0: 9 − 9/4 = 27/4;   j = 1: 3 − 12/4 = 0;   j = 2: 1 − 13/4 = −9/4
 * dq is a row's sum: 16 c_0, −3 c_1, 9/2 c_2. dk_j = Σ_i q_i dz_ij: 3 ln 3 c_1 − 27/4 ln 3 c_2, −6 ln 3 c_1, 9/4 ln 3 c_2.
 * dv_j = Σ_i A_ij c_i. */
static void by_hand(const sgm_kernels *kernels) {
    static const int64_t length = 3;
    const double log3 = 1.0986122886681098, v[3] = {64, 16, 4}, y[3] = {32, 24, 13};
    harness h;
    open_on(&h, &length, 1, 1, 1, 1);
    double c[3];
    for (int i = 0; i < 3; i++) {
        h.input[0][i] = (sgm_real)(i == 0 ? 0 : i == 1 ? log3 : -log3);
        h.input[1][i] = 1;
        h.input[2][i] = (sgm_real)v[i];
        c[i] = harness_coefficient(i);
    }
    run(&h, kernels, 1, true);
    const double dq[3] = {16 * c[0], -3 * c[1], 4.5 * c[2]};
    const double dk[3] = {log3 * (3 * c[1] - 6.75 * c[2]), -6 * log3 * c[1], 2.25 * log3 * c[2]};
    const double dv[3] = {c[0] / 2 + c[1] * 3 / 16 + c[2] * 9 / 64, c[1] * 3 / 4 + c[2] * 3 / 16, c[2] / 4};
    for (int i = 0; i < 3; i++) {
        near("y", i, (double)h.output[i], y[i], 1e-5);
        near("dq", i, (double)h.input_gradient[0][i], dq[i], 1e-5);
        near("dk", i, (double)h.input_gradient[1][i], dk[i], 1e-5);
        near("dv", i, (double)h.input_gradient[2][i], dv[i], 1e-6);
    }
    harness_close(&h);
}

/* The definition in f64, by logarithms. `left`: what no key took. */
static void definition(const harness *h, int64_t S, const sgm_segment *segment, int64_t i, int64_t head, double *y,
                       double *left) {
    const sgm_attention_args *a = h->op_case.args;
    int64_t kv = head / (a->heads / a->kv_heads), row = segment->row + i;
    double rest = 0;
    for (int64_t e = 0; e < S; e++)
        y[e] = 0;
    for (int64_t j = i; j >= 0; j--) {
        int64_t at = ((segment->row + j) * a->kv_heads + kv) * S;
        double z = 0;
        for (int64_t e = 0; e < S; e++)
            z += (double)h->input[0][(row * a->heads + head) * S + e] * (double)h->input[1][at + e];
        z /= sqrt((double)S);
        double weight = exp(rest - log1p(exp(-z)));
        for (int64_t e = 0; e < S; e++)
            y[e] += weight * (double)h->input[2][at + e];
        rest -= log1p(exp(z));
    }
    *left = exp(rest);
}

static void against_the_definition(const sgm_kernels *kernels) {
    static const int64_t lengths[] = {1, 63, 200, 2, 64, 65, 700};
    enum { H = 6, G = 2, S = 8 };
    harness h;
    open_on(&h, lengths, 7, H, G, S);
    for (int i = 0; i < 3; i++)
        for (int64_t j = 0; j < h.op_case.rows[i] * h.op_case.cols[i]; j++)
            h.input[i][j] = (sgm_real)((i == 0 ? 2.0 : 1.0) * sgm_rng_normal_at(9, (uint64_t)i, (uint64_t)j));
    run(&h, kernels, 2, false);
    const sgm_rows *rows = ((const sgm_attention_args *)h.op_case.args)->rows;
    for (int64_t n = 0; n < rows->segment_count; n++)
        for (int64_t i = 0; i < rows->segments[n].rows; i++)
            for (int64_t head = 0; head < H; head++) {
                double y[S], left;
                definition(&h, S, &rows->segments[n], i, head, y, &left);
                for (int64_t e = 0; e < S; e++) {
                    int64_t at = ((rows->segments[n].row + i) * H + head) * S + e;
                    near("y", at, (double)h.output[at], y[e], 5e-6);
                }
            }
    harness_close(&h);
}

/* Values of 1: y is the sum of the weights, 1 minus what is left, at most 1. Scores around −7.8 take a thousandth each, so a row
 * still has a piece of its stick after thousands of keys; f32 must not lose it. */
static void long_past(const sgm_kernels *kernels) {
    static const int64_t length = 5000;
    harness h;
    open_on(&h, &length, 1, 1, 1, 2);
    for (int64_t t = 0; t < length; t++) {
        h.input[0][2 * t] = (sgm_real)-11;
        h.input[1][2 * t] = (sgm_real)(1 + 0.2 * sgm_rng_normal_at(4, 0, (uint64_t)t));
        h.input[2][2 * t] = h.input[2][2 * t + 1] = 1;
    }
    run(&h, kernels, 1, false);
    const sgm_rows *rows = ((const sgm_attention_args *)h.op_case.args)->rows;
    double y[2], left = 0;
    for (int64_t i = 0; i < length; i += i < 100 ? 1 : 97) {
        definition(&h, 2, rows->segments, i, 0, y, &left);
        near("sum of the weights", i, (double)h.output[2 * i], 1 - left, 2e-6);
        assert_true((double)h.output[2 * i] <= 1 + 1e-6);
    }
    assert_true(left < 0.2 && left > 1e-5); /* the case is one where old keys still count */
    harness_close(&h);
}

/* Scores of 0: each key takes half, and a block of 64 keys leaves 2^-64, which is not yet below the limit. One key more is: keys
 * further back than that get no weight and no gradient, in all rows of the last block. */
static void used_up(const sgm_kernels *kernels) {
    static const int64_t length = 256;
    harness h;
    open_on(&h, &length, 1, 1, 1, 2);
    for (int64_t i = 0; i < 2 * length; i++) {
        h.input[1][i] = 1;
        h.input[2][i] = 1;
    }
    run(&h, kernels, 1, true);
    for (int64_t i = 0; i < length; i++) {
        double left = ldexp(1, -(int)(i + 1));
        near("sum of the weights", i, (double)h.output[2 * i], 1 - left, 2e-7);
    }
    /* Row 255 has 2^-64 after keys 192 … 255, which is kept, and 2^-128 after keys 128 … 191, which is not: with a huge value
     * at key 127 and at key 128, only the latter is seen. */
    const sgm_real huge = (sgm_real)0x1p120;
    h.input[2][2 * 127] = huge;
    run(&h, kernels, 1, false);
    near("behind the end", 255, (double)h.output[2 * 255], 1, 2e-7);
    h.input[2][2 * 127] = 1;
    h.input[2][2 * 132] = huge; /* weight 2^-124 */
    run(&h, kernels, 1, false);
    near("before the end", 255, (double)h.output[2 * 255], 1 + 0x1p-4, 1e-6);
    harness_close(&h);
}

/* The same rule backwards: dv_j = Σ_i A_ij c_i with A_ij = 2^-(i - j + 1); and a row that is done has neither weights nor
 * gradients, and hands on what it was given. */
static void used_up_backwards(const sgm_kernels *kernels) {
    static const int64_t length = 400;
    harness h;
    open_on(&h, &length, 1, 1, 1, 2);
    for (int64_t i = 0; i < 2 * length; i++)
        h.input[1][i] = 1;
    run(&h, kernels, 1, true);
    for (int64_t j = 0; j < length; j++) {
        double want = 0;
        for (int64_t i = j; i < length; i++)
            want += ldexp(harness_coefficient(2 * i), -(int)(i - j + 1));
        near("dv", j, (double)h.input_gradient[2][2 * j], want, 1e-6);
    }
    harness_close(&h);
    float p[2 * 5] = {1, 2, 3, 4, 5, 1, 2, 3, 4, 5}, dp[2 * 5] = {1, 1, 1, 1, 9, 1, 1, 1, 1, 9};
    float rest[2] = {0, 0.5F}, left[2] = {7, 7};
    sgm_score_tile tile = {2, 4, 4, 1, 1, NULL, NULL};
    kernels->stick_step_backward(&tile, p, dp, 5, rest, left, 1);
    for (int c = 0; c < 4; c++)
        assert_true(p[c] == 0 && dp[c] == 0 && p[5 + c] > 0 && dp[5 + c] != 0);
    assert_true(p[4] == 5 && dp[4] == 9 && p[9] == 5 && dp[9] == 9); /* beside the tile */
    assert_true(rest[0] == 0 && left[0] == 7 && rest[1] < 0.5F && left[1] < 7);
}

static void infinite_scores(const sgm_kernels *kernels) {
    /* −inf takes nothing and leaves everything, +inf takes all that is left: what a mask would do. */
    float score[4] = {1, -INFINITY, 2, -INFINITY}, rest = 1, sure[3] = {5, INFINITY, 0}, whole = 1;
    sgm_score_tile tile = {1, 4, 4, 1, 1, NULL, NULL};
    kernels->stick_step(&tile, score, 4, &rest);
    double a = 1 / (1 + exp(-2.0)), b = 1 / (1 + exp(-1.0));
    near("weight", 2, (double)score[2], a, 1e-6);
    near("weight", 0, (double)score[0], b * (1 - a), 1e-6);
    assert_true(score[1] == 0 && score[3] == 0);
    near("rest", 0, (double)rest, (1 - a) * (1 - b), 1e-6);
    tile.cols = tile.seen = 3;
    kernels->stick_step(&tile, sure, 4, &whole);
    assert_true(sure[2] == 0.5F && sure[1] == 0.5F && sure[0] == 0 && whole == 0);
    float nan[2] = {0, NAN};
    whole = 1;
    tile.cols = tile.seen = 2;
    kernels->stick_step(&tile, nan, 2, &whole);
    assert_true(isnan(nan[0]) && isnan(nan[1]) && isnan(whole));
}

/* ---- pages ---------------------------------------------------------------------------------------------------------- */

enum { PAST = 1160, PH = 4, PG = 2, PS = 6, LAYER = 1, PAGES = (PAST + 63) / 64 };

typedef struct paged {
    const sgm_kernels *kernels;
    sgm_rows rows;
    sgm_segment segment;
    char *values;
    const sgm_real *in[3];
    sgm_real *out; /* (rows, PH · PS) */
} paged;

static void walk_paged(sgm_walk *walk, const paged *p) {
    const int64_t cols[3] = {PH * PS, PG * PS, PG * PS};
    sgm_tensor in[3];
    for (int i = 0; i < 3; i++) {
        in[i] = sgm_walk_tensor(walk, p->rows.rows, cols[i]);
        if (!walk->dry && walk->worker->thread == 0)
            memcpy(in[i].data, p->in[i] + p->segment.position * cols[i],
                   (size_t)(p->rows.rows * cols[i]) * sizeof(sgm_real));
    }
    if (!walk->dry)
        sgm_barrier(walk->worker);
    sgm_tensor y = sgm_stick_breaking(walk, in[0], in[1], in[2], PH, PG, LAYER, &p->rows);
    if (!walk->dry && walk->worker->thread == 0)
        memcpy(p->out, y.data, (size_t)(y.rows * y.cols) * sizeof(sgm_real));
}

static void thread_paged(sgm_worker *worker, void *argument) {
    const paged *p = argument;
    sgm_walk walk = {.worker = worker, .kernels = p->kernels, .values = p->values};
    walk_paged(&walk, p);
}

/* Rows [first, first + count) of the inputs, behind those that the pages already hold. */
static void step_paged(paged *p, int threads, int64_t first, int64_t count, const sgm_kv_pages *past, sgm_real *out) {
    sgm_team *team;
    sgm_worker worker = {.threads = threads};
    assert_int_equal(sgm_team_new(threads, &team, NULL), SGM_OK);
    p->segment = (sgm_segment){.rows = count, .position = first, .past = past};
    p->rows = (sgm_rows){.rows = count, .segments = &p->segment, .segment_count = 1};
    p->out = out;
    sgm_walk dry = {.worker = &worker, .kernels = p->kernels, .dry = true};
    walk_paged(&dry, p);
    assert_int_equal(dry.status, SGM_OK);
    p->values = sgm_alloc(dry.peak);
    memset(p->values, 0xFF, dry.peak);
    sgm_team_run(team, thread_paged, p);
    sgm_free(p->values);
    sgm_team_free(team);
}

/* Scores around −6, so that a row sees over a thousand keys. Pages of each type, written in chunks or row by row, read by one
 * thread or in parts by three: the bytes of one prefill. */
static void pages(const sgm_kernels *kernels) {
    static sgm_real in[3][PAST * PH * PS], whole[PAST * PH * PS], part[PAST * PH * PS];
    for (int i = 0; i < 3; i++)
        for (int64_t j = 0; j < PAST * PH * PS; j++)
            in[i][j] = (sgm_real)((i == 0   ? -2.5
                                   : i == 1 ? 1
                                            : 0) +
                                  0.4 * sgm_rng_normal_at(8, (uint64_t)i, (uint64_t)j));
    for (int type = 0; type < SGM_KV_TYPES; type++) {
        size_t page = PG * sgm_kv_head_bytes((sgm_kv_type)type, PS);
        char *block = sgm_alloc(2 * PAGES * page), *table[2 * PAGES];
        for (int i = 0; i < 2 * PAGES; i++)
            table[i] = block + (size_t)i * page;
        const sgm_kv_pages past = {table, PAGES, (sgm_kv_type)type};
        paged p = {.kernels = kernels, .in = {in[0], in[1], in[2]}};
        step_paged(&p, 2, 0, PAST, &past, whole);
        for (int threads = 1; threads <= 3; threads += 2) {
            static const int64_t chunks[] = {1, 63, 64, 384, 1, 1, 130, 380, 1, 134, 1};
            int64_t at = 0;
            for (int i = 0; i < 11; at += chunks[i++]) {
                step_paged(&p, threads, at, chunks[i], &past, part);
                assert_memory_equal(part, whole + at * PH * PS, (size_t)(chunks[i] * PH * PS) * sizeof(sgm_real));
            }
            assert_int_equal(at, PAST);
        }
        /* Old keys do count: the last row is another when the first part of the past is. */
        memset(table[PAGES], 0, page);
        step_paged(&p, 1, PAST - 1, 1, &past, part);
        assert_memory_not_equal(part, whole + (PAST - 1) * PH * PS, PH * PS * sizeof(sgm_real));
        sgm_free(block);
    }
}

#define EACH(check)                                                                                                    \
    static void test_##check(void **unused) {                                                                          \
        (void)unused;                                                                                                  \
        each_table(check);                                                                                             \
    }
EACH(by_hand)
EACH(against_the_definition)
EACH(long_past)
EACH(used_up)
EACH(used_up_backwards)
EACH(infinite_scores)
EACH(pages)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_against_the_definition),
        cmocka_unit_test(test_long_past),
        cmocka_unit_test(test_used_up),
        cmocka_unit_test(test_used_up_backwards),
        cmocka_unit_test(test_infinite_scores),
        cmocka_unit_test(test_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
