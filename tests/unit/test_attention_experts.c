// SPDX-License-Identifier: Apache-2.0
/* Attention experts: a layer against a plain restatement of it, models that have them in folders and decoded as they are
 * prefilled, and what is refused. Training with them: test_trainer_routers.c, test_trainer_attention.c, the gradient tests. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/engine.h"
#include "model/model_folder.h"
#include "model/model_open.h"
#include "sigmoe/convert.h"
#include "sigmoe/experts.h"
#include "sigmoe/session.h"
#include "unit/model_fixture.h"

/* ---- a layer, in f64, row by row ---- */

enum { WIDTH = 64, HEADS = 4, KV_HEADS = 2, SIZE = 16, T = 21, MOST = 8 }; /* of pico */

static void normalise(const sgm_real *gain, int64_t n, double *x) {
    double square = 0;
    for (int64_t i = 0; i < n; i++)
        square += x[i] * x[i];
    double scale = 1 / sqrt(square / (double)n + 1e-6);
    for (int64_t i = 0; i < n; i++)
        x[i] *= scale * (double)gain[i];
}

/* y = W x */
static void multiply(const sgm_weight *w, const double *x, double *y) {
    for (int64_t r = 0; r < w->rows; r++) {
        y[r] = 0;
        for (int64_t c = 0; c < w->cols; c++)
            y[r] += (double)w->data[r * w->cols + c] * x[c];
    }
}

static void rotate(double *head, int64_t position) {
    for (int i = 0; i < SIZE / 2; i++) {
        double angle = (double)position * pow(10000, -2.0 * i / SIZE), a = head[i], b = head[i + SIZE / 2];
        head[i] = a * cos(angle) - b * sin(angle);
        head[i + SIZE / 2] = b * cos(angle) + a * sin(angle);
    }
}

typedef struct plain {
    double h[T][WIDTH], k[T][KV_HEADS * SIZE], v[T][KV_HEADS * SIZE];
} plain;

/* Heads of expert e on row t over rows 0 … t, through its output, times `weight`, added to y. */
static void add_expert(const sgm_layer *layer, const plain *p, int64_t e, int64_t t, bool sticks, double weight,
                       double *y) {
    double q[HEADS * SIZE], mixed[HEADS * SIZE] = {0}, out[WIDTH];
    multiply(&layer->attention_experts[2 * e], p->h[t], q);
    for (int head = 0; head < HEADS; head++) {
        double *own = q + head * SIZE, *to = mixed + head * SIZE, share[T], sum = 0, left = 1;
        int g = head / (HEADS / KV_HEADS) * SIZE;
        normalise(layer->q_norm->data, SIZE, own);
        if (!sticks)
            rotate(own, t);
        for (int64_t j = t; j >= 0; j--) {
            double z = 0;
            for (int i = 0; i < SIZE; i++)
                z += own[i] * p->k[j][g + i] / sqrt(SIZE);
            double part = 1 / (1 + exp(-z));
            share[j] = sticks ? left * part : exp(z);
            left *= 1 - part;
            sum += share[j];
        }
        for (int64_t j = 0; j <= t; j++)
            for (int i = 0; i < SIZE; i++)
                to[i] += share[j] / (sticks ? 1 : sum) * p->v[j][g + i];
    }
    multiply(&layer->attention_experts[2 * e + 1], mixed, out);
    for (int d = 0; d < WIDTH; d++)
        y[d] += weight * out[d];
}

/* Softmax over all experts, the largest K of them. */
static void add_chosen(const sgm_layer *layer, const plain *p, int64_t t, bool sticks, int64_t K, double *y) {
    int64_t A = layer->attention_gate->rows;
    double z[MOST], sum = 0;
    multiply(layer->attention_gate, p->h[t], z);
    for (int64_t e = 0; e < A; e++)
        sum += z[e] = exp(z[e]);
    for (int64_t slot = 0; slot < K; slot++) {
        int64_t best = 0;
        for (int64_t e = 1; e < A; e++)
            best = z[e] > z[best] ? e : best;
        add_expert(layer, p, best, t, sticks, z[best] / sum, y);
        z[best] = -1;
    }
}

