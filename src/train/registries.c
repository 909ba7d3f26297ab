// SPDX-License-Identifier: Apache-2.0
/* The registries by name: one table over every list.h, for `sigmoe list`, configuration files and tools. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "kernel/kernels.h"
#include "moe/balance/balance.h"
#include "moe/cache/cache.h"
#include "moe/placement/placement.h"
#include "moe/router/router.h"
#include "moe/sparsity/sparsity.h"
#include "op/ops.h"
#include "optim/optimizer.h"
#include "quant/quant.h"
#include "schedule/schedule.h"
#include "train/presets.h"

/* Ops, kernel tables and storage types have no parameters and are no sgm_plugin; their entries here are filled once. */
enum {
#define SGM_OP(symbol) +1
    OPS = 0
#include "op/list.h"
#undef SGM_OP
    ,
#define SGM_KERNELS(name) +1
    KERNELS = 0
#include "kernel/list.h"
#undef SGM_KERNELS
};
static sgm_plugin ops[OPS + 1], kernels[KERNELS + 1], types[SGM_TYPES];
static pthread_once_t filled = PTHREAD_ONCE_INIT;

static void fill(void) {
    for (size_t i = 0; i < OPS && sgm_op_at(i); i++)
        ops[i] = (sgm_plugin){.name = sgm_op_at(i)->name, .summary = sgm_op_at(i)->summary, .paper = ""};
    for (size_t i = 0; i < KERNELS && sgm_kernels_at(i); i++)
        kernels[i] = (sgm_plugin){.name = sgm_kernels_at(i)->name, .summary = sgm_kernels_at(i)->summary, .paper = ""};
    for (size_t i = 0; i < SGM_TYPES; i++)
        types[i] = (sgm_plugin){.name = sgm_quant_at(i)->name, .summary = sgm_quant_at(i)->summary, .paper = ""};
}

static const sgm_plugin *router(size_t index) {
    const sgm_router_plugin *plugin = sgm_router_at(index);
    return plugin ? &plugin->plugin : NULL;
}
static const sgm_plugin *balance(size_t index) {
    const sgm_balance_plugin *plugin = sgm_balance_at(index);
    return plugin ? &plugin->plugin : NULL;
}
static const sgm_plugin *sparsity(size_t index) {
    const sgm_sparsity_plugin *plugin = sgm_sparsity_at(index);
    return plugin ? &plugin->plugin : NULL;
}
static const sgm_plugin *placement(size_t index) {
    const sgm_placement_plugin *plugin = sgm_placement_at(index);
    return plugin ? &plugin->plugin : NULL;
}
static const sgm_plugin *cache(size_t index) {
    const sgm_cache_plugin *plugin = sgm_cache_at(index);
    return plugin ? &plugin->plugin : NULL;
}
static const sgm_plugin *optimizer(size_t index) {
    const sgm_optimizer_plugin *plugin = sgm_optimizer_at(index);
    return plugin ? &plugin->plugin : NULL;
}
static const sgm_plugin *schedule(size_t index) {
    const sgm_schedule_plugin *plugin = sgm_schedule_at(index);
    return plugin ? &plugin->plugin : NULL;
}
static const sgm_plugin *op(size_t index) {
    pthread_once(&filled, fill);
    return index < OPS && ops[index].name ? &ops[index] : NULL;
}
static const sgm_plugin *kernel(size_t index) {
    pthread_once(&filled, fill);
    return index < KERNELS && kernels[index].name ? &kernels[index] : NULL;
}
static const sgm_plugin *type(size_t index) {
    pthread_once(&filled, fill);
    return index < SGM_TYPES ? &types[index] : NULL;
}

static const struct {
    const char *name;
    const sgm_plugin *(*at)(size_t index);
} registries[] = {
    {"router", router},     {"balance", balance},     {"sparsity", sparsity},    {"optimizer", optimizer},
    {"schedule", schedule}, {"placement", placement}, {"cache", cache},          {"op", op},
    {"kernel", kernel},     {"type", type},           {"preset", sgm_preset_at},
};
enum { REGISTRIES = sizeof registries / sizeof registries[0] };

const char *sgm_registry_name(size_t index) {
    return index < REGISTRIES ? registries[index].name : NULL;
}

const sgm_plugin *sgm_registry_get(const char *registry, size_t index) {
    for (size_t i = 0; i < REGISTRIES; i++)
        if (strcmp(registries[i].name, registry) == 0)
            return registries[i].at(index);
    return NULL;
}

/* The hint for a name that is not there: the nearest one, or all of them. */
static void suggest(const char *registry, const char *wrong, char *hint, size_t size) {
    const char *best = NULL;
    size_t used = (size_t)snprintf(hint, size, "known:");
    for (size_t i = 0; sgm_registry_get(registry, i); i++) {
        const char *pair[] = {sgm_registry_get(registry, i)->name, best, NULL};
        const char *near = sgm_nearest(wrong, pair); /* the nearer of this one and the best so far */
        best = near ? near : best;
        if (used < size)
            used += (size_t)snprintf(hint + used, size - used, " %s", pair[0]);
    }
    if (best)
        snprintf(hint, size, "did you mean %s?", best);
}

const sgm_plugin *sgm_registry_find(const char *registry, const char *name, sgm_error *error) {
    if (!sgm_registry_get(registry, 0)) {
        sgm_fail(error, SGM_EARGUMENT, NULL, "%s: there is no such registry", registry);
        return NULL;
    }
    for (size_t i = 0; sgm_registry_get(registry, i); i++)
        if (strcmp(sgm_registry_get(registry, i)->name, name) == 0)
            return sgm_registry_get(registry, i);
    char hint[384];
    suggest(registry, name, hint, sizeof hint);
    sgm_fail(error, SGM_EARGUMENT, hint, "%s %s: there is no such %s", registry, name, registry);
    return NULL;
}
