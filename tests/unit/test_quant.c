// SPDX-License-Identifier: Apache-2.0
/* Storage types: blocks written out by hand from the format's description, rounding worked by hand, round trips, error bounds,
 * what happens to zeros, huge, tiny and not finite values, fallbacks, and the 16-bit floats over all their patterns. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "quant/quant.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
enum { MOST_BYTES = 1024, N = 256 }; /* bytes of N elements in any type */

static uint64_t seed = 88172645463325252u;
static uint64_t bits64(void) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed;
}
static float uniform(void) { /* -1 … 1 */
    return (float)((double)(bits64() >> 11) * 0x1p-52 - 1.0);
}
static float normal(void) { /* nearly */
    float sum = 0;
    for (int i = 0; i < 12; i++)
        sum += uniform();
    return sum / 2;
}

/* ---- 16-bit floats ---- */

static void f16_over_all_patterns(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = sgm_f16_widen((uint16_t)h);
        int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
        double want = exponent == 0    ? ldexp(fraction, -24)
                      : exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
                                       : ldexp(1024 + fraction, exponent - 25);
        want = h >> 15 ? -want : want;
        assert_true(isnan(want) ? isnan(x) : (double)x == want && !signbit(x) == !(h >> 15));
        if (isnan(x)) {
            assert_true(isnan(sgm_f16_widen(sgm_f16_round(x))));
            continue;
        }
        assert_int_equal(sgm_f16_round(x), h);
        uint32_t next = (h & 0x7fff) + 1;
        if (next > 0x7c00)
            continue;
        /* Half way to the next one goes to the even one, a hair less stays, a hair more goes on. The step after the largest
         * would be 65536. */
        float up = next == 0x7c00 ? 65536.0F : sgm_f16_widen((uint16_t)next);
        float middle = (fabsf(x) + up) / 2;
        uint32_t even = h & 1 ? next : h & 0x7fff;
        assert_int_equal(sgm_f16_round(middle), even);
        assert_int_equal(sgm_f16_round(-middle), even | 0x8000);
        assert_int_equal(sgm_f16_round(nextafterf(middle, 0)), h & 0x7fff);
        assert_int_equal(sgm_f16_round(nextafterf(middle, INFINITY)), next);
    }
    assert_int_equal(sgm_f16_round(FLT_MAX), 0x7c00);
    assert_int_equal(sgm_f16_round(-INFINITY), 0xfc00);
    assert_int_equal(sgm_f16_round(FLT_TRUE_MIN), 0);
    assert_int_equal(sgm_f16_round(-0x1p-26F), 0x8000);
}

static void bf16_over_all_patterns(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = sgm_bf16_widen((uint16_t)h);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        assert_int_equal(bits, h << 16);
        if (isnan(x)) {
            assert_true(isnan(sgm_bf16_widen(sgm_bf16_round(x))));
            continue;
        }
        assert_int_equal(sgm_bf16_round(x), h);
        if (isinf(x))
            continue;
        uint32_t low[] = {h << 16 | 0x7fff, h << 16 | 0x8000, h << 16 | 0x8001};
        uint32_t want[] = {h, h + (h & 1), h + 1};
        for (int i = 0; i < 3; i++) {
            memcpy(&x, &low[i], sizeof x);
            assert_int_equal(sgm_bf16_round(x), want[i]);
        }
    }
    uint32_t payload = 0x7f800001; /* a NaN whose upper half alone would be infinity */
    float nan;
    memcpy(&nan, &payload, sizeof nan);
    assert_true(isnan(sgm_bf16_widen(sgm_bf16_round(nan))));
    assert_true(isnan(sgm_f16_widen(sgm_f16_round(nan))));
}

/* ---- blocks by hand ---- */

static void unpack_one(sgm_type type, const uint8_t *block, float *x) {
    sgm_quant_of(type)->unpack(sgm_quant_of(type)->block, block, x);
}

