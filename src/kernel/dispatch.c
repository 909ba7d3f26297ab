// SPDX-License-Identifier: Apache-2.0
/* Which kernel tables are compiled in, and which one to use. Tables are constant; nothing is remembered here. */
#include <stdio.h>
#include <string.h>

#include "kernel/kernels.h"
#include "sigmoe/registry.h"

#define SGM_KERNELS(name) extern const sgm_kernels sgm_kernels_##name;
#include "kernel/list.h"
#undef SGM_KERNELS

static const sgm_kernels *const tables[] = {
#define SGM_KERNELS(name) &sgm_kernels_##name,
#include "kernel/list.h"
#undef SGM_KERNELS
};
#define TABLES (sizeof tables / sizeof *tables)

const sgm_kernels *sgm_kernels_at(size_t index) {
    return index < TABLES ? tables[index] : NULL;
}

sgm_status sgm_kernels_get(const char *choice, const sgm_kernels **kernels, sgm_error *error) {
    if (!choice || strcmp(choice, "auto") == 0) {
        for (size_t i = TABLES; i-- > 0;)
            if (tables[i]->usable()) {
                *kernels = tables[i];
                return SGM_OK;
            }
    }
    for (size_t i = 0; choice && i < TABLES; i++)
        if (strcmp(choice, tables[i]->name) == 0) {
            if (!tables[i]->usable())
                return sgm_fail(error, SGM_EARGUMENT, "use --kernels auto, which picks the best that runs here",
                                "kernels '%s': this processor or its operating system lacks the instructions", choice);
            *kernels = tables[i];
            return SGM_OK;
        }
    const char *names[TABLES + 2] = {"auto"};
    for (size_t i = 0; i < TABLES; i++)
        names[i + 1] = tables[i]->name;
    const char *near = choice ? sgm_nearest(choice, names) : NULL;
    char hint[128];
    snprintf(hint, sizeof hint, "%s%s%s`sigmoe doctor` lists the kernels; auto picks the best that runs here",
             near ? "did you mean " : "", near ? near : "", near ? "? " : "");
    return sgm_fail(error, SGM_EARGUMENT, hint, "kernels '%s': not in this build", choice ? choice : "auto");
}
