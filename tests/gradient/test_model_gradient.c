// SPDX-License-Identifier: Apache-2.0
/* The whole model in f64: gradients of every weight against central differences, with two balancing losses at work; the
 * same gradients from one batch and from two micro-batches, byte for byte. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/param.h"
#include "model/transformer.h"

enum { ROWS = 14, SEQUENCES = 2, THREADS = 2, VOCABULARY = 11, WIDTH = 8 };

static const int64_t dense_slots[] = {2, 1};        /* experts per token of the two layers */
static const int64_t routed_slots[] = {2, 2, 1, 1}; /* with attention experts: attention, feed-forward, and again */
static const int64_t *slots = dense_slots;
static int64_t attention_experts;

typedef struct fixture {
    sgm_model *model;
    sgm_team *team;
    sgm_balance_set *balance;
    int32_t tokens[ROWS], positions[ROWS], targets[ROWS];
    sgm_segment segments[3];
    int64_t starts[SEQUENCES + 1];
    sgm_rows rows;
} fixture;

static void *defaults(const sgm_plugin *plugin) {
    void *settings = sgm_alloc(plugin->settings_bytes + 1);
    assert_int_equal(sgm_param_defaults(plugin->params, plugin->param_count, settings, NULL), SGM_OK);
    return settings;
}

static sgm_attention attention; /* of the models that are opened */
static int64_t gate_hidden;

static void open_fixture(fixture *f, bool tied) {
    sgm_model_settings settings = {.attention = (int)attention,
                                   .gate_hidden = gate_hidden,
                                   .attention_experts = attention_experts,
                                   .attention_experts_per_token = 1,
                                   .layers = 2,
                                   .width = WIDTH,
                                   .heads = 4,
                                   .kv_heads = 2,
                                   .head_size = 4,
                                   .experts = 4,
                                   .experts_per_token = 1,
                                   .expert_width = 6,
                                   .vocabulary = VOCABULARY,
                                   .context = 16,
                                   .tie_embeddings = tied,
                                   .rope_theta = 10000,
                                   .norm_epsilon = 1e-6,
                                   .init_std = 0.5,
                                   .gate_init_std = 0.7};
    *f = (fixture){0};
    assert_int_equal(sgm_team_new(THREADS, &f->team, NULL), SGM_OK);
    const sgm_router_plugin *top_k = sgm_router_find("top_k", NULL);
    sgm_router router = {top_k, defaults(&top_k->plugin)};
    assert_int_equal(sgm_model_new(&settings, router, true, &f->model, NULL), SGM_OK);
    sgm_model_randomise(f->model, 3, f->team);
    sgm_balance_member members[2];
    const char *const names[] = {"load_balance_loss", "z_loss"};
    for (int i = 0; i < 2; i++) {
        members[i].plugin = sgm_balance_find(names[i], NULL);
        assert_non_null(members[i].plugin);
        members[i].settings = defaults(&members[i].plugin->plugin);
    }
    int64_t routed = sgm_model_routed(&settings), experts_of[4];
    for (int64_t r = 0; r < routed; r++)
        experts_of[r] = sgm_model_routed_experts(&settings, r);
    assert_int_equal(sgm_balance_set_new(members, 2, routed, sgm_model_routed_stride(&settings), SEQUENCES, THREADS,
                                         &f->balance, NULL),
                     SGM_OK);
    sgm_balance_set_experts_of(f->balance, experts_of);
    static const int64_t lengths[] = {5, 2, 7};
    int64_t row = 0;
    for (int s = 0; s < 3; s++) {
        f->segments[s] = (sgm_segment){.row = row, .rows = lengths[s]};
        for (int64_t i = 0; i < lengths[s]; i++, row++) {
            f->tokens[row] = (int32_t)((row * 7 + 3) % VOCABULARY);
            f->positions[row] = (int32_t)i;
            f->targets[row] = i == lengths[s] - 1 ? -1 : (int32_t)((row * 7 + 10) % VOCABULARY);
        }
    }
    f->starts[1] = 7;
    f->starts[2] = 14;
    f->rows = (sgm_rows){ROWS, f->tokens, f->positions, f->targets, f->segments, 3, f->starts, SEQUENCES};
}