/* What the model is after its only layer and the final norm, for tokens 0 … T − 1 of a document. */
static void restate(const sgm_model *model, const int32_t *tokens, double (*hidden)[WIDTH]) {
    static plain p;
    const sgm_layer *layer = &model->layers[0];
    bool sticks = model->settings.attention == SGM_ATTENTION_STICK_BREAKING;
    for (int64_t t = 0; t < T; t++) {
        const sgm_real *x = model->embedding->data + tokens[t] * WIDTH;
        for (int d = 0; d < WIDTH; d++)
            p.h[t][d] = hidden[t][d] = (double)x[d];
        normalise(layer->attention_norm->data, WIDTH, p.h[t]);
        multiply(layer->k, p.h[t], p.k[t]);
        multiply(layer->v, p.h[t], p.v[t]);
        for (int g = 0; g < KV_HEADS; g++) {
            normalise(layer->k_norm->data, SIZE, p.k[t] + g * SIZE);
            if (!sticks)
                rotate(p.k[t] + g * SIZE, t);
        }
    }
    for (int64_t t = 0; t < T; t++) {
        add_chosen(layer, &p, t, sticks, model->settings.attention_experts_per_token, hidden[t]);
        normalise(model->final_norm->data, WIDTH, hidden[t]);
    }
}

typedef struct walking {
    const sgm_model *model;
    const sgm_rows *rows;
    char *values;
    sgm_real *hidden; /* (T, WIDTH) */
} walking;

static void walk(sgm_worker *worker, void *argument) {
    walking *w = argument;
    sgm_walk own = {.worker = worker, .kernels = sgm_kernels_at(0), .values = w->values};
    sgm_tensor x = sgm_transformer_hidden(&own, w->model, w->rows, &(sgm_pass){0});
    if (worker->thread == 0)
        memcpy(w->hidden, x.data, (size_t)(T * WIDTH) * sizeof *w->hidden);
}

static void against_a_restatement(const char *attention, const char *K) {
    char kind[64], k[64];
    snprintf(kind, sizeof kind, "model.attention=%s", attention);
    snprintf(k, sizeof k, "model.attention_experts_per_token=%s", K);
    char name[64];
    snprintf(name, sizeof name, "%s %s", attention, K);
    const char *path = make_model(name, (const char *const[]){"model.layers=1", "model.attention_experts=5",
                                                              "model.gate_init_std=1", kind, k, NULL});
    sgm_model *model;
    assert_int_equal(sgm_model_open(path, &model, NULL, NULL), SGM_OK);
    for (int64_t e = 0; e < model->settings.experts; e++) { /* the feed-forward adds nothing */
        sgm_weight *down = &model->layers[0].expert_weights[3 * e + 2];
        memset(down->data, 0, (size_t)(down->rows * down->cols) * sizeof *down->data);
    }
    int32_t tokens[T], positions[T];
    for (int i = 0; i < T; i++) {
        tokens[i] = (i * i * 7 + i * 13 + 5) % 257;
        positions[i] = i;
    }
    static double expected[T][WIDTH];
    static sgm_real hidden[T * WIDTH];
    restate(model, tokens, expected);
    sgm_segment segment = {.rows = T};
    const sgm_rows rows = {
        .rows = T, .tokens = tokens, .positions = positions, .segments = &segment, .segment_count = 1};
    sgm_team *team;
    assert_int_equal(sgm_team_new(2, &team, NULL), SGM_OK);
    sgm_worker alone = {.threads = 2, .team = team};
    sgm_walk dry = {.worker = &alone, .kernels = sgm_kernels_at(0), .dry = true};
    sgm_transformer_hidden(&dry, model, &rows, &(sgm_pass){0});
    assert_int_equal(dry.status, SGM_OK);
    walking w = {model, &rows, sgm_alloc(dry.peak), hidden};
    assert_non_null(w.values);
    sgm_team_run(team, walk, &w);
    for (int i = 0; i < T * WIDTH; i++)
        if (!(fabs((double)hidden[i] - expected[i / WIDTH][i % WIDTH]) < 2e-4))
            fail_msg("%s, row %d, column %d: %g, expected %g", attention, i / WIDTH, i % WIDTH, (double)hidden[i],
                     expected[i / WIDTH][i % WIDTH]);
    sgm_free(w.values);
    sgm_team_free(team);
    sgm_model_free(model);
}

static void a_layer_by_hand(void **state) {
    (void)state;
    against_a_restatement("causal", "2");
    against_a_restatement("stick_breaking", "3");
    against_a_restatement("causal", "5");
}

/* ---- models ---- */

enum { V = 257, LENGTH = 90 };

