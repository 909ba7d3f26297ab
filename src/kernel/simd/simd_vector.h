// SPDX-License-Identifier: Apache-2.0
/* Norms, softmax, SwiGLU and optimizer for any vector width: included by one .c file of each table after its
 * vec_<table>.h and simd_matmul.h. Tails run the same instructions under a mask, so an element's result does not depend
 * on its place in the row. Sums: vector v of a row goes to running sum v mod SUMS, these are added 0+2, 1+3, 0+1, then
 * the lanes by halves (but sum_squares: see there): an order that depends on the length alone. */
#include <math.h>

#include "base/elementary_inline.h"

#define SUMS 4

INLINE vec get(const float *p, int64_t count) {
    return count >= WIDTH ? v_load(p) : v_load_tail(p, v_mask(count));
}
INLINE void put(float *p, int64_t count, vec x) {
    if (count >= WIDTH)
        v_store(p, x);
    else
        v_store_tail(p, v_mask(count), x);
}

static float add_lanes(vec x) {
    float lanes[WIDTH];
    v_store(lanes, x);
    for (int step = WIDTH / 2; step > 0; step /= 2)
        for (int j = 0; j < step; j++)
            lanes[j] += lanes[j + step];
    return lanes[0];
}

static float add_sums(const vec sum[SUMS]) {
    return add_lanes(v_add(v_add(sum[0], sum[2]), v_add(sum[1], sum[3])));
}

/* As sgm_expf_inline, with fused multiply-adds. */
INLINE vec v_exp(vec x) {
    x = v_min(v_set(SGM_EXPF_MAX), x); /* the second operand where it is NaN */
    x = v_max(v_set(SGM_EXPF_MIN), x);
    vec n = v_round(v_mul(x, v_set(SGM_LOG2E_F)));
    vec r = v_fnma(n, v_set(SGM_LN2_LO_F), v_fnma(n, v_set(SGM_LN2_HI_F), x));
    vec p = v_set(1.0F / 5040.0F);
    p = v_fma(p, r, v_set(1.0F / 720.0F));
    p = v_fma(p, r, v_set(1.0F / 120.0F));
    p = v_fma(p, r, v_set(1.0F / 24.0F));
    p = v_fma(p, r, v_set(1.0F / 6.0F));
    p = v_fma(p, r, v_set(0.5F));
    p = v_fma(p, r, v_set(1.0F));
    p = v_fma(p, r, v_set(1.0F));
    return v_scale2(p, n);
}

INLINE vec v_sigmoid(vec x) {
    return v_div(v_set(1), v_add(v_set(1), v_exp(v_sub(v_set(0), x))));
}

static float dot(int64_t n, const float *x, const float *y) {
    vec sum[SUMS];
    UNROLL
    for (int v = 0; v < SUMS; v++)
        sum[v] = v_set(0);
    int64_t i = 0;
    for (; i + SUMS * WIDTH <= n; i += SUMS * WIDTH)
        UNROLL
    for (int v = 0; v < SUMS; v++)
        sum[v] = v_fma(v_load(x + i + v * WIDTH), v_load(y + i + v * WIDTH), sum[v]);
    UNROLL
    for (int v = 0; v < SUMS; v++) {
        if (i < n)
            sum[v] = v_fma(get(x + i, n - i), get(y + i, n - i), sum[v]);
        i += WIDTH;
    }
    return add_sums(sum);
}

static void rms_norm(int64_t rows, int64_t cols, const float *x, int64_t ldx, const float *gain, double epsilon,
                     float *y, int64_t ldy, float *inv) {
    for (int64_t i = 0; i < rows; i++) {
        const float *in = x + i * ldx;
        float *out = y + i * ldy;
        float factor = (float)(1.0 / sqrt((double)dot(cols, in, in) / (double)cols + epsilon));
        for (int64_t j = 0; j < cols; j += WIDTH) {
            int64_t left = cols - j;
            put(out + j, left, v_mul(v_mul(get(in + j, left), v_set(factor)), get(gain + j, left)));
        }
        if (inv)
            inv[i] = factor;
    }
}

