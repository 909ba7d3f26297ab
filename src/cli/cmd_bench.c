// SPDX-License-Identifier: Apache-2.0
/* sigmoe bench: how fast a model is here, beside what the machine can do at best in the same minute. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "commands.h"

typedef enum bench_measure { PREFILL, DECODE, TRAIN, PRODUCT, MEASURES } bench_measure;
static const char *const measure_name[MEASURES] = {"prefill", "decode", "train", "product"};

typedef struct record {
    bench_measure measure;
    int64_t depth, context, threads; /* context: of training */
    sgm_bench_product product;
    double peak, bandwidth; /* of the machine with these threads, measured just before */
    sgm_bench_result result;
} record;

typedef struct bench {
    const cli_args *args;
    sgm_config *config; /* of a preset, or of a model's shape */
    sgm_model_settings settings;
    char *temporary;   /* a model made for this */
    const char *model; /* what is opened; NULL: nothing yet */
    sgm_bench_options options;
    sgm_machine_peaks peaks;            /* with the present number of threads */
    double open_seconds, private_bytes; /* of the engine */
    int64_t peak_rss_bytes;             /* without what measuring the machine takes */
    json_t *machine;
    record *records;
    size_t count;
    bool json;
} bench;

/* ---- for people ---------------------------------------------------------------------------------------------------- */

static void print_header(bench_measure measure) {
    if (measure == TRAIN)
        printf("\n%-7s %8s %8s %7s %10s %10s %10s  %4s %8s %8s  %s\n", "measure", "tokens", "window", "threads",
               "tokens/s", "min", "max", "in", "GFLOP/s", "of peak", "experts hit");
    else if (measure == PRODUCT)
        printf("\n%-7s %5s %7s %7s %8s %7s %8s %8s %8s  %8s  %8s %8s\n", "product", "rows", "N", "K", "type", "threads",
               "GFLOP/s", "min", "max", "of peak", "GB/s", "of read");
    else
        printf("\n%-7s %8s %8s %7s %10s %10s %10s  %4s %8s %8s  %8s %8s  %s\n", "measure", "tokens", "depth", "threads",
               "tokens/s", "min", "max", "in", "GFLOP/s", "of peak", "GB/s", "of read", "experts hit");
}

static double median_seconds(const sgm_bench_result *r) {
    double median;
    sgm_bench_rate(r, NULL, &median, NULL);
    return (double)r->tokens / median;
}

/* Bytes per second of weights, keys and values; 0 where that is not counted. */
static double bytes_per_second(const record *r) {
    double times = r->measure == DECODE ? (double)r->result.tokens : 1;
    return (r->result.weight_bytes + r->result.cache_bytes) * times / median_seconds(&r->result);
}

static double flops_per_second(const record *r) {
    return r->result.flops / median_seconds(&r->result);
}

static cli_label percent(double share) {
    cli_label label;
    snprintf(label.text, sizeof label.text, "%.1f %%", 100 * share);
    return label;
}

static void print_record(const record *r) {
    const sgm_bench_result *b = &r->result;
    double least, median, most, flops = flops_per_second(r), bytes = bytes_per_second(r);
    sgm_bench_rate(b, &least, &median, &most);
    if (r->measure == PRODUCT) {
        double scale = b->flops / (double)b->tokens * 1e-9;
        printf("%-7s %5lld %7lld %7lld %8s %7lld %8.1f %8.1f %8.1f  %8s  %8.1f %8s\n", b->arithmetic,
               (long long)b->tokens, (long long)r->product.N, (long long)r->product.K, b->type, (long long)r->threads,
               median * scale, least * scale, most * scale, percent(flops / r->peak).text, bytes * 1e-9,
               percent(bytes / r->bandwidth).text);
        return;
    }
    printf("%-7s %8lld %8lld %7lld %10.1f %10.1f %10.1f  %4s %8.1f %8s", measure_name[r->measure], (long long)b->tokens,
           (long long)(r->measure == TRAIN ? r->context : r->depth), (long long)r->threads, median, least, most,
           b->arithmetic, flops * 1e-9, percent(flops / r->peak).text);
    if (r->measure == DECODE)
        printf("  %8.1f %8s", bytes * 1e-9, percent(bytes / r->bandwidth).text);
    else if (r->measure == PREFILL)
        printf("  %8s %8s", "", "");
    printf("  %.1f, least %lld\n", b->experts_hit_mean, (long long)b->experts_hit);
}