static void q8_0_by_hand(void **state) {
    (void)state;
    uint8_t block[34] = {0x00, 0x38, 0, 1, 0xff, 127, 0x80}; /* 0x3800 is one half */
    float x[32];
    unpack_one(SGM_TYPE_Q8_0, block, x);
    static const float want[] = {0, 0.5F, -0.5F, 63.5F, -64, 0};
    assert_memory_equal(x, want, sizeof want);
    /* Packing: the largest is 254, so d = 2; halves go away from zero. */
    float in[32] = {254, -254, 1, -1, 3, -3, 0.99F, 252.9F};
    uint8_t packed[34], wanted[34] = {0x00, 0x40, 127, 0x81, 1, 0xff, 2, 0xfe, 0, 126};
    sgm_quant_of(SGM_TYPE_Q8_0)->pack(32, in, packed);
    assert_memory_equal(packed, wanted, sizeof wanted);
}

static void q4_0_by_hand(void **state) {
    (void)state;
    uint8_t block[18] = {0x00, 0xbc}; /* -1 */
    for (int i = 0; i < 16; i++)
        block[2 + i] = (uint8_t)(i | (15 - i) << 4); /* elements 0-15: 0 … 15, elements 16-31: 15 … 0 */
    float x[32];
    unpack_one(SGM_TYPE_Q4_0, block, x);
    for (int i = 0; i < 16; i++)
        assert_true(x[i] == (float)(8 - i) && x[16 + i] == (float)(i - 7));
    /* Packing: 8 is farthest, so d = -1; 8 -> 0, 7 -> 1, -7 -> 15, -7.6 -> 15 (16 does not exist); 0.5 -> -0.5 + 8.5 = 8. */
    float in[32] = {8, 7, -7, -7.6F, 0.5F, 0.6F, -0.5F};
    in[16] = -1, in[17] = 3;
    uint8_t packed[18], wanted[18] = {0x00, 0xbc, 0x90, 0x51, 0x8f, 0x8f, 0x88, 0x87, 0x89,
                                      0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88};
    sgm_quant_of(SGM_TYPE_Q4_0)->pack(32, in, packed);
    assert_memory_equal(packed, wanted, sizeof wanted);
}

static void q5_0_by_hand(void **state) {
    (void)state;
    uint8_t block[22] = {0x00, 0x3c, 0x00, 0xff, 0xff, 0x00}; /* 1; high bits of elements 8 … 23 */
    for (int i = 0; i < 16; i++)
        block[6 + i] = (uint8_t)(i | 3 << 4);
    float x[32];
    unpack_one(SGM_TYPE_Q5_0, block, x);
    for (int i = 0; i < 16; i++) {
        assert_true(x[i] == (float)(i < 8 ? i - 16 : i));
        assert_true(x[16 + i] == (i < 8 ? 3.0F : -13.0F));
    }
    /* Packing: -16 is farthest, d = 1: -16 -> 0, 15 -> 31, 15.6 -> 31, 1.5 -> 18 (halves up), -1.5 -> 15. */
    float in[32] = {-16, 15, 15.6F, 1.5F, -1.5F};
    in[16] = 5, in[31] = -3;
    uint8_t packed[22], wanted[22] = {0x00, 0x3c, 0xee, 0xff, 0xff, 0x7f, 0x50, 0x0f, 0x0f, 0x02, 0x0f,
                                      0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0xd0};
    sgm_quant_of(SGM_TYPE_Q5_0)->pack(32, in, packed);
    assert_memory_equal(packed, wanted, sizeof wanted);
}

