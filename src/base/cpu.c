/* CPU level. __builtin_cpu_supports asks CPUID *and* XGETBV, so a level is reported only when the operating system saves its
 * registers; on AArch64 the kernel says in the auxiliary vector what programs may use. Each folder of kern is compiled with the flags that
 * are asked for here. */
#include "base/cpu.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>

/* clang 14's __builtin_cpu_supports does not know the word. The registers are AVX's: no further XGETBV. */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static cpu_level detect(void) {
    cpu_level level = CPU_REF;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()) level = CPU_AVX2;
    if (level == CPU_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni"))
        level = CPU_AVX512;
#elif defined(__aarch64__)
    const unsigned long wanted = HWCAP_ASIMD | HWCAP_ASIMDDP;
    if ((getauxval(AT_HWCAP) & wanted) == wanted) level = CPU_NEON;
#endif
    const char *forced = getenv("SNUG_CPU");
    for (cpu_level lower = CPU_REF; forced && lower < level; lower++) /* a ceiling; other words are ignored */
        if (strcmp(forced, cpu_level_name(lower)) == 0) level = lower;
    return level;
}

cpu_level cpu_get_level(void) {
    static atomic_int known; /* level + 1; racing first calls compute the same value */
    int v = atomic_load_explicit(&known, memory_order_relaxed);
    if (v == 0) {
        v = (int)detect() + 1;
        atomic_store_explicit(&known, v, memory_order_relaxed);
    }
    return (cpu_level)(v - 1);
}

const char *cpu_level_name(cpu_level level) {
    switch (level) {
    case CPU_REF: return "ref";
#if defined(__aarch64__)
    case CPU_NEON: return "neon";
#else
    case CPU_AVX2: return "avx2";
    case CPU_AVX512: return "avx512";
#endif
    }
    return "unknown";
}