static int add(bench *b, const record *r) {
    record *grown = realloc(b->records, (b->count + 1) * sizeof *grown);
    if (!grown)
        return cli_no_memory("the results");
    b->records = grown;
    b->records[b->count] = *r;
    const char *arithmetic = r->result.arithmetic;
    assert(arithmetic); /* every measurement names it */
    b->records[b->count].peak = sgm_machine_peak(&b->peaks, arithmetic);
    bool mapped = r->measure == DECODE && b->peaks.mapped_bytes_per_second > 0;
    b->records[b->count].bandwidth = mapped ? b->peaks.mapped_bytes_per_second : b->peaks.read_bytes_per_second;
    if (!b->json) {
        bool inference = r->measure <= DECODE && b->count && b->records[b->count - 1].measure <= DECODE;
        if (!inference && (b->count == 0 || b->records[b->count - 1].measure != r->measure))
            print_header(r->measure);
        print_record(&b->records[b->count]);
        fflush(stdout);
    }
    b->count++;
    return CLI_DONE;
}

/* ---- for machines -------------------------------------------------------------------------------------------------- */

static json_t *samples_json(const record *r) {
    json_t *list = json_array();
    for (int64_t i = 0; i < r->result.samples; i++)
        json_array_append_new(list, cli_json_real((double)r->result.tokens / r->result.seconds[i]));
    return list;
}

static json_t *record_json(const record *r) {
    const sgm_bench_result *b = &r->result;
    double least, median, most, flops = flops_per_second(r), bytes = bytes_per_second(r);
    sgm_bench_rate(b, &least, &median, &most);
    json_t *json = json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "measure", measure_name[r->measure],
                             "threads", (json_int_t)r->threads, r->measure == PRODUCT ? "rows" : "tokens",
                             (json_int_t)b->tokens, "tokens_per_second", cli_json_real(median), "min",
                             cli_json_real(least), "max", cli_json_real(most), "samples", samples_json(r),
                             "flops_per_second", cli_json_real(flops), "share_of_peak", cli_json_real(flops / r->peak));
    json_object_set_new(json, "arithmetic", json_string(b->arithmetic));
    if (r->measure == PRODUCT) {
        json_object_update_new(json, json_pack("{s:I, s:I, s:s}", "n", (json_int_t)r->product.N, "k",
                                               (json_int_t)r->product.K, "type", b->type));
    } else {
        json_object_update_new(json, json_pack("{s:I, s:o, s:o}", "experts_hit", (json_int_t)b->experts_hit,
                                               "experts_hit_mean", cli_json_real(b->experts_hit_mean),
                                               "experts_per_token", cli_json_real(b->experts_per_token)));
    }
    if (r->measure == TRAIN)
        json_object_update_new(json,
                               json_pack("{s:I, s:o, s:o}", "context", (json_int_t)r->context, "loss_nats_per_token",
                                         cli_json_real(b->loss), "memory_bytes", cli_json_real(b->memory_bytes)));
    if (r->measure <= DECODE)
        json_object_set_new(json, "depth", json_integer((json_int_t)r->depth));
    if (r->measure == DECODE)
        json_object_update_new(json, json_pack("{s:o, s:o}", "weight_bytes_per_token", cli_json_real(b->weight_bytes),
                                               "cache_bytes_per_token", cli_json_real(b->cache_bytes)));
    if (r->measure == DECODE || r->measure == PRODUCT)
        json_object_update_new(json, json_pack("{s:o, s:o}", "bytes_per_second", cli_json_real(bytes),
                                               "share_of_bandwidth", cli_json_real(bytes / r->bandwidth)));
    return json;
}

/* One value where one was asked for, else the list in the order of the results. */
static json_t *one_or_list(json_t *list) {
    if (json_array_size(list) != 1)
        return list;
    json_t *one = json_incref(json_array_get(list, 0));
    json_decref(list);
    return one;
}

