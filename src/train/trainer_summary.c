// SPDX-License-Identifier: Apache-2.0
/* summary.json, written when a run is complete. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/memory.h"
#include "train/trainer.h"

/* JSON has no NaN: null. */
static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *describe_layer(const sgm_load *load, int64_t attention_experts, int64_t routed) {
    sgm_load_summary summary;
    sgm_load_summarise(load, &summary);
    json_t *object = json_object();
    bool attention = sgm_routed_is_attention(attention_experts, routed);
    json_object_set_new(object, "layer", json_integer(sgm_routed_layer(attention_experts, routed)));
    if (attention_experts > 0)
        json_object_set_new(object, "part", json_string(attention ? "attention" : "feed_forward"));
    json_object_set_new(object, "tokens", json_integer(summary.tokens));
    json_object_set_new(object, "dead_experts", json_integer(summary.dead_experts));
    json_object_set_new(object, "min_over_mean", number(summary.min_over_mean));
    json_object_set_new(object, "max_over_mean", number(summary.max_over_mean));
    json_object_set_new(object, "max_violation", number(summary.max_violation));
    json_object_set_new(object, "entropy_over_log_e", number(summary.entropy_over_log_e));
    json_object_set_new(object, "probability_entropy_over_log_e", number(summary.probability_entropy_over_log_e));
    json_object_set_new(object, "coefficient_of_variation", number(summary.coefficient_of_variation));
    json_object_set_new(object, "correlation", number(summary.correlation));
    json_t *counts = json_array();
    for (int64_t expert = 0; expert < load->experts; expert++)
        json_array_append_new(counts, json_integer(load->count[expert]));
    json_object_set_new(object, "load", counts);
    return object;
}

static json_t *describe_layers(const sgm_trainer *trainer) {
    const sgm_load *load = trainer->last_eval.tokens > 0 ? trainer->evaluator.load : trainer->stepper->load;
    json_t *array = json_array();
    const sgm_model_settings *model = &trainer->settings->model;
    for (int64_t r = 0; r < sgm_model_routed(model); r++)
        json_array_append_new(array, describe_layer(&load[r], model->attention_experts, r));
    return array;
}

sgm_status sgm_trainer_summary(sgm_trainer *trainer, sgm_error *error) {
    double seconds = 0, steps = 0; /* of the rows there are: some may have been lost to a full disk */
    sgm_status status = sgm_run_log_seconds(trainer->log, &seconds, &steps, error);
    if (status)
        return status;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    json_t *root = json_object(), *domains = json_object();
    for (size_t d = 0; d < trainer->last_eval.domains; d++)
        json_object_set_new(domains, trainer->evaluator.names[d], number(trainer->evaluator.bits_per_byte[d]));
    json_object_set_new(root, "steps", json_integer(trainer->stepper->step));
    json_object_set_new(root, "tokens", json_integer(trainer->stepper->tokens));
    json_object_set_new(root, "seconds", number(seconds));
    json_object_set_new(root, "tokens_per_second",
                        number(steps * (double)trainer->settings->data.tokens_per_step / seconds));
    json_object_set_new(root, "peak_rss_bytes", json_integer((json_int_t)usage.ru_maxrss * 1024));
    json_object_set_new(root, "bits_per_byte", number(trainer->last_eval.bits_per_byte));
    json_object_set_new(root, "bits_per_byte_by_domain", domains);
    json_object_set_new(root, "heldout_tokens", json_integer(trainer->last_eval.tokens));
    json_object_set_new(root, "heldout_bytes", json_integer(trainer->last_eval.bytes));
    json_object_set_new(root, "loss_nats_per_token", number(trainer->last_eval.loss_nats_per_token));
    json_object_set_new(root, "layers", describe_layers(trainer));
    char *text = json_dumps(root, JSON_INDENT(1)), *path = sgm_path_join(trainer->run, "summary.json");
    status = text && path ? sgm_file_write(path, text, strlen(text), error)
                          : sgm_fail(error, SGM_EMEMORY, NULL, "summary.json: no memory");
    sgm_free(path);
    free(text);
    json_decref(root);
    return status;
}