/* Logits of all tokens at once are those of one after the other, and of pieces. */
static void decode_is_prefill(const char *path, const char *kernels) {
    static float all[LENGTH * V], one[LENGTH * V];
    sgm_engine *engine;
    sgm_session *session;
    sgm_error error = {0};
    sgm_engine_options options = {.threads = 2, .kernels = kernels, .kv_type = "f32"};
    int32_t tokens[LENGTH];
    for (int i = 0; i < LENGTH; i++)
        tokens[i] = (i * i * 7 + i * 13 + 5) % V;
    if (sgm_engine_open(path, &options, &engine, &error))
        fail_msg("%s (%s)", error.message, error.hint);
    assert_int_equal(sgm_session_new(engine, &session, NULL), SGM_OK);
    for (int piece = LENGTH; piece > 0; piece = piece == LENGTH ? 7 : piece == 7 ? 1 : 0) {
        assert_int_equal(sgm_session_truncate(session, 0, NULL), SGM_OK);
        for (int i = 0; i < LENGTH; i += piece) {
            sgm_batch_item next = {session, tokens + i, i + piece < LENGTH ? piece : LENGTH - i, true};
            float *to = piece == LENGTH ? all : one;
            assert_int_equal(sgm_engine_step(engine, &next, 1, to + (ptrdiff_t)i * V, NULL), SGM_OK);
        }
        if (piece < LENGTH)
            assert_memory_equal(one, all, sizeof all);
    }
    sgm_session_free(session);
    sgm_engine_close(engine);
}

/* Settings, names and counts come back from the folder. 2 layers, width 64, 4 heads of 16, 8 experts, of which 2 work. */
static void models(void **state) {
    (void)state;
    static const char *const settings[] = {"model.attention_experts=12", "model.attention_experts_per_token=3",
                                           "model.gate_hidden=6",        "model.experts_per_token=2",
                                           "model.context=128",          NULL};
    const char *path = make_model("model", settings);
    sgm_model_info info;
    assert_int_equal(sgm_model_inspect(path, &info, NULL), SGM_OK);
    assert_string_equal(info.model_type, "sigmoe");
    assert_int_equal(info.settings.attention_experts, 12);
    assert_int_equal(info.settings.attention_experts_per_token, 3);
    assert_int_equal(info.settings.experts_per_token, 2);
    sgm_model_settings without = info.settings;
    sgm_model_counts counts, dense;
    without.attention_experts = 0;
    sgm_model_count(&without, 2, 64, &dense);
    sgm_model_count(&info.settings, 2, 64, &counts);
    int64_t heads = 2 * 64 * 64, gate = 6 * (64 + 12) + 6;
    assert_int_equal(counts.total_parameters - dense.total_parameters, 2 * (11 * heads + gate));
    assert_int_equal(counts.active_parameters - dense.active_parameters, 2 * (2 * heads + gate));
    assert_int_equal(counts.expert_parameters - dense.expert_parameters, 2 * 12 * heads);
    assert_true(counts.forward_flops_per_token - dense.forward_flops_per_token ==
                2. * 2 * ((double)(2 * heads + gate - 6) + 2. * 64 * 64));
    sgm_model *model;
    int64_t *k, elements = 0;
    assert_int_equal(sgm_model_open(path, &model, &k, NULL), SGM_OK);
    const int64_t wanted[] = {3, 2, 3, 2};
    assert_memory_equal(k, wanted, sizeof wanted);
    sgm_free(k);
    for (int64_t i = 0; i < model->weight_count; i++)
        elements += model->weights[i].rows * model->weights[i].cols;
    assert_int_equal(elements, counts.total_parameters);
    assert_string_equal(model->layers[1].attention_experts[23].name,
                        "model.layers.1.self_attn.experts.11.o_proj.weight");
    assert_string_equal(model->layers[1].attention_gate->name, "model.layers.1.self_attn.gate.weight");
    assert_string_equal(model->layers[1].attention_gate_bias->name, "model.layers.1.self_attn.gate.hidden.bias");
    assert_string_equal(model->layers[1].gate->name, "model.layers.1.mlp.gate.weight");
    assert_true(!model->layers[0].q && !model->layers[0].o);
    sgm_model_free(model);
    decode_is_prefill(path, "ref");
    decode_is_prefill(path, "auto");
}

