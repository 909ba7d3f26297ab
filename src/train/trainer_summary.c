// SPDX-License-Identifier: Apache-2.0
/* summary.json, written when a run is complete. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/json.h"
#include "base/memory.h"
#include "train/trainer.h"

/* JSON has no NaN: null. */
static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *describe_layer(const sgm_load *load, int64_t attention_experts, int64_t routed) {
    bool failed = false;
    sgm_load_summary summary;
    sgm_load_summarise(load, &summary);
    json_t *object = json_object();
    bool attention = sgm_routed_is_attention(attention_experts, routed);
    sgm_json_set(object, "layer", json_integer(sgm_routed_layer(attention_experts, routed)), &failed);
    if (attention_experts > 0)
        sgm_json_set(object, "part", json_string(attention ? "attention" : "feed_forward"), &failed);
    sgm_json_set(object, "tokens", json_integer(summary.tokens), &failed);
    sgm_json_set(object, "dead_experts", json_integer(summary.dead_experts), &failed);
    sgm_json_set(object, "min_over_mean", number(summary.min_over_mean), &failed);
    sgm_json_set(object, "max_over_mean", number(summary.max_over_mean), &failed);
    sgm_json_set(object, "max_violation", number(summary.max_violation), &failed);
    sgm_json_set(object, "entropy_over_log_e", number(summary.entropy_over_log_e), &failed);
    sgm_json_set(object, "probability_entropy_over_log_e", number(summary.probability_entropy_over_log_e), &failed);
    sgm_json_set(object, "coefficient_of_variation", number(summary.coefficient_of_variation), &failed);
    sgm_json_set(object, "correlation", number(summary.correlation), &failed);
    json_t *counts = json_array();
    for (int64_t expert = 0; expert < load->experts; expert++)
        sgm_json_append(counts, json_integer(load->count[expert]), &failed);
    sgm_json_set(object, "load", counts, &failed);
    return sgm_json_or_null(object, failed);
}

static json_t *describe_layers(const sgm_trainer *trainer) {
    bool failed = false;
    const sgm_load *load = trainer->last_eval.tokens > 0 ? trainer->evaluator.load : trainer->stepper->load;
    json_t *array = json_array();
    const sgm_model_settings *model = &trainer->settings->model;
    for (int64_t r = 0; r < sgm_model_routed(model); r++)
        sgm_json_append(array, describe_layer(&load[r], model->attention_experts, r), &failed);
    return sgm_json_or_null(array, failed);
}

sgm_status sgm_trainer_summary(sgm_trainer *trainer, sgm_error *error) {
    bool failed = false;
    double seconds = 0, steps = 0; /* of the rows there are: some may have been lost to a full disk */
    sgm_status status = sgm_run_log_seconds(trainer->log, &seconds, &steps, error);
    if (status)
        return status;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    json_t *root = json_object(), *domains = json_object();
    for (size_t d = 0; d < trainer->last_eval.domains; d++)
        sgm_json_set(domains, trainer->evaluator.names[d], number(trainer->evaluator.bits_per_byte[d]), &failed);
    sgm_json_set(root, "steps", json_integer(trainer->stepper->step), &failed);
    sgm_json_set(root, "tokens", json_integer(trainer->stepper->tokens), &failed);
    sgm_json_set(root, "seconds", number(seconds), &failed);
    sgm_json_set(root, "tokens_per_second", number(steps * (double)trainer->settings->data.tokens_per_step / seconds),
                 &failed);
    sgm_json_set(root, "peak_rss_bytes", json_integer((json_int_t)usage.ru_maxrss * 1024), &failed);
    sgm_json_set(root, "bits_per_byte", number(trainer->last_eval.bits_per_byte), &failed);
    sgm_json_set(root, "bits_per_byte_by_domain", domains, &failed);
    sgm_json_set(root, "heldout_tokens", json_integer(trainer->last_eval.tokens), &failed);
    sgm_json_set(root, "heldout_bytes", json_integer(trainer->last_eval.bytes), &failed);
    sgm_json_set(root, "loss_nats_per_token", number(trainer->last_eval.loss_nats_per_token), &failed);
    sgm_json_set(root, "layers", describe_layers(trainer), &failed);
    char *text = json_dumps(root, JSON_INDENT(1)), *path = sgm_path_join(trainer->run, "summary.json");
    status = text && path && !failed ? sgm_file_write(path, text, strlen(text), error)
                                     : sgm_fail(error, SGM_EMEMORY, NULL, "summary.json: no memory");
    sgm_free(path);
    free(text);
    json_decref(root);
    return status;
}
