// SPDX-License-Identifier: Apache-2.0
/* Products with weights as they are stored, in every table: the bytes of the integer types against the formulas of
 * kernel/ref/ref_typed.c worked here from unpacked weights, the float types within docs/numerics.md; rows alone and together,
 * odd sizes and strides, weights that end where the readable memory ends, guards around what is written. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/half.h"
#include "kernel/kernels.h"
#include "quant/quant.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static uint64_t seed = 88172645463325252u;
static uint64_t bits64(void) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed;
}
static float uniform(void) { /* -1 … 1 */
    return (float)((double)(bits64() >> 11) * 0x1p-52 - 1.0);
}

static void *block_of(size_t bytes) {
    void *p = calloc(1, bytes ? bytes : 1);
    assert_non_null(p);
    return p;
}

/* Memory whose last byte is the last readable one: a model file may end with the last weight. */
typedef struct edge {
    char *pages, *data;
    size_t size;
} edge;

static edge edge_new(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (bytes + page - 1) / page * page;
    edge e = {mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), NULL, whole + page};
    assert_true(e.pages != MAP_FAILED);
    assert_int_equal(mprotect(e.pages + whole, page, PROT_NONE), 0);
    e.data = e.pages + (whole - bytes);
    return e;
}

/* N rows of K weights: packed random numbers, or any bytes with finite f16 in them. */
typedef struct weights {
    const sgm_quant *type;
    int64_t N, K;
    size_t stride;
    edge memory;
    float *values; /* (N, K) unpacked */
} weights;

static void any_bytes(const sgm_quant *type, uint8_t *block) {
    for (size_t i = 0; i < type->block_bytes; i++)
        block[i] = (uint8_t)bits64();
    if (type->type == SGM_TYPE_F32 || !type->integer) { /* floats: a moderate random one instead */
        float x = uniform();
        type->pack(1, &x, block);
        return;
    }
    size_t at = type->type == SGM_TYPE_Q6_K ? 208 : 0;
    for (int i = 0; i < (type->type == SGM_TYPE_Q4_K ? 2 : 1); i++, at += 2)
        block[at + 1] &= 0xbb; /* the exponent is not all ones */
}

static weights weights_new(sgm_type kind, int64_t N, int64_t K, size_t pad, bool wild) {
    const sgm_quant *type = sgm_quant_of(kind);
    size_t row = sgm_quant_row_bytes(kind, K);
    weights w = {
        .type = type, .N = N, .K = K, .stride = row + pad, .values = block_of((size_t)(N * K) * sizeof(float))};
    w.memory = edge_new(N ? (size_t)(N - 1) * w.stride + row : 0);
    float *x = block_of((size_t)K * sizeof *x);
    for (int64_t n = 0; n < N; n++) {
        char *at = w.memory.data + (size_t)n * w.stride;
        for (int64_t k = 0; k < K; k++)
            x[k] = uniform();
        type->pack(K, x, at);
        for (int64_t b = 0; wild && b < K / type->block; b++)
            any_bytes(type, (uint8_t *)at + (size_t)b * type->block_bytes);
        type->unpack(K, at, w.values + n * K);
    }
    free(x);
    return w;
}

static void weights_free(weights *w) {
    munmap(w->memory.pages, w->memory.size);
    free(w->values);
}

/* M rows of activations with row stride ldx; integer parts made by the table under test. */
static sgm_activations activations_new(const sgm_kernels *k, int64_t M, int64_t K, int64_t ldx, bool integers) {
    float *x = block_of((size_t)(M * ldx) * sizeof *x);
    for (int64_t i = 0; i < M * ldx; i++)
        x[i] = uniform() * (i % 5 ? 1 : 8);
    sgm_activations a = {.x = x, .ldx = ldx};
    if (integers) {
        a.q = block_of((size_t)(M * K));
        a.scale = block_of((size_t)(M * (K / 32)) * sizeof(float));
        a.sum = block_of((size_t)(M * (K / 32)) * sizeof(int32_t));
        k->quantise(M, K, x, ldx, &a);
    }
    return a;
}

static void activations_free(sgm_activations *a) {
    free((void *)a->x);
    free(a->q);
    free(a->scale);
    free(a->sum);
}

/* ---- the formulas, from unpacked weights ---- */

/* Scale and minimum of a q4_k sub-block: the format packs sixteen 6-bit numbers. Here they are taken from the bits that
 * the format's description names, one by one. */
