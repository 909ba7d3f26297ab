// SPDX-License-Identifier: Apache-2.0
/* A model's weights: their names, shapes and initial values, and the memory they live in, or the file they are views of.
 *
 * `each` walks the list once, in file order, with the names transformers uses for Qwen3MoE; everything else (allocation,
 * layers' pointers, files) follows from that list. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "model/transformer.h"

typedef sgm_status each_weight(void *context, const sgm_weight *weight, sgm_error *error);

typedef struct listing {
    each_weight *each;
    void *context;
    sgm_error *error;
    sgm_status status;
    char name[256];
} listing;

static void add(listing *list, int64_t layer, const char *name, int64_t rows, int64_t cols, double std) {
    if (list->status)
        return;
    if (layer < 0)
        snprintf(list->name, sizeof list->name, "%s", name);
    else
        snprintf(list->name, sizeof list->name, "model.layers.%lld.%s", (long long)layer, name);
    sgm_weight weight = {.name = list->name, .rows = rows, .cols = cols, .decay = std > 0, .init_std = std};
    list->status = list->each(list->context, &weight, list->error);
}

/* A router's weights, below a prefix: "mlp.gate" or "self_attn.gate". */
static void add_gate(listing *list, const sgm_model_settings *s, int64_t layer, const char *prefix, int64_t experts) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", prefix);
    add(list, layer, name, experts, s->gate_hidden ? s->gate_hidden : s->width, s->gate_init_std);
    if (!s->gate_hidden)
        return;
    snprintf(name, sizeof name, "%s.hidden.weight", prefix);
    add(list, layer, name, s->gate_hidden, s->width, 1 / __builtin_sqrt((double)s->width));
    snprintf(name, sizeof name, "%s.hidden.bias", prefix);
    add(list, layer, name, 1, s->gate_hidden, SGM_INIT_ZERO);
}

/* The router and the experts of an attention that has them: their queries and outputs. */
static void add_attention_experts(listing *list, const sgm_model_settings *s, int64_t layer, double std,
                                  double out_std) {
    int64_t D = s->width, q = s->heads * s->head_size;
    if (s->attention_experts > 0)
        add_gate(list, s, layer, "self_attn.gate", s->attention_experts);
    for (int64_t e = 0; e < s->attention_experts && !list->status; e++) {
        char name[64];
        snprintf(name, sizeof name, "self_attn.experts.%lld.q_proj.weight", (long long)e);
        add(list, layer, name, q, D, std);
        snprintf(name, sizeof name, "self_attn.experts.%lld.o_proj.weight", (long long)e);
        add(list, layer, name, D, q, out_std);
    }
}

