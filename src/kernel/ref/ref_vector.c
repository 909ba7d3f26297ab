// SPDX-License-Identifier: Apache-2.0
/* Reference kernels on rows and vectors: norms, softmax, SwiGLU, optimizer. The order of sums is fixed in ref.h. */
#include "kernel/ref/ref.h"

#include "base/elementary_inline.h"

void sgm_ref_rms_norm(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, const sgm_real *gain, double epsilon,
                      sgm_real *y, int64_t ldy, sgm_real *inv) {
    for (int64_t i = 0; i < rows; i++) {
        const sgm_real *in = x + i * ldx;
        sgm_real *out = y + i * ldy;
        double mean = (double)sgm_ref_dot(cols, in, in) / (double)cols;
        sgm_real factor = (sgm_real)(1.0 / sqrt(mean + epsilon));
        for (int64_t j = 0; j < cols; j++)
            out[j] = in[j] * factor * gain[j];
        if (inv)
            inv[i] = factor;
    }
}

void sgm_ref_rms_norm_backward(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, const sgm_real *gain,
                               const sgm_real *inv, const sgm_real *dy, int64_t lddy, sgm_real *dx, int64_t lddx,
                               bool add) {
    for (int64_t i = 0; i < rows; i++) {
        const sgm_real *in = x + i * ldx, *up = dy + i * lddy;
        sgm_real *out = dx + i * lddx;
        sgm_real lanes[SGM_LANES] = {0};
        for (int64_t j = 0; j < cols; j++)
            lanes[j % SGM_LANES] += up[j] * gain[j] * in[j];
        double mean = (double)sgm_lanes_sum(lanes) / (double)cols;
        sgm_real factor = (sgm_real)((double)inv[i] * (double)inv[i] * mean);
        for (int64_t j = 0; j < cols; j++) {
            sgm_real value = inv[i] * (up[j] * gain[j] - in[j] * factor);
            out[j] = add ? out[j] + value : value;
        }
    }
}

void sgm_ref_rms_norm_gain(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, const sgm_real *inv,
                           const sgm_real *dy, int64_t lddy, sgm_real *restrict dgain) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            dgain[j] += dy[i * lddy + j] * (x[i * ldx + j] * inv[i]);
}

sgm_real sgm_ref_max(int64_t n, const sgm_real *x) {
    sgm_real most = -(sgm_real)INFINITY;
    for (int64_t i = 0; i < n; i++)
        most = x[i] > most || x[i] != x[i] ? x[i] : most; /* once NaN, no comparison is true again but NaN's own */
    return most;
}

sgm_real sgm_ref_exp_sum(int64_t n, const sgm_real *x, sgm_real scale, sgm_real shift, sgm_real *y) {
    sgm_real lanes[SGM_LANES] = {0};
    int64_t i = 0;
    for (; i + SGM_LANES <= n; i += SGM_LANES) {
        sgm_real value[SGM_LANES];
        for (int j = 0; j < SGM_LANES; j++)
            value[j] = sgm_exp_inline(scale * x[i + j] - shift);
        for (int j = 0; j < SGM_LANES; j++) {
            y[i + j] = value[j];
            lanes[j] += value[j];
        }
    }
    for (int j = 0; i + j < n; j++)
        lanes[j] += y[i + j] = sgm_exp_inline(scale * x[i + j] - shift);
    return sgm_lanes_sum(lanes);
}

void sgm_ref_softmax(int64_t rows, int64_t cols, const sgm_real *x, int64_t ldx, sgm_real *y, int64_t ldy) {
    for (int64_t i = 0; i < rows; i++) {
        sgm_real most = sgm_ref_max(cols, x + i * ldx);
        sgm_real sum = sgm_ref_exp_sum(cols, x + i * ldx, 1, most, y + i * ldy);
        sgm_ref_scale(cols, 1 / sum, y + i * ldy, y + i * ldy);
    }
}

static inline sgm_real sigmoid(sgm_real x) {
    return 1 / (1 + sgm_exp_inline(-x));
}

