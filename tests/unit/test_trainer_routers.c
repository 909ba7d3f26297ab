// SPDX-License-Identifier: Apache-2.0
/* Whole training runs with every router, and with null experts: the same bytes for any number of threads, after an
 * interruption and with recomputation, no allocation in a step, and a model that opens for inference. */
#include "sigmoe/session.h"
#include "trainer_fixture.h"

typedef struct run_case {
    const char *name;
    bool together; /* it looks at a micro-batch as a whole */
    const char *settings[8];
} run_case;

static const run_case cases[] = {
    {"grouped", false, {"router.kind=grouped", "model.experts_per_token=2"}},
    {"deepseek",
     false,
     {"router.kind=deepseek_v3", "router.groups=4", "router.groups_chosen=2", "model.experts_per_token=2",
      "balance=loss_free_bias,load_balance_loss"}},
    {"capacity", true, {"router.capacity_factor=1", "model.experts_per_token=2"}},
    {"by score", true, {"router.capacity_factor=1", "router.drop_order=score"}},
    {"choice", true, {"router.kind=expert_choice", "sparsity.kind=progressive", "sparsity.layers=3,2"}},
    {"sinkhorn", true, {"router.kind=sinkhorn", "router.score=sigmoid"}},
    {"hash", false, {"router.kind=hash", "balance=none", "model.experts_per_token=2"}},
    {"top_p", false, {"router.kind=top_p", "model.experts_per_token=3"}},
    {"attention experts",
     false,
     {"model.attention_experts=5", "model.attention_experts_per_token=2", "model.gate_hidden=12",
      "balance=load_balance_loss,loss_free_bias"}},
    {"more attention experts",
     false,
     {"model.attention_experts=12", "model.attention_experts_per_token=3", "router.kind=top_p",
      "model.attention=stick_breaking", "model.experts_per_token=2", "balance=mutual_information"}},
    {"null", false, {"model.null_experts=3", "model.experts_per_token=2", "router.normalise=true"}},
    {"null choice", true, {"model.null_experts=3", "router.kind=expert_choice"}},
};
enum { CASES = sizeof cases / sizeof *cases };

/* Six steps, saved after the third and the last; little beside them, for the sanitizers' sake. */
static void train_with(const char *run, const run_case *c, const char *a, const char *b) {
    static const char *const lean[] = {"train.steps=6", "train.checkpoint_every=3", "train.final_eval_tokens=256",
                                       "train.sample_tokens=0", "data.tokens_per_step=128"};
    const char *settings[16];
    size_t count = 0;
    for (size_t i = 0; i < sizeof lean / sizeof *lean; i++)
        settings[count++] = lean[i];
    for (size_t i = 0; c->settings[i]; i++)
        settings[count++] = c->settings[i];
    settings[count++] = a;
    settings[count] = b;
    settings[count + (b != NULL)] = NULL;
    train(run, settings);
}

/* The logits of a few tokens at once are those of one after the other. */
static void check_model(const char *run) {
    sgm_engine *engine;
    sgm_session *session;
    sgm_error error = {0};
    const sgm_engine_options options = {.threads = 2, .kernels = "ref"};
    if (sgm_engine_open(path(run), &options, &engine, &error))
        fail_msg("%s: %s", run, error.message);
    int64_t V = sgm_engine_info(engine)->settings.vocabulary;
    const int32_t tokens[12] = {7, 3, 9, 200, 3, 9, 11, 40, 3, 5, 8, 13};
    float *all = sgm_alloc(12 * (size_t)V * sizeof *all), *one = sgm_alloc((size_t)V * sizeof *one);
    for (int alone = 0; alone < 2; alone++) {
        assert_int_equal(sgm_session_new(engine, &session, &error), SGM_OK);
        for (int t = 0; t < (alone ? 12 : 1); t++) {
            sgm_batch_item item = {session, tokens + t, alone ? 1 : 12, true};
            if (sgm_engine_step(engine, &item, 1, alone ? one : all, &error))
                fail_msg("%s: %s", run, error.message);
            if (alone)
                assert_memory_equal(one, all + t * V, (size_t)V * sizeof *one);
        }
        sgm_session_free(session);
    }
    sgm_free(all);
    sgm_free(one);
    sgm_engine_close(engine);
}

static void threads_change_nothing(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        train_with("one", &cases[i], "train.threads=1", NULL);
        train_with("three", &cases[i], "train.threads=3", NULL);
        same_checkpoint("one", "three", 6);
        check_model("one");
        remove_run("three");
        if (!cases[i].together) {
            train_with("cut", &cases[i], "data.micro_batch_tokens=64", NULL);
            same_checkpoint("one", "cut", 6);
            remove_run("cut");
        }
        remove_run("one");
    }
}

static void resuming_and_recomputing_change_nothing(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        train_with("whole", &cases[i], "data.micro_batch_tokens=64", NULL);
        assert_int_equal(rename(path("whole/checkpoints/step-000006"), path("last")), 0);
        finish(resume("whole", 0)); /* from step 3 */
        assert_true(same_folder(path("last"), path("whole/checkpoints/step-000006")) >= 6);
        remove_run("last");
        if (cases[i].together ||
            strstr(cases[i].name, "attention")) { /* what was decided together is not decided again */
            train_with("again", &cases[i], "train.recompute=layer", "data.micro_batch_tokens=64");
            same_file(path("whole/checkpoints/step-000006/model.safetensors"),
                      path("again/checkpoints/step-000006/model.safetensors"));
            remove_run("again");
        }
        remove_run("whole");
    }
}

static void a_step_allocates_nothing(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        sgm_trainer *trainer = start("counted", cases[i].settings);
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
        uint64_t before = sgm_alloc_count();
        for (int step = 0; step < 2; step++)
            sgm_stepper_step(trainer->stepper, trainer->loader);
        assert_true(sgm_alloc_count() == before);
        sgm_trainer_close(trainer);
        remove_run("counted");
    }
}

/* Of null experts there is no weight, and the load says what was computed. */
static void null_experts_cost_nothing(void **state) {
    (void)state;
    const char *const with[] = {"model.null_experts=6", "model.experts_per_token=2", NULL};
    sgm_trainer *trainer = start("null", with);
    assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    const sgm_stepper *stepper = trainer->stepper;
    const sgm_model_settings *s = &stepper->model->settings;
    for (int64_t l = 0; l < s->layers; l++) {
        const sgm_load *load = &stepper->load[l];
        int64_t all = 0, computed = 0;
        for (int64_t e = 0; e < s->experts; e++) {
            all += load->count[e];
            computed += e < s->experts - s->null_experts ? load->count[e] : 0;
        }
        assert_int_equal(all, 2 * load->tokens);
        assert_int_equal(load->computed, computed);
        assert_true(computed > 0 && computed < all);
        assert_int_equal(stepper->model->layers[l].bank.experts, 2);
    }
    sgm_trainer_close(trainer);
    remove_run("null");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(resuming_and_recomputing_change_nothing),
        cmocka_unit_test(a_step_allocates_nothing),
        cmocka_unit_test(null_experts_cost_nothing),
    };
    return cmocka_run_group_tests_name("training with every router", tests, setup, teardown);
}