sgm_status sgm_model_each_weight(const sgm_model_settings *s, each_weight *each, void *context, sgm_error *error) {
    listing list = {.each = each, .context = context, .error = error};
    int64_t D = s->width, q = s->heads * s->head_size, kv = s->kv_heads * s->head_size;
    bool dense = s->attention_experts == 0;
    double std = s->init_std, out_std = std / __builtin_sqrt(2.0 * (double)s->layers);
    double table_std = s->embedding_init_std > 0 ? s->embedding_init_std : std;
    add(&list, -1, "model.embed_tokens.weight", s->vocabulary, D, table_std);
    for (int64_t l = 0; l < s->layers && !list.status; l++) {
        add(&list, l, "input_layernorm.weight", 1, D, 0);
        if (dense)
            add(&list, l, "self_attn.q_proj.weight", q, D, std);
        add(&list, l, "self_attn.k_proj.weight", kv, D, std);
        add(&list, l, "self_attn.v_proj.weight", kv, D, std);
        if (dense)
            add(&list, l, "self_attn.o_proj.weight", D, q, out_std);
        add(&list, l, "self_attn.q_norm.weight", 1, s->head_size, 0);
        add(&list, l, "self_attn.k_norm.weight", 1, s->head_size, 0);
        add_attention_experts(&list, s, l, std, out_std);
        add(&list, l, "post_attention_layernorm.weight", 1, D, 0);
        add_gate(&list, s, l, "mlp.gate", s->experts);
        for (int64_t e = 0; e < s->experts - s->null_experts && !list.status; e++) {
            char name[64];
            snprintf(name, sizeof name, "mlp.experts.%lld.gate_proj.weight", (long long)e);
            add(&list, l, name, s->expert_width, D, std);
            snprintf(name, sizeof name, "mlp.experts.%lld.up_proj.weight", (long long)e);
            add(&list, l, name, s->expert_width, D, std);
            snprintf(name, sizeof name, "mlp.experts.%lld.down_proj.weight", (long long)e);
            add(&list, l, name, D, s->expert_width, out_std);
        }
    }
    add(&list, -1, "model.norm.weight", 1, D, 0);
    if (!s->tie_embeddings)
        add(&list, -1, "lm_head.weight", s->vocabulary, D, table_std);
    return list.status;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static int64_t padded(const sgm_weight *weight) {
    return (weight->rows * weight->cols + 15) / 16 * 16;
}

typedef struct totals {
    int64_t weights, elements;
    size_t name_bytes;
} totals;

static sgm_status count_weight(void *context, const sgm_weight *weight, sgm_error *error) {
    (void)error;
    totals *c = context;
    c->weights++;
    c->elements += padded(weight);
    c->name_bytes += strlen(weight->name) + 1;
    return SGM_OK;
}

typedef struct filling {
    sgm_model *model;
    int64_t weights, elements;
    char *names;
} filling;

static sgm_status place_weight(void *context, const sgm_weight *weight, sgm_error *error) {
    (void)error;
    filling *f = context;
    sgm_weight *to = &f->model->weights[f->weights++];
    *to = *weight;
    size_t bytes = strlen(weight->name) + 1;
    memcpy(f->names, weight->name, bytes);
    to->name = f->names;
    f->names += bytes;
    to->data = f->model->data ? f->model->data + f->elements : NULL;
    to->gradient = f->model->gradients ? f->model->gradients + f->elements : NULL;
    f->elements += padded(weight);
    return SGM_OK;
}

/* The attention's weights in the order of sgm_model_each_weight; returns the one behind them. */
static sgm_weight *connect_attention(const sgm_model_settings *s, sgm_layer *layer, sgm_weight *at) {
    bool dense = s->attention_experts == 0;
    layer->q = dense ? at++ : NULL;
    layer->k = at++;
    layer->v = at++;
    layer->o = dense ? at++ : NULL;
    layer->q_norm = at++;
    layer->k_norm = at++;
    layer->attention_gate = dense ? NULL : at++;
    layer->attention_gate_hidden = !dense && s->gate_hidden ? at++ : NULL;
    layer->attention_gate_bias = !dense && s->gate_hidden ? at++ : NULL;
    layer->attention_experts = dense ? NULL : at;
    return at + 2 * s->attention_experts;
}

void sgm_model_connect(sgm_model *model) {
    const sgm_model_settings *s = &model->settings;
    int64_t experts = s->experts - s->null_experts;
    sgm_weight *at = model->weights;
    model->embedding = at++;
    for (int64_t l = 0; l < s->layers; l++) {
        sgm_layer *layer = &model->layers[l];
        layer->attention_norm = at++;
        at = connect_attention(s, layer, at);
        layer->ffn_norm = at++;
        layer->gate = at++;
        layer->gate_hidden = s->gate_hidden ? at++ : NULL;
        layer->gate_bias = s->gate_hidden ? at++ : NULL;
        layer->expert_weights = at;
        layer->experts = &model->layers[0].experts[l * experts];
        for (int64_t e = 0; e < experts; e++, at += 3)
            layer->experts[e] = (sgm_expert){
                .width = s->expert_width,
                .gate = at[0].data,
                .up = at[1].data,
                .down = at[2].data,
                .gate_stride = s->width,
                .up_stride = s->width,
                .down_stride = s->expert_width,
                .d_gate = at[0].gradient,
                .d_up = at[1].gradient,
                .d_down = at[2].gradient,
                .rounded_gate = at[0].rounded,
                .rounded_up = at[1].rounded,
                .rounded_down = at[2].rounded,
                .stored_gate = at[0].stored,
                .stored_up = at[1].stored,
                .stored_down = at[2].stored,
            };
        sgm_expert_bank_resident(&layer->bank, experts, s->width, layer->experts);
    }
    model->final_norm = at++;
    if (!s->tie_embeddings) {
        model->head = at;
        return;
    }
    *model->head = *model->embedding;
    model->head->gradient = model->head_gradient;
    model->head->tied = model->embedding;
}

typedef enum memory_kind { TRAINING, WEIGHTS, VIEWS } memory_kind;

/* All that a model takes, by arithmetic alone: its tables of weights and rotations count too, and a model of very many very
 * small experts must be refused before its weights are gone through one by one. */
static uint64_t memory_needed(const sgm_model_settings *s, memory_kind kind) {
    enum { NAME_BYTES = 64, PADDING = 15 }; /* longest name; elements behind a weight */
    sgm_model_counts counts;
    sgm_model_count(s, 1, s->context, &counts);
    uint64_t experts = (uint64_t)s->layers * (uint64_t)(s->experts - s->null_experts);
    uint64_t weights = 3 * experts + (uint64_t)(sgm_layer_weights(s) * s->layers) + 3;
    uint64_t copies = kind == TRAINING ? 2 : kind == WEIGHTS ? 1 : 0;
    uint64_t numbers = ((uint64_t)counts.total_parameters + PADDING * weights) * copies;
    numbers += kind == TRAINING && s->tie_embeddings ? (uint64_t)counts.embedding_parameters : 0;
    numbers += (uint64_t)s->context * (uint64_t)s->head_size; /* sines and cosines of half a head */
    return numbers * sizeof(sgm_real) + weights * (sizeof(sgm_weight) + NAME_BYTES) + experts * sizeof(sgm_expert) +
           (uint64_t)s->layers * sizeof(sgm_layer);
}

static sgm_status model_make(const sgm_model_settings *settings, sgm_router router, memory_kind kind, sgm_model **out,
                             sgm_error *error) {
    sgm_status status = sgm_model_settings_check(settings, error);
    totals c = {0};
    bool gradients = kind == TRAINING, blocks = kind != VIEWS;
    uint64_t needed = status ? 0 : memory_needed(settings, kind);
    if (!status)
        status = sgm_memory_check(needed,
                                  gradients ? "the model's weights and gradients"
                                  : blocks  ? "the model's weights"
                                            : "the model's tables",
                                  error);
    if (!status)
        status = sgm_model_each_weight(settings, count_weight, &c, error);
    if (status)
        return status;
    sgm_model *model = sgm_alloc(sizeof *model);
    if (!model)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for a model");
    model->settings = *settings;
    model->weight_count = c.weights;
    model->elements = blocks ? c.elements : 0;
    model->weights = sgm_alloc((size_t)c.weights * sizeof *model->weights);
    model->layers = sgm_alloc((size_t)settings->layers * sizeof *model->layers);
    model->data = blocks ? sgm_alloc((size_t)c.elements * sizeof(sgm_real)) : NULL;
    model->names = sgm_alloc(c.name_bytes);
    bool fine = model->weights && model->layers && (model->data || !blocks) && model->names;
    if (fine) {
        int64_t experts = settings->layers * (settings->experts - settings->null_experts);
        model->layers[0].experts = sgm_alloc((size_t)experts * sizeof(sgm_expert));
        fine = model->layers[0].experts != NULL;
    }
    if (fine && gradients) {
        model->gradients = sgm_alloc((size_t)c.elements * sizeof(sgm_real));
        fine = model->gradients != NULL;
    }
    if (fine && settings->tie_embeddings) {
        model->head = sgm_alloc(sizeof *model->head);
        size_t table = (size_t)(settings->vocabulary * settings->width) * sizeof(sgm_real);
        model->head_gradient = gradients ? sgm_alloc(table) : NULL;
        fine = model->head && (!gradients || model->head_gradient);
    }
    if (!fine) {
        sgm_model_free(model);
        return sgm_fail(error, SGM_EMEMORY, "close other programs, or take a smaller model",
                        "no memory for the weights of the model (%s)", sgm_bytes_text((uint64_t)needed).text);
    }
    filling f = {.model = model, .names = model->names};
    status = sgm_model_each_weight(settings, place_weight, &f, error);
    if (!status && settings->attention == SGM_ATTENTION_CAUSAL)
        status = sgm_rope_table_init(&model->rope, settings->context, settings->head_size, settings->rope_theta, error);
    if (status) {
        sgm_model_free(model);
        return status;
    }
    sgm_model_connect(model);
    model->router = router;
    *out = model;
    return SGM_OK;
}

sgm_status sgm_model_new(const sgm_model_settings *settings, sgm_router router, bool gradients, sgm_model **out,
                         sgm_error *error) {
    return model_make(settings, router, gradients ? TRAINING : WEIGHTS, out, error);
}

sgm_status sgm_model_new_views(const sgm_model_settings *settings, sgm_router router, sgm_model **out,
                               sgm_error *error) {
    return model_make(settings, router, VIEWS, out, error);
}

sgm_status sgm_model_keep_rounded(sgm_model *model, sgm_error *error) {
    uint16_t *rounded = sgm_alloc((size_t)model->elements * sizeof *rounded);
    if (!rounded)
        return sgm_fail(error, SGM_EMEMORY, "train.compute=f32 keeps no second copy of the weights",
                        "no memory for the weights in bf16");
    model->rounded = rounded;
    for (int64_t i = 0; i < model->weight_count; i++)
        model->weights[i].rounded = rounded + (model->weights[i].data - model->data);
    sgm_model_connect(model);
    return SGM_OK;
}

void sgm_model_free(sgm_model *model) {
    if (!model)
        return;
    if (model->layers)
        sgm_free(model->layers[0].experts);
    if (model->settings.tie_embeddings)
        sgm_free(model->head);
    sgm_free(model->head_gradient);
    sgm_free(model->selection_bias);
    sgm_rope_table_fini(&model->rope);
    sgm_free(model->router.settings);
    sgm_free(model->layers);
    sgm_free(model->weights);
    sgm_free(model->names);
    sgm_free(model->data);
    sgm_free(model->rounded);
    sgm_free(model->gradients);
    if (model->source_close)
        model->source_close(model->source);
    sgm_free(model);
}

sgm_status sgm_model_set_selection_bias(sgm_model *model, const sgm_real *bias, sgm_error *error) {
    size_t bytes = (size_t)sgm_model_routed_numbers(&model->settings) * sizeof(sgm_real);
    if (!bias) {
        sgm_free(model->selection_bias);
        model->selection_bias = NULL;
        return SGM_OK;
    }
    if (!model->selection_bias)
        model->selection_bias = sgm_alloc(bytes);
    if (!model->selection_bias)
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for the routers' biases");
    memcpy(model->selection_bias, bias, bytes);
    return SGM_OK;
}

/* ---- initial values ---------------------------------------------------------------------------------------------- */

typedef struct randomising {
    sgm_model *model;
    uint64_t seed;
} randomising;

void sgm_weight_initial(const sgm_weight *weight, uint64_t seed, int64_t first, int64_t count, sgm_real *out) {
    if (weight->init_std <= 0) {
        for (int64_t i = 0; i < count; i++)
            out[i] = weight->init_std < 0 ? 0 : 1;
        return;
    }
    uint64_t stream = sgm_rng_stream(weight->name, 0);
    double normal[512];
    for (int64_t done = 0, n; done < count; done += n) {
        n = count - done < 512 ? count - done : 512;
        sgm_rng_normals(seed, stream, (uint64_t)(first + done), (size_t)n, normal);
        for (int64_t i = 0; i < n; i++)
            out[done + i] = (sgm_real)(weight->init_std * normal[i]);
    }
}

static void randomise(sgm_worker *worker, void *argument) {
    const randomising *r = argument;
    for (int64_t i; (i = sgm_task(worker)) < r->model->weight_count;) {
        sgm_weight *weight = &r->model->weights[i];
        sgm_weight_initial(weight, r->seed, 0, weight->rows * weight->cols, weight->data);
    }
}

void sgm_model_randomise(sgm_model *model, uint64_t seed, sgm_team *team) {
    randomising r = {model, seed};
    sgm_team_run(team, randomise, &r);
}
