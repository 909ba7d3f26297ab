// SPDX-License-Identifier: Apache-2.0
/* A router at work: from probabilities to a finished record, the same in training and in inference. */
#include "moe/router/router.h"

bool sgm_router_sees_batch(const sgm_router *router) {
    const sgm_router_plugin *plugin = router->plugin;
    return plugin->assign && (!plugin->together || plugin->together(router->settings));
}

sgm_router_room sgm_router_room_of(const sgm_router *router, bool together, int64_t items, int64_t experts,
                                   int64_t experts_per_token, int threads) {
    sgm_router_room room = {.slots = experts_per_token, .rows = items * experts_per_token};
    if (together && router->plugin->room)
        router->plugin->room(router->settings, items, experts, experts_per_token, threads, &room);
    return room;
}

void sgm_router_begin(const sgm_router *router, int64_t routed, int64_t experts_per_token, const sgm_rows *rows,
                      const sgm_real *selection_bias, sgm_routing *record) {
    bool sequences = rows && rows->sequence_start;
    record->layer = (int32_t)routed;
    record->experts_per_token = experts_per_token;
    record->token = rows ? rows->tokens : NULL;
    record->selection_bias = selection_bias;
    record->sequence_start = rows ? rows->sequence_start : NULL;
    record->sequence_count = sequences ? rows->sequence_count : 1;
    record->sigmoid = router->plugin->sigmoid && router->plugin->sigmoid(router->settings);
}

void sgm_router_choose(sgm_worker *worker, const sgm_kernels *kernels, const sgm_router *router, sgm_routing *record,
                       bool together, void *scratch) {
    int64_t begin, end;
    sgm_split(worker, record->items, 1, &begin, &end);
    router->plugin->select(router->settings, record, begin, end);
    if (together) {
        sgm_barrier(worker);
        router->plugin->assign(router->settings, worker, kernels, record, scratch);
    }
    sgm_routing_mark_null(record, begin, end);
    sgm_barrier(worker);
    sgm_routing_sort(worker, record);
}

void sgm_router_choose_alone(const sgm_router *router, sgm_routing *record) {
    router->plugin->select(router->settings, record, 0, record->items);
    sgm_routing_mark_null(record, 0, record->items);
    sgm_routing_sort_alone(record);
}