static int q4_k_number(const uint8_t *scales, int j, bool minimum) {
    int value = 0;
    for (int bit = 0; bit < 6; bit++) {
        int byte, position;
        if (j < 4) {
            byte = j + (minimum ? 4 : 0);
            position = bit;
        } else if (bit < 4) {
            byte = 4 + j;
            position = bit + (minimum ? 4 : 0);
        } else {
            byte = j - 4 + (minimum ? 4 : 0);
            position = bit + 2;
        }
        value |= (scales[byte] >> position & 1) << bit;
    }
    return value;
}

/* t of one step of 32. All types but q4_k: weights are exact, so their exact dot product in f64, rounded once. */
static float step_value(const weights *w, int64_t n, int64_t s, const int8_t *q) {
    if (w->type->type != SGM_TYPE_Q4_K) {
        double dot = 0;
        for (int i = 0; i < 32; i++)
            dot += (double)w->values[n * w->K + 32 * s + i] * q[i];
        return (float)dot;
    }
    const uint8_t *block = (const uint8_t *)w->memory.data + (size_t)n * w->stride + (size_t)(s / 8) * 144;
    int j = (int)(s % 8), dot = 0, sum = 0;
    for (int i = 0; i < 32; i++) {
        int byte = block[16 + 32 * (j / 2) + i];
        dot += (j % 2 ? byte / 16 : byte % 16) * q[i];
        sum += q[i];
    }
    float d = sgm_f16_widen((uint16_t)(block[0] + 256 * block[1]));
    float dmin = sgm_f16_widen((uint16_t)(block[2] + 256 * block[3]));
    float scaled = (float)((double)d * q4_k_number(block + 4, j, false) * dot);
    return fmaf(-(dmin * (float)q4_k_number(block + 4, j, true)), (float)sum, scaled);
}

static float integer_chain(const weights *w, int64_t n, const sgm_activations *a, int64_t i, float sum) {
    int64_t steps = w->K / 32;
    for (int64_t s = 0; s < steps; s++)
        sum = fmaf(step_value(w, n, s, a->q + i * w->K + 32 * s), a->scale[i * steps + s], sum);
    return sum;
}

static void check_float(const weights *w, int64_t n, const float *x, float start, float got) {
    double sum = (double)start, size = fabs(sum);
    for (int64_t k = 0; k < w->K; k++) {
        float a = w->type->type == SGM_TYPE_BF16 ? sgm_bf16_widen(sgm_bf16_round(x[k])) : x[k];
        sum += (double)a * (double)w->values[n * w->K + k];
        size += fabs((double)a * (double)w->values[n * w->K + k]);
    }
    double allowed = ((double)w->K + 1) * (double)FLT_EPSILON / 2 * size;
    if (!(fabs((double)got - sum) <= allowed))
        fail_msg("%s: %.9g, not %.9g +- %.2g", w->type->name, (double)got, sum, allowed);
}

static void check_product(const sgm_kernels *k, const weights *w, int64_t M, int64_t pad, bool add) {
    const int64_t N = w->N, K = w->K, ldc = N + pad, size = M * ldc + 16;
    const bool integer = w->type->integer;
    sgm_activations a = activations_new(k, M, K, K + pad, integer);
    float *C = block_of((size_t)size * sizeof *C), *before = block_of((size_t)size * sizeof *C);
    for (int64_t i = 0; i < size; i++)
        before[i] = C[i] = uniform();
    sgm_activations given = a;
    if (integer)
        given.x = NULL; /* only what the type needs is read */
    k->matmul_typed(M, N, K, &given, w->type->type, w->memory.data, w->stride, C, ldc, add);
    for (int64_t i = 0; i < size; i++) {
        int64_t row = i / ldc, n = i % ldc;
        float start = add ? before[i] : 0;
        if (row >= M || n >= N) {
            assert_true(C[i] == before[i]); /* behind the rows nothing is written */
        } else if (integer) {
            float want = integer_chain(w, n, &a, row, start);
            if (memcmp(&C[i], &want, sizeof want) != 0)
                fail_msg("%s %s M %lld N %lld K %lld [%lld, %lld]: %.9g, not %.9g", k->name, w->type->name,
                         (long long)M, (long long)N, (long long)K, (long long)row, (long long)n, (double)C[i],
                         (double)want);
        } else {
            check_float(w, n, a.x + row * a.ldx, start, C[i]);
        }
    }
    free(C), free(before);
    activations_free(&a);
}

