// SPDX-License-Identifier: Apache-2.0
/* The list of optimizers. */
#include "optim/optimizer.h"

#include <stdio.h>
#include <string.h>

#define SGM_OPTIMIZER(symbol) extern const sgm_optimizer_plugin symbol;
#include "optim/list.h"
#undef SGM_OPTIMIZER

static const sgm_optimizer_plugin *const optimizers[] = {
#define SGM_OPTIMIZER(symbol) &symbol,
#include "optim/list.h"
#undef SGM_OPTIMIZER
    NULL};

const sgm_optimizer_plugin *sgm_optimizer_at(size_t index) {
    return index < sizeof optimizers / sizeof optimizers[0] ? optimizers[index] : NULL;
}

const sgm_optimizer_plugin *sgm_optimizer_find(const char *name, sgm_error *error) {
    const char *names[sizeof optimizers / sizeof optimizers[0]] = {NULL};
    for (size_t i = 0; optimizers[i]; i++) {
        if (strcmp(optimizers[i]->plugin.name, name) == 0)
            return optimizers[i];
        names[i] = optimizers[i]->plugin.name;
    }
    const char *near = sgm_nearest(name, names);
    char hint[128] = "`sigmoe list optimizers` shows them all";
    if (near)
        snprintf(hint, sizeof hint, "did you mean %s?", near);
    sgm_fail(error, SGM_EARGUMENT, hint, "optimizer %s: there is no such optimizer", name);
    return NULL;
}