static int print_json(const bench *b) {
    sgm_machine machine;
    sgm_machine_describe(&machine);
    sgm_model_counts counts;
    sgm_model_count(&b->settings, (double)b->settings.experts_per_token, b->settings.context, &counts);
    const char *kernels = cli_text(b->args, "kernels");
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:o, s:I}", "version", sgm_version(), "cpu", machine.cpu, "kernels",
                  strcmp(kernels, "auto") == 0 ? machine.kernels : kernels, "total_parameters",
                  (json_int_t)counts.total_parameters, "active_parameters", (json_int_t)counts.active_parameters,
                  "machine", json_incref(b->machine), "peak_rss_bytes", (json_int_t)b->peak_rss_bytes);
    json_t *results = json_array(), *samples = json_object();
    for (int m = 0; m < MEASURES; m++) {
        json_t *rates = json_array(), *raw = json_array();
        for (size_t i = 0; i < b->count; i++) {
            double median;
            if ((int)b->records[i].measure != m)
                continue;
            sgm_bench_rate(&b->records[i].result, NULL, &median, NULL);
            json_array_append_new(rates, cli_json_real(median));
            json_array_append_new(raw, samples_json(&b->records[i]));
            json_array_append_new(results, record_json(&b->records[i]));
        }
        char name[48];
        snprintf(name, sizeof name, "%s_tokens_per_second", measure_name[m]);
        bool wanted = json_array_size(rates) && m != PRODUCT;
        if (wanted) {
            json_object_set_new(json, name, one_or_list(rates));
            json_object_set_new(samples, name, one_or_list(raw));
        } else {
            json_decref(rates);
            json_decref(raw);
        }
    }
    json_object_set_new(json, "samples", samples);
    json_object_set_new(json, "results", results);
    if (b->open_seconds > 0) {
        json_object_set_new(json, "open_seconds", cli_json_real(b->open_seconds));
        json_object_set_new(json, "private_bytes", json_integer((json_int_t)b->private_bytes));
    }
    return cli_json_print(json);
}

/* ---- what is measured ---------------------------------------------------------------------------------------------- */

static int fail(const sgm_error *error) {
    return error->code == SGM_EINTERRUPTED ? CLI_INTERRUPTED : cli_fail(error);
}

/* Memory of this process that no file stands behind. */
static double private_bytes(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    double kilobytes = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "RssAnon: %lf", &kilobytes) == 1)
            break;
    if (file)
        fclose(file);
    return kilobytes * 1024;
}

static void note_peak_rss(bench *b) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    int64_t bytes = (int64_t)usage.ru_maxrss * 1024;
    b->peak_rss_bytes = bytes > b->peak_rss_bytes ? bytes : b->peak_rss_bytes;
}

/* From here on the kernel's record of the peak begins again (Linux; where that is not allowed it goes on). */
static void forget_peak_rss(void) {
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (file) {
        fputs("5", file);
        fclose(file);
    }
}

static int measure_machine(bench *b, int threads) {
    sgm_error error = {0};
    note_peak_rss(b);
    unsigned what = SGM_MEASURE_ALL;
    struct stat file;
    bool mapped = b->model && stat(b->model, &file) == 0 && S_ISREG(file.st_mode); /* a folder's weights are copied */
    if (!mapped)
        what &= ~(unsigned)SGM_MEASURE_MAPPED;
    if (sgm_machine_measure(cli_text(b->args, "kernels"), threads, 1, what, mapped ? b->model : NULL, &b->peaks,
                            &error))
        return cli_fail(&error);
    forget_peak_rss();
    const sgm_machine_peaks *p = &b->peaks;
    json_array_append_new(b->machine,
                          json_pack("{s:i, s:o, s:o, s:o, s:o, s:o}", "threads", threads, "flops_per_second",
                                    cli_json_real(p->flops_per_second), "bf16_flops_per_second",
                                    cli_json_real(p->bf16_flops_per_second), "int8_ops_per_second",
                                    cli_json_real(p->int8_ops_per_second), "read_bytes_per_second",
                                    cli_json_real(p->read_bytes_per_second), "mapped_bytes_per_second",
                                    mapped ? cli_json_real(p->mapped_bytes_per_second) : json_null()));
    if (!b->json) {
        printf("%s%s, at best: %.1f GFLOP/s in f32, %.1f in bf16, %.1f GOP/s in int8; %.1f GB/s read from memory",
               b->count ? "\n" : "", cli_counted(threads, "thread").text, p->flops_per_second * 1e-9,
               p->bf16_flops_per_second * 1e-9, p->int8_ops_per_second * 1e-9, p->read_bytes_per_second * 1e-9);
        if (mapped)
            printf(", %.1f GB/s from the model's file, mapped", p->mapped_bytes_per_second * 1e-9);
        putchar('\n');
    }
    return CLI_DONE;
}