static void close_fixture(fixture *f) {
    sgm_model_free(f->model);
    sgm_balance_set_free(f->balance);
    sgm_team_free(f->team);
}

typedef struct pass_run {
    fixture *f;
    const sgm_rows *rows;
    const sgm_plan *plan;
    sgm_tape **tapes;
    char *values, *gradients;
    bool count_only;
    bool sets_gradients;
    double loss;
} pass_run;

static void walk_thread(sgm_worker *worker, void *argument) {
    pass_run *run = argument;
    sgm_walk walk = {.worker = worker,
                     .kernels = sgm_kernels_at(0),
                     .values = run->values,
                     .sets_gradients = run->sets_gradients,
                     .tape = run->count_only ? NULL : run->tapes[worker->thread]};
    sgm_pass pass = {.experts_per_token = slots, .balance = run->f->balance, .loss_scale = 1.0 / 11};
    if (run->count_only) {
        sgm_transformer_route(&walk, run->f->model, run->rows, &pass);
        return;
    }
    sgm_tensor loss = sgm_transformer_loss(&walk, run->f->model, run->rows, &pass);
    sgm_tape_backward(&walk, run->plan, run->gradients);
    if (worker->thread == 0)
        run->loss += loss.data[0];
}

/* Total loss and gradients of the batch, cut into `pieces` micro-batches of whole sequences. One is added to zeros; of two the
 * first sets what was NaN, as in training. */
static double step(fixture *f, int pieces) {
    sgm_model *model = f->model;
    memset(model->gradients, pieces == 1 ? 0 : 0xFF, (size_t)model->elements * sizeof(sgm_real));
    if (model->head_gradient)
        memset(model->head_gradient, pieces == 1 ? 0 : 0xFF, (size_t)(VOCABULARY * WIDTH) * sizeof(sgm_real));
    sgm_rows part[2] = {f->rows, f->rows};
    sgm_segment last = {.row = 0, .rows = 7};
    if (pieces == 2) {
        part[0].rows = 7;
        part[0].segment_count = 2;
        part[0].sequence_count = 1;
        part[1] = (sgm_rows){7, f->tokens + 7, f->positions + 7, f->targets + 7, &last, 1, f->starts, 1};
    }
    sgm_tape *growing = NULL, *tapes[THREADS];
    assert_int_equal(sgm_tape_new(NULL, &growing, NULL), SGM_OK);
    sgm_worker alone = {.threads = THREADS};
    sgm_walk dry = {.worker = &alone, .kernels = sgm_kernels_at(0), .dry = true, .tape = growing};
    sgm_pass pass = {.experts_per_token = slots, .balance = f->balance, .loss_scale = 1};
    sgm_transformer_loss(&dry, model, &f->rows, &pass);
    assert_int_equal(dry.status, SGM_OK);
    sgm_plan plan;
    assert_int_equal(sgm_plan_make(&dry, THREADS, &plan, NULL), SGM_OK);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(sgm_tape_new(&plan, &tapes[i], NULL), SGM_OK);
    pass_run run = {.f = f, .plan = &plan, .tapes = tapes};
    run.values = sgm_alloc(plan.value_bytes);
    run.gradients = sgm_alloc(plan.gradient_bytes);
    memset(run.values, 0xFF, plan.value_bytes);
    memset(run.gradients, 0xFF, plan.gradient_bytes);
    sgm_balance_set_begin_step(f->balance, ROWS, slots);
    for (int counting = sgm_balance_set_needs_count_pass(f->balance, pieces); counting >= 0; counting--) {
        run.count_only = counting;
        sgm_balance_set_begin_pass(f->balance, counting ? SGM_PASS_COUNT : SGM_PASS_TRAIN);
        for (int i = 0; i < pieces; i++) {
            run.rows = &part[i];
            run.sets_gradients = pieces > 1 && i == 0;
            for (int t = 0; t < THREADS; t++)
                sgm_tape_reset(tapes[t]);
            sgm_team_run(f->team, walk_thread, &run);
        }
    }
    sgm_balance_set_end_step(f->balance);
    for (int64_t i = 0; model->head_gradient && i < VOCABULARY * WIDTH; i++)
        model->embedding->gradient[i] += model->head_gradient[i];
    for (int i = 0; i < THREADS; i++)
        sgm_tape_free(tapes[i]);
    sgm_tape_free(growing);
    sgm_plan_free(&plan);
    sgm_free(run.values);
    sgm_free(run.gradients);
    return run.loss + sgm_balance_set_total(f->balance);
}

