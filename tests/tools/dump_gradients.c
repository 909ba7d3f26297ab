// SPDX-License-Identifier: Apache-2.0
/* dump_gradients FOLDER KERNELS [KEY=VALUE…]: write a random model folder, and beside it FOLDER.gradients.safetensors with
 * a packed batch (tokens, targets (T); lengths of its documents), the loss (1), and the gradient of every weight by its
 * name. The loss is the mean over the rows that have a target. For scripts/oracle/gradients. */
#include "base/memory.h"
#include "model/model_folder.h"
#include "tool_model.h"

enum { THREADS = 2, DOCUMENTS = 4, ROWS = 5 + 64 + 1 + 90 };
static const int32_t lengths[DOCUMENTS] = {5, 64, 1, 90};

typedef struct batch {
    int32_t tokens[ROWS], positions[ROWS], targets[ROWS];
    sgm_segment segments[DOCUMENTS];
    sgm_rows rows;
    int64_t scored;
} batch;

typedef struct backward {
    sgm_model *model;
    const sgm_kernels *kernels;
    const batch *batch;
    const sgm_plan *plan;
    sgm_tape *tapes[THREADS];
    char *values, *gradients;
    double loss;
} backward;

static void fill(batch *b, int64_t vocabulary) {
    int64_t row = 0;
    for (int d = 0; d < DOCUMENTS; d++) {
        b->segments[d] = (sgm_segment){.row = row, .rows = lengths[d]};
        for (int32_t i = 0; i < lengths[d]; i++, row++) {
            b->tokens[row] = (int32_t)((row * row * 31 + row * 17 + 3) % vocabulary);
            b->positions[row] = i;
            b->targets[row] = i == lengths[d] - 1 ? -1 : (int32_t)((row * row * 13 + row * 5 + 8) % vocabulary);
            b->scored += b->targets[row] >= 0;
        }
    }
    b->rows = (sgm_rows){.rows = ROWS,
                         .tokens = b->tokens,
                         .positions = b->positions,
                         .targets = b->targets,
                         .segments = b->segments,
                         .segment_count = DOCUMENTS};
}

static void run(sgm_worker *worker, void *argument) {
    backward *r = argument;
    sgm_walk walk = {.worker = worker, .kernels = r->kernels, .values = r->values, .tape = r->tapes[worker->thread]};
    sgm_pass pass = {.loss_scale = 1.0 / (double)r->batch->scored};
    sgm_tensor loss = sgm_transformer_loss(&walk, r->model, &r->batch->rows, &pass);
    sgm_tape_backward(&walk, r->plan, r->gradients);
    if (worker->thread == 0)
        r->loss = (double)loss.data[0];
}

/* Plan with a dry walk, then forward and backward on the team. */
static void compute(backward *r) {
    sgm_error error = {0};
    sgm_team *team;
    sgm_tape *growing;
    sgm_plan plan;
    TRY(sgm_team_new(THREADS, &team, &error));
    TRY(sgm_tape_new(NULL, &growing, &error));
    sgm_worker alone = {.threads = THREADS, .team = team};
    sgm_walk dry = {.worker = &alone, .kernels = r->kernels, .dry = true, .tape = growing, .error = &error};
    sgm_pass pass = {.loss_scale = 1};
    sgm_transformer_loss(&dry, r->model, &r->batch->rows, &pass);
    TRY(dry.status);
    TRY(sgm_plan_make(&dry, THREADS, &plan, &error));
    for (int t = 0; t < THREADS; t++)
        TRY(sgm_tape_new(&plan, &r->tapes[t], &error));
    r->plan = &plan;
    r->values = sgm_alloc(plan.value_bytes);
    r->gradients = sgm_alloc(plan.gradient_bytes);
    if (!r->values || !r->gradients)
        exit(1);
    sgm_team_run(team, run, r);
    const sgm_model *model = r->model;
    for (int64_t i = 0; model->head_gradient && i < model->embedding->rows * model->embedding->cols; i++)
        model->embedding->gradient[i] += model->head_gradient[i];
    for (int t = 0; t < THREADS; t++)
        sgm_tape_free(r->tapes[t]);
    sgm_tape_free(growing);
    sgm_plan_free(&plan);
    sgm_free(r->values);
    sgm_free(r->gradients);
    sgm_team_free(team);
}

int main(int argc, char **argv) {
    static batch b;
    sgm_error error = {0};
    backward r = {.batch = &b};
    sgm_safetensors_writer *writer;
    char path[4096];
    if (argc < 3)
        return fprintf(stderr, "usage: dump_gradients FOLDER KERNELS [KEY=VALUE…]\n"), 2;
    tool_make_model(argv[1], argv + 3, argc - 3);
    TRY(sgm_model_folder_load(argv[1], true, &r.model, NULL, &error));
    TRY(sgm_kernels_get(argv[2], &r.kernels, &error));
    fill(&b, r.model->settings.vocabulary);
    compute(&r);

    snprintf(path, sizeof path, "%s.gradients.safetensors", argv[1]);
    const int64_t rows = ROWS, documents = DOCUMENTS, one = 1;
    TRY(sgm_safetensors_writer_new(path, &writer, &error));
    TRY(sgm_safetensors_writer_declare(writer, "loss", SGM_F64, 1, &one, &error));
    TRY(sgm_safetensors_writer_declare(writer, "tokens", SGM_I32, 1, &rows, &error));
    TRY(sgm_safetensors_writer_declare(writer, "targets", SGM_I32, 1, &rows, &error));
    TRY(sgm_safetensors_writer_declare(writer, "lengths", SGM_I32, 1, &documents, &error));
    for (int64_t i = 0; i < r.model->weight_count; i++) {
        const sgm_weight *w = &r.model->weights[i];
        TRY(sgm_safetensors_writer_declare(writer, w->name, SGM_F32, 2, (const int64_t[]){w->rows, w->cols}, &error));
    }
    tool_add(writer, &r.loss, sizeof r.loss);
    tool_add(writer, b.tokens, sizeof b.tokens);
    tool_add(writer, b.targets, sizeof b.targets);
    tool_add(writer, lengths, sizeof lengths);
    for (int64_t i = 0; i < r.model->weight_count; i++) {
        const sgm_weight *w = &r.model->weights[i];
        tool_add(writer, w->gradient, (size_t)(w->rows * w->cols) * sizeof *w->gradient);
    }
    TRY(sgm_safetensors_writer_commit(writer, &error));
    sgm_model_free(r.model);
    return 0;
}