/* In place is allowed, so blocks are computed before they are stored. */
void sgm_ref_swiglu(int64_t n, const sgm_real *gate, const sgm_real *up, sgm_real *h) {
    int64_t i = 0;
    for (; i + SGM_LANES <= n; i += SGM_LANES) {
        sgm_real value[SGM_LANES];
        for (int j = 0; j < SGM_LANES; j++)
            value[j] = gate[i + j] * sigmoid(gate[i + j]) * up[i + j];
        for (int j = 0; j < SGM_LANES; j++)
            h[i + j] = value[j];
    }
    for (; i < n; i++)
        h[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

static inline void swiglu_gradient(sgm_real gate, sgm_real up, sgm_real dh, sgm_real *dgate, sgm_real *dup) {
    sgm_real s = sigmoid(gate);
    *dgate = dh * up * (s * (1 + gate * (1 - s)));
    *dup = dh * (gate * s);
}

void sgm_ref_swiglu_backward(int64_t n, const sgm_real *gate, const sgm_real *up, const sgm_real *dh, sgm_real *dgate,
                             sgm_real *dup) {
    int64_t i = 0;
    for (; i + SGM_LANES <= n; i += SGM_LANES) {
        sgm_real g[SGM_LANES], u[SGM_LANES];
        for (int j = 0; j < SGM_LANES; j++)
            swiglu_gradient(gate[i + j], up[i + j], dh[i + j], &g[j], &u[j]);
        for (int j = 0; j < SGM_LANES; j++) {
            dgate[i + j] = g[j];
            dup[i + j] = u[j];
        }
    }
    for (; i < n; i++) {
        sgm_real g, u;
        swiglu_gradient(gate[i], up[i], dh[i], &g, &u);
        dgate[i] = g;
        dup[i] = u;
    }
}

void sgm_ref_axpy(int64_t n, sgm_real a, const sgm_real *restrict x, sgm_real *restrict y) {
    for (int64_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

void sgm_ref_scale(int64_t n, sgm_real a, const sgm_real *x, sgm_real *y) {
    for (int64_t i = 0; i < n; i++)
        y[i] = a * x[i];
}

double sgm_ref_sum_squares(int64_t n, const sgm_real *x) {
    double lanes[SGM_LANES] = {0};
    int64_t i = 0;
    for (; i + SGM_LANES <= n; i += SGM_LANES)
        for (int j = 0; j < SGM_LANES; j++)
            lanes[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i + j < n; j++)
        lanes[j] += (double)x[i + j] * (double)x[i + j];
    for (int step = SGM_LANES / 2; step > 0; step /= 2)
        for (int j = 0; j < step; j++)
            lanes[j] += lanes[j + step];
    return lanes[0];
}

void sgm_ref_adamw(int64_t n, const sgm_adamw_step *step, const sgm_real *restrict gradient, sgm_real *restrict weight,
                   sgm_real *restrict moment1, sgm_real *restrict moment2) {
    /* Everything that does not depend on the element is formed in f64 and rounded once. */
    const sgm_real clip = (sgm_real)step->gradient_scale;
    const sgm_real keep1 = (sgm_real)step->beta1, take1 = (sgm_real)(1.0 - step->beta1);
    const sgm_real keep2 = (sgm_real)step->beta2, take2 = (sgm_real)(1.0 - step->beta2);
    const sgm_real rate = (sgm_real)(step->learning_rate / step->correction1);
    const sgm_real decay = (sgm_real)(step->learning_rate * step->weight_decay);
    const sgm_real root = (sgm_real)(1.0 / sqrt(step->correction2)), epsilon = (sgm_real)step->epsilon;
    for (int64_t i = 0; i < n; i++) {
        sgm_real g = gradient[i] * clip;
        sgm_real m = keep1 * moment1[i] + take1 * g;
        sgm_real v = keep2 * moment2[i] + take2 * (g * g);
        moment1[i] = m;
        moment2[i] = v;
        weight[i] -= rate * m / (sgm_sqrt(v) * root + epsilon) + decay * weight[i];
    }
}
