// SPDX-License-Identifier: Apache-2.0
/* What the MoE op declares for its tests and its benchmark. */
#include "base/param.h"
#include "op/op_case.h"
#include "op/ops.h"

typedef struct shape_of_case {
    const char *name;
    int64_t T, D, F, E, K;
    double gate_scale;       /* large: scores far apart, so that a small step of the gradient check keeps the choice */
    bool gathered, together; /* through a communicator; the router may choose for all rows together */
    const char *router;
    int64_t null_experts;
} shape_of_case;

static const shape_of_case shapes[] = {
    {"one row, top-1", 1, 8, 5, 4, 1, 2, .router = "top_k"},
    {"top-1", 20, 8, 6, 4, 1, 2, .router = "top_k"},
    {"top-2", 21, 9, 40, 5, 2, 2, .router = "top_k"},
    {"every expert", 7, 8, 5, 3, 3, 2, .router = "top_k"},
    {"experts with no rows", 5, 8, 4, 24, 1, 2, .router = "top_k"},
    {"one expert with many rows", 300, 4, 3, 1, 1, 1, .router = "top_k"},
    {"through a communicator", 11, 8, 6, 4, 2, 2, .gathered = true, .router = "top_k"},
    {"null experts", 23, 8, 6, 6, 2, 2, .router = "top_k", .null_experts = 2},
    {"two experts per token from two groups", 19, 8, 6, 6, 2, 2, .router = "grouped"},
    {"tokens chosen by experts", 25, 8, 6, 5, 1, 2, .router = "expert_choice", .together = true},
    {"tokens chosen by experts, some of them null", 25, 8, 6, 5, 2, 2, .router = "expert_choice", .together = true,
     .null_experts = 2},
    {"a choice balanced over the batch", 25, 8, 6, 5, 2, 2, .router = "sinkhorn", .together = true},
};
static const shape_of_case benchmark_shape = {"nano", 4096, 192, 96, 96, 1, 0.1, .router = "top_k"};

extern const struct sgm_op_cases sgm_moe_ffn_cases, sgm_moe_ffn_hidden_cases;

/* `hidden`: columns that the router reads from a third input; 0: it reads x. */
static sgm_status make_with(int64_t hidden, int index, bool benchmark, uint64_t seed, sgm_op_case *c,
                            sgm_error *error) {
    int count = benchmark ? 1 : (int)(sizeof shapes / sizeof *shapes);
    if (index < 0 || index >= count)
        return SGM_ENOTFOUND;
    const shape_of_case *s = benchmark ? &benchmark_shape : &shapes[index];
    const sgm_router_plugin *plugin = sgm_router_find(s->router, error);
    int64_t computing = s->E - s->null_experts;
    if (!plugin)
        return SGM_ENOTFOUND;
    c->name = s->name;
    c->rows[0] = c->rows[1] = s->T;
    c->cols[0] = c->cols[1] = s->D;
    if (hidden) {
        c->rows[2] = s->T;
        c->cols[2] = hidden;
    }
    int64_t scored = hidden ? hidden : s->D;
    c->flops = 2.0 * (double)(s->T * (scored * s->E + 3 * s->K * s->F * s->D));
    sgm_moe_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_router *router = sgm_case_alloc(c, sizeof *router);
    sgm_expert_bank *bank = sgm_case_alloc(c, sizeof *bank);
    sgm_expert *table = sgm_case_alloc(c, (size_t)computing * sizeof *table);
    sgm_comm *comm = sgm_case_alloc(c, sizeof *comm);
    void *settings = sgm_case_alloc(c, plugin->plugin.settings_bytes);
    sgm_weight *gate = sgm_case_weight(c, "gate", s->E, scored, s->gate_scale, seed);
    sgm_weight *in = sgm_case_weight(c, "expert gates", computing * s->F, s->D, 0.3, seed);
    sgm_weight *up = sgm_case_weight(c, "expert ups", computing * s->F, s->D, 0.3, seed);
    sgm_weight *down = sgm_case_weight(c, "expert downs", computing * s->D, s->F, 0.3, seed);
    sgm_rows *rows = sgm_case_rows(c, &s->T, 1, 8, seed);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    sgm_status status = sgm_param_defaults(plugin->plugin.params, plugin->plugin.param_count, settings, error);
    if (status)
        return status;
    for (int64_t e = 0; e < computing; e++) {
        int64_t at = e * s->F * s->D;
        table[e] = (sgm_expert){.width = s->F,
                                .gate = in->data + at,
                                .up = up->data + at,
                                .down = down->data + at,
                                .gate_stride = s->D,
                                .up_stride = s->D,
                                .down_stride = s->F,
                                .d_gate = in->gradient + at,
                                .d_up = up->gradient + at,
                                .d_down = down->gradient + at};
    }
    sgm_expert_bank_resident(bank, computing, s->D, table);
    *router = (sgm_router){plugin, settings};
    *comm = sgm_comm_self();
    *args = (sgm_moe_args){.router = router,
                           .gate = gate,
                           .bank = bank,
                           .null_experts = s->null_experts,
                           .experts_per_token = s->K,
                           .together = s->together,
                           .comm = s->gathered ? comm : NULL,
                           .rows = rows};
    return SGM_OK;
}

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    return make_with(0, index, benchmark, seed, c, error);
}

static sgm_status make_hidden_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    return make_with(benchmark ? 64 : 11, index, benchmark, seed, c, error);
}

const struct sgm_op_cases sgm_moe_ffn_cases = {make_case, sgm_case_free};
const struct sgm_op_cases sgm_moe_ffn_hidden_cases = {make_hidden_case, sgm_case_free};
