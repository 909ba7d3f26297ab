// SPDX-License-Identifier: Apache-2.0
/* Two traces of the same tokens: where they sent a token to other experts. Both are read once, side by side; their blocks need
 * not begin at the same tokens. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "sigmoe/trace.h"

/* A trace that is read token by token. */
typedef struct side {
    sgm_trace *trace;
    sgm_trace_block block;
    int64_t next, at; /* block to read next; token of the one that is here */
} side;

/* *more: is there another token? It stands at side->at then. */
static sgm_status advance(side *s, bool *more, sgm_error *error) {
    s->at++;
    *more = true;
    while (s->at >= s->block.tokens) {
        *more = s->next < sgm_trace_about(s->trace)->blocks;
        if (!*more)
            return SGM_OK;
        sgm_status status = sgm_trace_read(s->trace, s->next++, &s->block, error);
        if (status)
            return status;
        s->at = 0;
    }
    return SGM_OK;
}

static sgm_status check_same(const sgm_trace_info *a, const sgm_trace_info *b, sgm_error *error) {
    bool same = a->layers == b->layers && a->experts == b->experts && a->attention_experts == b->attention_experts;
    for (int64_t l = 0; same && l < a->layers; l++)
        same = a->experts_per_token[l] == b->experts_per_token[l];
    if (!same)
        return sgm_fail(error, SGM_EARGUMENT, "`sigmoe inspect` and `sigmoe stats TRACE` show what each is",
                        "the two differ in layers, experts or experts per token: their routes do not compare");
    return SGM_OK;
}

static sgm_status other_tokens(sgm_error *error) {
    return sgm_fail(error, SGM_EARGUMENT, "compare traces of the same text, read by the same tokenizer",
                    "the two are not of the same tokens: other text, another limit or another tokenizer");
}

typedef struct sums {
    int64_t *changed, *used, *load_a, *load_b; /* (L), (L), (L, E), (L, E); loads: what was computed */
    int64_t tokens, tokens_changed, shared, weights_changed;
} sums;

/* One token in one layer: experts of `a` that are not among those of `b`. */
static int64_t compare_layer(const side *a, const side *b, int64_t layer, int64_t stride, sums *s) {
    int64_t sa = a->block.slots[layer], sb = b->block.slots[layer], count = 0;
    int64_t pa = a->block.first[layer] + a->at * sa, pb = b->block.first[layer] + b->at * sb;
    for (int64_t i = 0; i < sa; i++) {
        uint16_t expert = a->block.expert[pa + i];
        if (expert == SGM_TRACE_UNUSED)
            continue;
        s->used[layer]++;
        s->load_a[layer * stride + expert] += a->block.flags[pa + i] == 0;
        int64_t j = 0;
        while (j < sb && b->block.expert[pb + j] != expert)
            j++;
        if (j == sb) {
            count++;
            continue;
        }
        s->shared++;
        s->weights_changed += memcmp(&a->block.weight[pa + i], &b->block.weight[pb + j], sizeof(float)) != 0;
    }
    for (int64_t j = 0; j < sb; j++)
        if (b->block.expert[pb + j] != SGM_TRACE_UNUSED)
            s->load_b[layer * stride + b->block.expert[pb + j]] += b->block.flags[pb + j] == 0;
    s->changed[layer] += count;
    return count;
}

static sgm_status walk(side *a, side *b, sums *s, sgm_error *error) {
    const sgm_trace_info *about = sgm_trace_about(a->trace);
    int64_t stride = sgm_routed_stride(about->experts, about->attention_experts);
    for (bool more = true, other; more;) {
        sgm_status status = advance(a, &more, error);
        if (!status)
            status = advance(b, &other, error);
        if (status)
            return status;
        if (more != other || (more && a->block.token[a->at] != b->block.token[b->at]))
            return other_tokens(error);
        if (!more)
            break;
        int64_t changed = 0;
        for (int64_t l = 0; l < about->layers; l++)
            changed += compare_layer(a, b, l, stride, s);
        s->tokens++;
        s->tokens_changed += changed > 0;
    }
    return SGM_OK;
}

static double share(int64_t part, int64_t whole) {
    return whole ? (double)part / (double)whole : 0;
}

static double load_difference(const int64_t *a, const int64_t *b, int64_t experts) {
    int64_t total_a = 0, total_b = 0;
    double sum = 0;
    for (int64_t e = 0; e < experts; e++) {
        total_a += a[e];
        total_b += b[e];
    }
    for (int64_t e = 0; e < experts; e++)
        sum += fabs(share(a[e], total_a) - share(b[e], total_b));
    return sum / 2;
}

static void report(const sums *s, const sgm_trace_info *about, sgm_trace_comparison *out) {
    int64_t changed = 0, used = 0, stride = sgm_routed_stride(about->experts, about->attention_experts);
    for (int64_t l = 0; l < about->layers; l++) {
        out->layer_changed[l] = share(s->changed[l], s->used[l]);
        out->load_difference[l] = load_difference(s->load_a + l * stride, s->load_b + l * stride, stride);
        changed += s->changed[l];
        used += s->used[l];
    }
    out->tokens = s->tokens;
    out->layers = about->layers;
    out->assignments_changed = share(changed, used);
    out->tokens_changed = share(s->tokens_changed, s->tokens);
    out->weights_changed = share(s->weights_changed, s->shared);
}

sgm_status sgm_trace_compare(sgm_trace *trace, sgm_trace *against, sgm_trace_comparison *out, sgm_error *error) {
    const sgm_trace_info *about = sgm_trace_about(trace);
    *out = (sgm_trace_comparison){0};
    sgm_status status = check_same(about, sgm_trace_about(against), error);
    if (status)
        return status;
    if (trace == against)
        return sgm_fail(error, SGM_EARGUMENT, "open the file twice", "a trace cannot be read beside itself");
    size_t layers = (size_t)about->layers,
           numbers = layers * (size_t)sgm_routed_stride(about->experts, about->attention_experts);
    int64_t *counts = sgm_alloc((2 * layers + 2 * numbers) * sizeof *counts);
    out->layer_changed = sgm_alloc(layers * sizeof *out->layer_changed);
    out->load_difference = sgm_alloc(layers * sizeof *out->load_difference);
    if (counts && out->layer_changed && out->load_difference) {
        sums s = {.changed = counts,
                  .used = counts + layers,
                  .load_a = counts + 2 * layers,
                  .load_b = counts + 2 * layers + numbers};
        side a = {.trace = trace, .at = -1}, b = {.trace = against, .at = -1};
        status = walk(&a, &b, &s, error);
        if (!status)
            report(&s, about, out);
    } else {
        status = sgm_fail(error, SGM_EMEMORY, NULL, "not enough memory to compare routes");
    }
    sgm_free(counts);
    if (status)
        sgm_trace_comparison_free(out);
    return status;
}

void sgm_trace_comparison_free(sgm_trace_comparison *comparison) {
    sgm_free(comparison->layer_changed);
    sgm_free(comparison->load_difference);
    *comparison = (sgm_trace_comparison){0};
}
