/* CPU level: what the processor and the operating system both allow, lowered by SNUG_CPU=ref|avx2|avx512. Read once. */
#ifndef BASE_CPU_H
#define BASE_CPU_H
typedef enum cpu_level { CPU_REF = 0, CPU_AVX2 = 1, CPU_AVX512 = 2 } cpu_level;
cpu_level cpu_get_level(void);
const char *cpu_level_name(cpu_level level);
#endif
