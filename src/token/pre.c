/* The pretokenizers that GGUF knows by name (tokenizer.ggml.pre), as the models' own tokenizer.json files write them; names and
 * grouping are llama.cpp's. One row is one pretokenizer with a preferred name and other names for the same. A row's steps:
 * "@gpt2" ByteLevel with its own pattern, "@bytes" ByteLevel without, "@digit" Digits one by one, "@digits" Digits in runs,
 * "@punctuation" Punctuation in runs, "@cased" the letters below; anything else is a Split pattern, isolated.
 *
 * Where llama.cpp had to rewrite a pattern because its own matcher lacks a feature (tekken, gpt-4o), the original stands here. */
#include "token/tokenizer_impl.h"
#include "token/utf8.h"
#include <string.h>

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SYMBOLS_AND_SPACE "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORDS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define LLAMA3 CONTRACTIONS WORDS "|\\p{N}{1,3}" SYMBOLS_AND_SPACE
#define QWEN2 CONTRACTIONS WORDS "|\\p{N}" SYMBOLS_AND_SPACE
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define SYMBOLS_SLASH "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define TEKKEN "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*|\\p{N}" SYMBOLS_SLASH
#define O200K                                                                                                                 \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" CONTRACTIONS "?|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" CONTRACTIONS      \
    "?|\\p{N}{1,3}" SYMBOLS_SLASH
#define CJK "[一-龥぀-ゟ゠-ヿ]+"
#define DEEPSEEK3                                                                                                             \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*" \
    "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
/* Letters but Han, said without the intersection of sets that the original has. */
#define KIMI_UPPER "(?:(?!\\p{Han})" UPPER ")"
#define KIMI_LOWER "(?:(?!\\p{Han})" LOWER ")"
#define KIMI                                                                                                                  \
    "[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "*" KIMI_LOWER "+" CONTRACTIONS "?|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "+"        \
    KIMI_LOWER "*" CONTRACTIONS "?|\\p{N}{1,3}" SYMBOLS_AND_SPACE
#define BLOOM " ?[^(\\s|.,!?…。，、।۔،)]+"

