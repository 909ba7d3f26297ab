// SPDX-License-Identifier: Apache-2.0
/* Models written as GGUF: keys, then every tensor's rows in the order of the file.
 *
 * The rows of a piece of a tensor are packed by all threads into one buffer, which is then written; nothing else of the model
 * is in memory. Same model, same options, same bytes, for any number of threads. */
#include "sigmoe/convert.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/team.h"
#include "model/model_convert.h"
#include "model/model_files.h"
#include "model/model_open.h"
#include "sigmoe/machine.h"
#include "text/tokenizer_gguf.h"

enum { PIECE_BYTES = 1 << 23, TASK_ELEMENTS = 1 << 15, BYTE_VOCABULARY = 257 };

typedef struct conversion {
    const sgm_convert_options *options;
    const sgm_model *model;      /* names and shapes; its values too unless the source is random */
    const sgm_hf_config *config; /* settings, router, k by layer */
    sgm_type_plan plan;
    sgm_row_source source;
    const sgm_gguf *from; /* the file it comes from; NULL: not one */
    sgm_team *team;
    sgm_gguf_writer *writer;
    float *scratch; /* (threads, widest row) */
    int64_t widest, total_bytes, done_bytes;
    char *piece;
    size_t piece_bytes;
    sgm_buffer notes;
    const char *architecture;
} conversion;

/* ---- keys ------------------------------------------------------------------------------------------------------------- */

/* llama.cpp's number for "mostly this type". */
static uint32_t file_type(sgm_type type) {
    static const uint32_t numbers[SGM_TYPES] = {
        [SGM_TYPE_F32] = 0,  [SGM_TYPE_F16] = 1,  [SGM_TYPE_BF16] = 32, [SGM_TYPE_Q8_0] = 7,
        [SGM_TYPE_Q4_0] = 2, [SGM_TYPE_Q5_0] = 8, [SGM_TYPE_Q4_K] = 14, [SGM_TYPE_Q6_K] = 18,
    };
    return numbers[type];
}

static bool router_normalises(const sgm_router *router) {
    const sgm_plugin *plugin = &router->plugin->plugin;
    for (size_t i = 0; i < plugin->param_count; i++)
        if (strcmp(plugin->params[i].name, "normalise") == 0)
            return *(const bool *)((const char *)router->settings + plugin->params[i].offset);
    return false;
}

static void put_qwen3moe(conversion *c) {
    const sgm_model_settings *s = &c->config->settings;
    sgm_gguf_writer *w = c->writer;
    int64_t k = c->config->experts_per_token[0];
    const struct {
        const char *key;
        int64_t value;
    } wholes[] = {
        {"qwen3moe.block_count", s->layers},
        {"qwen3moe.context_length", s->context},
        {"qwen3moe.embedding_length", s->width},
        {"qwen3moe.feed_forward_length", s->expert_width * k}, /* of dense layers, which there are none of */
        {"qwen3moe.attention.head_count", s->heads},
        {"qwen3moe.attention.head_count_kv", s->kv_heads},
        {"qwen3moe.attention.key_length", s->head_size},
        {"qwen3moe.attention.value_length", s->head_size},
        {"qwen3moe.rope.dimension_count", s->head_size},
        {"qwen3moe.expert_count", s->experts},
        {"qwen3moe.expert_used_count", k},
        {"qwen3moe.expert_feed_forward_length", s->expert_width},
        {"qwen3moe.vocab_size", s->vocabulary},
    };
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++)
        sgm_gguf_put_u32(w, wholes[i].key, (uint32_t)wholes[i].value);
    sgm_gguf_put_f32(w, "qwen3moe.rope.freq_base", (float)s->rope_theta);
    sgm_gguf_put_f32(w, "qwen3moe.attention.layer_norm_rms_epsilon", (float)s->norm_epsilon);
    sgm_gguf_put_bool(w, "qwen3moe.expert_weights_norm", router_normalises(&c->config->router));
}

