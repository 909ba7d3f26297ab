// SPDX-License-Identifier: Apache-2.0
/* How a step computes. bf16: the same bytes for any number of threads and after an interruption, a loss that falls as in f32,
 * and no run that changes its numbers on the way. Recompute: the same bytes as without, in less memory. */
#include "train/checkpoint_state.h"
#include "trainer_fixture.h"

/* As many rows as make a product's tiles in bf16 larger on one thread than on two. */
#define LARGER_STEPS "model.context=64", "data.tokens_per_step=256"

/* The checkpoints of 4 steps with `kernels`, on 1, 2, 3 threads and once more. */
static void same_for_any_threads(const char *kernels, const char *compute) {
    char table[64], numbers[64], threads[64];
    snprintf(table, sizeof table, "train.kernels=%s", kernels);
    snprintf(numbers, sizeof numbers, "train.compute=%s", compute);
    const char *settings[] = {table,
                              numbers,
                              threads,
                              "sparsity.kind=progressive",
                              "sparsity.layers=3,2",
                              "sparsity.switch=0.5",
                              "train.steps=4",
                              LARGER_STEPS,
                              NULL};
    for (int i = 1; i <= 4; i++) {
        snprintf(threads, sizeof threads, "train.threads=%d", i < 4 ? i : 1);
        train(i == 1 ? "one" : "more", settings);
        if (i == 1)
            continue;
        same_checkpoint("one", "more", 4);
        remove_run("more");
    }
    remove_run("one");
}

static void bf16_gives_the_same_bytes_for_any_threads(void **state) {
    (void)state;
    for (size_t k = 0; sgm_kernels_at(k); k++)
        if (sgm_kernels_at(k)->usable())
            same_for_any_threads(sgm_kernels_at(k)->name, "bf16");
}

/* The same bound as in f32 (test_trainer.c): the text's own entropy is about 0.45 nats. */
static void the_loss_falls_in_bf16(void **state) {
    (void)state;
    const char *bf16[] = {"train.kernels=auto", "train.compute=bf16",           "train.steps=80",
                          LARGER_STEPS,         "train.final_eval_tokens=2000", NULL},
               *f32[] = {"train.kernels=auto", "train.steps=80", LARGER_STEPS, NULL};
    train("bf16", bf16);
    train("f32", f32);
    double loss = query("bf16", "SELECT loss FROM steps WHERE step = 80");
    double exact = query("f32", "SELECT loss FROM steps WHERE step = 80");
    if (!(loss < 1.6) || loss == exact)
        fail_msg("the loss is %g after 80 steps, %g in f32", loss, exact);
    double first = query("bf16", "SELECT loss FROM steps WHERE step = 1");
    exact = query("f32", "SELECT loss FROM steps WHERE step = 1");
    assert_true(first - exact < 0.01 && exact - first < 0.01);
    assert_true(query("bf16", "SELECT bits_per_byte FROM evals WHERE step = 80 AND domain = ''") < 2.4);
    remove_run("bf16");
    remove_run("f32");
}

static void bf16_resumes_bit_for_bit(void **state) {
    (void)state;
    const char *settings[] = {"train.kernels=auto", "train.compute=bf16", NULL};
    train("through", settings);
    sgm_trainer *trainer = start("broken", settings);
    for (int i = 0; i < 6; i++)
        assert_int_equal(sgm_trainer_step(trainer, NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainer, NULL), SGM_OK);
    sgm_trainer_close(trainer);
    finish(resume("broken", 0));
    same_checkpoint("through", "broken", 12);
    remove_run("through");
    remove_run("broken");
}

/* ---- the copy of the weights in bf16 ---- */

/* Every element of it is what the table makes of the weight now. */
static void copy_is_fresh(const sgm_stepper *stepper) {
    const sgm_model *model = stepper->model;
    size_t count = (size_t)model->elements;
    uint16_t *fresh = sgm_alloc(count * sizeof *fresh);
    stepper->kernels->bf16_round(model->elements, model->data, fresh);
    assert_non_null(model->rounded);
    assert_memory_equal(fresh, model->rounded, count * sizeof *fresh);
    sgm_free(fresh);
}

/* Products read the f32 weights from here on. */
static void forget_copy(sgm_model *model) {
    for (int64_t i = 0; i < model->weight_count; i++)
        model->weights[i].rounded = NULL;
    sgm_model_connect(model);
}

