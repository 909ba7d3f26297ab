// SPDX-License-Identifier: Apache-2.0
/* Times training steps without what a run folder adds (checkpoints, logs, evaluation).
 * Usage: bench_train STEPS|- DATA PRESET [KEY=VALUE…]
 *
 * DATA is a data folder (`sigmoe data build`). The first line says what is trained; the first step warms up; then come the
 * median and the spread of the others, and the mean processor time of all threads, which says more on a busy machine. With
 * `-` every line of standard input is a number of steps, and each is answered by one line of JSON: so that a script can let
 * two programs take turns (bench/peers). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "data/loader.h"
#include "sigmoe/machine.h"
#include "train/stepper.h"

typedef struct bench {
    sgm_run_settings *settings;
    sgm_corpus *corpus;
    sgm_loader *loader;
    sgm_stepper *stepper;
    sgm_model_counts counts;
} bench;

static double clock_now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int refuse(const sgm_error *error) {
    fprintf(stderr, "error: %s\nhint: %s\n", error->message, error->hint);
    return 1;
}

static sgm_status configure(char **arguments, sgm_run_settings **settings, sgm_error *error) {
    sgm_config *config = NULL;
    sgm_status status = sgm_config_new(&config, error);
    if (!status)
        status = sgm_config_preset(config, arguments[0], error);
    for (char **at = arguments + 1; !status && *at; at++) {
        char *equals = strchr(*at, '='), key[128];
        if (!equals || equals - *at >= (long)sizeof key)
            status = sgm_fail(error, SGM_EARGUMENT, "write KEY=VALUE", "%s is no setting", *at);
        else
            snprintf(key, sizeof key, "%.*s", (int)(equals - *at), *at);
        if (!status)
            status = sgm_config_set(config, key, equals + 1, "command line", error);
    }
    if (!status)
        status = sgm_run_settings_new(config, settings, error);
    sgm_config_free(config);
    return status;
}

static sgm_status open_bench(bench *b, const char *data, char **arguments, sgm_error *error) {
    sgm_status status = configure(arguments, &b->settings, error);
    if (!status)
        status = sgm_corpus_open(data, &b->corpus, error);
    if (!status) {
        sgm_loader_options options = {.context = b->settings->model.context, .seed = (uint64_t)b->settings->train.seed};
        status = sgm_loader_new(b->corpus, &options, &b->loader, error);
    }
    if (!status)
        status = sgm_stepper_new(b->settings, &b->stepper, error);
    if (status)
        return status;
    double k = 0;
    for (int64_t l = 0; l < b->settings->model.layers; l++)
        k += (double)b->stepper->experts_per_token[l] / (double)b->settings->model.layers;
    sgm_model_count(&b->settings->model, k, b->settings->model.context, &b->counts);
    return SGM_OK;
}

static void close_bench(bench *b) {
    sgm_stepper_free(b->stepper);
    sgm_loader_free(b->loader);
    sgm_corpus_close(b->corpus);
    sgm_run_settings_free(b->settings);
}

static double one_step(bench *b) {
    double start = clock_now(CLOCK_MONOTONIC);
    sgm_stepper_step(b->stepper, b->loader);
    return clock_now(CLOCK_MONOTONIC) - start;
}

static void answer_lines(bench *b) {
    const sgm_model_settings *model = &b->settings->model;
    printf("{\"parameters\": %lld, \"active_parameters\": %lld, \"tokens_per_step\": %lld, \"flops_per_token\": %.0f, "
           "\"vocabulary\": %lld, \"context\": %lld, \"kernels\": \"%s\", \"compute\": \"%s\", \"threads\": %lld}\n",
           (long long)b->counts.total_parameters,
           (long long)(b->counts.active_parameters + model->vocabulary * model->width),
           (long long)b->settings->data.tokens_per_step, b->counts.training_flops_per_token,
           (long long)model->vocabulary, (long long)model->context, b->stepper->kernels->name,
           sgm_config_get(b->settings->config, "train.compute"), (long long)b->settings->train.threads);
    fflush(stdout);
    for (char line[64]; fgets(line, sizeof line, stdin);) {
        long steps = atol(line);
        printf("{\"seconds\": [");
        for (long i = 0; i < steps; i++)
            printf("%s%.6f", i ? ", " : "", one_step(b));
        printf("], \"loss\": %.6f}\n", b->stepper->loss);
        fflush(stdout);
    }
}

static int time_steps(bench *b, long steps) {
    double *seconds = sgm_alloc((size_t)steps * sizeof *seconds);
    double tokens = (double)b->settings->data.tokens_per_step, flops = b->counts.training_flops_per_token * tokens;
    if (!seconds)
        return fprintf(stderr, "error: no memory\n"), 1;
    (void)one_step(b);
    printf("loss %.4f at the first step\n", b->stepper->loss);
    double processor = clock_now(CLOCK_PROCESS_CPUTIME_ID);
    for (long i = 0; i < steps; i++)
        seconds[i] = one_step(b);
    processor = (clock_now(CLOCK_PROCESS_CPUTIME_ID) - processor) / (double)steps;
    const char *compute = sgm_compute_name((sgm_compute)b->settings->train.compute);
    sgm_machine_peaks peaks;
    if (sgm_machine_measure(b->stepper->kernels->name, (int)b->settings->train.threads, 0.3,
                            SGM_MEASURE_F32 | SGM_MEASURE_BF16, NULL, &peaks, NULL)) {
        sgm_free(seconds);
        return fprintf(stderr, "error: the machine's peak could not be measured\n"), 1;
    }
    double peak = sgm_machine_peak(&peaks, compute);
    qsort(seconds, (size_t)steps, sizeof *seconds, ascending);
    double median = seconds[steps / 2];
    printf(
        "step %.1f (%.1f–%.1f) ms, processor time %.1f ms, %.0f tokens/s, %.1f GFLOP/s, %.0f %% of the %s peak of %.0f "
        "measured now; loss %.4f\n",
        median * 1e3, seconds[0] * 1e3, seconds[steps - 1] * 1e3, processor * 1e3, tokens / median,
        flops / median / 1e9, 100 * flops / median / peak, compute, peak / 1e9, b->stepper->loss);
    sgm_free(seconds);
    return 0;
}

int main(int argc, char **argv) {
    bool lines = argc > 1 && strcmp(argv[1], "-") == 0;
    long steps = argc > 1 ? atol(argv[1]) : 0;
    if (argc < 4 || (!lines && (steps < 1 || steps > 100000))) {
        fprintf(stderr, "usage: bench_train STEPS|- DATA PRESET [KEY=VALUE…]\n");
        return 2;
    }
    bench b = {0};
    sgm_error error = {0};
    int code = open_bench(&b, argv[2], argv + 3, &error) ? refuse(&error) : 0;
    if (!code && lines) {
        answer_lines(&b);
    } else if (!code) {
        printf("%s: %.1f M parameters, %lld tokens a step, %s, kernels %s, %lld threads, %.2f GB\n", argv[3],
               (double)b.counts.total_parameters / 1e6, (long long)b.settings->data.tokens_per_step,
               sgm_config_get(b.settings->config, "train.compute"), b.stepper->kernels->name,
               (long long)b.settings->train.threads, (double)b.stepper->memory_bytes / 1e9);
        code = time_steps(&b, steps);
    }
    close_bench(&b);
    return code;
}