/* A bias on selection is written by sub-layer, each with as many numbers as it has experts, and routes when it is read. */
static void biases(void **state) {
    (void)state;
    const char *path = make_model("unbiased", (const char *const[]){"model.attention_experts=3", NULL});
    sgm_model *model;
    sgm_real bias[4 * 8] = {0};
    bias[0 * 8 + 1] = 9; /* layer 0's attention: expert 1 alone; its feed-forward: expert 6; layer 1 is free */
    bias[1 * 8 + 6] = 9;
    assert_int_equal(sgm_model_open(path, &model, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_model_folder_save(model, bias, NULL, NULL, in_folder("biased"), NULL), SGM_OK);
    sgm_model_free(model);
    assert_int_equal(sgm_model_open(in_folder("biased"), &model, NULL, NULL), SGM_OK);
    assert_memory_equal(model->selection_bias, bias, sizeof bias);
    sgm_model_free(model);
    sgm_engine *engine;
    sgm_session *session;
    const sgm_engine_options options = {.threads = 2, .kernels = "ref"};
    assert_int_equal(sgm_engine_open(in_folder("biased"), &options, &engine, NULL), SGM_OK);
    int64_t count[4 * 8] = {0};
    double probability[4 * 8] = {0};
    sgm_load load[4];
    for (int r = 0; r < 4; r++)
        load[r] = (sgm_load){.experts = r % 2 ? 8 : 3, .count = count + 8 * r, .probability = probability + 8 * r};
    engine->load = load;
    int32_t tokens[40];
    for (int i = 0; i < 40; i++)
        tokens[i] = i * i % V;
    assert_int_equal(sgm_session_new(engine, &session, NULL), SGM_OK);
    assert_int_equal(sgm_session_feed(session, tokens, 40, NULL, NULL), SGM_OK);
    for (int r = 0; r < 4; r++)
        assert_int_equal(load[r].tokens, 40);
    assert_int_equal(count[0 * 8 + 1], 40);
    assert_int_equal(count[1 * 8 + 6], 40);
    assert_int_equal(count[2 * 8] + count[2 * 8 + 1] + count[2 * 8 + 2], 40);
    assert_true(count[2 * 8] < 40 && count[2 * 8 + 1] < 40 && count[2 * 8 + 2] < 40);
    sgm_session_free(session);
    sgm_engine_close(engine);
}

/* ---- what is refused ---- */

static void refused(const char *key, const char *value, const char *other, const char *word) {
    sgm_config *config;
    sgm_error error = {0};
    assert_int_equal(sgm_config_new(&config, NULL), SGM_OK);
    assert_int_equal(sgm_config_preset(config, "pico", NULL), SGM_OK);
    assert_int_equal(sgm_config_set(config, "model.attention_experts", "4", "test", NULL), SGM_OK);
    sgm_status status = sgm_config_set(config, key, value, "test", &error);
    if (!status && other)
        status = sgm_config_set(config, "router.capacity_factor", other, "test", &error);
    if (!status)
        status = sgm_config_check(config, &error);
    if (status != SGM_EARGUMENT || !strstr(error.message, word) || !*error.hint)
        fail_msg("%s=%s: %d, %s (%s)", key, value, (int)status, error.message, error.hint);
    sgm_config_free(config);
}

static void what_cannot_be(void **state) {
    (void)state;
    refused("model.attention_experts_per_token", "5", NULL, "model.attention_experts_per_token = 5");
    refused("model.null_experts", "2", NULL, "null experts");
    refused("router.kind", "top_k", "1.5", "attention experts are chosen");
    refused("router.kind", "expert_choice", NULL, "attention experts are chosen");
    refused("router.kind", "sinkhorn", NULL, "attention experts are chosen");
    const char *path = make_model("kept", (const char *const[]){"model.attention_experts=4", NULL});
    sgm_convert_options options = {.type = "q8_0", .threads = 1};
    sgm_convert_report report;
    sgm_error error = {0};
    assert_int_equal(sgm_model_quantize(path, &options, in_folder("no.gguf"), &report, &error), SGM_EUNSUPPORTED);
    assert_non_null(strstr(error.message, "attention experts"));
    assert_false(sgm_path_exists(in_folder("no.gguf")));
    sgm_grow_options grow = {.add = 2};
    sgm_reshape_report reshaped;
    assert_int_equal(sgm_model_grow(path, &grow, in_folder("grown"), &reshaped, &error), SGM_EUNSUPPORTED);
    assert_non_null(strstr(error.message, "attention experts"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_layer_by_hand), cmocka_unit_test(models),
                                       cmocka_unit_test(biases), cmocka_unit_test(what_cannot_be)};
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
