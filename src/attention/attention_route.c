// SPDX-License-Identifier: Apache-2.0
/* The router of attention experts, an op of its own: what it decides is needed twice, before and behind the attention
 * (attention_experts.h). Its weights are an output, so that their gradient comes back by the tape like any other; the record is
 * memory of the walk, or, where a part is walked twice, kept from the first time. Logits are f32 as those of every router. */
#include <string.h>

#include "attention/attention_experts.h"
#include "base/memory.h"
#include "base/param.h"
#include "op/op_case.h"
#include "op/operand.h"
#include "tensor/products.h"

sgm_status sgm_attention_router_check(const sgm_router *router, sgm_error *error) {
    if (!sgm_router_sees_batch(router))
        return SGM_OK;
    return sgm_fail(
        error, SGM_EARGUMENT, "use router.kind=top_k without a capacity, or set model.attention_experts to 0",
        "router %s as it is set chooses for all tokens of a batch together: attention experts are chosen token "
        "by token",
        router->plugin->plugin.name);
}

/* The record, and where its arrays are: behind it, or both copied and laid out in what the walk keeps. */
typedef struct route {
    const sgm_attention_route_args *args;
    int64_t T, A, K, N;
    sgm_routing *record;
    char *arrays;
} route;

static size_t head_bytes(void) {
    return sgm_round_up(sizeof(sgm_routing));
}

static route route_of(const sgm_node *node) {
    const sgm_attention_route_args *a = node->args;
    route r = {.args = a,
               .T = node->in[0].rows,
               .A = a->gate->rows,
               .K = a->experts_per_token,
               .N = node->in[0].cols,
               .record = (sgm_routing *)(void *)node->out[1].data};
    char *block = node->keeps ? node->kept : (char *)r.record;
    r.arrays = block ? block + head_bytes() : NULL;
    return r;
}

static sgm_status shape(const sgm_node *node, sgm_tensor *out, sgm_error *error) {
    const sgm_attention_route_args *a = node->args;
    const sgm_tensor *x = &node->in[0];
    if (a->gate->cols != x->cols)
        return sgm_fail(error, SGM_EARGUMENT, NULL,
                        "attention_route, routed layer %lld: it reads %lld columns, the gate is (%lld, %lld)",
                        (long long)a->routed, (long long)x->cols, (long long)a->gate->rows, (long long)a->gate->cols);
    sgm_status status = sgm_attention_router_check(a->router, error);
    if (!status)
        status = a->router->plugin->check(a->router->settings, a->gate->rows, a->experts_per_token, error);
    if (!status && a->gate->gradient && a->router->plugin->trains)
        status = a->router->plugin->trains(a->router->settings, a->experts_per_token, error);
    if (!status)
        status = sgm_weight_check_data(node, a->gate, error);
    if (status)
        return status;
    if (x->rows > INT32_MAX / a->experts_per_token) /* the record counts rows in 32 bits */
        return sgm_fail(error, SGM_EARGUMENT, "use smaller micro-batches",
                        "attention_route, routed layer %lld: %lld rows, each to %lld experts", (long long)a->routed,
                        (long long)x->rows, (long long)a->experts_per_token);
    size_t bytes = head_bytes();
    if (!node->keeps)
        bytes += sgm_routing_bytes(x->rows, a->gate->rows, a->experts_per_token);
    out[0].rows = x->rows;
    out[0].cols = a->experts_per_token;
    out[1].rows = 1;
    out[1].cols = (int64_t)((bytes + sizeof(sgm_real) - 1) / sizeof(sgm_real));
    return SGM_OK;
}

static size_t kept_bytes(const sgm_node *node) {
    const sgm_attention_route_args *a = node->args;
    return head_bytes() + sgm_routing_bytes(node->in[0].rows, a->gate->rows, a->experts_per_token);
}

static size_t workspace_bytes(const sgm_node *node, int threads, bool backward) {
    const sgm_attention_route_args *a = node->args;
    (void)threads;
    return backward ? (size_t)(node->in[0].rows * a->gate->rows) * sizeof(sgm_real) : 0;
}

/* A new record, filled and told to whoever listens. */
static void decide(sgm_walk *walk, const route *r, const sgm_real *scored) {
    const sgm_attention_route_args *a = r->args;
    const sgm_router *router = a->router;
    sgm_worker *worker = walk->worker;
    sgm_routing mine; /* every thread knows where the arrays are, one of them writes the record that all share */
    sgm_routing_place(&mine, r->arrays, r->T, r->A, r->K);
    if (worker->thread == 0) {
        *r->record = mine;
        sgm_router_begin(router, a->routed, a->experts_per_token, a->rows, a->selection_bias, r->record);
    }
    sgm_product logits = {SGM_NT,      r->T, r->A,  r->N, scored,          r->N, a->gate->data, r->N,
                          mine.logits, r->A, false, NULL, SGM_COMPUTE_F32, NULL};
    sgm_products_run(walk, &logits, 1);
    sgm_barrier(worker);
    int64_t begin, end;
    sgm_split(worker, r->T, 1, &begin, &end);
    router->plugin->score(router->settings, walk->kernels, r->record, begin, end);
    if (a->balance)
        sgm_balance_set_before_select(worker, a->balance, r->record);
    sgm_router_choose(worker, walk->kernels, router, r->record, false, NULL);
    if (a->load)
        sgm_load_add(worker, a->load, r->record, a->rows ? a->rows->targets : NULL);
    if (worker->thread == 0 && a->observe)
        a->observe(a->observer, r->record);
    if (a->balance)
        sgm_balance_set_after_route(worker, a->balance, r->record);
}