static void same_without_copy(const char *const *settings) {
    sgm_trainer *with = start("with", settings), *without = start("without", settings);
    const sgm_model *model = with->stepper->model;
    copy_is_fresh(with->stepper);
    assert_true(model->layers[0].experts[0].rounded_down != NULL && model->head->rounded != NULL);
    forget_copy(without->stepper->model);
    assert_null(without->stepper->model->head->rounded);
    for (int i = 0; i < 4; i++) {
        sgm_step_report reports[2];
        assert_int_equal(sgm_trainer_step(with, &reports[0], NULL), SGM_OK);
        assert_int_equal(sgm_trainer_step(without, &reports[1], NULL), SGM_OK);
        assert_true(reports[0].loss_nats_per_token == reports[1].loss_nats_per_token);
        assert_memory_equal(model->data, without->stepper->model->data, (size_t)model->elements * sizeof(sgm_real));
        copy_is_fresh(with->stepper);
    }
    sgm_trainer_close(with);
    sgm_trainer_close(without);
    remove_run("with");
    remove_run("without");
}

enum { COPIES = 10 };

/* The copies of the first layer's weights and the head's; NULL where this model has no such weight. */
static void list_copies(const sgm_model *model, const uint16_t *copies[COPIES]) {
    const sgm_layer *l = &model->layers[0];
    const uint16_t *all[COPIES] = {model->head->rounded,
                                   l->experts[0].rounded_gate,
                                   l->experts[0].rounded_up,
                                   l->experts[0].rounded_down,
                                   l->k->rounded,
                                   l->v->rounded,
                                   l->q ? l->q->rounded : NULL,
                                   l->o ? l->o->rounded : NULL,
                                   l->attention_experts ? l->attention_experts[0].rounded : NULL,
                                   l->attention_experts ? l->attention_experts[1].rounded : NULL};
    memcpy(copies, all, sizeof all);
}

/* Each copy is what its products read: with zeros in it a step comes to other weights. Returns how many there were. */
static int copies_read(const char *const *settings) {
    int count = 0;
    sgm_trainer *whole = start("whole", settings);
    const sgm_model *model = whole->stepper->model;
    assert_int_equal(sgm_trainer_step(whole, NULL, NULL), SGM_OK);
    for (int i = 0; i < COPIES; i++) {
        sgm_trainer *poisoned = start("poisoned", settings);
        sgm_model *other = poisoned->stepper->model;
        const uint16_t *copies[COPIES];
        list_copies(other, copies);
        if (copies[i]) {
            memset(other->rounded + (copies[i] - other->rounded), 0, 32 * sizeof(uint16_t));
            assert_int_equal(sgm_trainer_step(poisoned, NULL, NULL), SGM_OK);
            if (memcmp(model->data, other->data, (size_t)model->elements * sizeof(sgm_real)) == 0)
                fail_msg("copy %d is not read", i);
            count++;
        }
        sgm_trainer_close(poisoned);
        remove_run("poisoned");
    }
    sgm_trainer_close(whole);
    remove_run("whole");
    return count;
}

static void every_copy_is_read(void **state) {
    (void)state;
#define COMMON "train.compute=bf16", "train.kernels=ref", "model.tie_embeddings=false", "model.experts_per_token=8"
    const char *dense[] = {COMMON, NULL},
               *routed[] = {COMMON, "model.attention_experts=4", "model.attention_experts_per_token=4", NULL};
#undef COMMON
    assert_int_equal(copies_read(dense), 8);
    assert_int_equal(copies_read(routed), 8);
}

static void weights_rounded_before_change_no_byte(void **state) {
    (void)state;
    for (size_t k = 0; sgm_kernels_at(k); k++) {
        const sgm_kernels *kernels = sgm_kernels_at(k);
        char table[64];
        if (!kernels->usable() || !kernels->bf16_round)
            continue;
        snprintf(table, sizeof table, "train.kernels=%s", kernels->name);
        const char *plain[] = {table,
                               "train.compute=bf16",
                               "model.tie_embeddings=false",
                               "data.micro_batch_tokens=64",
                               LARGER_STEPS,
                               NULL},
                   *tied[] = {table,
                              "train.compute=bf16",
                              "model.tie_embeddings=true",
                              "train.recompute=layer",
                              "train.freeze=model.layers.0.*",
                              NULL},
                   *attention[] = {table,
                                   "train.compute=bf16",
                                   "model.attention_experts=4",
                                   "model.attention_experts_per_token=2",
                                   "model.gate_hidden=8",
                                   NULL};
        same_without_copy(plain);
        same_without_copy(tied);
        same_without_copy(attention);
    }
}