/* Run `check` for every table that is usable here and every type. */
static void each(void (*check)(const sgm_kernels *k, sgm_type type)) {
    const sgm_kernels *k;
    for (size_t i = 0; (k = sgm_kernels_at(i)) != NULL; i++)
        for (int type = 0; k->usable() && type < SGM_TYPES; type++)
            check(k, (sgm_type)type);
}

static void products_of(const sgm_kernels *k, sgm_type type) {
    static const int64_t columns[] = {1, 2, 7, 15, 16, 17, 33, 50};
    static const int64_t lengths[] = {32, 64, 96, 256, 320, 768, 1, 9, 47}; /* the last three: floats */
    static const int64_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 17, 31, 64};
    const sgm_quant *quant = sgm_quant_of(type);
    for (size_t c = 0, turn = 0; c < COUNT(columns); c++)
        for (size_t l = 0; l < COUNT(lengths); l++) {
            if (lengths[l] % quant->block != 0)
                continue;
            /* f32 is read as floats: its rows are aligned to them */
            weights w = weights_new(type, columns[c], lengths[l], turn % 3 ? 0 : 4, turn % 2 != 0);
            for (size_t m = 0; m < COUNT(rows); m++, turn++)
                check_product(k, &w, rows[m], turn % 4 ? 3 : 0, turn % 3 == 1);
            weights_free(&w);
            turn += c;
        }
    weights w = weights_new(type, 16, quant->block, 0, false); /* nothing to do is no error */
    check_product(k, &w, 0, 2, true);
    w.N = 0;
    check_product(k, &w, 3, 2, true);
    weights_free(&w);
}

static void products(void **state) {
    (void)state;
    each(products_of);
}

/* A row alone, a column block alone and the whole have the same bytes. */
static void pieces_of(const sgm_kernels *k, sgm_type type) {
    enum { M = 37, N = 53, K = 512 };
    weights w = weights_new(type, N, K, 0, false);
    bool integer = w.type->integer;
    sgm_activations a = activations_new(k, M, K, K, integer);
    edge ends = edge_new(sizeof(float) * M * N); /* what lies behind C is not read either */
    float *whole = (float *)(void *)ends.data, *parts = block_of(sizeof(float) * M * N);
    k->matmul_typed(M, N, K, &a, type, w.memory.data, w.stride, whole, N, false);
    static const int64_t row_steps[] = {1, 5, 8, M}, column_steps[] = {N, 11, 16, 1};
    for (size_t t = 0; t < COUNT(row_steps); t++) {
        memset(parts, 0, sizeof(float) * M * N);
        for (int64_t i = 0; i < M; i += row_steps[t])
            for (int64_t n = 0; n < N; n += column_steps[t]) {
                sgm_activations part = {.x = a.x + i * K, .ldx = K};
                if (integer)
                    part = (sgm_activations){
                        .q = a.q + i * K, .scale = a.scale + i * (K / 32), .sum = a.sum + i * (K / 32)};
                k->matmul_typed(M - i < row_steps[t] ? M - i : row_steps[t],
                                N - n < column_steps[t] ? N - n : column_steps[t], K, &part, type,
                                w.memory.data + (size_t)n * w.stride, w.stride, parts + i * N + n, N, false);
            }
        if (memcmp(whole, parts, sizeof(float) * M * N) != 0)
            fail_msg("%s %s: bytes depend on what is computed together (case %zu)", k->name, w.type->name, t);
    }
    munmap(ends.pages, ends.size), free(parts);
    activations_free(&a);
    weights_free(&w);
}

static void pieces(void **state) {
    (void)state;
    each(pieces_of);
}

