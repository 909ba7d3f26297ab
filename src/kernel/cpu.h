// SPDX-License-Identifier: Apache-2.0
/* What this processor and its operating system can run (asked at run time, compiled without any vector flags). */
#ifndef SGM_KERNEL_CPU_H
#define SGM_KERNEL_CPU_H

#include <stdbool.h>
#include <stddef.h>

bool sgm_cpu_has_avx2(void);        /* AVX2, FMA and F16C */
bool sgm_cpu_has_avx512(void);      /* AVX-512 F, BW, VL, DQ */
bool sgm_cpu_has_avx512_bf16(void); /* those, VNNI and BF16 */
/* Those and AMX for bf16 and int8, with the operating system's leave: Linux gives a process its tiles when it asks, which this
 * does (arch_prctl, Documentation/arch/x86/xstate.rst). */
bool sgm_cpu_has_amx(void);
/* Names of the instruction sets that matter to us, separated by blanks; cut to `capacity`. */
void sgm_cpu_features(char *text, size_t capacity);

#endif
