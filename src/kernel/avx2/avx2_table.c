// SPDX-License-Identifier: Apache-2.0
/* The AVX2 + FMA table: the shared vector kernels at 8 floats. This file is compiled with the flags of its instruction
 * set, so nothing in it may run before `usable` (compiled without them) said yes. */
#include "base/half.h"
#include "kernel/cpu.h"
#include "kernel/kernels.h"
#include "kernel/peak.h"
#include "kernel/ref/ref.h"

#include "kernel/avx2/ivec_avx2.h"
#include "kernel/avx2/vec_avx2.h"

#include "kernel/simd/simd_matmul.h"
#include "kernel/simd/simd_matmul_bf16.h"
#include "kernel/simd/simd_peak.h"
#include "kernel/simd/simd_vector.h"

#include "kernel/simd/simd_attention.h"

#include "kernel/simd/simd_typed_unpack.h"

#include "kernel/simd/simd_typed.h"

#include "kernel/simd/simd_quantise.h"

int64_t sgm_peak_avx2(int64_t rounds, sgm_real *sink) {
    return multiply_add_peak(rounds, sink);
}

extern const sgm_kernels sgm_kernels_avx2;
const sgm_kernels sgm_kernels_avx2 = {
    .name = "avx2",
    .summary = "AVX2 and FMA, 8 floats at a time",
    .usable = sgm_cpu_has_avx2,
    SIMD_ENTRIES,
    SIMD_BF16_ENTRIES,
    SIMD_ATTENTION_ENTRIES,
    SIMD_TYPED_ENTRIES,
};
