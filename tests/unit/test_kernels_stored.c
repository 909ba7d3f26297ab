// SPDX-License-Identifier: Apache-2.0
/* Products with stored weights: every table that runs here against the reference, byte for byte, over shapes that hit
 * every path (panels and their tails, steps of 256 and what is left, one row, few, many). Weights end where a page that
 * must not be touched begins, as those of a mapped file may, and begin at odd addresses. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "kernel/kernels.h"
#include "quant/quant.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static uint64_t state = 88172645463325252u;
static uint32_t bits(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 24);
}
static float uniform(void) { /* -1 … 1 */
    return (float)((double)bits() * 0x1p-31 - 1.0);
}
static void *take(size_t bytes) {
    void *p = sgm_alloc(bytes);
    assert_non_null(p);
    return p;
}

/* `bytes` in front of a page without access. */
typedef struct guarded {
    uint8_t *map, *data;
    size_t size;
} guarded;

static guarded guard(size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guarded g = {.size = (bytes + page - 1) / page * page + page};
    g.map = mmap(NULL, g.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + g.size - page, page, PROT_NONE), 0);
    g.data = g.map + g.size - page - bytes;
    return g;
}

static sgm_activations activations(int64_t M, int64_t K) {
    sgm_activations a = {.ldx = K + 3};
    float *x = take((size_t)(M * a.ldx + 1) * sizeof *x);
    for (int64_t i = 0; i < M * a.ldx; i++)
        x[i] = uniform();
    a.x = x;
    a.q = take((size_t)(M * K + 1));
    a.scale = take((size_t)(M * K / 32 + 1) * sizeof *a.scale);
    a.sum = take((size_t)(M * K / 32 + 1) * sizeof *a.sum);
    if (K % 32 == 0)
        sgm_kernels_at(0)->quantise(M, K, x, a.ldx, &a);
    return a;
}
static void release(sgm_activations *a) {
    sgm_free((void *)(uintptr_t)a->x), sgm_free(a->q), sgm_free(a->scale), sgm_free(a->sum);
}

/* Rows: packed numbers, and for every third row any bits (all integers, scales of both signs, but finite ones). */
static void fill(const sgm_quant *quant, int64_t N, int64_t K, uint8_t *B, size_t stride) {
    float *x = take((size_t)K * sizeof *x + 1);
    for (int64_t n = 0; n < N; n++) {
        uint8_t *row = B + (size_t)n * stride;
        for (int64_t k = 0; k < K; k++)
            x[k] = uniform();
        quant->pack(K, x, row);
        if (n % 3 || !quant->integer)
            continue;
        for (int64_t b = 0; b < K / quant->block; b++) {
            uint8_t *block = row + (size_t)b * quant->block_bytes;
            for (size_t i = 0; i < quant->block_bytes; i++)
                block[i] = (uint8_t)bits();
            uint8_t *scale = block + (quant->type == SGM_TYPE_Q6_K ? 208 : 0);
            scale[1] &= 0xBF; /* below 2 */
            if (quant->type == SGM_TYPE_Q4_K)
                scale[3] &= 0xBF;
        }
    }
    sgm_free(x);
}

static void check(const sgm_kernels *k, sgm_type type, int64_t M, int64_t N, int64_t K, bool add) {
    const sgm_quant *quant = sgm_quant_of(type);
    const size_t row_bytes = sgm_quant_row_bytes(type, K), stride = row_bytes + (add ? 5 * (N % 2 ? 1u : 4u) : 0);
    guarded g = guard(N > 0 ? (size_t)(N - 1) * stride + row_bytes : 0);
    fill(quant, N, K, g.data, stride);
    sgm_activations a = activations(M, K);
    const int64_t ldc = N + (add ? 7 : 0);
    float *C = take((size_t)(M * ldc + 1) * sizeof *C), *want = take((size_t)(M * ldc + 1) * sizeof *want);
    for (int64_t i = 0; i < M * ldc; i++)
        C[i] = want[i] = uniform();
    sgm_kernels_at(0)->matmul_typed(M, N, K, &a, type, g.data, stride, want, ldc, add);
    k->matmul_typed(M, N, K, &a, type, g.data, stride, C, ldc, add);
    for (int64_t i = 0; i < M * ldc; i++)
        if (memcmp(&C[i], &want[i], sizeof *C) != 0)
            fail_msg("%s, %s, %lldx%lldx%lld%s: element %lld of row %lld is %.9g, not %.9g", k->name, quant->name,
                     (long long)M, (long long)N, (long long)K, add ? " added" : "", (long long)(i % ldc),
                     (long long)(i / ldc), (double)C[i], (double)want[i]);
    sgm_free(C), sgm_free(want);
    release(&a);
    munmap(g.map, g.size);
}