static void q4_k_by_hand(void **state) {
    (void)state;
    /* d = 1/2, dmin = 2. Sub-block 1: scale 5, minimum 3 (bytes 1 and 5). Sub-block 6: scale 0b110101 = 53: low nibble of byte
     * 8 + 2 is 0101, upper bits of byte 2 are 11; minimum 0b101001 = 41: high nibble of byte 10 is 1001, upper bits of byte 6
     * are 10. */
    uint8_t block[144] = {0x00, 0x38, 0x00, 0x40};
    uint8_t *scales = block + 4, *q = block + 16;
    scales[1] = 5, scales[5] = 3;
    scales[2] = 0xc0, scales[6] = 0x80, scales[10] = 0x95;
    q[0] = 0xf2, q[31] = 0x47;  /* elements 0, 31 of sub-blocks 0 (low) and 1 (high) */
    q[96] = 0x2d, q[97] = 0xe1; /* of sub-blocks 6 and 7 */
    float x[256];
    unpack_one(SGM_TYPE_Q4_K, block, x);
    assert_true(x[0] == 0 && x[31] == 0); /* sub-block 0 has scale 0 and minimum 0 */
    assert_true(x[32] == 15 * 2.5F - 6 && x[33] == -6 && x[63] == 4 * 2.5F - 6);
    assert_true(x[192] == 13 * 26.5F - 82 && x[193] == 26.5F - 82 && x[194] == -82);
    assert_true(x[224] == 0 && x[225] == 0);
    /* What 4 bits hold exactly is packed exactly: scales and minima that are themselves multiples of d and dmin. */
    float in[256], out[256];
    for (int i = 0; i < 256; i++) {
        int sub = i / 32, value = i % 32 < 16 ? i % 16 : 15 - i % 16;
        in[i] = (float)(value * (sub == 7 ? 63 : 8 * sub + 3)) - (sub == 2 ? 63.0F : (float)(7 * sub + 1));
    }
    uint8_t packed[144];
    sgm_quant_of(SGM_TYPE_Q4_K)->pack(256, in, packed);
    unpack_one(SGM_TYPE_Q4_K, packed, out);
    assert_memory_equal(in, out, sizeof in);
    assert_int_equal(packed[0] | packed[1] << 8, 0x3c00);
    assert_int_equal(packed[2] | packed[3] << 8, 0x3c00);
    assert_int_equal(packed[4] & 63, 3);   /* scale of sub-block 0 */
    assert_int_equal(packed[10] & 63, 63); /* minimum of sub-block 2 */
    assert_int_equal(packed[17], 0x11);    /* element 1 of sub-blocks 0 and 1 */
}

static void q6_k_by_hand(void **state) {
    (void)state;
    /* d = 1/4 at the end. Element 5: half 0, r = 5, low nibble of low[5], bits 0-1 of high[5], scale[0].
     * Element 70: r = 70, high nibble of low[6], bits 4-5 of high[6], scale[4].
     * Element 250: half 1, r = 122, high nibble of low[64 + 58], bits 6-7 of high[32 + 26], scale[15]. */
    uint8_t block[210] = {0};
    block[208] = 0x00, block[209] = 0x34;
    block[192 + 0] = 2, block[192 + 4] = 0xff, block[192 + 15] = 0x80; /* 2, -1, -128 */
    block[5] = 0x0e, block[128 + 5] = 0x03;                            /* 14 + 48 - 32 = 30 */
    block[6] = 0x90, block[128 + 6] = 0x10;                            /* 9 + 16 - 32 = -7 */
    block[64 + 58] = 0xb0, block[128 + 32 + 26] = 0x80;                /* 11 + 32 - 32 = 11 */
    float x[256];
    unpack_one(SGM_TYPE_Q6_K, block, x);
    assert_true(x[5] == 30 * 0.5F && x[70] == 7 * 0.25F && x[250] == -11 * 32.0F);
    assert_true(x[4] == -16 && x[64] == 8 && x[240] == 32 * 32.0F && x[100] == 0);
    /* What 6 bits hold exactly is packed exactly. */
    float in[256], out[256];
    for (int i = 0; i < 256; i++) {
        int scale = i / 16 == 3 ? -128 : i / 16 == 4 ? 127 : (i / 16) * 5 - 30;
        in[i] = (float)((i % 16 == 0 ? -32 : (i * 7) % 64 - 32) * scale) * 0.5F;
    }
    uint8_t packed[210];
    sgm_quant_of(SGM_TYPE_Q6_K)->pack(256, in, packed);
    unpack_one(SGM_TYPE_Q6_K, packed, out);
    for (int i = 0; i < 256; i++)
        assert_true(in[i] == out[i]);
    assert_int_equal(packed[208] | packed[209] << 8, 0x3800);
    assert_int_equal((int8_t)packed[192 + 3], -128);
}