static int infer_with(bench *b, sgm_engine *engine, int threads) {
    size_t depths, sizes;
    const int64_t *depth = cli_integers(b->args, "depth", &depths);
    for (int m = PREFILL; m <= DECODE; m++) {
        const int64_t *size = cli_integers(b->args, measure_name[m], &sizes);
        for (size_t d = 0; d < depths; d++)
            for (size_t i = 0; i < sizes; i++) {
                record r = {.measure = (bench_measure)m, .depth = depth[d], .threads = threads};
                sgm_error error = {0};
                sgm_status status = m == PREFILL
                                        ? sgm_bench_prefill(engine, size[i], depth[d], &b->options, &r.result, &error)
                                        : sgm_bench_decode(engine, size[i], depth[d], &b->options, &r.result, &error);
                int code = status ? fail(&error) : add(b, &r);
                if (code != CLI_DONE)
                    return code;
            }
    }
    return CLI_DONE;
}

/* Positions that the longest of the measures takes. */
static int64_t positions(const bench *b) {
    size_t depths, sizes;
    const int64_t *depth = cli_integers(b->args, "depth", &depths);
    int64_t deepest = 0, longest = 0;
    for (size_t i = 0; i < depths; i++)
        deepest = depth[i] > deepest ? depth[i] : deepest;
    for (int m = PREFILL; m <= DECODE; m++) {
        const int64_t *size = cli_integers(b->args, measure_name[m], &sizes);
        for (size_t i = 0; i < sizes; i++)
            longest = size[i] > longest ? size[i] : longest;
    }
    return longest ? deepest + longest : 0;
}

static int infer(bench *b, int threads) {
    if (positions(b) == 0)
        return CLI_DONE;
    sgm_engine_options options = {.threads = threads,
                                  .kernels = cli_text(b->args, "kernels"),
                                  .batch_tokens = cli_integer(b->args, "chunk"),
                                  .kv_tokens = positions(b),
                                  .kv_type = cli_text(b->args, "kv-type")};
    sgm_engine *engine = NULL;
    sgm_error error = {0};
    double begin = cli_now();
    if (sgm_engine_open(b->model, &options, &engine, &error))
        return cli_fail(&error);
    b->open_seconds = cli_now() - begin;
    int code = infer_with(b, engine, threads);
    b->private_bytes = private_bytes();
    sgm_engine_close(engine);
    return code;
}

static int set(sgm_config *config, const char *key, int64_t value) {
    char text[32];
    sgm_error error = {0};
    snprintf(text, sizeof text, "%lld", (long long)value);
    return sgm_config_set(config, key, text, "bench", &error) ? cli_fail(&error) : CLI_DONE;
}

/* A training step, or only whether it can be. */
static int train_once(bench *b, int threads, int64_t context, int64_t batch, bool measure) {
    sgm_config *config = NULL;
    sgm_error error = {0};
    if (sgm_config_copy(b->config, &config, &error))
        return cli_fail(&error);
    int code = set(config, "model.context", context);
    if (code == CLI_DONE)
        code = set(config, "data.tokens_per_step", batch * context);
    if (code == CLI_DONE)
        code = set(config, "train.threads", threads);
    if (code == CLI_DONE &&
        (sgm_config_set(config, "train.kernels", cli_text(b->args, "kernels"), "--kernels", &error) ||
         sgm_config_check(config, &error)))
        code = cli_fail(&error);
    record r = {.measure = TRAIN, .context = context, .threads = threads};
    if (code == CLI_DONE && measure)
        code = sgm_bench_train(config, &b->options, &r.result, &error) ? fail(&error) : add(b, &r);
    sgm_config_free(config);
    return code;
}

