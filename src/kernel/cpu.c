// SPDX-License-Identifier: Apache-2.0
/* Processor features. __builtin_cpu_supports looks at CPUID and at what the operating system saves (XCR0). */
#include "kernel/cpu.h"

#include <stdio.h>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* clang 14 does not know the name. What the system saves is asked with AVX2. */
static bool has_f16c(void) {
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool sgm_cpu_has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

bool sgm_cpu_has_avx512(void) {
    return sgm_cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool sgm_cpu_has_avx512_bf16(void) {
    return sgm_cpu_has_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}

/* CPUID knows of tiles, bf16 and int8 in them (leaf 7, EDX 24, 22, 25), and the system saves both their parts (XCR0 17, 18). */
static bool has_tiles(void) {
    const unsigned wanted = 1u << 24 | 1u << 22 | 1u << 25;
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !__get_cpuid_count(7, 0, &a, &b, &c, &d) ||
        (d & wanted) != wanted)
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low >> 17 & 3) == 3;
}

bool sgm_cpu_has_amx(void) {
#if defined(__linux__)
    enum { REQUEST_FEATURE = 0x1023, TILE_DATA = 18 };
    return sgm_cpu_has_avx512_bf16() && has_tiles() && syscall(SYS_arch_prctl, REQUEST_FEATURE, TILE_DATA) == 0;
#else
    return false;
#endif
}

void sgm_cpu_features(char *text, size_t capacity) {
    snprintf(text, capacity, "sse2%s%s%s%s%s%s%s%s%s%s%s", __builtin_cpu_supports("sse4.2") ? " sse4.2" : "",
             __builtin_cpu_supports("avx") ? " avx" : "", __builtin_cpu_supports("avx2") ? " avx2" : "",
             __builtin_cpu_supports("fma") ? " fma" : "", __builtin_cpu_supports("avx512f") ? " avx512f" : "",
             __builtin_cpu_supports("avx512bw") ? " avx512bw" : "",
             __builtin_cpu_supports("avx512vl") ? " avx512vl" : "",
             __builtin_cpu_supports("avx512dq") ? " avx512dq" : "",
             __builtin_cpu_supports("avx512vnni") ? " avx512vnni" : "",
             __builtin_cpu_supports("avx512bf16") ? " avx512bf16" : "", has_tiles() ? " amx" : "");
}
#else
bool sgm_cpu_has_avx2(void) {
    return false;
}

bool sgm_cpu_has_avx512(void) {
    return false;
}

bool sgm_cpu_has_avx512_bf16(void) {
    return false;
}

bool sgm_cpu_has_amx(void) {
    return false;
}

void sgm_cpu_features(char *text, size_t capacity) {
#if defined(__aarch64__)
    snprintf(text, capacity, "neon");
#else
    snprintf(text, capacity, "%s", "");
#endif
}
#endif