/* ---- every type ---- */

/* Relative error (root of the ratio of squares) that normal deviates and uniform ones must stay under. */
static const double error_bound[SGM_TYPES] = {
    [SGM_TYPE_F32] = 0,      [SGM_TYPE_F16] = 0.0003, [SGM_TYPE_BF16] = 0.002, [SGM_TYPE_Q8_0] = 0.006,
    [SGM_TYPE_Q4_0] = 0.095, [SGM_TYPE_Q5_0] = 0.048, [SGM_TYPE_Q4_K] = 0.075, [SGM_TYPE_Q6_K] = 0.019,
};

static double relative_error(const sgm_quant *type, int64_t n, const float *x) {
    uint8_t *blocks = malloc(sgm_quant_row_bytes(type->type, n));
    float *read = malloc((size_t)n * sizeof *read);
    assert_true(blocks && read);
    type->pack(n, x, blocks);
    type->unpack(n, blocks, read);
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        off += ((double)read[i] - (double)x[i]) * ((double)read[i] - (double)x[i]);
        size += (double)x[i] * (double)x[i];
    }
    free(blocks), free(read);
    return sqrt(off / size);
}

static void errors_are_bounded(void **state) {
    (void)state;
    enum { ROW = 256 * 64 };
    static float x[ROW];
    for (size_t t = 0; t < SGM_TYPES; t++)
        for (int kind = 0; kind < 6; kind++) { /* the scale of the numbers must not matter */
            float size = kind < 3 ? 0.02F : 300;
            for (int i = 0; i < ROW; i++)
                x[i] = size * (kind % 3 == 0 ? normal() : kind % 3 == 1 ? uniform() : normal() + 0.3F);
            double error = relative_error(sgm_quant_at(t), ROW, x);
            if (!(error <= error_bound[t]))
                fail_msg("%s, kind %d: relative error %.5f", sgm_quant_at(t)->name, kind, error);
        }
}

/* Plain rounding between minimum and maximum, as the search of q4_k replaces it: 6-bit scales and minima, range over 15. */
static double plain_q4_k(const float *x) {
    float scale[8], low[8], most_scale = 0, most_low = 0;
    for (int j = 0; j < 8; j++) {
        float least = 0, most = x[32 * j];
        for (int i = 0; i < 32; i++) {
            least = fminf(least, x[32 * j + i]);
            most = fmaxf(most, x[32 * j + i]);
        }
        scale[j] = (most - least) / 15, low[j] = -least;
        most_scale = fmaxf(most_scale, scale[j]), most_low = fmaxf(most_low, low[j]);
    }
    float d = sgm_f16_widen(sgm_f16_round(most_scale / 63)), dmin = sgm_f16_widen(sgm_f16_round(most_low / 63));
    double off = 0;
    for (int i = 0; i < 256; i++) {
        float s = d * fminf(63, rintf(scale[i / 32] / d)), m = dmin * fminf(63, rintf(low[i / 32] / dmin));
        float q = fmaxf(0, fminf(15, rintf((x[i] + m) / s)));
        off += pow((double)(s * q - m - x[i]), 2);
    }
    return off;
}

