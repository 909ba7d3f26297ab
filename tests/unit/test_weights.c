// SPDX-License-Identifier: Apache-2.0
/* A model in memory: what decays, what is padding, and what is refused before any memory is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/memory.h"
#include "model/transformer.h"
#include "routing_helper.h"

static const sgm_model_settings small = {.layers = 2,
                                         .width = 8,
                                         .heads = 2,
                                         .kv_heads = 1,
                                         .head_size = 4,
                                         .experts = 3,
                                         .experts_per_token = 1,
                                         .expert_width = 5,
                                         .vocabulary = 11,
                                         .context = 16,
                                         .tie_embeddings = true,
                                         .rope_theta = 1e4,
                                         .norm_epsilon = 1e-6,
                                         .init_std = 0.02,
                                         .gate_init_std = 0.02};

static sgm_model *model_of(const sgm_model_settings *settings) {
    sgm_model *model = NULL;
    sgm_error error = {0};
    if (sgm_model_new(settings, router_new("top_k"), true, &model, &error))
        fail_msg("%s", error.message);
    return model;
}

/* Matrices decay, norm gains do not; a matrix of one row (one expert, experts of width 1) is a matrix. */
static void what_decays(void **state) {
    (void)state;
    sgm_model_settings thin = small;
    thin.experts = thin.expert_width = 1;
    sgm_model *model = model_of(&thin);
    for (int64_t i = 0; i < model->weight_count; i++)
        assert_int_equal(model->weights[i].decay, strstr(model->weights[i].name, "norm") == NULL);
    sgm_model_free(model);
}

/* Embeddings, and a head of their kind, may start wider than the rest: then the tokens of a random model stay apart. */
static void embeddings_have_their_own_deviation(void **state) {
    (void)state;
    sgm_model_settings wide = small;
    wide.tie_embeddings = false;
    wide.embedding_init_std = 1;
    sgm_model *model = model_of(&wide);
    for (int64_t i = 0; i < model->weight_count; i++) {
        bool table = model->weights[i].rows == wide.vocabulary;
        assert_true(table ? model->weights[i].init_std == 1 : model->weights[i].init_std < 0.021);
    }
    assert_int_equal(model->embedding->rows, wide.vocabulary);
    assert_int_equal(model->head->rows, wide.vocabulary);
    sgm_model_free(model);
}

/* Fresh weights fill their shapes and leave the padding between them zero. */
static void padding_is_zero(void **state) {
    (void)state;
    sgm_model *model = model_of(&small);
    sgm_team *team = NULL;
    assert_int_equal(sgm_team_new(2, &team, NULL), SGM_OK);
    sgm_model_randomise(model, 3, team);
    sgm_team_free(team);
    int64_t at = 0;
    for (int64_t i = 0; i < model->weight_count; i++) {
        const sgm_weight *weight = &model->weights[i];
        assert_int_equal(weight->data - model->data, at);
        for (int64_t end = at + weight->rows * weight->cols; at < end; at++)
            assert_true(model->data[at] > 0 || model->data[at] < 0);
        for (; at % 16; at++)
            assert_true(model->data[at] >= 0 && model->data[at] <= 0);
    }
    assert_int_equal(at, model->elements);
    sgm_model_free(model);
}

static void refused(const sgm_model_settings *settings) {
    sgm_model *model = NULL;
    sgm_error error = {0};
    sgm_router none = {0};
    clock_t begin = clock();
    uint64_t before = sgm_alloc_count();
    assert_int_equal(sgm_model_new(settings, none, true, &model, &error), SGM_EMEMORY);
    assert_int_equal(sgm_alloc_count(), before);
    assert_non_null(strstr(error.message, "iB"));
    assert_true(clock() - begin < CLOCKS_PER_SEC);
}

/* Not the numbers alone: the table of rotations, and what is kept of each of very many tiny weights. */
static void too_big(void **state) {
    (void)state;
    sgm_model_settings s = small;
    s.context = 1 << 24;
    s.head_size = 65536;
    refused(&s);
    s = small;
    s.layers = 100000;
    s.experts = 1 << 20;
    s.width = s.expert_width = 1;
    refused(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_decays),
        cmocka_unit_test(embeddings_have_their_own_deviation),
        cmocka_unit_test(padding_is_zero),
        cmocka_unit_test(too_big),
    };
    return cmocka_run_group_tests_name("weights", tests, NULL, NULL);
}
