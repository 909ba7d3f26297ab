// SPDX-License-Identifier: Apache-2.0
/* What the MoE op declares for its tests and its benchmark. */
#include "op/op_case.h"
#include "op/ops.h"

typedef struct shape_of_case {
    const char *name;
    int64_t T, D, F, E, K;
    double gate_scale; /* large: scores far apart, so that a small step of the gradient check keeps the choice */
    bool gathered;     /* through a communicator */
} shape_of_case;

static const shape_of_case shapes[] = {
    {"one row, top-1", 1, 8, 5, 4, 1, 2, false},
    {"top-1", 20, 8, 6, 4, 1, 2, false},
    {"top-2", 21, 9, 40, 5, 2, 2, false},
    {"every expert", 7, 8, 5, 3, 3, 2, false},
    {"experts with no rows", 5, 8, 4, 24, 1, 2, false},
    {"one expert with many rows", 300, 4, 3, 1, 1, 1, false},
    {"through a communicator", 11, 8, 6, 4, 2, 2, true},
};
static const shape_of_case benchmark_shape = {"nano", 4096, 192, 96, 96, 1, 0.1, false};

extern const struct sgm_op_cases sgm_moe_ffn_cases;

static sgm_status make_case(int index, bool benchmark, uint64_t seed, sgm_op_case *c, sgm_error *error) {
    int count = benchmark ? 1 : (int)(sizeof shapes / sizeof *shapes);
    if (index < 0 || index >= count)
        return SGM_ENOTFOUND;
    const shape_of_case *s = benchmark ? &benchmark_shape : &shapes[index];
    const sgm_router_plugin *plugin = sgm_router_at(0);
    c->name = s->name;
    c->rows[0] = c->rows[1] = s->T;
    c->cols[0] = c->cols[1] = s->D;
    c->flops = 2.0 * (double)(s->T * s->D * (s->E + 3 * s->K * s->F));
    sgm_moe_args *args = c->args = sgm_case_alloc(c, sizeof *args);
    sgm_router *router = sgm_case_alloc(c, sizeof *router);
    sgm_expert_bank *bank = sgm_case_alloc(c, sizeof *bank);
    sgm_expert *table = sgm_case_alloc(c, (size_t)s->E * sizeof *table);
    sgm_comm *comm = sgm_case_alloc(c, sizeof *comm);
    void *settings = sgm_case_alloc(c, plugin->plugin.settings_bytes); /* zeros: softmax scores, raw weights */
    sgm_weight *gate = sgm_case_weight(c, "gate", s->E, s->D, s->gate_scale, seed);
    sgm_weight *in = sgm_case_weight(c, "expert gates", s->E * s->F, s->D, 0.3, seed);
    sgm_weight *up = sgm_case_weight(c, "expert ups", s->E * s->F, s->D, 0.3, seed);
    sgm_weight *down = sgm_case_weight(c, "expert downs", s->E * s->D, s->F, 0.3, seed);
    sgm_rows *rows = sgm_case_rows(c, &s->T, 1, 8, seed);
    if (sgm_case_failed(c))
        return sgm_fail(error, SGM_EMEMORY, NULL, "no memory for an op case");
    for (int64_t e = 0; e < s->E; e++) {
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
    sgm_expert_bank_resident(bank, s->E, s->D, table);
    *router = (sgm_router){plugin, settings};
    *comm = sgm_comm_self();
    *args = (sgm_moe_args){.router = router,
                           .gate = gate,
                           .bank = bank,
                           .experts_per_token = s->K,
                           .comm = s->gathered ? comm : NULL,
                           .rows = rows};
    return SGM_OK;
}

const struct sgm_op_cases sgm_moe_ffn_cases = {make_case, sgm_case_free};
