// SPDX-License-Identifier: Apache-2.0
/* A small trace, for the tests of the format and for those of what is made of traces. */
#ifndef SGM_TESTS_TRACE_FIXTURE_H
#define SGM_TESTS_TRACE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "routing/trace.h"

/* 2 layers, 4 experts, 1 and 2 a token, 3 tokens of one domain. */
enum { V = 10, E = 4, L = 2 };
static const int64_t per_token[L] = {1, 2}, expert_bytes[L] = {100, 200};
static const sgm_trace_info small_about = {.source = SGM_TRACE_EVAL,
                                           .step = 7,
                                           .model_hash = 0x1122334455667788,
                                           .tokenizer_hash = 0x99,
                                           .vocabulary = V,
                                           .layers = L,
                                           .experts = E,
                                           .null_experts = 1,
                                           .experts_per_token = per_token,
                                           .expert_bytes = expert_bytes};
static const int32_t small_expert[3][3] = {{0, 1, 2}, {3, 2, -1}, {1, 0, 3}};
static const float small_weight[3][3] = {{0.5F, 0.25F, 0.125F}, {1, 0.75F, 9}, {0.1F, 0.2F, 0.3F}};
static const uint8_t small_flags[3][3] = {{0, 0, SGM_TRACE_DROPPED}, {SGM_TRACE_NULL, 0, 1}, {0, 0, SGM_TRACE_NULL}};

static inline void add_small(sgm_trace_writer *writer) {
    int64_t domain;
    assert_int_equal(sgm_trace_domain(writer, "prose", &domain, NULL), SGM_OK);
    assert_int_equal(domain, 0);
    for (int t = 0; t < 3; t++) {
        const sgm_trace_token token = {.token = 3 * t,
                                       .domain = domain,
                                       .slots = per_token,
                                       .expert = small_expert[t],
                                       .weight = small_weight[t],
                                       .flags = small_flags[t]};
        assert_int_equal(sgm_trace_add(writer, &token, NULL), SGM_OK);
    }
}

static inline sgm_buffer small_trace(void) {
    sgm_buffer bytes = {0};
    sgm_trace_writer *writer;
    int64_t tokens;
    assert_int_equal(sgm_trace_create_in(&bytes, &small_about, &writer, NULL), SGM_OK);
    add_small(writer);
    assert_int_equal(sgm_trace_commit(writer, &tokens, NULL), SGM_OK);
    assert_int_equal(tokens, 3);
    return bytes;
}

#endif
