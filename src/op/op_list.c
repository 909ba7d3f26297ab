// SPDX-License-Identifier: Apache-2.0
/* The ops by number, for the conformance test and `sigmoe list`. */
#include "op/ops.h"

#define SGM_OP(symbol) extern const sgm_op symbol;
#include "op/list.h"
#undef SGM_OP

static const sgm_op *const all[] = {
#define SGM_OP(symbol) &symbol,
#include "op/list.h"
#undef SGM_OP
};

const sgm_op *sgm_op_at(size_t index) {
    return index < sizeof all / sizeof *all ? all[index] : NULL;
}