/* The tokenizer that was named, or the one of the model: from its file key by key, else from its folder. */
static sgm_status put_tokenizer(conversion *c, const char *resolved, sgm_error *error) {
    static const char prefix[] = "tokenizer.";
    sgm_tokenizer *tokenizer = NULL;
    const char *key;
    bool copied = false;
    for (int64_t i = 0; c->from && !c->options->tokenizer && (key = sgm_gguf_key_at(c->from, i)) != NULL; i++)
        if (strncmp(key, prefix, sizeof prefix - 1) == 0) {
            sgm_gguf_put_copy(c->writer, c->from, key);
            copied = true;
        }
    if (copied)
        return SGM_OK;
    sgm_status status = SGM_OK;
    if (c->options->tokenizer)
        status = sgm_tokenizer_open(c->options->tokenizer, &tokenizer, error);
    else if (resolved && !c->from)
        status = sgm_model_open_tokenizer(resolved, &tokenizer, error);
    else if (!resolved && c->config->settings.vocabulary == BYTE_VOCABULARY) /* a new model of bytes needs no file */
        status = sgm_tokenizer_bytes(&tokenizer, error);
    if (status)
        return status;
    if (!tokenizer) {
        sgm_gguf_put_text(c->writer, "tokenizer.ggml.model", "none");
        return SGM_OK;
    }
    int64_t tokens = sgm_tokenizer_vocabulary(tokenizer), room = c->config->settings.vocabulary;
    if (tokens > room)
        status = sgm_fail(error, SGM_EARGUMENT, "set model.vocabulary to the tokenizer's size",
                          "the tokenizer has %" PRId64 " tokens, the model's vocabulary only %" PRId64, tokens, room);
    else
        status = sgm_tokenizer_put_gguf(tokenizer, room, c->writer, error);
    sgm_tokenizer_close(tokenizer);
    return status;
}

static const char *why_not_qwen3moe(const conversion *c) {
    const sgm_model_settings *s = &c->config->settings;
    return c->plan.any_split                              ? "experts of a layer have different types"
           : s->attention == SGM_ATTENTION_STICK_BREAKING ? "its attention is stick-breaking"
           : s->gate_hidden > 0                           ? "its routers have a hidden layer"
                                : "its experts per token differ by layer, or its router is another";
}

/* Which architecture says what the model is. */
static sgm_status choose_architecture(conversion *c, sgm_error *error) {
    const char *wanted = c->options->architecture;
    bool possible = sgm_hf_config_is_qwen3_moe(c->config) && !c->plan.any_split;
    if (wanted && strcmp(wanted, "qwen3moe") != 0 && strcmp(wanted, "sigmoe") != 0)
        return sgm_fail(error, SGM_EARGUMENT, "known: qwen3moe, sigmoe", "there is no architecture '%.40s'", wanted);
    if (wanted && strcmp(wanted, "qwen3moe") == 0 && !possible)
        return sgm_fail(error, SGM_EARGUMENT, "write it as architecture sigmoe, which only sigmoe opens",
                        "qwen3moe cannot say what this model is: %s", why_not_qwen3moe(c));
    c->architecture = wanted ? wanted : possible ? "qwen3moe" : "sigmoe";
    return SGM_OK;
}

static sgm_status put_keys(conversion *c, const char *resolved, sgm_error *error) {
    char *json = NULL;
    sgm_status status = SGM_OK;
    sgm_gguf_put_text(c->writer, "general.architecture", c->architecture);
    sgm_gguf_put_text(c->writer, "general.type", "model");
    sgm_gguf_put_u32(c->writer, "general.quantization_version", 2);
    sgm_gguf_put_u32(c->writer, "general.file_type", file_type(c->plan.base));
    if (strcmp(c->architecture, "qwen3moe") == 0) {
        put_qwen3moe(c);
        if (!router_normalises(&c->config->router))
            status = sgm_buffer_print(&c->notes,
                                      "llama.cpp normalises the weights of the chosen experts of a qwen3moe model "
                                      "to 1; this model keeps them (qwen3moe.expert_weights_norm is false), "
                                      "so llama.cpp computes something else\n");
    } else {
        status = sgm_hf_config_write(c->config, &json, error);
        if (!status)
            sgm_gguf_put_text(c->writer, "sigmoe.config", json);
        sgm_free(json);
    }
    return status ? status : put_tokenizer(c, resolved, error);
}

