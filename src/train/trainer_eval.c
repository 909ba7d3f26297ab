// SPDX-License-Identifier: Apache-2.0
/* Evaluation on held-out text and samples, with the weights in training.
 *
 * Windows overlap by half and every text token counts once; a document's first token is predicted from end-of-text. Bits per
 * byte are over the text's bytes: the closing end-of-text of a document is neither scored nor counted. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "sigmoe/session.h"
#include "train/trainer.h"

static sgm_status no_memory(sgm_error *error) {
    return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for evaluation");
}

sgm_status sgm_evaluator_new(sgm_trainer *trainer, sgm_error *error) {
    sgm_evaluator *evaluator = &trainer->evaluator;
    const sgm_model_settings *model = &trainer->settings->model;
    int64_t L = sgm_model_routed(model), E = sgm_model_routed_stride(model);
    size_t rows = (size_t)trainer->stepper->micro_rows, loads = (size_t)(L * E);
    size_t domains = evaluator->domains = sgm_corpus_domains(trainer->corpus);
    int64_t vocabulary = sgm_tokenizer_vocabulary(trainer->tokenizer);
    evaluator->tokens = sgm_alloc(rows * sizeof(int32_t));
    evaluator->positions = sgm_alloc(rows * sizeof(int32_t));
    evaluator->targets = sgm_alloc(rows * sizeof(int32_t));
    evaluator->domain = sgm_alloc(rows * sizeof(int32_t));
    evaluator->segments = sgm_alloc(rows * sizeof(sgm_segment));
    evaluator->token_bytes = sgm_alloc((size_t)vocabulary * sizeof(int64_t));
    evaluator->loss = sgm_alloc(domains * sizeof(double));
    evaluator->scored = sgm_alloc(domains * sizeof(int64_t));
    evaluator->bytes = sgm_alloc(domains * sizeof(int64_t));
    evaluator->bits_per_byte = sgm_alloc(domains * sizeof(double));
    evaluator->names = sgm_alloc(domains * sizeof(char *));
    evaluator->load = sgm_alloc((size_t)L * sizeof(sgm_load));
    evaluator->load_count = sgm_alloc(loads * sizeof(int64_t));
    evaluator->load_sum = sgm_alloc(loads * sizeof(double));
    evaluator->layer_numbers = E;
    evaluator->domain_numbers = L * E;
    evaluator->domain_count = sgm_alloc(domains * loads * sizeof(int64_t));
    evaluator->logits = sgm_alloc((size_t)trainer->settings->model.vocabulary * sizeof(float));
    if (!evaluator->tokens || !evaluator->positions || !evaluator->targets || !evaluator->domain ||
        !evaluator->segments || !evaluator->token_bytes || !evaluator->loss || !evaluator->scored ||
        !evaluator->bytes || !evaluator->bits_per_byte || !evaluator->names || !evaluator->load ||
        !evaluator->load_count || !evaluator->load_sum || !evaluator->domain_count || !evaluator->logits)
        return no_memory(error);
    for (size_t d = 0; d < domains; d++)
        evaluator->names[d] = sgm_corpus_domain(trainer->corpus, d);
    for (int64_t layer = 0; layer < L; layer++)
        evaluator->load[layer] = (sgm_load){.experts = sgm_model_routed_experts(model, layer),
                                            .null_experts = model->null_experts, /* none beside attention experts */
                                            .count = evaluator->load_count + layer * E,
                                            .probability = evaluator->load_sum + layer * E};
    for (int64_t id = 0; id < vocabulary; id++) {
        size_t size = 0;
        if (sgm_tokenizer_bytes_of(trainer->tokenizer, (int32_t)id, &size) &&
            id != sgm_tokenizer_end_of_text(trainer->tokenizer))
            evaluator->token_bytes[id] = (int64_t)size;
    }
    return SGM_OK;
}

void sgm_evaluator_free(sgm_evaluator *evaluator) {
    sgm_free(evaluator->tokens);
    sgm_free(evaluator->positions);
    sgm_free(evaluator->targets);
    sgm_free(evaluator->domain);
    sgm_free(evaluator->segments);
    sgm_free(evaluator->token_bytes);
    sgm_free(evaluator->loss);
    sgm_free(evaluator->scored);
    sgm_free(evaluator->bytes);
    sgm_free(evaluator->bits_per_byte);
    sgm_free(evaluator->names);
    sgm_free(evaluator->load);
    sgm_free(evaluator->load_count);
    sgm_free(evaluator->load_sum);
    sgm_free(evaluator->domain_count);
    sgm_free(evaluator->logits);
}