static void each_table(void (*of)(const sgm_kernels *k, sgm_type type)) {
    const sgm_kernels *k;
    for (size_t i = 1; (k = sgm_kernels_at(i)) != NULL; i++)
        for (int type = 0; k->usable() && type < SGM_TYPES; type++)
            of(k, (sgm_type)type);
}

/* A table with bf16 dot products adds groups; its tolerance is test_kernels_typed's. */
static bool to_the_byte(const sgm_kernels *k, sgm_type type) {
    return type != SGM_TYPE_BF16 || k->bf16_group == 1;
}

static void shapes(const sgm_kernels *k, sgm_type type) {
    static const int64_t rows[] = {1, 2, 5, 8, 9, 12, 70}, cols[] = {1, 7, 8, 16, 17, 31, 32, 49};
    static const int64_t depths[] = {32, 64, 96, 224, 256, 288, 512, 544, 768};
    if (!to_the_byte(k, type))
        return;
    for (size_t m = 0; m < COUNT(rows); m++)
        for (size_t n = 0; n < COUNT(cols); n++)
            for (size_t d = 0; d < COUNT(depths); d++)
                if (depths[d] % sgm_quant_of(type)->block == 0)
                    check(k, type, rows[m], cols[n], depths[d], (m + n + d) % 2 != 0);
    for (int64_t m = 1; m <= 70; m++)
        check(k, type, m, 33, 256, m % 2 != 0);
    check(k, type, 0, 4, 256, false);
    check(k, type, 4, 0, 256, false);
    check(k, type, 4, 20, 0, false);
    check(k, type, 4, 20, 0, true);
}

/* More blocks than are prepared at once: sums pass through C. */
static void long_rows(const sgm_kernels *k, sgm_type type) {
    if (!to_the_byte(k, type))
        return;
    check(k, type, 1, 3, 135168, false);
    check(k, type, 8, 17, 17152, true);
    check(k, type, 65, 33, 4608, false);
}

static void test_shapes(void **unused) {
    (void)unused;
    each_table(shapes);
}
static void test_long_rows(void **unused) {
    (void)unused;
    each_table(long_rows);
}

/* The same activations from every table: ordinary ones, ties, zeros, tiny and huge ones, NaN, infinities. */
static void test_quantise(void **unused) {
    (void)unused;
    enum { ROWS = 40, COLS = 96 };
    static float x[ROWS * (COLS + 1)];
    static int8_t q[2][ROWS * COLS];
    static float scale[2][ROWS * 3];
    static int32_t sum[2][ROWS * 3];
    const sgm_kernels *k;
    for (size_t t = 1; (k = sgm_kernels_at(t)) != NULL; t++) {
        if (!k->usable())
            continue;
        for (int i = 0; i < ROWS * (COLS + 1); i++)
            x[i] = ldexpf(uniform(), i / (COLS + 1) * 6 - 120);
        for (int i = 0; i < 32; i++) { /* scale 1, halves: ties; all zero; one of each special value */
            x[i] = i ? (float)i - 0.5F : 127;
            x[32 + i] = -0.0F;
            x[(COLS + 1) + i] = i == 31 ? NAN : 1;
            x[(COLS + 1) + 32 + i] = i == 7 ? -INFINITY : 1;
            x[(COLS + 1) + 64 + i] = i == 20 ? -FLT_MAX : 1e30F;
            x[2 * (COLS + 1) + i] = i == 1 ? 0x1p-100F : 0x1p-101F;
            x[2 * (COLS + 1) + 32 + i] = 0x1.fffffep-101F;
            x[2 * (COLS + 1) + 64 + i] = FLT_TRUE_MIN;
        }
        for (int which = 0; which < 2; which++) {
            const sgm_activations a = {.q = q[which], .scale = scale[which], .sum = sum[which]};
            (which ? k : sgm_kernels_at(0))->quantise(ROWS, COLS, x, COLS + 1, &a);
        }
        assert_memory_equal(q[0], q[1], sizeof q[0]);
        assert_memory_equal(sum[0], sum[1], sizeof sum[0]);
        for (int i = 0; i < ROWS * 3; i++)
            assert_true(isnan(scale[0][i]) ? isnan(scale[1][i]) : scale[0][i] == scale[1][i]);
        assert_true(isnan(scale[1][3]) && isnan(scale[1][4]) && scale[1][1] == 0 && scale[1][8] == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_long_rows),
        cmocka_unit_test(test_quantise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