/* ---- tensors ---------------------------------------------------------------------------------------------------------- */

static int64_t part_rows(const conversion *c, const sgm_gguf_part *part) {
    return part->count * c->model->weights[part->first].rows;
}

static void put_tensors(conversion *c) {
    sgm_gguf_part part;
    const sgm_model_settings *s = &c->config->settings;
    for (int64_t i = 0; sgm_gguf_part_at(s, c->plan.split, i, &part); i++) {
        const sgm_weight *weight = &c->model->weights[part.first];
        sgm_type type = sgm_type_plan_given(&c->plan, &part);
        int64_t shape[3] = {part.count};
        int leading = part.stacked, dimensions = leading + sgm_weight_file_shape(weight, shape + leading);
        sgm_gguf_put_tensor(c->writer, part.name, type, dimensions, shape);
        c->total_bytes += part_rows(c, &part) * (int64_t)sgm_quant_row_bytes(type, weight->cols);
        c->widest = weight->cols > c->widest ? weight->cols : c->widest;
    }
    for (int64_t l = 0; c->model->selection_bias && l < s->layers; l++) {
        char name[SGM_GGUF_TENSOR_NAME];
        sgm_gguf_bias_name(l, name);
        sgm_gguf_put_tensor(c->writer, name, SGM_TYPE_F32, 1, &s->experts);
    }
}

typedef struct packing {
    const conversion *c;
    const sgm_gguf_part *part;
    sgm_type type;
    int64_t begin, end;  /* rows of the part, counted through its matrices */
    atomic_bool damaged; /* a row has values that the type cannot hold */
} packing;

static void pack_rows(sgm_worker *worker, void *argument) {
    packing *p = argument;
    const conversion *c = p->c;
    const sgm_weight *weights = &c->model->weights[p->part->first];
    int64_t rows = weights->rows, group = TASK_ELEMENTS / weights->cols + 1, task;
    size_t row_bytes = sgm_quant_row_bytes(p->type, weights->cols);
    float *scratch = c->scratch + worker->thread * c->widest;
    while ((task = sgm_task(worker)) * group < p->end - p->begin)
        for (int64_t i = p->begin + task * group; i < p->begin + (task + 1) * group && i < p->end; i++)
            if (!sgm_row_source_pack(&c->source, &weights[i / rows * p->part->step], i % rows, p->type, scratch,
                                     c->piece + (size_t)(i - p->begin) * row_bytes))
                atomic_store(&p->damaged, true);
}

static sgm_status write_part(conversion *c, const sgm_gguf_part *part, sgm_error *error) {
    packing p = {.c = c, .part = part, .type = sgm_type_plan_given(&c->plan, part)};
    size_t row_bytes = sgm_quant_row_bytes(p.type, c->model->weights[part->first].cols);
    int64_t rows = part_rows(c, part), at_once = (int64_t)(c->piece_bytes / row_bytes);
    sgm_status status = SGM_OK;
    for (p.begin = 0; !status && p.begin < rows; p.begin = p.end) {
        p.end = rows - p.begin < at_once ? rows : p.begin + at_once;
        sgm_team_run(c->team, pack_rows, &p);
        if (atomic_load(&p.damaged))
            return sgm_fail(error, SGM_EFORMAT,
                            "the weights are damaged, or training diverged; f16 holds values up to 65504 only",
                            "tensor '%s' has values that are not finite as %s", part->name, sgm_quant_of(p.type)->name);
        if (c->options->stop && *c->options->stop)
            return sgm_fail(error, SGM_EINTERRUPTED, NULL, "interrupted; nothing is left behind");
        size_t bytes = (size_t)(p.end - p.begin) * row_bytes;
        status = sgm_gguf_writer_data(c->writer, c->piece, bytes, error);
        c->done_bytes += (int64_t)bytes;
        if (c->options->progress)
            c->options->progress(c->options->context, c->done_bytes, c->total_bytes);
    }
    return status;
}