static void rms_norm_backward(int64_t rows, int64_t cols, const float *x, int64_t ldx, const float *gain,
                              const float *inv, const float *dy, int64_t lddy, float *dx, int64_t lddx, bool add) {
    for (int64_t i = 0; i < rows; i++) {
        const float *in = x + i * ldx, *up = dy + i * lddy;
        float *out = dx + i * lddx;
        vec sum[SUMS];
        UNROLL
        for (int v = 0; v < SUMS; v++)
            sum[v] = v_set(0);
        for (int64_t j = 0; j < cols; j += SUMS * WIDTH)
            UNROLL
        for (int v = 0; v < SUMS; v++) {
            int64_t at = j + v * WIDTH, left = cols - at;
            if (left > 0)
                sum[v] = v_fma(v_mul(get(up + at, left), get(gain + at, left)), get(in + at, left), sum[v]);
        }
        double mean = (double)add_sums(sum) / (double)cols;
        vec factor = v_set((float)((double)inv[i] * (double)inv[i] * mean)), scale = v_set(inv[i]);
        for (int64_t j = 0; j < cols; j += WIDTH) {
            int64_t left = cols - j;
            vec inner = v_fnma(get(in + j, left), factor, v_mul(get(up + j, left), get(gain + j, left)));
            put(out + j, left, add ? v_fma(scale, inner, get(out + j, left)) : v_mul(scale, inner));
        }
    }
}

static void rms_norm_gain(int64_t rows, int64_t cols, const float *x, int64_t ldx, const float *inv, const float *dy,
                          int64_t lddy, float *dgain) {
    for (int64_t j = 0; j < cols; j += SUMS * WIDTH) {
        vec sum[SUMS];
        UNROLL
        for (int v = 0; v < SUMS; v++)
            sum[v] = cols - j - v * WIDTH > 0 ? get(dgain + j + v * WIDTH, cols - j - v * WIDTH) : v_set(0);
        for (int64_t i = 0; i < rows; i++) {
            const float *in = x + i * ldx + j, *up = dy + i * lddy + j;
            vec scale = v_set(inv[i]);
            UNROLL
            for (int v = 0; v < SUMS; v++) {
                int64_t left = cols - j - v * WIDTH;
                if (left > 0)
                    sum[v] = v_fma(get(up + v * WIDTH, left), v_mul(get(in + v * WIDTH, left), scale), sum[v]);
            }
        }
        UNROLL
        for (int v = 0; v < SUMS; v++)
            if (cols - j - v * WIDTH > 0)
                put(dgain + j + v * WIDTH, cols - j - v * WIDTH, sum[v]);
    }
}

static float max(int64_t n, const float *x) {
    vec most = v_set(-INFINITY);
    bool nan = false;
    for (int64_t i = 0; i < n; i += WIDTH) {
        vec value = get(x + i, n - i);
        if (n - i < WIDTH)
            value = v_select(v_set(-INFINITY), value, v_mask(n - i));
        nan |= v_any_nan(value);
        most = v_max(most, value);
    }
    if (nan)
        return NAN;
    float lanes[WIDTH];
    v_store(lanes, most);
    for (int step = WIDTH / 2; step > 0; step /= 2)
        for (int j = 0; j < step; j++)
            lanes[j] = lanes[j] > lanes[j + step] ? lanes[j] : lanes[j + step];
    return lanes[0];
}

static float exp_sum(int64_t n, const float *x, float scale, float shift, float *y) {
    vec sum = v_set(0), s = v_set(scale), t = v_set(shift);
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        vec value = v_exp(v_sub(v_mul(v_load(x + i), s), t));
        sum = v_add(sum, value);
        v_store(y + i, value);
    }
    if (i < n) {
        vmask mask = v_mask(n - i);
        vec value = v_exp(v_sub(v_mul(v_load_tail(x + i, mask), s), t));
        sum = v_add(sum, v_select(v_set(0), value, mask));
        v_store_tail(y + i, mask, value);
    }
    return add_lanes(sum);
}

static void scale(int64_t n, float a, const float *x, float *y) {
    for (int64_t i = 0; i < n; i += WIDTH)
        put(y + i, n - i, v_mul(v_set(a), get(x + i, n - i)));
}

static void softmax(int64_t rows, int64_t cols, const float *x, int64_t ldx, float *y, int64_t ldy) {
    for (int64_t i = 0; i < rows; i++) {
        float most = max(cols, x + i * ldx);
        float sum = exp_sum(cols, x + i * ldx, 1, most, y + i * ldy);
        scale(cols, 1 / sum, y + i * ldy, y + i * ldy);
    }
}

