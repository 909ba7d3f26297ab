// SPDX-License-Identifier: Apache-2.0
/* The registries of this folder: routers, balancers, sparsity schedules, placement methods, cache policies, each made from its
 * list.h. */
#include <stdio.h>
#include <string.h>

#include "moe/balance/balance.h"
#include "moe/cache/cache.h"
#include "moe/placement/placement.h"
#include "moe/router/router.h"
#include "moe/sparsity/sparsity.h"

#define SGM_ROUTER(symbol) extern const sgm_router_plugin symbol;
#include "moe/router/list.h"
#undef SGM_ROUTER
#define SGM_BALANCE(symbol) extern const sgm_balance_plugin symbol;
#include "moe/balance/list.h"
#undef SGM_BALANCE
#define SGM_SPARSITY(symbol) extern const sgm_sparsity_plugin symbol;
#include "moe/sparsity/list.h"
#undef SGM_SPARSITY
#define SGM_PLACEMENT(symbol) extern const sgm_placement_plugin symbol;
#include "moe/placement/list.h"
#undef SGM_PLACEMENT
#define SGM_CACHE(symbol) extern const sgm_cache_plugin symbol;
#include "moe/cache/list.h"
#undef SGM_CACHE

static const sgm_router_plugin *const routers[] = {
#define SGM_ROUTER(symbol) &symbol,
#include "moe/router/list.h"
#undef SGM_ROUTER
};
static const sgm_balance_plugin *const balancers[] = {
#define SGM_BALANCE(symbol) &symbol,
#include "moe/balance/list.h"
#undef SGM_BALANCE
};
static const sgm_sparsity_plugin *const sparsities[] = {
#define SGM_SPARSITY(symbol) &symbol,
#include "moe/sparsity/list.h"
#undef SGM_SPARSITY
};
static const sgm_placement_plugin *const placements[] = {
#define SGM_PLACEMENT(symbol) &symbol,
#include "moe/placement/list.h"
#undef SGM_PLACEMENT
};
static const sgm_cache_plugin *const caches[] = {
#define SGM_CACHE(symbol) &symbol,
#include "moe/cache/list.h"
#undef SGM_CACHE
};

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { NAMES = COUNT(routers) + COUNT(balancers) + COUNT(sparsities) + COUNT(placements) + COUNT(caches) };

/* `what` does not exist: the error, with the nearest name that does (or all of them) as the hint. */
static void say_unknown(const char *what, const char *name, const char *const *names, sgm_error *error) {
    if (!error)
        return;
    char hint[sizeof error->hint] = "known: ";
    const char *near = sgm_nearest(name, names);
    for (size_t i = 0; !near && names[i]; i++) {
        size_t used = strlen(hint);
        snprintf(hint + used, sizeof hint - used, "%s%s", i ? ", " : "", names[i]);
    }
    if (near)
        snprintf(hint, sizeof hint, "did you mean %s?", near);
    sgm_fail(error, SGM_ENOTFOUND, hint, "there is no %s named \"%s\"", what, name);
}

#define REGISTRY(type, array, noun, at, find)                                                                          \
    const type *at(size_t index) {                                                                                     \
        return index < COUNT(array) ? array[index] : NULL;                                                             \
    }                                                                                                                  \
    const type *find(const char *name, sgm_error *error) {                                                             \
        const char *names[NAMES + 1] = {NULL};                                                                         \
        for (size_t i = 0; i < COUNT(array); i++) {                                                                    \
            names[i] = array[i]->plugin.name;                                                                          \
            if (!strcmp(names[i], name))                                                                               \
                return array[i];                                                                                       \
        }                                                                                                              \
        say_unknown(noun, name, names, error);                                                                         \
        return NULL;                                                                                                   \
    }

REGISTRY(sgm_router_plugin, routers, "router", sgm_router_at, sgm_router_find)
REGISTRY(sgm_balance_plugin, balancers, "balancer", sgm_balance_at, sgm_balance_find)
REGISTRY(sgm_sparsity_plugin, sparsities, "sparsity schedule", sgm_sparsity_at, sgm_sparsity_find)
REGISTRY(sgm_placement_plugin, placements, "placement method", sgm_placement_at, sgm_placement_find)
REGISTRY(sgm_cache_plugin, caches, "cache policy", sgm_cache_at, sgm_cache_find)