static double plain_q6_k(const float *x) {
    float scale[16], most_scale = 0;
    for (int j = 0; j < 16; j++) {
        float most = 0;
        for (int i = 0; i < 16; i++)
            most = fmaxf(most, fabsf(x[16 * j + i]));
        scale[j] = most / 31;
        most_scale = fmaxf(most_scale, scale[j]);
    }
    float d = sgm_f16_widen(sgm_f16_round(most_scale / 127));
    double off = 0;
    for (int i = 0; i < 256; i++) {
        float s = d * fminf(127, rintf(scale[i / 16] / d));
        float q = fmaxf(-32, fminf(31, rintf(x[i] / s)));
        off += pow((double)(s * q - x[i]), 2);
    }
    return off;
}

/* The search pays: squared error well under that of plain rounding. */
static void searching_beats_plain_rounding(void **state) {
    (void)state;
    double found[2] = {0}, plain[2] = {0};
    for (int b = 0; b < 200; b++) {
        float x[256], read[256];
        uint8_t block[MOST_BYTES];
        for (int i = 0; i < 256; i++)
            x[i] = normal();
        static const sgm_type types[] = {SGM_TYPE_Q4_K, SGM_TYPE_Q6_K};
        for (int t = 0; t < 2; t++) {
            sgm_quant_of(types[t])->pack(256, x, block);
            unpack_one(types[t], block, read);
            for (int i = 0; i < 256; i++)
                found[t] += pow((double)(read[i] - x[i]), 2);
        }
        plain[0] += plain_q4_k(x);
        plain[1] += plain_q6_k(x);
    }
    print_message("squared error of the search / of plain rounding: q4_k %.3f, q6_k %.3f\n", found[0] / plain[0],
                  found[1] / plain[1]);
    assert_true(found[0] < 0.9 * plain[0]);
    assert_true(found[1] < 0.9 * plain[1]);
}

/* What was read once is read again after packing it: exactly with floats, up to the rounding of a new scale with one scale a
 * block; a search may settle on another scale, within the type's error. */
static void what_was_packed_stays(void **state) {
    (void)state;
    for (size_t t = 0; t < SGM_TYPES; t++) {
        const sgm_quant *type = sgm_quant_at(t);
        for (int round = 0; round < 100; round++) {
            float x[N], once[N], twice[N];
            uint8_t blocks[MOST_BYTES];
            for (int i = 0; i < N; i++)
                x[i] = normal() * ldexpf(1, round % 20 - 10);
            type->pack(N, x, blocks);
            type->unpack(N, blocks, once);
            type->pack(N, once, blocks);
            type->unpack(N, blocks, twice);
            double off = 0, size = 0;
            for (int i = 0; i < N; i++) {
                double change = fabs((double)twice[i] - (double)once[i]);
                off += change * change;
                size += (double)once[i] * (double)once[i];
                if (type->block <= 32 && !(change <= (type->integer ? 0x1p-10 * fabs((double)once[i]) : 0)))
                    fail_msg("%s: %.9g became %.9g", type->name, (double)once[i], (double)twice[i]);
            }
            assert_true(sqrt(off / size) <= error_bound[t]);
        }
    }
}

static void zeros_stay_zero(void **state) {
    (void)state;
    for (size_t t = 0; t < SGM_TYPES; t++) {
        float x[N] = {0}, read[N];
        uint8_t blocks[MOST_BYTES];
        sgm_quant_at(t)->pack(N, x, blocks);
        sgm_quant_at(t)->unpack(N, blocks, read);
        for (int i = 0; i < N; i++)
            assert_true(read[i] == 0);
    }
}

/* Equal elements, of either sign: one number stands for all of them. */
static void constants_are_kept(void **state) {
    (void)state;
    for (size_t t = 0; t < SGM_TYPES; t++)
        for (int sign = -1; sign < 2; sign += 2) {
            float x[N], read[N];
            uint8_t blocks[MOST_BYTES];
            for (int i = 0; i < N; i++)
                x[i] = 0.7F * (float)sign;
            sgm_quant_at(t)->pack(N, x, blocks);
            sgm_quant_at(t)->unpack(N, blocks, read);
            for (int i = 0; i < N; i++)
                if (!(fabsf(read[i] - x[i]) <= 0.005F))
                    fail_msg("%s: %.9g became %.9g", sgm_quant_at(t)->name, (double)x[i], (double)read[i]);
        }
}