static void check_gradients(bool tied) {
    fixture f;
    open_fixture(&f, tied);
    step(&f, 1);
    sgm_real *analytic = sgm_alloc((size_t)f.model->elements * sizeof(sgm_real));
    memcpy(analytic, f.model->gradients, (size_t)f.model->elements * sizeof(sgm_real));
    int checked = 0;
    for (int64_t w = 0; w < f.model->weight_count; w++) {
        sgm_weight *weight = &f.model->weights[w];
        int64_t n = weight->rows * weight->cols, stride = n > 8 ? n / 5 : 1;
        for (int64_t i = 0; i < n; i += stride, checked++) {
            sgm_real kept = weight->data[i];
            double h = 1e-5 * fmax(1, fabs(kept));
            weight->data[i] = kept + h;
            double up = step(&f, 1);
            weight->data[i] = kept - h;
            double down = step(&f, 1);
            weight->data[i] = kept;
            double numeric = (up - down) / (2 * h), exact = analytic[weight->data + i - f.model->data];
            if (!(fabs(numeric - exact) <= 1e-6 * fmax(1, fabs(exact))))
                fail_msg("%s[%lld]: gradient %.10g, central differences %.10g", weight->name, (long long)i, exact,
                         numeric);
        }
    }
    assert_true(checked > 200);
    sgm_free(analytic);
    close_fixture(&f);
}

static void tied_model(void **state) {
    (void)state;
    check_gradients(true);
}

static void untied_model(void **state) {
    (void)state;
    check_gradients(false);
}

static void stick_breaking_model(void **state) {
    (void)state;
    attention = SGM_ATTENTION_STICK_BREAKING;
    check_gradients(true);
    attention = SGM_ATTENTION_CAUSAL;
}

static void model_with_hidden_gates(void **state) {
    (void)state;
    gate_hidden = 5;
    check_gradients(false);
    gate_hidden = 0;
}

/* Fewer attention experts than others, and more; softmax and sticks; a linear and a hidden router. */
static void model_with_attention_experts(void **state) {
    (void)state;
    slots = routed_slots;
    attention_experts = 3;
    check_gradients(true);
    attention_experts = 5;
    gate_hidden = 5;
    attention = SGM_ATTENTION_STICK_BREAKING;
    check_gradients(false);
    attention = SGM_ATTENTION_CAUSAL;
    gate_hidden = attention_experts = 0;
    slots = dense_slots;
}

static void same_from_micro_batches(void) {
    fixture f;
    open_fixture(&f, true);
    step(&f, 1);
    size_t bytes = (size_t)f.model->elements * sizeof(sgm_real);
    sgm_real *whole = sgm_alloc(bytes);
    memcpy(whole, f.model->gradients, bytes);
    step(&f, 2);
    for (int64_t w = 0; w < f.model->weight_count; w++) {
        const sgm_weight *weight = &f.model->weights[w];
        const sgm_real *before = whole + (weight->data - f.model->data);
        if (memcmp(before, weight->gradient, (size_t)(weight->rows * weight->cols) * sizeof(sgm_real)))
            fail_msg("%s has another gradient from two micro-batches", weight->name);
    }
    sgm_free(whole);
    close_fixture(&f);
}

static void micro_batches_change_no_byte(void **state) {
    (void)state;
    same_from_micro_batches();
    attention = SGM_ATTENTION_STICK_BREAKING;
    gate_hidden = 5;
    same_from_micro_batches();
    attention = SGM_ATTENTION_CAUSAL;
    gate_hidden = 0;
    slots = routed_slots;
    attention_experts = 3;
    same_from_micro_batches();
    attention_experts = 0;
    slots = dense_slots;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tied_model),
        cmocka_unit_test(untied_model),
        cmocka_unit_test(stick_breaking_model),
        cmocka_unit_test(model_with_hidden_gates),
        cmocka_unit_test(model_with_attention_experts),
        cmocka_unit_test(micro_batches_change_no_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