/* It belongs to training in bf16 alone, is counted, and comes along where weights are read from files. */
static void the_copy_is_made_where_it_is_read(void **state) {
    (void)state;
    const char *f32[] = {NULL}, *bf16[] = {"train.compute=bf16", NULL}, *six[] = {"train.compute=bf16x6", NULL};
    sgm_trainer *trainers[] = {start("f32", f32), start("bf16", bf16), start("six", six)};
    const sgm_stepper *stepper = trainers[1]->stepper;
    assert_true(!trainers[0]->stepper->model->rounded && !trainers[2]->stepper->model->rounded);
    assert_true(stepper->memory_bytes - trainers[0]->stepper->memory_bytes ==
                (uint64_t)stepper->model->elements * sizeof(uint16_t));
    for (int i = 0; i < 3; i++)
        assert_int_equal(sgm_trainer_step(trainers[1], NULL, NULL), SGM_OK);
    assert_int_equal(sgm_trainer_save(trainers[1], NULL), SGM_OK);
    for (int i = 0; i < 3; i++)
        sgm_trainer_close(trainers[i]);
    sgm_trainer *resumed = resume("bf16", 0);
    copy_is_fresh(resumed->stepper);
    sgm_trainer_close(resumed);
    const char *from[] = {"train.compute=bf16", keep(sgm_format("train.from=%s", path("bf16"))), NULL};
    sgm_trainer *begun = start("from", from);
    copy_is_fresh(begun->stepper);
    sgm_trainer_close(begun);
    remove_run("f32");
    remove_run("bf16");
    remove_run("six");
    remove_run("from");
}

/* Replace `was` by `is` in a file. */
static void edit(const char *from, const char *to, const char *was, const char *is) {
    char *text, edited[65536];
    size_t size;
    assert_int_equal(sgm_file_read(from, sizeof edited / 2, &text, &size, NULL), SGM_OK);
    char *found = strstr(text, was);
    if (!found)
        fail_msg("%s does not say \"%s\"", from, was);
    int length = snprintf(edited, sizeof edited, "%.*s%s%s", (int)(found - text), text, is, found + strlen(was));
    assert_int_equal(sgm_file_write(to, edited, (size_t)length, NULL), SGM_OK);
    sgm_free(text);
}

/* Without it the defaults would count. */
static void a_config_cut_off_is_told(void **state) {
    (void)state;
    const char *const cut[] = {"", "model:\n  layers: 2\n"};
    train("cut", NULL);
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        sgm_trainer *trainer;
        sgm_error error = {0};
        assert_int_equal(sgm_file_write(path("cut/config.yaml"), cut[i], strlen(cut[i]), NULL), SGM_OK);
        assert_int_equal(sgm_trainer_resume(path("cut"), 0, 0, NULL, &trainer, &error), SGM_EFORMAT);
        assert_non_null(strstr(error.message, "config.yaml is empty or cut off"));
    }
    const char *const settings[] = {"optimizer.learning_rate=0.0123", NULL}; /* a line that is missing is no default */
    remove_run("cut");
    train("cut", settings);
    const char *config = path("cut/config.yaml");
    edit(config, config, "  learning_rate: 0.0123", "  # gone");
    sgm_trainer *trainer;
    sgm_error error = {0};
    assert_int_equal(sgm_trainer_resume(path("cut"), 0, 0, NULL, &trainer, &error), SGM_EFORMAT);
    assert_non_null(strstr(error.message, "lacks optimizer.learning_rate, which was 0.0123"));
    assert_true(*error.hint);
    remove_run("cut");
}

static void a_run_keeps_its_compute(void **state) {
    (void)state;
    const char *settings[] = {"train.compute=bf16", NULL};
    train("kept", settings);
    const char *config = path("kept/config.yaml");
    edit(config, config, "compute: bf16", "compute: f32");
    sgm_trainer *trainer;
    sgm_error error = {0};
    assert_int_equal(sgm_trainer_resume(path("kept"), 0, 0, NULL, &trainer, &error), SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "train.compute"));
    assert_non_null(strstr(error.hint, "config.yaml"));
    edit(config, config, "compute: f32", "compute: bf16");
    trainer = resume("kept", 0);
    /* A checkpoint from before there was that key was made in f32. */
    edit(path("kept/checkpoints/latest/state/state.json"), path("state.json"), "\"train.compute\": \"bf16\"",
         "\"train.former\": \"\"");
    assert_int_equal(sgm_checkpoint_state_read(root, trainer->stepper, trainer->loader,
                                               sgm_corpus_hash(trainer->corpus), &(sgm_notes){0}, &error),
                     SGM_EARGUMENT);
    assert_non_null(strstr(error.message, "train.compute"));
    sgm_trainer_close(trainer);
    remove_run("kept");
}