/* Stored as bf16, weights give the bytes that they give in f32: one model file, one function. */
static void stored_like_floats(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 16, 64}, {1, 37, 95},    {16, 33, 96}, {17, 70, 33},
                                        {33, 1, 7},  {70, 50, 1700}, {5, 40, 6500}};
    const sgm_kernels *k;
    for (size_t t = 0; (k = sgm_kernels_at(t)) != NULL; t++)
        for (size_t i = 0; k->usable() && i < 2 * COUNT(shapes); i++) {
            const int64_t M = shapes[i / 2][0], N = shapes[i / 2][1], K = shapes[i / 2][2];
            const size_t size = (size_t)(M * N) * sizeof(float);
            weights w = weights_new(SGM_TYPE_BF16, N, K, 2, false);
            sgm_activations a = activations_new(k, M, K, K + 3, false);
            float *want = block_of(size), *got = block_of(size);
            for (int64_t j = 0; j < M * N; j++)
                want[j] = got[j] = uniform();
            k->matmul_nt_bf16(M, N, K, a.x, a.ldx, w.values, K, want, N, i % 2);
            k->matmul_typed(M, N, K, &a, SGM_TYPE_BF16, w.memory.data, w.stride, got, N, i % 2);
            if (memcmp(want, got, size) != 0)
                fail_msg("%s: other bytes at M %lld N %lld K %lld", k->name, (long long)M, (long long)N, (long long)K);
            free(want), free(got);
            activations_free(&a);
            weights_free(&w);
        }
}

/* The quantised product is near the product: 8 bits of activations cost about 1/254 of the largest of each 32. */
static void quality_of(const sgm_kernels *k, sgm_type type) {
    enum { N = 24, K = 768 };
    weights w = weights_new(type, N, K, 0, false);
    sgm_activations a = activations_new(k, 1, K, K, w.type->integer);
    float c[N];
    k->matmul_typed(1, N, K, &a, type, w.memory.data, w.stride, c, N, false);
    for (int64_t n = 0; n < N; n++) {
        double sum = 0, allowed = 1e-4;
        for (int64_t i = 0; i < K; i++)
            sum += (double)a.x[i] * (double)w.values[n * K + i];
        for (int64_t s = 0; w.type->integer && s < K / 32; s++) {
            double most = 0;
            for (int64_t i = 0; i < 32; i++)
                most = fmax(most, fabs((double)a.x[32 * s + i]));
            for (int64_t i = 0; i < 32; i++)
                allowed += most / 254 * fabs((double)w.values[n * K + 32 * s + i]) * 1.001;
        }
        if (type == SGM_TYPE_BF16) /* activations are rounded to 8 bits */
            for (int64_t i = 0; i < K; i++)
                allowed += 0x1p-8 * fabs((double)a.x[i] * (double)w.values[n * K + i]);
        if (!(fabs((double)c[n] - sum) <= allowed))
            fail_msg("%s %s: %.9g, not %.9g +- %.2g", k->name, w.type->name, (double)c[n], sum, allowed);
    }
    activations_free(&a);
    weights_free(&w);
}

static void quality(void **state) {
    (void)state;
    each(quality_of);
}

/* ---- quantise ---- */

enum { ROWS = 7, COLS = 96, LDX = 101, STEPS = COLS / 32 };

typedef struct quantised {
    int8_t q[ROWS * COLS + 1];
    float scale[ROWS * STEPS + 1];
    int32_t sum[ROWS * STEPS + 1];
} quantised;

static quantised quantise(const sgm_kernels *k, const float *x) {
    quantised out;
    out.q[ROWS * COLS] = 99, out.scale[ROWS * STEPS] = 99, out.sum[ROWS * STEPS] = 99; /* guards */
    sgm_activations a = {.q = out.q, .scale = out.scale, .sum = out.sum};
    k->quantise(ROWS, COLS, x, LDX, &a);
    assert_true(out.q[ROWS * COLS] == 99 && out.scale[ROWS * STEPS] == 99 && out.sum[ROWS * STEPS] == 99);
    return out;
}

static void check_quantised(const char *table, const float *x, const quantised *got) {
    for (int64_t s = 0; s < ROWS * STEPS; s++) {
        const float *in = x + s / STEPS * LDX + s % STEPS * 32;
        const int8_t *q = got->q + s / STEPS * COLS + s % STEPS * 32;
        float most = 0;
        bool finite = true;
        for (int i = 0; i < 32; i++) {
            finite = finite && isfinite(in[i]);
            most = fmaxf(most, fabsf(in[i]));
        }
        bool some = finite && most >= 0x1p-100F;
        int32_t sum = 0;
        for (int i = 0; i < 32; i++) {
            int want = some ? (int)nearbyint((double)(in[i] * (127 / most))) : 0;
            if (q[i] != want)
                fail_msg("%s step %lld [%d]: %d, not %d, of %.9g", table, (long long)s, i, q[i], want, (double)in[i]);
            sum += want;
        }
        assert_int_equal(got->sum[s], sum);
        if (finite)
            assert_true(got->scale[s] == (some ? most / 127 : 0));
        else
            assert_true(isnan(got->scale[s]));
    }
}

