// SPDX-License-Identifier: Apache-2.0
/* Runs that begin with another model's weights, and weights that are frozen: no update, no decay, no part in the norm. */
#include "model/model_folder.h"
#include "train/freeze.h"
#include "trainer_fixture.h"

static const sgm_weight *weight_of(const sgm_trainer *trainer, const char *name) {
    const sgm_model *model = trainer->stepper->model;
    for (int64_t i = 0; i < model->weight_count; i++)
        if (strcmp(model->weights[i].name, name) == 0)
            return &model->weights[i];
    fail_msg("no weight %s", name);
    return NULL;
}

static sgm_status start_fails(const char *run, const char *const *settings, sgm_error *error) {
    const char *data[] = {path("sea.txt"), path("land.txt")};
    sgm_config *config = configure(settings);
    sgm_trainer *trainer = NULL;
    sgm_status status = sgm_trainer_start(config, data, 2, path(run), &events, NULL, &trainer, error);
    sgm_config_free(config);
    assert_null(trainer);
    assert_false(sgm_path_exists(path(run)));
    return status;
}

static void frozen_weights_stay(void **state) {
    (void)state;
    const char *settings[] = {"train.freeze=model.embed_tokens.weight, model.layers.*.mlp.experts.[0-5].*,"
                              "model.layers.0.self_attn.*",
                              "optimizer.weight_decay=1", NULL};
    sgm_trainer *trainer = start("frozen", settings);
    const sgm_model *model = trainer->stepper->model;
    size_t bytes = (size_t)model->elements * sizeof(sgm_real);
    sgm_real *before = sgm_alloc(bytes);
    memcpy(before, model->data, bytes);
    for (int i = 0; i < 4; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    int frozen = 0, moved = 0;
    for (int64_t i = 0; i < model->weight_count; i++) {
        const sgm_weight *w = &model->weights[i];
        const char *expert = strstr(w->name, "mlp.experts.");
        bool stays = strstr(w->name, "embed_tokens") || strncmp(w->name, "model.layers.0.self_attn.", 25) == 0 ||
                     (expert && expert[12] < '6');
        bool same =
            memcmp(before + (w->data - model->data), w->data, (size_t)(w->rows * w->cols) * sizeof(sgm_real)) == 0;
        if (stays != same)
            fail_msg("%s %s", w->name, same ? "stayed" : "moved");
        frozen += stays, moved += !stays;
    }
    assert_true(frozen == 1 + 2 * 6 * 3 + 6 && moved > 10);
    sgm_free(before);
    sgm_trainer_close(trainer);
    remove_run("frozen");
}

/* Rows alone: a router's old experts stay, its new ones move. Overlapping and neighbouring runs are one. */
static void frozen_rows_stay(void **state) {
    (void)state;
    static const char gate[] = "model.layers.1.mlp.gate.weight";
    const char *settings[] = {"train.freeze=model.layers.*.mlp.gate.weight@0-2,model.layers.1.mlp.gate.weight@2-3, "
                              "model.layers.1.mlp.gate.weight@6",
                              "optimizer.weight_decay=1", NULL};
    sgm_trainer *trainer = start("rows", settings);
    const sgm_weight *w = weight_of(trainer, gate), *other = weight_of(trainer, "model.layers.0.mlp.gate.weight");
    int64_t end;
    assert_true(sgm_freeze_run(settings[0] + 13, w, 0, &end) && end == 3);
    assert_true(sgm_freeze_run(settings[0] + 13, w, 3, &end) && end == 4);
    assert_true(!sgm_freeze_run(settings[0] + 13, w, 4, &end) && end == 6);
    assert_true(sgm_freeze_run(settings[0] + 13, w, 6, &end) && end == 7);
    assert_true(!sgm_freeze_run(settings[0] + 13, w, 7, &end) && end == 8);
    sgm_real before[2][8 * 64];
    memcpy(before[0], other->data, sizeof before[0]);
    memcpy(before[1], w->data, sizeof before[1]);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    static const char stays[] = "ssss..s.";
    for (int l = 0; l < 2; l++)
        for (int e = 0; e < 8; e++) {
            bool same = memcmp(before[l] + e * 64, (l ? w : other)->data + e * 64, 64 * sizeof(sgm_real)) == 0;
            bool should = l ? stays[e] == 's' : e < 3;
            if (same != should)
                fail_msg("layer %d, row %d %s", l, e, same ? "stayed" : "moved");
        }
    sgm_trainer_close(trainer);
    remove_run("rows");
}

/* All frozen but one norm: its gradient is all of the norm, as if the others were constants. */
static void the_norm_is_of_what_moves(void **state) {
    (void)state;
    const char *settings[] = {"train.freeze=model.layers.*,model.embed_tokens.weight", NULL};
    sgm_step_report all, one;
    sgm_trainer *trainer = start("moves", NULL);
    assert_int_equal(sgm_trainer_step(trainer, &all, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    remove_run("moves");
    trainer = start("moves", settings);
    assert_int_equal(sgm_trainer_step(trainer, &one, NULL), SGM_OK);
    assert_true(one.gradient_norm > 0 && one.gradient_norm < 0.5 * all.gradient_norm);
    assert_true(one.loss_nats_per_token == all.loss_nats_per_token);
    sgm_trainer_close(trainer);
    remove_run("moves");
}

/* A run continued bit for bit with frozen weights, and one that begins where another ended. */
static void runs_begin_with_a_model(void **state) {
    (void)state;
    train("first", (const char *const[]){"train.steps=4", NULL});
    const char *from = keep(sgm_format("train.from=%s", path("first")));
    const char *settings[] = {from, "train.steps=8", "train.freeze=model.embed_tokens.weight", NULL};
    sgm_trainer *ended = resume("first", 4), *trainer = start("second", settings);
    const sgm_model *a = ended->stepper->model, *b = trainer->stepper->model;
    assert_memory_equal(a->data, b->data, (size_t)a->elements * sizeof(sgm_real));
    assert_int_equal(trainer->stepper->step, 0);
    for (int64_t i = 0; i < 2 * b->elements; i++)
        assert_true(trainer->stepper->moments[i] == 0);
    sgm_trainer_close(ended);
    finish(trainer);
    /* Killed on the way: the same bytes. */
    trainer = start("third", settings);
    for (int i = 0; i < 6; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    finish(resume("third", 0));
    same_checkpoint("second", "third", 8);
    remove_run("first"), remove_run("second"), remove_run("third");
}

/* The bias on selection of the model is where the balancer that has one begins: the first checkpoint routes as the model, a
 * run that was killed continues, and one that died before its first checkpoint begins so again. */
static void a_bias_on_selection_comes_along(void **state) {
    (void)state;
    const char *settings[] = {"balance=loss_free_bias", "balance.0.rate=0.05", "train.steps=4", NULL};
    train("biased", settings);
    const char *from = keep(sgm_format("train.from=%s", path("biased")));
    const char *more[] = {from, "balance=load_balance_loss,loss_free_bias", "balance.1.rate=0.05", "train.steps=8",
                          NULL};
    sgm_model *model;
    sgm_error error = {0};
    assert_int_equal(sgm_model_folder_load(path("biased/checkpoints/latest"), false, &model, NULL, &error), SGM_OK);
    int64_t biases = model->settings.layers * model->settings.experts, moved = 0;
    for (int64_t i = 0; i < biases; i++)
        moved += model->selection_bias[i] != 0;
    assert_true(moved > 0);
    sgm_trainer *trainer = start("goes", more);
    assert_memory_equal(sgm_balance_set_bias(trainer->stepper->balance), model->selection_bias,
                        (size_t)biases * sizeof(sgm_real));
    same_file(path("biased/checkpoints/step-000004/model.safetensors"),
              path("goes/checkpoints/step-000000/model.safetensors"));
    finish(trainer);
    /* Killed before its first step and in the middle. */
    sgm_trainer_close(start("stops", more));
    trainer = resume("stops", 0);
    assert_memory_equal(sgm_balance_set_bias(trainer->stepper->balance), model->selection_bias,
                        (size_t)biases * sizeof(sgm_real));
    for (int i = 0; i < 6; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    finish(resume("stops", 0));
    same_checkpoint("goes", "stops", 8);
    remove_run("stops");
    sgm_trainer_close(start("stops", more));
    remove_run("stops/checkpoints");
    finish(resume("stops", 0));
    same_checkpoint("goes", "stops", 8);
    /* Nobody to take it. */
    assert_int_equal(start_fails("new", (const char *const[]){from, "balance=load_balance_loss", NULL}, &error),
                     SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "bias on selection"));
    assert_non_null(strstr(error.hint, "balance=loss_free_bias"));
    sgm_model_free(model);
    remove_run("biased"), remove_run("goes"), remove_run("stops");
}

/* A model without one: the balancer's begins at 0. */
static void a_bias_on_selection_begins_at_zero(void **state) {
    (void)state;
    train("plain", (const char *const[]){"balance=load_balance_loss", "train.steps=1", NULL});
    const char *from = keep(sgm_format("train.from=%s", path("plain")));
    sgm_trainer *trainer = start("biased", (const char *const[]){from, "balance=loss_free_bias", NULL});
    const sgm_model_settings *s = &trainer->settings->model;
    const sgm_real *bias = sgm_balance_set_bias(trainer->stepper->balance);
    for (int64_t i = 0; i < s->layers * s->experts; i++)
        assert_true(bias[i] == 0);
    sgm_trainer_close(trainer);
    remove_run("plain"), remove_run("biased");
}

/* The same weights under another setting would compute something else. What counts in training alone may differ. */
static void what_computes_something_else(void **state) {
    (void)state;
    sgm_error error = {0};
    train("old", (const char *const[]){"train.steps=1", "model.experts_per_token=2", NULL});
    const char *from = keep(sgm_format("train.from=%s", path("old")));
    static const struct {
        const char *setting, *says;
    } cases[] = {
        {"model.rope_theta=1e6", "model.rope_theta is 10000"},
        {"model.norm_epsilon=1e-5", "model.norm_epsilon is 1e-06"},
        {"model.attention=stick_breaking", "model.attention is causal"},
        {"model.tie_embeddings=false", "model.tie_embeddings is true"},
        {"router.normalise=true", "router.normalise is false"},
        {"router.score=sigmoid", "router.score is softmax"},
        {"router.kind=expert_choice", "router.kind is top_k"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *settings[] = {from, "model.experts_per_token=2", cases[i].setting, NULL};
        assert_int_equal(start_fails("new", settings, &error), SGM_EARGUMENT);
        if (!strstr(error.message, cases[i].says))
            fail_msg("%s: %s", cases[i].setting, error.message);
    }
    const char *fine[] = {
        from, "model.experts_per_token=1", "router.capacity_factor=2", "model.init_std=0.1", "model.context=16", NULL};
    sgm_trainer_close(start("new", fine));
    remove_run("old"), remove_run("new");
}

static void what_does_not_fit(void **state) {
    (void)state;
    sgm_error error = {0};
    train("old", (const char *const[]){"train.steps=1", NULL});
    const char *from = keep(sgm_format("train.from=%s", path("old")));
    assert_int_equal(start_fails("new", (const char *const[]){from, "model.experts=12", NULL}, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "model.experts is 8"));
    assert_int_equal(
        start_fails("new", (const char *const[]){"train.freeze=model.layers.*,model.embed_tokns.*", NULL}, &error),
        SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "pattern number 2"));
    static const char *const wrong[] = {"train.freeze=model.norm.weight@1", "train.freeze=model.norm.weight@",
                                        "train.freeze=model.layers.*.mlp.gate.weight@0-8",
                                        "train.freeze=model.layers.*.mlp.gate.weight@3-2",
                                        "train.freeze=model.layers.*.mlp.gate.weight@1-2x"};
    for (int i = 0; i < 5; i++)
        assert_int_equal(start_fails("new", (const char *const[]){wrong[i], NULL}, &error), SGM_EARGUMENT);
    assert_int_equal(start_fails("new", (const char *const[]){"train.freeze=model.norm.weight,*", NULL}, &error),
                     SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "nothing would be trained"));
    assert_true(error.hint[0]);
    /* A bias on selection is trained all the same. */
    sgm_trainer_close(start("biased", (const char *const[]){"train.freeze=*", "balance=loss_free_bias", NULL}));
    remove_run("biased");
    assert_true(start_fails("new", (const char *const[]){"train.from=/nowhere", NULL}, &error) != SGM_OK);
    remove_run("old");
}

/* Training with stick-breaking attention and a hidden layer in the router: it learns, allocates nothing, and keeps its bytes. */
static void attention_and_gate_variants_train(void **state) {
    (void)state;
    const char *settings[] = {"model.attention=stick_breaking", "model.gate_hidden=16", "train.steps=60", NULL};
    sgm_trainer *trainer = start("sticks", settings);
    sgm_step_report first, last = {0};
    assert_int_equal(sgm_trainer_step(trainer, &first, NULL), SGM_OK);
    uint64_t ours = sgm_alloc_count();
    for (int i = 1; i < 60; i++)
        assert_int_equal(sgm_trainer_step(trainer, &last, NULL), SGM_OK);
    assert_int_equal(sgm_alloc_count() - ours, 0);
    assert_true(last.loss_nats_per_token < first.loss_nats_per_token - 1.5);
    assert_non_null(weight_of(trainer, "model.layers.1.mlp.gate.hidden.weight"));
    sgm_trainer_close(trainer);
    remove_run("sticks");
    /* Threads, micro-batches and computing layers again change no byte. */
    static const char *const runs[] = {"one", "three", "again"};
    for (int i = 0; i < 3; i++)
        train(runs[i], (const char *const[]){"model.attention=stick_breaking", "model.gate_hidden=16", "train.steps=4",
                                             i == 1 ? "train.threads=3" : "train.threads=1",
                                             i == 1 ? "data.micro_batch_tokens=32" : "data.micro_batch_tokens=128",
                                             i == 2 ? "train.recompute=layer" : "train.recompute=none", NULL});
    for (int i = 1; i < 3; i++) {
        char a[256], b[256];
        snprintf(a, sizeof a, "%s/checkpoints/step-000004/model.safetensors", path("one"));
        snprintf(b, sizeof b, "%s/checkpoints/step-000004/model.safetensors", path(runs[i]));
        same_file(a, b);
    }
    for (int i = 0; i < 3; i++)
        remove_run(runs[i]);
}

/* A run that begins with a model with attention experts: its weights and both routers' biases; a token may take more of them. */
static void attention_experts_go_on(void **state) {
    (void)state;
    sgm_error error = {0};
    const char *balance = "balance=loss_free_bias";
    train("mixed",
          (const char *const[]){"model.attention_experts=3", balance, "balance.0.rate=0.02", "train.steps=4", NULL});
    const char *from = keep(sgm_format("train.from=%s", path("mixed")));
    sgm_trainer *trainer = start("on", (const char *const[]){from, "model.attention_experts=3",
                                                             "model.attention_experts_per_token=2", balance, NULL});
    sgm_model *model;
    assert_int_equal(sgm_model_folder_load(path("mixed/checkpoints/latest"), false, &model, NULL, &error), SGM_OK);
    assert_memory_equal(sgm_balance_set_bias(trainer->stepper->balance), model->selection_bias,
                        (size_t)sgm_model_routed_numbers(&model->settings) * sizeof(sgm_real));
    bool moved = true;
    for (int r = 0; r < 4; r++)
        moved = moved && model->selection_bias[8 * r] != 0;
    assert_true(moved);
    assert_memory_equal(trainer->stepper->model->data, model->data, (size_t)model->elements * sizeof(sgm_real));
    sgm_model_free(model);
    finish(trainer);
    assert_int_equal(
        start_fails("new", (const char *const[]){from, "model.attention_experts=4", balance, NULL}, &error),
        SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "model.attention_experts is 3"));
    remove_run("mixed"), remove_run("on");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(frozen_weights_stay),
                                       cmocka_unit_test(frozen_rows_stay),
                                       cmocka_unit_test(the_norm_is_of_what_moves),
                                       cmocka_unit_test(runs_begin_with_a_model),
                                       cmocka_unit_test(a_bias_on_selection_comes_along),
                                       cmocka_unit_test(a_bias_on_selection_begins_at_zero),
                                       cmocka_unit_test(what_computes_something_else),
                                       cmocka_unit_test(what_does_not_fit),
                                       cmocka_unit_test(attention_and_gate_variants_train),
                                       cmocka_unit_test(attention_experts_go_on)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