static void swiglu(int64_t n, const float *gate, const float *up, float *h) {
    for (int64_t i = 0; i < n; i += WIDTH) {
        int64_t left = n - i;
        vec g = get(gate + i, left);
        put(h + i, left, v_mul(v_mul(g, v_sigmoid(g)), get(up + i, left)));
    }
}

static void swiglu_backward(int64_t n, const float *gate, const float *up, const float *dh, float *dgate, float *dup) {
    for (int64_t i = 0; i < n; i += WIDTH) {
        int64_t left = n - i;
        vec g = get(gate + i, left), u = get(up + i, left), d = get(dh + i, left), s = v_sigmoid(g), one = v_set(1);
        vec slope = v_mul(s, v_fma(g, v_sub(one, s), one));
        put(dgate + i, left, v_mul(v_mul(d, u), slope));
        put(dup + i, left, v_mul(d, v_mul(g, s)));
    }
}

static void axpy(int64_t n, float a, const float *x, float *y) {
    for (int64_t i = 0; i < n; i += WIDTH)
        put(y + i, n - i, v_fma(v_set(a), get(x + i, n - i), get(y + i, n - i)));
}

enum { LINE_FLOATS = 16 }; /* in a line of the caches */

/* Four runs at once where there is enough: of one alone a processor does not ask memory for as much as it could. */
static double sum_squares(int64_t n, const float *x) {
    enum { RUNS = 4, FAR = 1024 }; /* bytes asked for ahead */
    vsquares sum[RUNS] = {v_no_squares(), v_no_squares(), v_no_squares(), v_no_squares()};
    double lanes[RUNS * WIDTH];
    const int64_t run = n / RUNS / LINE_FLOATS * LINE_FLOATS;
    for (int64_t i = 0; i < run; i += LINE_FLOATS)
        for (int r = 0; r < RUNS; r++) {
            const float *at = x + r * run + i;
            __builtin_prefetch((const void *)((uintptr_t)at + FAR), 0, 3);
            for (int j = 0; j < LINE_FLOATS; j += WIDTH)
                v_add_squares(&sum[r], v_load(at + j));
        }
    for (int64_t i = RUNS * run; i < n; i += WIDTH)
        v_add_squares(&sum[0], get(x + i, n - i));
    for (int r = 0; r < RUNS; r++)
        v_store_squares(lanes + r * WIDTH, &sum[r]);
    for (int step = RUNS * WIDTH / 2; step > 0; step /= 2)
        for (int j = 0; j < step; j++)
            lanes[j] += lanes[j + step];
    return lanes[0];
}

static void adamw(int64_t n, const sgm_adamw_step *step, const float *gradient, float *weight, float *moment1,
                  float *moment2) {
    /* Everything that does not depend on the element is formed in f64 and rounded once. */
    const vec clip = v_set((float)step->gradient_scale);
    const vec keep1 = v_set((float)step->beta1), take1 = v_set((float)(1.0 - step->beta1));
    const vec keep2 = v_set((float)step->beta2), take2 = v_set((float)(1.0 - step->beta2));
    const vec rate = v_set((float)(step->learning_rate / step->correction1));
    const vec decay = v_set((float)(step->learning_rate * step->weight_decay));
    const vec root = v_set((float)(1.0 / sqrt(step->correction2))), epsilon = v_set((float)step->epsilon);
    for (int64_t i = 0; i < n; i += WIDTH) {
        int64_t left = n - i;
        vec g = v_mul(get(gradient + i, left), clip), w = get(weight + i, left);
        vec m = v_fma(keep1, get(moment1 + i, left), v_mul(take1, g));
        vec v = v_fma(keep2, get(moment2 + i, left), v_mul(take2, v_mul(g, g)));
        put(moment1 + i, left, m);
        put(moment2 + i, left, v);
        vec change = v_div(v_mul(rate, m), v_fma(v_sqrt(v), root, epsilon));
        put(weight + i, left, v_sub(w, v_fma(decay, w, change)));
    }
}

#define SIMD_ENTRIES                                                                                                   \
    .matmul_nt = matmul_nt, .matmul_nn = matmul_nn, .matmul_tn = matmul_tn, .rms_norm = rms_norm,                      \
    .rms_norm_backward = rms_norm_backward, .rms_norm_gain = rms_norm_gain, .softmax = softmax, .max = max,            \
    .exp_sum = exp_sum, .swiglu = swiglu, .swiglu_backward = swiglu_backward, .dot = dot, .axpy = axpy,                \
    .scale = scale, .sum_squares = sum_squares, .adamw = adamw