/* Six steps of layers with several experts a token, a balancer of each kind (a loss, a bias with state), and micro-batches. */
#define RECOMPUTE_CASE                                                                                                 \
    "model.layers=6", "balance=load_balance_loss,loss_free_bias", "sparsity.kind=progressive",                         \
        "sparsity.layers=3,2,1,1,1,1", "sparsity.switch=0.5", "data.micro_batch_tokens=64", "train.steps=6",           \
        "train.checkpoint_every=3"

static void recomputing_changes_no_byte(void **state) {
    (void)state;
    for (size_t k = 0; sgm_kernels_at(k); k++) {
        char table[64], numbers[64], threads[64];
        if (!sgm_kernels_at(k)->usable())
            continue;
        const char *whole[] = {table, numbers, threads, RECOMPUTE_CASE, NULL},
                   *again[] = {table, numbers, threads, "train.recompute=layer", RECOMPUTE_CASE, NULL};
        snprintf(table, sizeof table, "train.kernels=%s", sgm_kernels_at(k)->name);
        for (int bf16 = 0; bf16 < 2; bf16++) {
            snprintf(numbers, sizeof numbers, "train.compute=%s", bf16 ? "bf16" : "f32");
            snprintf(threads, sizeof threads, "train.threads=2");
            train("kept", whole);
            snprintf(threads, sizeof threads, "train.threads=%d", 3 - 2 * bf16);
            train("again", again);
            same_checkpoint("kept", "again", 3);
            same_checkpoint("kept", "again", 6);
            assert_true(query("kept", "SELECT sum(loss) + sum(balance_loss) + sum(gradient_norm) FROM steps") ==
                        query("again", "SELECT sum(loss) + sum(balance_loss) + sum(gradient_norm) FROM steps"));
            remove_run("kept");
            remove_run("again");
        }
    }
}

/* Every assignment is counted once, the plan is smaller, and steps still allocate nothing. */
static void recomputing_takes_less_memory(void **state) {
    (void)state;
    const char *whole[] = {RECOMPUTE_CASE, NULL}, *again[] = {"train.recompute=layer", RECOMPUTE_CASE, NULL};
    sgm_trainer *trainers[] = {start("kept", whole), start("again", again)};
    size_t bytes[2];
    sgm_step_report reports[2];
    for (int i = 0; i < 2; i++) {
        const sgm_stepper *stepper = trainers[i]->stepper;
        bytes[i] = stepper->plan.value_bytes + stepper->plan.gradient_bytes;
        assert_int_equal(sgm_trainer_step(trainers[i], &reports[i], NULL), SGM_OK);
        uint64_t before = sgm_alloc_count();
        assert_int_equal(sgm_trainer_step(trainers[i], &reports[i], NULL), SGM_OK);
        assert_int_equal(sgm_alloc_count() - before, 0);
    }
    if (bytes[1] * 4 > bytes[0] * 3)
        fail_msg("%zu bytes with recomputed layers, %zu without", bytes[1], bytes[0]);
    assert_true(trainers[1]->stepper->memory_bytes + (bytes[0] - bytes[1]) == trainers[0]->stepper->memory_bytes);
    int64_t routed = 0;
    for (int64_t i = 0; i < 6 * reports[0].experts; i++) {
        assert_int_equal(reports[0].load[i], reports[1].load[i]);
        routed += reports[1].load[i];
    }
    assert_int_equal(routed, 9 * 128);
    for (int i = 0; i < 2; i++)
        sgm_trainer_close(trainers[i]);
    remove_run("kept");
    remove_run("again");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_gives_the_same_bytes_for_any_threads),
        cmocka_unit_test(the_loss_falls_in_bf16),
        cmocka_unit_test(bf16_resumes_bit_for_bit),
        cmocka_unit_test(every_copy_is_read),
        cmocka_unit_test(weights_rounded_before_change_no_byte),
        cmocka_unit_test(the_copy_is_made_where_it_is_read),
        cmocka_unit_test(a_config_cut_off_is_told),
        cmocka_unit_test(a_run_keeps_its_compute),
        cmocka_unit_test(recomputing_changes_no_byte),
        cmocka_unit_test(recomputing_takes_less_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