/* deepseek-llm's letters, by code point: some of them change under normalization, and an editor might do that. */
static const struct { uint32_t first, last; } cased[] = {
    {0x41, 0x5A}, {0x61, 0x7A}, {0xB5, 0xB5}, {0xC0, 0xD6}, {0xD8, 0xF6}, {0xF8, 0x1BA}, {0x1BC, 0x1BF}, {0x1C4, 0x293},
    {0x295, 0x2AF}, {0x370, 0x373}, {0x376, 0x377}, {0x37B, 0x37D}, {0x37F, 0x37F}, {0x386, 0x386}, {0x388, 0x38A},
    {0x38C, 0x38C}, {0x38E, 0x3A1}, {0x3A3, 0x3F5}, {0x3F7, 0x481}, {0x48A, 0x52F}, {0x531, 0x556}, {0x10A0, 0x10C5},
    {0x13A0, 0x13F5}, {0x13F8, 0x13FD}, {0x1C90, 0x1CBA}, {0x1CBD, 0x1CBF}, {0x1D00, 0x1D2B}, {0x1D6B, 0x1D77},
    {0x1D79, 0x1D9A}, {0x1E00, 0x1F15}, {0x1F18, 0x1F1D}, {0x1F20, 0x1F45}, {0x1F48, 0x1F4D}, {0x1F50, 0x1F57},
    {0x1F59, 0x1F59}, {0x1F5B, 0x1F5B}, {0x1F5D, 0x1F5D}, {0x1F5F, 0x1F7D}, {0x1F80, 0x1FB4}, {0x1FB6, 0x1FBC},
    {0x1FBE, 0x1FBE}, {0x1FC2, 0x1FC4}, {0x1FC6, 0x1FCC}, {0x1FD0, 0x1FD3}, {0x1FD6, 0x1FDB}, {0x1FE0, 0x1FEC},
    {0x1FF2, 0x1FF4}, {0x1FF6, 0x1FFC}, {0x2102, 0x2102}, {0x2107, 0x2107}, {0x210A, 0x2113}, {0x2115, 0x2115},
    {0x2119, 0x211D}, {0x2124, 0x2124}, {0x2126, 0x2126}, {0x2128, 0x2128}, {0x212A, 0x212D}, {0x212F, 0x2134},
    {0x2139, 0x2139}, {0x213C, 0x213F}, {0x2145, 0x2149}, {0x214E, 0x214E}, {0x2183, 0x2184}, {0x2C00, 0x2C7B},
    {0x2C7E, 0x2CE4}, {0x2CEB, 0x2CEE}, {0x2CF2, 0x2CF3}, {0xA640, 0xA66D}, {0xA680, 0xA69B}, {0xA722, 0xA76F},
    {0xA771, 0xA787}, {0xA78B, 0xA78E}, {0xAB70, 0xABBF}, {0xFB00, 0xFB06}, {0xFB13, 0xFB17}, {0xFF21, 0xFF3A},
    {0xFF41, 0xFF5A}, {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2},
    {0x10CC0, 0x10CF2}, {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
};

static json_t *split_step(const char *source, size_t n) {
    return json_pack("{s:s, s:{s:s%}, s:s, s:b}", "type", "Split", "pattern", "Regex", source, n, "behavior", "Isolated", "invert", 0);
}

/* "\\s?[...]+" as tokenizer.json has it: a-c, and two neighbours as ab. */
static json_t *cased_step(void) {
    buf b = {0};
    uint8_t c[4];
    bool ok = buf_append_str(&b, "\\s?[");
    for (size_t i = 0; i < sizeof cased / sizeof *cased && ok; i++) {
        ok = buf_append(&b, c, utf8_encode(cased[i].first, c)) && (cased[i].last < cased[i].first + 2 || buf_append(&b, "-", 1));
        if (ok && cased[i].last > cased[i].first) ok = buf_append(&b, c, utf8_encode(cased[i].last, c));
    }
    ok = ok && buf_append_str(&b, "]+");
    json_t *j = ok ? split_step((const char *)b.data, b.len) : NULL;
    buf_fini(&b);
    return j;
}

typedef struct row {
    const char *names; /* separated by spaces, the preferred one first */
    const char *norm, *step[8];
    bool ignore_merges, adds_bos;
} row;

static const row rows[] = {
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2", NULL, {LLAMA3, "@bytes"}, true, true},
    {"gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum modern-bert exaone4 mpt olmo jais trillion "
     "granite-docling", NULL, {"@gpt2"}, false, false},
    {"qwen2", "NFC", {QWEN2, "@bytes"}, false, false},
    {"stablelm2 deepseek-r1-qwen megrez hunyuan solar-open grok-2 kormo f2llmv2", NULL, {QWEN2, "@bytes"}, false, false},
    {"tekken", NULL, {TEKKEN, "@bytes"}, true, true},
    {"smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", NULL, {"@digit", "@gpt2"}, false, false},
    {"gpt-4o llama4 kanana2 talkie minimax-m2", NULL, {O200K, "@bytes"}, false, false},
    {"kimi-k2", NULL, {KIMI, "@bytes"}, false, false},
    {"dbrx smaug-bpe chatglm-bpe glm4", NULL, {LLAMA3, "@bytes"}, false, false},
    {"deepseek-v3 hunyuan-dense joyai-llm hy_v4", NULL, {"\\p{N}{1,3}", CJK, DEEPSEEK3, "@bytes"}, false, false},
    {"deepseek-llm", NULL,
     {"[\r\n]", "@cased", "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "\\s+$", "[一-龥ࠀ-一가-퟿]+", "\\p{N}+", "@bytes"}, false, false},
    {"deepseek-coder", NULL, {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-퟿]+", "@digit", "@bytes"}, false, false},
    {"falcon", NULL, {"@punctuation", "@gpt2", "@digits", "[0-9][0-9][0-9]"}, false, false},
    {"qwen35", "NFC",
     {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      "@bytes"}, false, false},
    {"bailingmoe bailingmoe2 llada-moe", NULL,
     {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
      "@bytes"}, false, false},
    {"seed-coder", NULL,
     {CONTRACTIONS "|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+", "@bytes"},
     false, false},
    {"bloom poro-chat gpt3-finnish", NULL, {BLOOM, "@bytes"}, false, false},
    {"viking", NULL, {BLOOM, "@digit", "@bytes"}, false, false},
    /* what llama.cpp falls back to when a file names none */
    {"default", NULL, {"[\\p{P}\\$\\+<=>\\^~\\|]+", "@gpt2", "\\p{N}+", "[0-9][0-9][0-9]"}, false, false},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

static bool has_name(const char *names, const char *name) {
    size_t n = strlen(name);
    for (const char *p = names; n > 0 && (p = strstr(p, name)) != NULL; p += n)
        if ((p == names || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0)) return true;
    return false;
}

size_t pre_find(const char *name) {
    if (!strchr(name, ' '))
        for (size_t i = 0; i < N_ROWS; i++)
            if (has_name(rows[i].names, name)) return i;
    return SIZE_MAX;
}

size_t pre_count(void) { return N_ROWS; }
bool pre_ignores_merges(size_t i) { return rows[i].ignore_merges; }
bool pre_adds_bos(size_t i) { return rows[i].adds_bos; }

void pre_name(size_t i, char out[32]) {
    size_t n = strcspn(rows[i].names, " ");
    if (n > 31) n = 31;
    memcpy(out, rows[i].names, n);
    out[n] = 0;
}

static json_t *make_step(const char *s) {
    if (strcmp(s, "@gpt2") == 0 || strcmp(s, "@bytes") == 0)
        return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", s[1] == 'g');
    if (strcmp(s, "@digit") == 0 || strcmp(s, "@digits") == 0)
        return json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", s[6] == 0);
    if (strcmp(s, "@cased") == 0) return cased_step();
    if (strcmp(s, "@punctuation") == 0) return json_pack("{s:s, s:s}", "type", "Punctuation", "behavior", "Contiguous");
    return split_step(s, strlen(s));
}

json_t *pre_pretokenizer(size_t i) {
    json_t *list = json_array();
    for (int k = 0; k < 8 && rows[i].step[k]; k++)
        if (json_array_append_new(list, make_step(rows[i].step[k])) != 0) {
            json_decref(list);
            return NULL;
        }
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list);
}

json_t *pre_normalizer(size_t i) { return rows[i].norm ? json_pack("{s:s}", "type", rows[i].norm) : json_null(); }

json_t *pre_from_pattern(const char *source, size_t bytes) {
    return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", split_step(source, bytes), make_step("@bytes"));
}

bool pre_to_pattern(const pretokenizer *p, const char **source, size_t *bytes) {
    bool is_regex;
    if (p->n != 2 || p->step[0].kind != PRETOK_SPLIT || p->step[0].behavior != SPLIT_ISOLATED || p->step[0].invert) return false;
    if (p->step[1].kind != PRETOK_BYTE_LEVEL || p->step[1].use_regex || p->step[1].prefix_space) return false;
    *source = pattern_source(p->step[0].pattern, bytes, &is_regex);
    return is_regex;
}
