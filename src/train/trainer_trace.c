// SPDX-License-Identifier: Apache-2.0
/* RUN/traces/step-NNNNNN.trace: how a step's global batch was routed, every train.trace_every steps. The step itself is the
 * same to the byte: its records are only looked at. A step that is traced allocates, the others do not. */
#include <inttypes.h>

#include "base/memory.h"
#include "model/model_identity.h"
#include "train/trainer.h"

/* Windows are of one domain each, and all as long as the context. */
static int64_t domain_of(const void *context, int64_t row) {
    const sgm_stepper *stepper = context;
    return stepper->micro->domain[row / stepper->settings->model.context];
}

static sgm_status add_domains(const sgm_trainer *trainer, sgm_trace_writer *writer, sgm_error *error) {
    sgm_status status = SGM_OK;
    for (size_t d = 0; !status && d < sgm_corpus_domains(trainer->corpus); d++) {
        int64_t index; /* names differ, so it is d */
        status = sgm_trace_domain(writer, sgm_corpus_domain(trainer->corpus, d), &index, error);
    }
    return status;
}

static sgm_status create(const sgm_trainer *trainer, const char *path, sgm_trace_writer **writer, sgm_error *error) {
    const sgm_stepper *stepper = trainer->stepper;
    sgm_trace_info about;
    int64_t *expert_bytes = sgm_alloc((size_t)sgm_model_routed(&trainer->settings->model) * sizeof *expert_bytes);
    if (!expert_bytes)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory");
    sgm_stepper_plan_experts(trainer->stepper);
    sgm_model_about(stepper->model, sgm_balance_set_bias(stepper->balance), trainer->tokenizer,
                    stepper->experts_per_token, expert_bytes, &about);
    about.source = SGM_TRACE_TRAIN;
    about.step = stepper->step + 1;
    sgm_status status = sgm_trace_create(path, &about, writer, error);
    sgm_free(expert_bytes);
    if (status)
        return status;
    status = add_domains(trainer, *writer, error);
    if (status)
        sgm_trace_abandon(*writer);
    return status;
}

static void tell(sgm_trainer *trainer, int64_t step, const sgm_error *error) {
    sgm_trainer_note(trainer, "the trace of step %" PRId64 " was not written: %s", step, error->message);
}

bool sgm_trainer_trace_begin(sgm_trainer *trainer) {
    sgm_stepper *stepper = trainer->stepper;
    int64_t every = trainer->settings->train.trace_every, step = stepper->step + 1;
    if (every == 0 || step % every != 0)
        return false;
    sgm_error error = {0};
    sgm_trace_writer *writer = NULL;
    char *folder = sgm_path_join(trainer->run, "traces");
    char *path = sgm_format("%s/traces/step-%06" PRId64 ".trace", trainer->run, step);
    sgm_status status =
        folder && path ? sgm_folder_make(folder, &error) : sgm_fail(&error, SGM_EMEMORY, NULL, "no memory");
    if (!status)
        status = create(trainer, path, &writer, &error);
    sgm_free(folder);
    sgm_free(path);
    if (status) {
        tell(trainer, step, &error);
        return false;
    }
    sgm_trace_recorder_begin(&trainer->trace, writer, sgm_model_routed(&trainer->settings->model),
                             sgm_model_routed_stride(&trainer->settings->model));
    trainer->trace.tokens = stepper->micro->tokens;
    trainer->trace.targets = stepper->micro->targets;
    trainer->trace.domain_of = domain_of;
    trainer->trace.context = stepper;
    stepper->observe = sgm_trace_record;
    stepper->observer = &trainer->trace;
    return true;
}

void sgm_trainer_trace_end(sgm_trainer *trainer) {
    sgm_error error = {0};
    int64_t tokens;
    trainer->stepper->observe = NULL;
    if (sgm_trace_recorder_end(&trainer->trace, &tokens, &error))
        tell(trainer, trainer->stepper->step, &error);
    else
        sgm_trainer_log(trainer, "trace of step %" PRId64 ": %" PRId64 " tokens", trainer->stepper->step, tokens);
}