static void activations_become_integers(void **state) {
    (void)state;
    const sgm_kernels *k;
    for (size_t t = 0; (k = sgm_kernels_at(t)) != NULL; t++) {
        if (!k->usable())
            continue;
        float x[ROWS * LDX];
        for (int round = 0; round < 200; round++) {
            float size = ldexpf(1, (int)(bits64() % 250) - 125);
            for (int i = 0; i < ROWS * LDX; i++)
                x[i] = uniform() * size;
            if (round % 4 == 1) /* ties: halves of the step when the largest is 127 */
                for (int i = 0; i < ROWS * LDX; i++)
                    x[i] = i % 8 ? (float)((int)(bits64() % 509) - 254) / 2 : 127;
            if (round % 4 == 2) /* one special value somewhere */
                x[bits64() % (ROWS * LDX)] = ((float[]){NAN, -NAN, INFINITY, -INFINITY})[bits64() % 4];
            if (round % 4 == 3) /* zeros of both signs, and the largest float */
                for (int i = 0; i < ROWS * LDX; i++)
                    x[i] = i < 300 ? (i % 2 ? -0.0F : 0.0F) : i % 3 ? FLT_MAX : -FLT_MAX;
            quantised got = quantise(k, x);
            check_quantised(k->name, x, &got);
        }
    }
}

/* Worked by hand: the largest of 32 is 127, so the scale is 1 and integers are rounded values. */
static void a_step_by_hand(void **state) {
    (void)state;
    const sgm_kernels *k;
    for (size_t t = 0; (k = sgm_kernels_at(t)) != NULL; t++) {
        if (!k->usable())
            continue;
        float x[ROWS * LDX] = {127, -127, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 126.5F, 0.49F, -3.51F};
        x[32] = -254; /* scale 2 */
        x[33] = 1, x[34] = 3, x[35] = 5;
        x[LDX] = 0x1p-101F; /* too small */
        quantised got = quantise(k, x);
        static const int8_t first[] = {127, -127, 0, 2, 2, 0, -2, 126, 0, -4, 0}, second[] = {-127, 0, 2, 2, 0};
        assert_memory_equal(got.q, first, sizeof first);
        assert_memory_equal(got.q + 32, second, sizeof second);
        assert_true(got.scale[0] == 1 && got.scale[1] == 2 && got.scale[STEPS] == 0 && got.q[COLS] == 0);
        assert_int_equal(got.sum[0], 127 - 127 + 2 + 2 - 2 + 126 - 4);
        assert_int_equal(got.sum[1], -127 + 2 + 2);
    }
}

/* A bad value makes its own row NaN and no other; zeros give zero, or C. */
static void special_of(const sgm_kernels *k, sgm_type type) {
    enum { M = 5, N = 19, K = 256, SPECIAL = 2, ZERO = 3 };
    static const float values[] = {NAN, INFINITY, -INFINITY};
    weights w = weights_new(type, N, K, 0, false);
    for (size_t v = 0; v < COUNT(values); v++) {
        float x[M * K], c[M * N];
        for (int i = 0; i < M * K; i++)
            x[i] = i / K == ZERO ? 0 : uniform();
        x[SPECIAL * K + 100] = values[v];
        int8_t q[M * K];
        float scale[M * K / 32];
        int32_t sum[M * K / 32];
        sgm_activations a = {x, K, q, scale, sum};
        k->quantise(M, K, x, K, &a);
        for (int i = 0; i < M * N; i++)
            c[i] = 3;
        k->matmul_typed(M, N, K, &a, type, w.memory.data, w.stride, c, N, true);
        for (int i = 0; i < M * N; i++)
            if (i / N == SPECIAL)
                assert_true(w.type->integer ? isnan(c[i]) : !isfinite(c[i]));
            else
                assert_true(i / N == ZERO ? c[i] == 3 : isfinite(c[i]));
    }
    weights_free(&w);
}

static void special_values(void **state) {
    (void)state;
    each(special_of);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),
        cmocka_unit_test(pieces),
        cmocka_unit_test(quality),
        cmocka_unit_test(activations_become_integers),
        cmocka_unit_test(a_step_by_hand),
        cmocka_unit_test(special_values),
        cmocka_unit_test(stored_like_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