/* Batches and contexts that were not given are the preset's. */
static int train(bench *b, int threads, bool measure) {
    size_t batches, contexts;
    const int64_t *batch = cli_integers(b->args, "batch", &batches);
    const int64_t *context = cli_integers(b->args, "context", &contexts);
    int64_t own_context = b->settings.context;
    if (!cli_switch(b->args, "train"))
        return CLI_DONE;
    for (size_t c = 0; c < contexts || c == 0; c++) {
        int64_t length = contexts ? context[c] : own_context;
        int64_t own_batch = strtoll(sgm_config_get(b->config, "data.tokens_per_step"), NULL, 10) / length;
        for (size_t i = 0; i < batches || i == 0; i++) {
            int code = train_once(b, threads, length, batches ? batch[i] : own_batch > 0 ? own_batch : 1, measure);
            if (code != CLI_DONE)
                return code;
        }
    }
    return CLI_DONE;
}

/* The products a layer is made of, and a piece of the head. */
static int products(bench *b, int threads) {
    const sgm_model_settings *s = &b->settings;
    const int64_t shapes[][2] = {{s->expert_width, s->width},
                                 {s->width, s->expert_width},
                                 {s->heads * s->head_size, s->width},
                                 {s->vocabulary < 8192 ? s->vocabulary : 8192, s->width}};
    const char *type = cli_text(b->args, "type");
    size_t rows;
    const int64_t *row = cli_integers(b->args, "rows", &rows);
    if (!cli_switch(b->args, "products"))
        return CLI_DONE;
    const int computes = strcmp(type, "f32") == 0 ? 2 : 1; /* f32 weights: in f32, then in bf16 */
    for (int bf16 = 0; bf16 < computes; bf16++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (size_t j = 0; j < rows; j++) {
                record r = {.measure = PRODUCT, .threads = threads};
                r.product = (sgm_bench_product){.kernels = cli_text(b->args, "kernels"),
                                                .type = type,
                                                .bf16 = bf16,
                                                .threads = threads,
                                                .rows = row[j],
                                                .N = shapes[i][0],
                                                .K = shapes[i][1]};
                sgm_error error = {0};
                sgm_status status = sgm_bench_product_run(&r.product, &b->options, &r.result, &error);
                int code = status ? fail(&error) : add(b, &r);
                if (code != CLI_DONE)
                    return code;
            }
    return CLI_DONE;
}

static int measure_all(bench *b) {
    size_t count;
    const int64_t *threads = cli_integers(b->args, "threads", &count);
    sgm_machine machine;
    sgm_machine_describe(&machine);
    int64_t all = machine.cores;
    for (size_t i = 0; i < count || i == 0; i++) {
        int n = (int)(count && threads[i] ? threads[i] : all);
        int code = measure_machine(b, n);
        if (code == CLI_DONE)
            code = infer(b, n);
        if (code == CLI_DONE)
            code = train(b, n, true);
        if (code == CLI_DONE)
            code = products(b, n);
        if (code != CLI_DONE)
            return code;
    }
    return CLI_DONE;
}

/* ---- which model --------------------------------------------------------------------------------------------------- */

/* The config of a model that is there: its shape, everything else as a new run would have it. */
static int config_of(bench *b, const sgm_model_info *info) {
    const sgm_model_settings *m = &info->settings;
    const struct {
        const char *key;
        int64_t value;
    } shape[] = {{"model.layers", m->layers},
                 {"model.width", m->width},
                 {"model.heads", m->heads},
                 {"model.kv_heads", m->kv_heads},
                 {"model.head_size", m->head_size},
                 {"model.experts", m->experts},
                 {"model.experts_per_token", m->experts_per_token},
                 {"model.null_experts", m->null_experts},
                 {"model.attention_experts", m->attention_experts},
                 {"model.attention_experts_per_token", m->attention_experts_per_token},
                 {"model.gate_hidden", m->gate_hidden},
                 {"model.expert_width", m->expert_width},
                 {"model.vocabulary", m->vocabulary},
                 {"model.context", m->context}};
    sgm_error error = {0};
    if (sgm_config_new(&b->config, &error) ||
        sgm_config_set(b->config, "model.tie_embeddings", m->tie_embeddings ? "true" : "false", "bench", &error) ||
        sgm_config_set(b->config, "model.attention",
                       m->attention == SGM_ATTENTION_STICK_BREAKING ? "stick_breaking" : "causal", "bench", &error) ||
        sgm_config_set(b->config, "router.kind", info->router, "bench", &error))
        return cli_fail(&error);
    int code = CLI_DONE;
    for (size_t i = 0; i < sizeof shape / sizeof *shape && code == CLI_DONE; i++)
        code = set(b->config, shape[i].key, shape[i].value);
    return code;
}

static int existing_model(bench *b) {
    static const char *const fixed[] = {"preset", "config", "set"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (cli_given(b->args, fixed[i]))
            return cli_usage("a model that is there has its settings",
                             "sigmoe bench: --%s cannot be combined with --model", fixed[i]);
    sgm_model_info info;
    sgm_error error = {0};
    b->model = cli_text(b->args, "model");
    if (sgm_model_inspect(b->model, &info, &error))
        return cli_fail(&error);
    b->settings = info.settings;
    if (!b->json)
        printf("%s: %s parameters, %s active per token, %s\n", b->model,
               cli_count_label((double)info.counts.total_parameters).text,
               cli_count_label((double)info.counts.active_parameters).text,
               cli_bytes_label((double)info.file_bytes).text);
    int code = config_of(b, &info);
    return code == CLI_DONE ? train(b, 1, false) : code; /* before anything is measured that an error would lose */
}

/* A preset's model, with random weights where weights are needed and a context that holds what is measured. */
static int preset_model(bench *b) {
    int code = cli_config(b->args, &b->config);
    sgm_error error = {0};
    sgm_config *config = NULL;
    if (code != CLI_DONE)
        return code;
    if (sgm_model_settings_from_config(b->config, &b->settings, &error))
        return cli_fail(&error);
    code = train(b, 1, false); /* before anything is written or measured */
    if (code != CLI_DONE)
        return code;
    if (sgm_config_copy(b->config, &config, &error))
        return cli_fail(&error);
    if (positions(b) > b->settings.context)
        code = set(config, "model.context", positions(b));
    if (code == CLI_DONE && positions(b) > 0 &&
        sgm_bench_model_new(config, cli_text(b->args, "type"), &b->options, &b->temporary, &error))
        code = cli_fail(&error);
    b->model = b->temporary;
    sgm_config_free(config);
    if (code == CLI_DONE && !b->json) {
        sgm_model_counts counts;
        sgm_model_count(&b->settings, (double)b->settings.experts_per_token, b->settings.context, &counts);
        printf("%s: %s parameters, %s active per token\n", cli_text(b->args, "preset"),
               cli_count_label((double)counts.total_parameters).text,
               cli_count_label((double)counts.active_parameters).text);
    }
    return code;
}

static int run(const cli_args *args) {
    bench b = {.args = args,
               .json = cli_switch(args, "json"),
               .options = {.repeats = cli_integer(args, "repeats"),
                           .seed = (uint64_t)cli_integer(args, "seed"),
                           .stop = &cli_stop}};
    if (positions(&b) == 0 && !cli_switch(args, "train") && !cli_switch(args, "products"))
        return cli_usage("sigmoe bench --preset nano --prefill 256 --decode 64 --train",
                         "sigmoe bench: nothing is asked for: give --prefill, --decode, --train or --products");
    b.machine = json_array();
    cli_catch_signals();
    int code = cli_given(args, "model") ? existing_model(&b) : preset_model(&b);
    if (code == CLI_DONE)
        code = measure_all(&b);
    note_peak_rss(&b);
    if (code == CLI_DONE && b.json)
        code = print_json(&b);
    else if (code == CLI_DONE && b.open_seconds > 0)
        printf("\nopened in %.2f s; %s of memory are this process's own, no file's\n", b.open_seconds,
               cli_bytes_label(b.private_bytes).text);
    sgm_bench_model_remove(b.temporary);
    sgm_text_free(b.temporary);
    sgm_config_free(b.config);
    json_decref(b.machine);
    free(b.records);
    return code;
}

static const cli_flag flags[] = {
    {"model", CLI_TEXT, "M", NULL, 0, 0, false,
     "model folder, checkpoint, run folder or GGUF file; without it: the preset's model"},
    CLI_CONFIG_FLAGS,
    {"prefill", CLI_INTEGERS, "N,…", NULL, 1, 1e8, false, "read prompts of so many tokens"},
    {"decode", CLI_INTEGERS, "N,…", NULL, 1, 1e8, false, "write so many tokens, one by one"},
    {"depth", CLI_INTEGERS, "N,…", "0", 0, 1e8, false, "behind so many tokens that are there already"},
    {"chunk", CLI_INTEGER, "N", "0", 0, 1048576, false, "tokens of a prompt read at once; 0: the engine's choice"},
    {"kv-type", CLI_TEXT, "TYPE", "auto", 0, 0, false, "keys and values kept as f32, f16 or q8; auto: by the weights"},
    {"train", CLI_SWITCH, NULL, NULL, 0, 0, false, "whole training steps, optimizer included"},
    {"batch", CLI_INTEGERS, "N,…", NULL, 1, 1e6, false, "windows in a step (without it: the preset's)"},
    {"context", CLI_INTEGERS, "N,…", NULL, 1, 1e8, false, "tokens of a window (without it: the model's context)"},
    {"products", CLI_SWITCH, NULL, NULL, 0, 0, false, "the model's matrix products alone, weights from memory"},
    {"rows", CLI_INTEGERS, "N,…", "1,5,64,512", 1, 1e6, false, "rows of those products"},
    {"type", CLI_TEXT, "T", "f32", 0, 0, false, "how the weights of a preset's model, or of products, are stored"},
    {"threads", CLI_INTEGERS, "N,…", "0", 0, SGM_THREADS_MOST, false, "0: as many as there are cores"},
    {"kernels", CLI_TEXT, "NAME", "auto", 0, 0, false, "ref, auto, or one of `sigmoe doctor`"},
    {"repeats", CLI_INTEGER, "N", "5", 1, SGM_BENCH_SAMPLES, false, "samples of each measure, after one to warm up"},
    {"seed", CLI_INTEGER, "S", "1", 0, 9e18, false, "of random tokens and weights"},
    {"json", CLI_SWITCH, NULL, NULL, 0, 0, false, "print JSON"},
    {0},
};

const cli_command cli_bench = {
    .name = "bench",
    .group = "use",
    .summary = "tokens per second of a model here, beside what the machine can do",
    .flags = flags,
    .details =
        "Tokens are random; tokens/s is the median of the samples, with the smallest and the largest. Lists are "
        "swept.\n"
        "GFLOP/s count matrix products alone, \"of peak\" is their share of the peak of the numbers they multiply "
        "(column\n"
        "\"in\"); GB/s count each weight that a token needs and its keys and values once, \"of read\" is their share "
        "of the\n"
        "memory's speed, for a GGUF file of its speed when mapped. The limits are measured just before, those of\n"
        "arithmetic with the instructions of --kernels. Experts hit:\n"
        "distinct ones in a layer, mean over layers, and the least.\n"
        "A preset's model is written with random weights into a temporary folder, in TMPDIR or /tmp, and removed at "
        "the "
        "end.",
    .example = "sigmoe bench --preset nano --prefill 256 --decode 64 --train\n"
               "sigmoe bench --model runs/demo --decode 64 --depth 0,128 --threads 1,2\n"
               "sigmoe bench --preset micro --train --batch 16,32 --context 512 --json",
    .run = run,
};