static sgm_status write_tensors(conversion *c, const char *to, sgm_error *error) {
    const sgm_model_settings *s = &c->config->settings;
    sgm_gguf_part part;
    sgm_status status = sgm_disk_check(to, (uint64_t)c->total_bytes, error);
    if (!status)
        status = sgm_gguf_writer_begin(c->writer, error);
    for (int64_t i = 0; !status && sgm_gguf_part_at(s, c->plan.split, i, &part); i++)
        status = write_part(c, &part, error);
    if (!status && c->model->selection_bias)
        status = sgm_gguf_writer_data(c->writer, c->model->selection_bias,
                                      (size_t)(s->layers * s->experts) * sizeof(float), error);
    return status;
}

/* ---- both ways in ----------------------------------------------------------------------------------------------------- */

static sgm_status buffers_make(conversion *c, sgm_error *error) {
    size_t widest = (size_t)c->widest * sizeof(float);
    c->piece_bytes = widest > PIECE_BYTES ? widest : PIECE_BYTES;
    c->piece = sgm_alloc(c->piece_bytes);
    c->scratch = sgm_alloc((size_t)sgm_team_threads(c->team) * widest);
    return c->piece && c->scratch ? SGM_OK : sgm_fail(error, SGM_EMEMORY, NULL, "no memory to convert a model");
}

static sgm_status report_make(conversion *c, const char *to, sgm_convert_report *report, sgm_error *error) {
    sgm_model_info info;
    *report = (sgm_convert_report){.tensors = sgm_gguf_part_count(&c->config->settings, c->plan.split)};
    report->tensors += c->model->selection_bias ? c->config->settings.layers : 0;
    snprintf(report->architecture, sizeof report->architecture, "%s", c->architecture);
    sgm_status status = sgm_model_inspect(to, &info, error); /* it opens: what is written is what is read */
    report->bytes = info.file_bytes;
    report->notes = sgm_strdup(c->notes.data ? c->notes.data : "");
    if (!status && !report->notes)
        status = sgm_fail(error, SGM_EMEMORY, NULL, "no memory for notes");
    return status;
}

/* A stack of experts has as many matrices as the router has rows there, and a null expert has none; names of attention experts
 * there are none. */
static sgm_status shape_check(const conversion *c, sgm_error *error) {
    const sgm_model_settings *s = &c->config->settings;
    if (s->null_experts > 0)
        return sgm_fail(error, SGM_EUNSUPPORTED, "keep it as a model folder",
                        "the model has %" PRId64 " null experts, which GGUF cannot hold", s->null_experts);
    if (s->attention_experts > 0)
        return sgm_fail(error, SGM_EUNSUPPORTED, "keep it as a model folder",
                        "the model has %" PRId64 " attention experts, which GGUF cannot hold", s->attention_experts);
    return SGM_OK;
}

