// SPDX-License-Identifier: Apache-2.0
/* The expert bank whose experts stay in memory: acquire is a table look-up, release does nothing. */
#include "moe/expert_bank.h"

#include <stddef.h>

static sgm_expert acquire(sgm_expert_bank *bank, int64_t expert) {
    return ((const sgm_expert *)bank->self)[expert];
}

static void release(sgm_expert_bank *bank, int64_t expert) {
    (void)bank;
    (void)expert;
}

void sgm_expert_bank_resident(sgm_expert_bank *bank, int64_t experts, int64_t model, sgm_expert *table) {
    *bank =
        (sgm_expert_bank){.experts = experts, .model = model, .acquire = acquire, .release = release, .self = table};
    for (int64_t e = 0; e < experts; e++)
        if (table[e].width > bank->max_width)
            bank->max_width = table[e].width;
}