static void forward(sgm_walk *walk, sgm_node *node) {
    route r = route_of(node);
    int64_t begin, end;
    if (!node->replayed)
        decide(walk, &r, node->in[0].data);
    else if (walk->worker->thread == 0)
        *r.record = *(const sgm_routing *)node->kept;
    if (node->replayed)
        sgm_barrier(walk->worker);
    else if (node->keeps && walk->worker->thread == 0)
        *(sgm_routing *)node->kept = *r.record;
    sgm_split(walk->worker, r.T, 1, &begin, &end);
    if (end > begin)
        memcpy(node->out[0].data + begin * r.K, r.record->weight + begin * r.K,
               (size_t)((end - begin) * r.K) * sizeof(sgm_real));
}

static void backward(sgm_walk *walk, sgm_node *node) {
    route r = route_of(node);
    const sgm_weight *gate = r.args->gate;
    const sgm_router *router = r.args->router;
    sgm_real *d_logits = node->workspace;
    int64_t begin, end;
    sgm_split(walk->worker, r.T, 1, &begin, &end);
    if (walk->worker->thread == 0) {
        r.record->d_weight = (sgm_real *)(uintptr_t)sgm_gradient_out(walk, node, 0); /* only read */
        r.record->d_logits = d_logits;
    }
    sgm_barrier(walk->worker);
    router->plugin->backward(router->settings, r.record, begin, end);
    if (r.args->balance)
        sgm_balance_set_gradient(walk->worker, r.args->balance, r.record);
    else
        sgm_barrier(walk->worker);
    bool add = false;
    sgm_real *d_scored = sgm_gradient_in(walk, node, 0, &add);
    sgm_product products[2];
    int count = 0;
    if (d_scored)
        products[count++] = (sgm_product){SGM_NN,   r.T, r.N, r.A,  d_logits,        r.A, gate->data, r.N,
                                          d_scored, r.N, add, NULL, SGM_COMPUTE_F32, NULL};
    if (gate->gradient)
        products[count++] = (sgm_product){SGM_TN,
                                          r.A,
                                          r.N,
                                          r.T,
                                          d_logits,
                                          r.A,
                                          node->in[0].data,
                                          r.N,
                                          gate->gradient,
                                          r.N,
                                          !walk->sets_gradients,
                                          NULL,
                                          SGM_COMPUTE_F32,
                                          NULL};
    sgm_products_run(walk, products, count);
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    static const struct {
        const char *name, *router;
        int64_t T, D, A, K;
    } shapes[] = {{"one row", "top_k", 1, 8, 4, 2},
                  {"rows, two experts each", "top_k", 33, 9, 6, 2},
                  {"every expert", "top_k", 12, 8, 3, 3},
                  {"two experts from two groups", "grouped", 19, 8, 6, 2},
                  {"nano", "top_k", 4096, 192, 16, 2}};
    int all = (int)(sizeof shapes / sizeof *shapes);
    if (index < 0 || index >= (benchmark ? 1 : all - 1))
        return SGM_ENOTFOUND;
    int at = benchmark ? all - 1 : index;
    const sgm_router_plugin *plugin = sgm_router_find(shapes[at].router, error);
    if (!plugin)
        return SGM_ENOTFOUND;
    c->name = shapes[at].name;
    c->rows[0] = shapes[at].T;
    c->cols[0] = shapes[at].D;
    c->flops = 2.0 * (double)(shapes[at].T * shapes[at].D * shapes[at].A);
    sgm_attention_route_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_router *router = sgm_case_alloc(c, sizeof *router);
    void *settings = sgm_case_alloc(c, plugin->plugin.settings_bytes);
    sgm_weight *gate = sgm_case_weight(c, "gate", shapes[at].A, shapes[at].D, 2, seed); /* scores far apart */
    sgm_rows *rows = sgm_case_rows(c, &shapes[at].T, 1, 8, seed);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    *router = (sgm_router){plugin, settings};
    *args = (sgm_attention_route_args){.router = router, .gate = gate, .experts_per_token = shapes[at].K, .rows = rows};
    return sgm_param_defaults(plugin->plugin.params, plugin->plugin.param_count, settings, error);
}

static const sgm_op_cases cases = {make_case, sgm_case_free};

const sgm_op sgm_op_attention_route = {
    .name = "attention_route",
    .summary = "which attention experts a row goes to, and their weights",
    .inputs = 1,
    .outputs = 2,
    .args_bytes = sizeof(sgm_attention_route_args),
    .residual = -1,
    .shape = shape,
    .kept_bytes = kept_bytes,
    .workspace_bytes = workspace_bytes,
    .forward = forward,
    .backward = backward,
    .cases = &cases,
};

sgm_tensor sgm_attention_route(sgm_walk *walk, sgm_tensor scored, const sgm_attention_route_args *args,
                               const sgm_routing **record) {
    sgm_tensor out[2] = {{0}};
    sgm_apply(walk, &sgm_op_attention_route, args, &scored, out);
    *record = (const sgm_routing *)(const void *)out[1].data;
    return out[0];
}
