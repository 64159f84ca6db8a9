/* The two tables of numbers that GGUF uses: key-value types and tensor (ggml) types.
 *
 * Block sizes are those of ggml's block structs (ggml-common.h); every one is checked against its layout in tests and, through
 * the llama.cpp binding, against ggml itself. */
#include "format/gguf.h"

static const struct {
    const char *name;
    uint32_t bytes;
} kv_types[] = {
    [GGUF_U8] = {"uint8", 1},     [GGUF_I8] = {"int8", 1},     [GGUF_U16] = {"uint16", 2},   [GGUF_I16] = {"int16", 2},
    [GGUF_U32] = {"uint32", 4},   [GGUF_I32] = {"int32", 4},   [GGUF_F32] = {"float32", 4},  [GGUF_BOOL] = {"bool", 1},
    [GGUF_STRING] = {"string", 0}, [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"uint64", 8},   [GGUF_I64] = {"int64", 8},
    [GGUF_F64] = {"float64", 8},
};
enum { N_KV_TYPES = sizeof kv_types / sizeof kv_types[0] };

const char *gguf_kv_type_name(uint32_t type) { return type < N_KV_TYPES ? kv_types[type].name : "unknown"; }
uint32_t gguf_kv_type_bytes(uint32_t type) { return type < N_KV_TYPES ? kv_types[type].bytes : 0; }

static const struct {
    const char *name;
    uint32_t block_weights, block_bytes;
} tensor_types[] = {
    [GGML_F32] = {"f32", 1, 4},
    [GGML_F16] = {"f16", 1, 2},
    [GGML_Q4_0] = {"q4_0", 32, 18},        /* f16 d; 16 bytes of nibbles                              */
    [GGML_Q4_1] = {"q4_1", 32, 20},        /* f16 d, m                                                */
    [GGML_Q5_0] = {"q5_0", 32, 22},        /* f16 d; 32 high bits                                     */
    [GGML_Q5_1] = {"q5_1", 32, 24},
    [GGML_Q8_0] = {"q8_0", 32, 34},        /* f16 d; 32 int8                                          */
    [GGML_Q8_1] = {"q8_1", 32, 36},        /* f16 d, d * sum                                          */
    [GGML_Q2_K] = {"q2_k", 256, 84},       /* 16 scales+mins, 64 codes, f16 d, dmin                   */
    [GGML_Q3_K] = {"q3_k", 256, 110},      /* 32 high bits, 64 codes, 12 scales, f16 d                */
    [GGML_Q4_K] = {"q4_k", 256, 144},      /* f16 d, dmin, 12 scales, 128 codes                       */
    [GGML_Q5_K] = {"q5_k", 256, 176},      /* the same + 32 high bits                                 */
    [GGML_Q6_K] = {"q6_k", 256, 210},      /* 128 + 64 codes, 16 int8 scales, f16 d                   */
    [GGML_Q8_K] = {"q8_k", 256, 292},      /* f32 d, 256 int8, 16 int16 sums                          */
    [GGML_IQ2_XXS] = {"iq2_xxs", 256, 66},
    [GGML_IQ2_XS] = {"iq2_xs", 256, 74},
    [GGML_IQ3_XXS] = {"iq3_xxs", 256, 98},
    [GGML_IQ1_S] = {"iq1_s", 256, 50},
    [GGML_IQ4_NL] = {"iq4_nl", 32, 18},    /* f16 d; 16 bytes of nibbles into a table                 */
    [GGML_IQ3_S] = {"iq3_s", 256, 110},
    [GGML_IQ2_S] = {"iq2_s", 256, 82},
    [GGML_IQ4_XS] = {"iq4_xs", 256, 136},  /* f16 d, 2 + 4 scale bytes, 128 codes                     */
    [GGML_I8] = {"i8", 1, 1},
    [GGML_I16] = {"i16", 1, 2},
    [GGML_I32] = {"i32", 1, 4},
    [GGML_I64] = {"i64", 1, 8},
    [GGML_F64] = {"f64", 1, 8},
    [GGML_IQ1_M] = {"iq1_m", 256, 56},
    [GGML_BF16] = {"bf16", 1, 2},
    [GGML_TQ1_0] = {"tq1_0", 256, 54},    /* 48 + 4 bytes of base-3 digits, f16 d                    */
    [GGML_TQ2_0] = {"tq2_0", 256, 66},    /* 64 codes, f16 d                                         */
    [GGML_MXFP4] = {"mxfp4", 32, 17},      /* one power-of-two scale, 16 bytes of nibbles             */
    [GGML_NVFP4] = {"nvfp4", 64, 36},      /* four scales of 8 bits, 32 bytes of nibbles              */
    [GGML_Q1_0] = {"q1_0", 128, 18},       /* f16 d; 16 bytes of signs                                */
};

bool ggml_type_info(uint32_t type, const char **name, uint32_t *block_weights, uint32_t *block_bytes) {
    if (type >= sizeof tensor_types / sizeof tensor_types[0] || !tensor_types[type].name) return false;
    if (name) *name = tensor_types[type].name;
    if (block_weights) *block_weights = tensor_types[type].block_weights;
    if (block_bytes) *block_bytes = tensor_types[type].block_bytes;
    return true;
}
