// SPDX-License-Identifier: Apache-2.0
/* Every kernel table, slowest first, one line each: SGM_KERNELS(name of its sgm_kernels_<name>). The vector tables are
 * f32 only and for one processor family. */
SGM_KERNELS(ref)
#if defined(__x86_64__) && !defined(SGM_REAL_IS_DOUBLE)
SGM_KERNELS(avx2)
SGM_KERNELS(avx512)
SGM_KERNELS(avx512_bf16)
SGM_KERNELS(amx)
#endif