/* `resolved`: where the model's tokenizer is; NULL: nowhere. `seed` counts when `random`. */
static sgm_status convert(conversion *c, const char *resolved, bool random, uint64_t seed, const char *to,
                          sgm_convert_report *report, sgm_error *error) {
    const sgm_convert_options *o = c->options;
    sgm_status status = o->threads < 0 || o->threads > SGM_THREADS_MOST
                            ? sgm_fail(error, SGM_EARGUMENT, "use 0 for as many as there are cores",
                                       "%d threads are impossible", o->threads)
                            : shape_check(c, error);
    if (!status)
        status = sgm_type_plan_make(c->model, o, &c->plan, error);
    if (!status)
        status = choose_architecture(c, error);
    if (!status)
        status = sgm_team_new(o->threads ? o->threads : sgm_usable_cores(), &c->team, error);
    if (!status)
        status = sgm_gguf_writer_new(to, &c->writer, error);
    if (!status)
        status = put_keys(c, resolved, error);
    if (!status)
        put_tensors(c);
    if (!status)
        status = sgm_type_plan_notes(&c->plan, &c->notes);
    if (!status)
        status = buffers_make(c, error);
    if (!status && random)
        status = sgm_row_source_random(seed, &c->plan, c->team, &c->source, error);
    if (!status)
        status = write_tensors(c, to, error);
    if (!status)
        status = sgm_gguf_writer_end(c->writer, error);
    else
        sgm_gguf_writer_abandon(c->writer);
    if (!status)
        status = report_make(c, to, report, error);
    if (c->team)
        sgm_team_free(c->team);
    sgm_row_source_free(&c->source);
    sgm_type_plan_free(&c->plan);
    sgm_buffer_free(&c->notes);
    sgm_free(c->piece);
    sgm_free(c->scratch);
    return status;
}

/* What was asked for would take the place of the model itself, or of a file that is no model. */
static sgm_status may_replace(const char *from, const char *to, sgm_error *error) {
    struct stat source, target;
    if (stat(to, &target) != 0 || !S_ISREG(target.st_mode))
        return SGM_OK; /* the writer says what is wrong with it */
    if (stat(from, &source) == 0 && source.st_dev == target.st_dev && source.st_ino == target.st_ino)
        return sgm_fail(error, SGM_EARGUMENT, "give another name; remove the model when it is no longer needed",
                        "%s is the model itself, which would be lost", to);
    if (!sgm_model_is_gguf(to))
        return sgm_fail(error, SGM_EARGUMENT, "choose another name, or remove it", "%s exists and is no GGUF file", to);
    return SGM_OK;
}

sgm_status sgm_model_quantize(const char *from, const sgm_convert_options *options, const char *to,
                              sgm_convert_report *report, sgm_error *error) {
    char resolved[SGM_PATH_BYTES];
    sgm_hf_config config = {0};
    sgm_model *model = NULL;
    sgm_gguf *file = NULL;
    *report = (sgm_convert_report){0};
    sgm_status status = sgm_model_open_config(from, resolved, &config, error);
    if (!status)
        status = may_replace(resolved, to, error);
    if (!status)
        status = sgm_model_open(resolved, &model, NULL, error);
    if (!status && sgm_model_is_gguf(resolved))
        status = sgm_gguf_open(resolved, &file, error);
    if (!status) {
        conversion c = {.options = options, .model = model, .config = &config, .from = file};
        status = convert(&c, resolved, false, 0, to, report, error);
    }
    sgm_gguf_close(file);
    sgm_model_free(model);
    sgm_hf_config_fini(&config);
    return status;
}

sgm_status sgm_model_init_gguf(const sgm_config *config, uint64_t seed, const sgm_convert_options *options,
                               const char *to, sgm_convert_report *report, sgm_error *error) {
    sgm_hf_config written = {0};
    sgm_model *model = NULL;
    struct stat there;
    *report = (sgm_convert_report){0};
    if (stat(to, &there) == 0 && S_ISREG(there.st_mode))
        return sgm_fail(error, SGM_EEXISTS, "choose another name, or remove it", "the file %s exists", to);
    sgm_status status = sgm_model_new_config(config, &written, error);
    if (!status)
        status = sgm_model_new_views(&written.settings, written.router, &model, error);
    if (!status) {
        conversion c = {.options = options, .model = model, .config = &written};
        status = convert(&c, NULL, true, seed, to, report, error);
        written.router.settings = NULL; /* the model's */
    }
    sgm_model_free(model);
    sgm_hf_config_fini(&written);
    return status;
}

void sgm_convert_report_free(sgm_convert_report *report) {
    sgm_free(report->notes);
    report->notes = NULL;
}