/* ---- scoring ---------------------------------------------------------------------------------------------------- */

static sgm_rows rows_of(const sgm_evaluator *evaluator) {
    return (sgm_rows){.rows = evaluator->rows,
                      .tokens = evaluator->tokens,
                      .positions = evaluator->positions,
                      .targets = evaluator->targets,
                      .segments = evaluator->segments,
                      .segment_count = evaluator->segment_count};
}

/* Adds a layer's record of the rows that are scored to the counts of their domains. Thread 0 alone is the observer. */
static void count_domains(void *observer, const sgm_routing *record) {
    const sgm_evaluator *evaluator = observer;
    for (int64_t row = 0; row < record->items; row++) {
        if (evaluator->domain[row] < 0)
            continue;
        int64_t *count = evaluator->domain_count + evaluator->domain[row] * evaluator->domain_numbers +
                         record->layer * evaluator->layer_numbers;
        for (int64_t place = row * record->slots; place < (row + 1) * record->slots; place++)
            if (record->expert[place] >= 0)
                count[record->expert[place]]++;
    }
}

static void flush(sgm_trainer *trainer) {
    sgm_evaluator *evaluator = &trainer->evaluator;
    if (evaluator->rows == 0)
        return;
    sgm_rows rows = rows_of(evaluator);
    sgm_stepper_score(trainer->stepper, &rows, evaluator->load, count_domains, evaluator);
    for (int64_t row = 0; row < evaluator->rows; row++)
        if (evaluator->domain[row] >= 0)
            evaluator->loss[evaluator->domain[row]] += (double)trainer->stepper->row_loss[row];
    evaluator->rows = evaluator->segment_count = 0;
}

/* Rows [begin, end) of a document as one segment; row j is fed token j-1 (end-of-text for j = 0) and predicts token j. */
static void add_window(sgm_trainer *trainer, size_t domain, const int32_t *document, int64_t count, int64_t begin,
                       int64_t end, int64_t score) {
    sgm_evaluator *evaluator = &trainer->evaluator;
    if (evaluator->rows + (end - begin) > trainer->stepper->micro_rows)
        flush(trainer);
    int64_t at = evaluator->rows;
    evaluator->segments[evaluator->segment_count++] = (sgm_segment){.row = at, .rows = end - begin};
    for (int64_t row = begin; row < end; row++, at++) {
        bool scored = row >= score;
        evaluator->tokens[at] = document[row > 0 ? row - 1 : count - 1];
        evaluator->positions[at] = (int32_t)(row - begin);
        evaluator->targets[at] = scored ? document[row] : -1;
        evaluator->domain[at] = scored ? (int32_t)domain : -1;
        evaluator->scored[domain] += scored;
        evaluator->bytes[domain] += scored ? evaluator->token_bytes[document[row]] : 0;
    }
    evaluator->rows = at;
}

static void score_domain(sgm_trainer *trainer, size_t domain, int64_t limit) {
    const sgm_evaluator *evaluator = &trainer->evaluator;
    int64_t documents = sgm_corpus_documents(trainer->corpus, SGM_HELDOUT, domain), context;
    context = trainer->settings->model.context;
    for (int64_t d = 0; d < documents; d++) {
        int64_t count = 0, begin, end, score;
        const int32_t *document = sgm_corpus_document(trainer->corpus, SGM_HELDOUT, domain, d, &count, NULL);
        for (int64_t i = 0; document && sgm_evaluation_window(count, context, i, &begin, &end, &score); i++) {
            if ((limit > 0 && evaluator->scored[domain] >= limit) || sgm_trainer_stopped(trainer))
                return;
            add_window(trainer, domain, document, count, begin, end, score);
        }
    }
}

