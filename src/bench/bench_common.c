// SPDX-License-Identifier: Apache-2.0
/* The loop over samples, random tokens, and throw-away models to measure. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "bench/bench.h"
#include "quant/quant.h"
#include "sigmoe/convert.h"
#include "sigmoe/model.h"

double sgm_bench_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void sgm_bench_tokens(uint64_t seed, uint64_t sample, int64_t vocabulary, int64_t count, int32_t *tokens) {
    sgm_rng rng = sgm_rng_at(seed, sgm_rng_stream("bench tokens", sample), 0);
    for (int64_t i = 0; i < count; i++)
        tokens[i] = (int32_t)sgm_rng_below(&rng, (uint64_t)vocabulary);
}

sgm_status sgm_bench_stopped(const sgm_bench_options *options, sgm_error *error) {
    return options->stop && *options->stop ? sgm_fail(error, SGM_EINTERRUPTED, NULL, "the measurement was interrupted")
                                           : SGM_OK;
}

sgm_status sgm_bench_samples(sgm_status (*run)(void *context, uint64_t number, double *seconds, sgm_error *error),
                             void *context, const sgm_bench_options *options, sgm_bench_result *result,
                             sgm_error *error) {
    if (options->repeats < 1 || options->repeats > SGM_BENCH_SAMPLES)
        return sgm_fail(error, SGM_EARGUMENT, "five show the spread", "%" PRId64 " repeats: 1 to %d are possible",
                        options->repeats, (int)SGM_BENCH_SAMPLES);
    for (int64_t i = 0; i <= options->repeats; i++) {
        double seconds;
        sgm_status status = sgm_bench_stopped(options, error);
        if (!status)
            status = run(context, (uint64_t)i, &seconds, error);
        if (status)
            return status;
        if (i > 0)
            result->seconds[result->samples++] = seconds;
    }
    return SGM_OK;
}

void sgm_bench_hits(const sgm_load *load, const sgm_model_settings *settings, sgm_bench_result *result) {
    int64_t all = 0, least = settings->experts;
    for (int64_t r = 0; r < sgm_routed_layers(settings->layers, settings->attention_experts); r++) {
        int64_t hit = 0;
        if (sgm_routed_is_attention(settings->attention_experts, r))
            continue;
        for (int64_t e = 0; e < load[r].experts; e++)
            hit += load[r].count[e] > 0;
        all += hit;
        least = hit < least ? hit : least;
    }
    result->experts_hit = least;
    result->experts_hit_mean = (double)all / (double)settings->layers;
}

const char *sgm_bench_arithmetic(sgm_type type) {
    return type == SGM_TYPE_BF16 ? "bf16" : sgm_quant_of(type)->integer ? "int8" : "f32";
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sgm_bench_rate(const sgm_bench_result *result, double *least, double *median, double *most) {
    double seconds[SGM_BENCH_SAMPLES] = {0};
    size_t n = (size_t)result->samples;
    memcpy(seconds, result->seconds, n * sizeof *seconds);
    qsort(seconds, n, sizeof *seconds, ascending);
    double middle = n == 0 ? 0 : (seconds[(n - 1) / 2] + seconds[n / 2]) / 2;
    if (least)
        *least = n ? (double)result->tokens / seconds[n - 1] : 0;
    if (median)
        *median = n ? (double)result->tokens / middle : 0;
    if (most)
        *most = n ? (double)result->tokens / seconds[0] : 0;
}

/* ---- throw-away models --------------------------------------------------------------------------------------------- */

static sgm_status write_gguf(const sgm_config *config, const char *type, const sgm_bench_options *bench,
                             const char *path, sgm_error *error) {
    const sgm_convert_options options = {.type = type, .stop = bench->stop};
    sgm_convert_report report = {0};
    sgm_status status = sgm_model_init_gguf(config, bench->seed, &options, path, &report, error);
    sgm_convert_report_free(&report);
    return status;
}

sgm_status sgm_bench_model_new(const sgm_config *config, const char *type, const sgm_bench_options *options,
                               char **model, sgm_error *error) {
    const char *place = getenv("TMPDIR");
    place = place && *place ? place : "/tmp";
    bool f32 = strcmp(type, "f32") == 0;
    char *folder = sgm_format("%s/sigmoe-bench-XXXXXX", place);
    *model = NULL;
    if (!folder)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a path");
    sgm_status status = SGM_OK;
    if (!mkdtemp(folder))
        status = sgm_fail(error, SGM_EIO, "set TMPDIR to a folder with room for the weights",
                          "%s: a temporary folder cannot be made there: %s", place, strerror(errno));
    else if (!(*model = sgm_path_join(folder, f32 ? "model" : "model.gguf")))
        status = sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a path");
    if (!status)
        status = f32 ? sgm_model_init(config, NULL, options->seed, type, *model, options->stop, error)
                     : write_gguf(config, type, options, *model, error);
    if (status) {
        sgm_bench_model_remove(*model);
        sgm_free(*model);
        *model = NULL;
    }
    sgm_free(folder);
    return status;
}

void sgm_bench_model_remove(const char *model) {
    char *folder = model ? sgm_strdup(model) : NULL;
    char *end = folder ? strrchr(folder, '/') : NULL;
    if (end) {
        *end = '\0';
        (void)sgm_folder_remove(folder, NULL);
    }
    sgm_free(folder);
}
