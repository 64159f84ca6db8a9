/* CPU level: what the processor and the operating system both allow, lowered by SNUG_CPU=ref|avx2|avx512, or ref|neon. Read once.
 * Each kind of processor has its own ladder above ref. */
#ifndef BASE_CPU_H
#define BASE_CPU_H
#if defined(__aarch64__)
typedef enum cpu_level { CPU_REF = 0, CPU_NEON = 1 } cpu_level;
#else
typedef enum cpu_level { CPU_REF = 0, CPU_AVX2 = 1, CPU_AVX512 = 2 } cpu_level;
#endif
cpu_level cpu_get_level(void);
const char *cpu_level_name(cpu_level level);
#endif