static void begin_evaluation(sgm_trainer *trainer) {
    sgm_evaluator *evaluator = &trainer->evaluator;
    size_t loads = (size_t)sgm_model_routed_numbers(&trainer->settings->model);
    memset(evaluator->loss, 0, evaluator->domains * sizeof(double));
    memset(evaluator->scored, 0, evaluator->domains * sizeof(int64_t));
    memset(evaluator->bytes, 0, evaluator->domains * sizeof(int64_t));
    memset(evaluator->load_count, 0, loads * sizeof(int64_t));
    memset(evaluator->load_sum, 0, loads * sizeof(double));
    memset(evaluator->domain_count, 0, evaluator->domains * loads * sizeof(int64_t));
    for (int64_t layer = 0; layer < sgm_model_routed(&trainer->settings->model); layer++)
        evaluator->load[layer].tokens = evaluator->load[layer].computed = 0;
}

static double bits_per_byte(double nats, int64_t bytes) {
    return bytes > 0 ? nats / M_LN2 / (double)bytes : (double)NAN;
}

static sgm_status write_domain(sgm_trainer *trainer, int64_t step, size_t domain, sgm_error *error) {
    const sgm_evaluator *evaluator = &trainer->evaluator;
    const int64_t *count = evaluator->domain_count + (int64_t)domain * evaluator->domain_numbers;
    sgm_status status = SGM_OK;
    for (int64_t layer = 0; layer < sgm_model_routed(&trainer->settings->model) && !status; layer++)
        status =
            sgm_run_log_domain_load(trainer->log, step, evaluator->names[domain], layer, evaluator->scored[domain],
                                    count + layer * evaluator->layer_numbers, evaluator->load[layer].experts, error);
    return status;
}

/* The load first: an evaluation whose losses are there is not made up for after a crash. */
static sgm_status write_rows(sgm_trainer *trainer, const sgm_eval_report *report, sgm_error *error) {
    const sgm_evaluator *evaluator = &trainer->evaluator;
    sgm_status status = SGM_OK;
    for (size_t d = 0; d < evaluator->domains && !status; d++)
        if (evaluator->scored[d] > 0)
            status = write_domain(trainer, report->step, d, error);
    if (!status)
        status = sgm_run_log_eval(trainer->log, report->step, "", report->tokens, report->bytes,
                                  report->loss_nats_per_token, report->bits_per_byte, error);
    for (size_t d = 0; d < evaluator->domains && !status; d++)
        if (evaluator->scored[d] > 0)
            status = sgm_run_log_eval(trainer->log, report->step, evaluator->names[d], evaluator->scored[d],
                                      evaluator->bytes[d], evaluator->loss[d] / (double)evaluator->scored[d],
                                      evaluator->bits_per_byte[d], error);
    return status;
}

/* All of it or nothing: a run that goes on takes an evaluation that is there for whole. */
static sgm_status write_evaluation(sgm_trainer *trainer, const sgm_eval_report *report, sgm_error *error) {
    sgm_status status = sgm_run_log_begin(trainer->log, error);
    return status ? status : sgm_run_log_end(trainer->log, write_rows(trainer, report, error), error);
}

sgm_status sgm_trainer_evaluate(sgm_trainer *trainer, int64_t limit, sgm_error *error) {
    sgm_evaluator *evaluator = &trainer->evaluator;
    size_t present = 0;
    for (size_t d = 0; d < evaluator->domains; d++)
        present += sgm_corpus_documents(trainer->corpus, SGM_HELDOUT, d) > 0;
    begin_evaluation(trainer);
    for (size_t d = 0; d < evaluator->domains; d++)
        score_domain(trainer, d, limit > 0 && present ? (limit + (int64_t)present - 1) / (int64_t)present : 0);
    flush(trainer);
    if (sgm_trainer_stopped(trainer)) /* what was scored is a part only */
        return sgm_fail(error, SGM_EINTERRUPTED, NULL, "the evaluation was interrupted");

    sgm_eval_report *report = &trainer->last_eval;
    double loss = 0;
    *report = (sgm_eval_report){.step = trainer->stepper->step, .domains = evaluator->domains};
    for (size_t d = 0; d < evaluator->domains; d++) {
        loss += evaluator->loss[d];
        report->tokens += evaluator->scored[d];
        report->bytes += evaluator->bytes[d];
        evaluator->bits_per_byte[d] = bits_per_byte(evaluator->loss[d], evaluator->bytes[d]);
    }
    report->domain = evaluator->names;
    report->domain_bits_per_byte = evaluator->bits_per_byte;
    report->domain_bytes = evaluator->bytes;
    report->loss_nats_per_token = report->tokens > 0 ? loss / (double)report->tokens : (double)NAN;
    report->perplexity = exp(report->loss_nats_per_token);
    report->bits_per_byte = bits_per_byte(loss, report->bytes);
    if (report->tokens == 0) {
        if (!evaluator->said_empty) /* once: there will be none at the next evaluation either */
            sgm_trainer_note(trainer, "there is no held-out text to evaluate on");
        evaluator->said_empty = true;
        return SGM_OK;
    }
    sgm_trainer_log(trainer, "step %" PRId64 " held-out: %.4f bits per byte, loss %.4f, %" PRId64 " tokens",
                    report->step, report->bits_per_byte, report->loss_nats_per_token, report->tokens);
    if (trainer->events.eval)
        trainer->events.eval(trainer->events.context, report);
    return write_evaluation(trainer, report, error);
}