/* Values no block can hold: reading gives finite numbers of the right sign; NaN counts as 0. Float types say what they are. */
static void extreme_values(void **state) {
    (void)state;
    static const float extremes[] = {FLT_MAX,       -FLT_MAX,     INFINITY,   -INFINITY, 1e30F, -1e7F,  FLT_MIN,
                                     -FLT_TRUE_MIN, FLT_TRUE_MIN, -0x1p-127F, 1e-20F,    1e-8F, -3e-7F, NAN};
    for (size_t t = 0; t < SGM_TYPES; t++)
        for (size_t e = 0; e < COUNT(extremes); e++)
            for (int others = 0; others < 4; others++) {
                const sgm_quant *type = sgm_quant_at(t);
                float x[N], read[N];
                uint8_t blocks[MOST_BYTES];
                for (int i = 0; i < N; i++)
                    x[i] = others == 0 ? extremes[e] : others == 1 ? 0 : others == 2 ? uniform() : -extremes[e];
                x[37] = extremes[e];
                type->pack(N, x, blocks);
                type->unpack(N, blocks, read);
                if (!type->integer) {
                    float want = t == SGM_TYPE_F32   ? extremes[e]
                                 : t == SGM_TYPE_F16 ? sgm_f16_widen(sgm_f16_round(extremes[e]))
                                                     : sgm_bf16_widen(sgm_bf16_round(extremes[e]));
                    assert_true(isnan(want) ? isnan(read[37]) : read[37] == want);
                    continue;
                }
                for (int i = 0; i < N; i++)
                    assert_true(isfinite(read[i]));
                if (fabsf(extremes[e]) > 1e6F)
                    assert_true(fabsf(read[37]) > 1e5F && signbit(read[37]) == signbit(extremes[e]));
                if (isnan(extremes[e]) && others < 2)
                    assert_true(read[37] == 0);
            }
}

/* No byte pattern in a file is trouble to read (the sanitizers watch). */
static void any_bytes_can_be_read(void **state) {
    (void)state;
    for (size_t t = 0; t < SGM_TYPES; t++)
        for (int round = 0; round < 2000; round++) {
            uint8_t blocks[MOST_BYTES];
            float x[N];
            for (size_t i = 0; i < sizeof blocks; i++)
                blocks[i] = round ? (uint8_t)bits64() : 0xff;
            sgm_quant_at(t)->unpack(N, blocks, x);
            if (round == 0) /* all ones is a NaN in every type's floats */
                assert_true(isnan(x[0]));
        }
}

/* ---- types by name, number and row ---- */

static void types_are_found(void **state) {
    (void)state;
    static const struct {
        const char *name;
        sgm_type type;
        uint32_t gguf;
        int64_t block;
        size_t bytes;
    } want[] = {
        {"f32", SGM_TYPE_F32, 0, 1, 4},        {"f16", SGM_TYPE_F16, 1, 1, 2},
        {"bf16", SGM_TYPE_BF16, 30, 1, 2},     {"q8_0", SGM_TYPE_Q8_0, 8, 32, 34},
        {"q4_0", SGM_TYPE_Q4_0, 2, 32, 18},    {"q5_0", SGM_TYPE_Q5_0, 6, 32, 22},
        {"q4_k", SGM_TYPE_Q4_K, 12, 256, 144}, {"q6_k", SGM_TYPE_Q6_K, 14, 256, 210},
    };
    assert_int_equal(COUNT(want), SGM_TYPES);
    for (size_t i = 0; i < COUNT(want); i++) {
        const sgm_quant *type = sgm_quant_find(want[i].name);
        assert_non_null(type);
        assert_true(type->type == want[i].type && type->gguf == want[i].gguf && type->block == want[i].block &&
                    type->block_bytes == want[i].bytes);
        assert_ptr_equal(type, sgm_quant_of(want[i].type));
        assert_ptr_equal(type, sgm_quant_of_gguf(want[i].gguf));
        assert_ptr_equal(type, sgm_quant_at(i));
        assert_int_equal(type->integer, want[i].block > 1);
        assert_int_equal(sgm_quant_row_bytes(type->type, 768), (768 / want[i].block) * (int64_t)want[i].bytes);
    }
    assert_null(sgm_quant_at(SGM_TYPES));
    assert_null(sgm_quant_find("q4_1"));
    assert_null(sgm_quant_of_gguf(3));
    assert_null(sgm_quant_of_gguf(UINT32_MAX));
}

