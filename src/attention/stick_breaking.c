// SPDX-License-Identifier: Apache-2.0
/* Stick-breaking attention (ModuleFormer, arXiv 2306.04640 §2.1). With z = q · k / sqrt(S) and β = σ(z), row i gives key j ≤ i
 * the weight
 *     A_ij = β_ij · Π over j < l ≤ i of (1 − β_il):
 * it begins with a stick of length 1 at its own key and goes back in time; each key breaks its share off what the newer ones
 * left. Weights sum to 1 minus what is left at the end, which goes nowhere; nothing is renormalised. A nearer key wins over an
 * equal one further away, so there is no encoding of positions.
 *
 * A row's state is what is left of its stick, a product of f32 that begins afresh in every block and every part: rounding grows
 * with the number of blocks, not of keys. Products lose no more to rounding than sums of log(1 − β) would, and need neither a
 * logarithm nor a second exponential. Where less than SGM_STICK_EMPTY (kernels.h) is left, the row is done: forward and backward
 * leave older blocks out by the same rule, and blocks in which all rows are done are not computed.
 *
 * Backward, with g_j = dy · v_j: dz_j = A_j g_j − β_j Σ over l ≤ j of A_l g_l. That sum is dy · y minus what the newer keys had,
 * so one pass from the newest to the oldest key is enough, and nothing is kept for it. */
#include <string.h>

#include "attention/attention.h"
#include "op/op_case.h"

typedef sgm_attention_state state;

static void begin(int64_t rows, const state *to) {
    for (int64_t r = 0; r < rows; r++)
        to->mass[r] = 1;
}

static void step(const sgm_kernels *kernels, const sgm_score_tile *tile, sgm_real *score, int64_t ld, const state *at,
                 sgm_real *rescale) {
    (void)rescale;
    kernels->stick_step(tile, score, ld, at->mass);
}

static bool is_done(const sgm_real *mass, int64_t stride, int64_t rows) {
    for (int64_t r = 0; r < rows; r++)
        if (mass[r * stride] != 0)
            return false;
    return true;
}

/* `part` is the next older one. */
static void merge(const sgm_kernels *kernels, int64_t S, int64_t rows, const state *total, const state *part) {
    for (int64_t r = 0; r < rows; r++) {
        if (total->mass[r] == 0)
            continue;
        kernels->axpy(S, total->mass[r], part->y + r * S, total->y + r * S);
        total->mass[r] *= part->mass[r];
        if (total->mass[r] < SGM_STICK_EMPTY)
            total->mass[r] = 0;
    }
}

static void finish(const sgm_kernels *kernels, int64_t S, const state *row, sgm_real *y, sgm_real *saved) {
    (void)kernels, (void)saved;
    memcpy(y, row->y, (size_t)S * sizeof *y);
}

static void step_backward(const sgm_kernels *kernels, const sgm_score_tile *tile, sgm_real *p, sgm_real *dp, int64_t ld,
                          sgm_real *mass, sgm_real *dot, int64_t stride) {
    kernels->stick_step_backward(tile, p, dp, ld, mass, dot, stride);
}

static const sgm_attention_kind kind = {
    .newest_first = true,
    .begin = begin,
    .step = step,
    .is_done = is_done,
    .merge = merge,
    .finish = finish,
    .step_backward = step_backward,
};

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    return sgm_attention_case(&kind, index, benchmark, seed, c, error);
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_stick_breaking = {
    .name = "stick_breaking",
    .summary = "stick-breaking attention to earlier rows of the same segment",
    .inputs = 3,
    .outputs = 1,
    .args_bytes = sizeof(sgm_attention_args),
    .residual = -1,
    .shape = sgm_attention_shape,
    .workspace_bytes = sgm_attention_workspace,
    .forward = sgm_attention_forward,
    .backward = sgm_attention_backward,
    .cases = &cases,
};

sgm_tensor sgm_stick_breaking(sgm_walk *walk, sgm_tensor q, sgm_tensor k, sgm_tensor v, int64_t heads, int64_t kv_heads,
                              int64_t layer, const sgm_rows *rows) {
    sgm_attention_args args = {&kind, heads, kv_heads, layer, rows};
    sgm_tensor in[3] = {q, k, v}, out = {0};
    sgm_apply(walk, &sgm_op_stick_breaking, &args, in, &out);
    return out;
}