/* ---- samples ---------------------------------------------------------------------------------------------------- */

/* The last `context` of `count` ids as one segment. */
static void place_sample(sgm_trainer *trainer, const int32_t *ids, int64_t count) {
    sgm_evaluator *evaluator = &trainer->evaluator;
    int64_t context = trainer->settings->model.context, first = count > context ? count - context : 0;
    evaluator->rows = count - first;
    evaluator->segment_count = 1;
    evaluator->segments[0] = (sgm_segment){.row = 0, .rows = evaluator->rows};
    for (int64_t row = 0; row < evaluator->rows; row++) {
        evaluator->tokens[row] = ids[first + row];
        evaluator->positions[row] = (int32_t)row;
        evaluator->targets[row] = -1;
    }
}

static sgm_status write_sample(sgm_trainer *trainer, int32_t *ids, int64_t prompt, int64_t wanted, sgm_error *error) {
    sgm_sampler_options options = {.temperature = 0.8,
                                   .top_p = 0.95,
                                   .seed = (uint64_t)trainer->settings->train.seed + (uint64_t)trainer->stepper->step};
    int64_t vocabulary = sgm_tokenizer_vocabulary(trainer->tokenizer);
    int32_t end = sgm_tokenizer_end_of_text(trainer->tokenizer);
    sgm_buffer text = {0};
    sgm_status status = SGM_OK;
    for (int64_t i = 0; i < wanted && !status; i++) {
        place_sample(trainer, ids, prompt + i);
        sgm_rows rows = rows_of(&trainer->evaluator);
        sgm_stepper_logits(trainer->stepper, &rows, trainer->evaluator.logits);
        int32_t *next = &ids[prompt + i];
        status = sgm_sample(trainer->evaluator.logits, vocabulary, &options, (uint64_t)i, next, error);
        if (status || *next == end)
            break;
        size_t size = 0;
        const char *bytes = sgm_tokenizer_bytes_of(trainer->tokenizer, *next, &size);
        if (bytes && sgm_buffer_add(&text, bytes, size))
            status = no_memory(error);
    }
    trainer->evaluator.rows = trainer->evaluator.segment_count = 0;
    if (!status)
        status = sgm_run_log_sample(trainer->log, trainer->stepper->step, trainer->settings->train.sample_prompt,
                                    text.data ? text.data : "", text.size, error);
    sgm_buffer_free(&text);
    return status;
}

sgm_status sgm_trainer_sample(sgm_trainer *trainer, sgm_error *error) {
    const char *prompt = trainer->settings->train.sample_prompt;
    int64_t wanted = trainer->settings->train.sample_tokens;
    int32_t end = sgm_tokenizer_end_of_text(trainer->tokenizer);
    if (wanted == 0 || (end < 0 && !*prompt))
        return SGM_OK;
    size_t capacity = 3 * strlen(prompt) + 8, count = 0; /* normalising may make it three times as long */
    int32_t *ids = sgm_alloc((capacity + (size_t)wanted + 1) * sizeof *ids);
    if (!ids)
        return no_memory(error);
    size_t first = end >= 0;
    ids[0] = end;
    sgm_status status =
        sgm_tokenizer_encode(trainer->tokenizer, prompt, strlen(prompt), false, ids + first, capacity, &count, error);
    if (!status)
        status = write_sample(trainer, ids, (int64_t)(first + count), wanted, error);
    sgm_free(ids);
    return status;
}