static void rows_fall_back(void **state) {
    (void)state;
    static const struct {
        sgm_type wanted;
        int64_t cols;
        sgm_type got;
    } rows[] = {
        {SGM_TYPE_Q4_K, 512, SGM_TYPE_Q4_K}, {SGM_TYPE_Q4_K, 192, SGM_TYPE_Q5_0}, {SGM_TYPE_Q4_K, 100, SGM_TYPE_F16},
        {SGM_TYPE_Q6_K, 768, SGM_TYPE_Q6_K}, {SGM_TYPE_Q6_K, 96, SGM_TYPE_Q8_0},  {SGM_TYPE_Q6_K, 33, SGM_TYPE_F16},
        {SGM_TYPE_Q8_0, 32, SGM_TYPE_Q8_0},  {SGM_TYPE_Q8_0, 48, SGM_TYPE_F16},   {SGM_TYPE_Q4_0, 96, SGM_TYPE_Q4_0},
        {SGM_TYPE_Q4_0, 1, SGM_TYPE_F16},    {SGM_TYPE_Q5_0, 31, SGM_TYPE_F16},   {SGM_TYPE_F32, 7, SGM_TYPE_F32},
        {SGM_TYPE_F16, 7, SGM_TYPE_F16},     {SGM_TYPE_BF16, 7, SGM_TYPE_BF16},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(sgm_quant_for_row(rows[i].wanted, rows[i].cols), rows[i].got);
}

static void rows_of_a_matrix(void **state) {
    (void)state;
    for (size_t t = 0; t < SGM_TYPES; t++) {
        const sgm_quant *type = sgm_quant_at(t);
        uint8_t data[4 * (MOST_BYTES + 8)];
        float x[3][N], read[N], want[N];
        size_t stride = sgm_quant_row_bytes(type->type, N) + 8;
        for (int r = 0; r < 3; r++) {
            for (int i = 0; i < N; i++)
                x[r][i] = normal();
            type->pack(N, x[r], data + (size_t)r * stride);
        }
        sgm_matrix matrix = {type->type, 3, N, data, stride};
        for (int r = 0; r < 3; r++) {
            sgm_matrix_unpack_row(&matrix, r, read);
            type->unpack(N, data + (size_t)r * stride, want);
            assert_memory_equal(read, want, sizeof read);
            assert_true(fabsf(read[0] - x[r][0]) < 0.3F);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_over_all_patterns),
        cmocka_unit_test(bf16_over_all_patterns),
        cmocka_unit_test(q8_0_by_hand),
        cmocka_unit_test(q4_0_by_hand),
        cmocka_unit_test(q5_0_by_hand),
        cmocka_unit_test(q4_k_by_hand),
        cmocka_unit_test(q6_k_by_hand),
        cmocka_unit_test(errors_are_bounded),
        cmocka_unit_test(searching_beats_plain_rounding),
        cmocka_unit_test(what_was_packed_stays),
        cmocka_unit_test(zeros_stay_zero),
        cmocka_unit_test(constants_are_kept),
        cmocka_unit_test(extreme_values),
        cmocka_unit_test(any_bytes_can_be_read),
        cmocka_unit_test(types_are_found),
        cmocka_unit_test(rows_fall_back),
        cmocka_unit_test(rows_of_a_matrix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
