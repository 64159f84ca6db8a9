/* Byte-level vocabularies by rank. tiktoken's files have a line "<base64> <rank>" per token; Mistral's tekken.json has
 * the same in JSON, with the pattern and special tokens beside it. A token's id is its rank, plus the number of special
 * tokens that stand before all others.
 *
 * tiktoken joins, of all neighbours whose bytes together are a token, those of lowest rank, leftmost first. That is
 * turned into a list of merges, so that everything else, GGUF among it, sees an ordinary byte-level BPE. A token has at
 * most one merge: the two parts that are left when it is encoded without being a token itself. For as long as no merge
 * has crossed the edges of a stretch of text, what happens inside does not depend on what lies around it; so wherever
 * two neighbours make up the token, they are these two. A whole word that is a token stays one (ignore_merges), also a
 * token that no merge makes.
 *
 * The pattern is not in the file. It is known for the vocabularies in the table below, by the file's name or the number
 * of ranks, or stands in tokenizer_config.json ("pattern"). */
#include "base/err.h"
#include "token/base64.h"
#include "token/hf_added.h"
#include "token/hf_side.h"
#include "token/utf8.h"
#include <stdlib.h>
#include <string.h>

/* ---- known vocabularies ---- */

#define CL100K                                                                                                         \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}| "                                              \
    "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s++\\z|\\s*[\\r\\n]|"                                                            \
    "\\s+(?!\\S)|\\s"

/* special: texts of the ids behind the ranks; "+n" skips n ids, "<x{a..b}>" stands for "<xa>" to "<xb>". */
typedef struct known {
    const char *name; /* "<name>.tiktoken" */
    uint32_t n_ranks;
    const char *pre; /* a row of pre.c, or NULL: */
    const char *pattern, *special;
    const char *prefix; /* what the model's own code puts before a text; BOS where it is one token */
} known;

static const known table[] = {
    {"llama3", 128000, "llama-bpe", NULL,
     "<|begin_of_text|> <|end_of_text|> <|reserved_special_token_0|> <|reserved_special_token_1|> "
     "<|finetune_right_pad_id|> <|step_id|> "
     "<|start_header_id|> <|end_header_id|> <|eom_id|> <|eot_id|> <|python_tag|> <|image|> "
     "<|reserved_special_token_{2..245}|>",
     "<|begin_of_text|>"},
    {"qwen", 151643, "qwen2", NULL, "<|endoftext|> <|im_start|> <|im_end|> <|extra_{0..204}|>", ""},
    {"o200k_base", 199998, "gpt-4o", NULL, "+1 <|endoftext|> +18 <|endofprompt|>", ""},
    {"cl100k_base", 100256, NULL, CL100K,
     "+1 <|endoftext|> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> +15 <|endofprompt|>", ""},
    {"r50k_base", 50256, "gpt-2", NULL, "<|endoftext|>", ""},
    {"glm4", 151329, "chatglm-bpe", NULL, "", "[gMASK] <sop>"},
    {"kimi", 163584, "kimi-k2", NULL, "", ""},
};

static const known *find_known(const char *what, uint32_t n_ranks) {
    const char *dot = strstr(what, ".tiktoken");
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        size_t n = strlen(table[i].name);
        if (dot ? (size_t)(dot - what) == n && memcmp(what, table[i].name, n) == 0 : table[i].n_ranks == n_ranks)
            return &table[i];
    }
    return NULL;
}

/* ---- ranks ---- */

typedef struct ranks {
    const char *what;
    uint32_t shift;       /* id of rank 0     */
    uint32_t limit;       /* ranks from here on are left out */
    vocab_builder tokens; /* byte alphabet    */
    uint32_t n;           /* 1 + highest rank */
    uint64_t *seen;       /* bit per rank     */
    buf bytes, text;      /* scratch          */
} ranks;

static snug_err add_rank(ranks *r, const char *base64, size_t n, uint64_t rank, snug_error *err) {
    if (rank >= VOCAB_MAX_TOKENS / 2)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: rank %llu, the highest supported is %d", r->what,
                       (unsigned long long)rank, VOCAB_MAX_TOKENS / 2 - 1);
    r->bytes.len = r->text.len = 0;
    if (n == 0 || !base64_decode(base64, n, &r->bytes))
        return err_set(err, SNUG_ERR_FORMAT, "%s: the token of rank %llu is not base64", r->what,
                       (unsigned long long)rank);
    if (r->seen[rank >> 6] >> (rank & 63) & 1)
        return err_set(err, SNUG_ERR_FORMAT, "%s: rank %llu comes twice", r->what, (unsigned long long)rank);
    r->seen[rank >> 6] |= 1ull << (rank & 63);
    if (rank >= r->limit) return SNUG_OK;
    if (rank >= r->n) r->n = (uint32_t)rank + 1;
    uint8_t put[4];
    for (size_t i = 0; i < r->bytes.len; i++)
        if (!buf_append(&r->text, put, utf8_encode(byte_alphabet_char(r->bytes.data[i]), put)))
            return err_nomem(err, r->bytes.len);
    return vocab_add(&r->tokens, (uint32_t)rank + r->shift, (const char *)r->text.data, r->text.len, true, err);
}

static snug_err read_lines(ranks *r, const char *p, size_t n, snug_error *err) {
    const char *end = p + n;
    for (size_t line = 1; p < end; line++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
        const char *space = memchr(p, ' ', (size_t)(stop - p)), *at = space ? space + 1 : stop;
        uint64_t rank = 0;
        const char *last = stop > p && stop[-1] == '\r' ? stop - 1 : stop;
        for (; at < last && *at >= '0' && *at <= '9' && rank < UINT32_MAX; at++)
            rank = rank * 10 + (uint64_t)(*at - '0');
        if (last > p) {
            if (!space || at != last || at == space + 1)
                return err_set(err, SNUG_ERR_FORMAT, "%s: line %zu is not \"<base64> <rank>\"", r->what, line);
            snug_err e = add_rank(r, p, (size_t)(space - p), rank, err);
            if (e) return e;
        }
        p = nl ? nl + 1 : end;
    }
    return r->n ? SNUG_OK : err_set(err, SNUG_ERR_FORMAT, "%s: no tokens", r->what);
}

static snug_err ranks_init(ranks *r, const char *what, snug_error *err) {
    *r = (ranks){.what = what, .limit = UINT32_MAX};
    r->seen = calloc(VOCAB_MAX_TOKENS / 128 + 1, sizeof *r->seen);
    return r->seen ? SNUG_OK : err_nomem(err, VOCAB_MAX_TOKENS / 16);
}

static void ranks_fini(ranks *r) {
    vocab_builder_fini(&r->tokens);
    free(r->seen);
    buf_fini(&r->bytes);
    buf_fini(&r->text);
}

/* ---- merges ---- */

/* The two parts of every token, in order of rank: pairs[2 i], pairs[2 i + 1]. `m` joins by rank. */
static snug_err find_parts(bpe *m, const ranks *r, buf *pairs, snug_error *err) {
    bpe_scratch s = {0};
    buf ids = {0};
    snug_err e = SNUG_OK;
    for (uint32_t id = r->shift; id < r->shift + r->n && !e; id++) {
        if (!vocab_has(&m->vocab, id)) continue;
        const char *text = vocab_text(&m->vocab, id);
        uint32_t bytes = vocab_bytes(&m->vocab, id);
        if (vocab_find(&m->vocab, text, bytes) != id) {
            e = err_set(err, SNUG_ERR_FORMAT, "%s: the token of rank %u comes twice", r->what, id - r->shift);
            break;
        }
        ids.len = 0;
        m->longest_join = bytes - 1;
        e = bpe_encode(m, &s, (const uint8_t *)text, bytes, &ids, err);
        if (!e && ids.len == 8 && !buf_append(pairs, ids.data, ids.len)) e = err_nomem(err, pairs->len);
    }
    buf_fini(&ids);
    bpe_scratch_fini(&s);
    return e;
}

/* m: the vocabulary alone; becomes a model with merges. */
static snug_err make_merges(bpe *m, const ranks *r, snug_error *err) {
    buf pairs = {0};
    float *score = malloc(((size_t)m->vocab.n + 1) * sizeof *score);
    if (!score) return err_nomem(err, m->vocab.n * sizeof *score);
    for (uint32_t i = 0; i < m->vocab.n; i++) score[i] = -(float)i;
    snug_err e = bpe_set_scores(m, score, err);
    free(score);
    if (!e) e = bpe_finish(m, err);
    for (uint32_t b = 0; b < 256 && !e; b++)
        if (m->char_id[byte_alphabet_char((uint8_t)b)] == VOCAB_NONE)
            e = err_set(err, SNUG_ERR_FORMAT, "%s: no token for the byte 0x%02X", r->what, b);
    if (!e) e = find_parts(m, r, &pairs, err);
    bpe_drop_scores(m);
    const uint32_t *id = (const uint32_t *)(const void *)pairs.data;
    if (!e) e = bpe_reserve_pairs(m, pairs.len / 8, err);
    for (size_t i = 0; i < pairs.len / 8 && !e; i++) e = bpe_add_merge_ids(m, id[2 * i], id[2 * i + 1], err);
    m->ignore_merges = true;
    buf_fini(&pairs);
    return e;
}

/* ---- the tokenizer ---- */

static snug_err set_pipeline(tokenizer *t, json_t *norm, json_t *pretok, snug_error *err) {
    json_t *dec = json_pack("{s:s}", "type", "ByteLevel");
    snug_err e = norm && pretok && dec ? tokenizer_set_pipeline(t, norm, pretok, dec, err) : err_nomem(err, 1024);
    json_decref(norm);
    json_decref(pretok);
    json_decref(dec);
    return e;
}

/* The ranks make the vocabulary; the added tokens are put beside it, never inside what merging makes. */
static snug_err set_model(tokenizer *t, ranks *r, hf_added *added, snug_error *err) {
    vocab v = {0};
    size_t n;
    added_spec *spec = hf_added_spec(added, &n);
    snug_err e = vocab_build(&r->tokens, &v, err);
    for (size_t i = 0; i < n && !e; i++)
        if (vocab_has(&v, spec[i].id))
            e = err_set(err, SNUG_ERR_FORMAT, "added token '%.80s': %s has another token with its id %u", spec[i].text,
                        r->what, spec[i].id);
    if (!e) bpe_init(&t->model, &v);
    vocab_fini(&v);
    if (!e) e = make_merges(&t->model, r, err);
    if (!e) e = hf_added_extend(added, &t->model.vocab, false, err);
    spec = hf_added_spec(added, &n);
    if (!e && !(t->outside = arena_calloc(&t->mem, t->model.vocab.n / 64 + 1, sizeof *t->outside)))
        e = err_nomem(err, t->model.vocab.n / 8);
    for (size_t i = 0; i < n && !e; i++) t->outside[spec[i].id >> 6] |= 1ull << (spec[i].id & 63);
    if (!e) vocab_unindex(&t->model.vocab, t->outside);
    t->n_model = r->n;
    return e;
}

static int32_t find_added(const tokenizer *t, const char *text, size_t n) {
    for (size_t i = 0; i < t->n_added; i++)
        if (t->added[i].bytes == n && memcmp(t->added[i].content, text, n) == 0) return (int32_t)t->added[i].id;
    return -1;
}

/* Before a text: the tokens of `prefix` that there are, as the model's own code has it, unless tokenizer_config.json
 * says otherwise. One alone is BOS. */
static snug_err finish(tokenizer *t, const char *dir, const hf_added *added, const char *prefix, const char *eos,
                       snug_error *err) {
    int32_t more[HF_MAX_EOG];
    size_t n_more = 0, n = strcspn(prefix, " ");
    snug_err e = dir ? hf_read_sidecars(t, dir, NULL, more, &n_more, err) : SNUG_OK;
    if (e) return e;
    const json_t *flag = json_object_get(added->config, "add_bos_token");
    if (t->role[ROLE_BOS] < 0 && n > 0 && !prefix[n]) t->role[ROLE_BOS] = find_added(t, prefix, n);
    if (t->role[ROLE_EOS] < 0) t->role[ROLE_EOS] = find_added(t, eos, strlen(eos));
    t->n_prefix = 0;
    for (const char *p = prefix; *p && !json_is_boolean(flag); p += strspn(p, " ")) {
        n = strcspn(p, " ");
        int32_t id = find_added(t, p, n);
        if (id >= 0) t->prefix[t->n_prefix++] = id;
        p += n;
    }
    if (json_is_true(flag) && t->role[ROLE_BOS] >= 0) t->prefix[t->n_prefix++] = t->role[ROLE_BOS];
    return tokenizer_finish(t, more, n_more, false, err);
}

static snug_err put_special(hf_added *added, uint32_t id, char *text, snug_error *err) {
    if (!text) return err_nomem(err, 64);
    return hf_added_put(added, (added_spec){.id = id, .text = text, .bytes = strlen(text), .special = true}, err);
}

static snug_err put_known_specials(const char *list, uint32_t id, hf_added *added, arena *mem, snug_error *err) {
    snug_err e = SNUG_OK;
    for (const char *p = list; *p && !e; p += *p == ' ') {
        size_t n = strcspn(p, " ");
        const char *brace = memchr(p, '{', n);
        if (*p == '+') {
            id += (uint32_t)strtoul(p, NULL, 10);
        } else if (brace) {
            char *end;
            unsigned long from = strtoul(brace + 1, &end, 10), to = strtoul(end + 2, &end, 10);
            for (; from <= to && !e; from++)
                e = put_special(
                    added, id++,
                    arena_printf(mem, "%.*s%lu%.*s", (int)(brace - p), p, from, (int)(p + n - end - 1), end + 1), err);
        } else {
            e = put_special(added, id++, arena_strndup(mem, p, n), err);
        }
        p += n;
    }
    return e;
}

snug_err hf_open_tiktoken(tokenizer *t, const char *dir, const char *what, const char *text, size_t n,
                          snug_error *err) {
    ranks r;
    hf_added added = {0};
    snug_err e = ranks_init(&r, what, err);
    if (!e) e = read_lines(&r, text, n, err);
    const known *k = e ? NULL : find_known(what, r.n);
    if (!e && k) e = put_known_specials(k->special, r.n, &added, &t->mem, err);
    if (!e) e = hf_added_read(&added, dir, err);
    const json_t *own = json_object_get(added.config, "pattern");
    if (!e && !k && !json_is_string(own))
        e = err_set(err, SNUG_ERR_UNSUPPORTED,
                    "%s: the pattern of a tiktoken vocabulary with %u ranks is not known; a tokenizer.json, or "
                    "\"pattern\" in tokenizer_config.json, would tell",
                    what, r.n);
    if (!e && json_is_string(own))
        e = set_pipeline(t, json_null(), pre_from_pattern(json_string_value(own), json_string_length(own)), err);
    else if (!e && k->pre)
        e = set_pipeline(t, pre_normalizer(pre_find(k->pre)), pre_pretokenizer(pre_find(k->pre)), err);
    else if (!e)
        e = set_pipeline(t, json_null(), pre_from_pattern(k->pattern, strlen(k->pattern)), err);
    if (!e) e = set_model(t, &r, &added, err);
    size_t n_spec;
    added_spec *spec = hf_added_spec(&added, &n_spec);
    if (!e) e = tokenizer_set_added(t, spec, n_spec, err);
    if (!e) e = finish(t, dir, &added, k ? k->prefix : "", "<|end_of_text|>", err);
    hf_added_fini(&added);
    ranks_fini(&r);
    return e;
}

/* ---- tekken.json ---- */

/* The special tokens of the first files, which list none. */
static const char *const first_specials[] = {"<unk>",
                                             "<s>",
                                             "</s>",
                                             "[INST]",
                                             "[/INST]",
                                             "[AVAILABLE_TOOLS]",
                                             "[/AVAILABLE_TOOLS]",
                                             "[TOOL_RESULTS]",
                                             "[/TOOL_RESULTS]",
                                             "[TOOL_CALLS]",
                                             "[IMG]",
                                             "<pad>",
                                             "[IMG_BREAK]",
                                             "[IMG_END]",
                                             "[PREFIX]",
                                             "[MIDDLE]",
                                             "[SUFFIX]",
                                             "[SYSTEM_PROMPT]",
                                             "[/SYSTEM_PROMPT]",
                                             "[TOOL_CONTENT]"};

/* Ids 0 .. n-1: those listed, the rest "<SPECIAL_id>". */
static snug_err put_tekken_specials(const json_t *list, uint32_t n, hf_added *added, arena *mem, snug_error *err) {
    snug_err e = SNUG_OK;
    size_t n_first = sizeof first_specials / sizeof *first_specials;
    for (uint32_t id = 0; id < n && !e; id++) {
        char *text =
            !list && id < n_first ? arena_strdup(mem, first_specials[id]) : arena_printf(mem, "<SPECIAL_%u>", id);
        e = put_special(added, id, text, err);
    }
    for (size_t i = 0; i < json_array_size(list) && !e; i++) {
        const json_t *j = json_array_get(list, i), *text = json_object_get(j, "token_str");
        uint64_t id;
        e = json_get_u64(j, "tekken.json: a special token", "rank", &id, err);
        if (!e && (id >= n || !json_is_string(text)))
            e = err_set(err, SNUG_ERR_FORMAT,
                        "tekken.json: special_tokens[%zu] has no token_str, or a rank beyond the %u special tokens", i,
                        n);
        if (!e)
            e = put_special(added, (uint32_t)id, arena_strndup(mem, json_string_value(text), json_string_length(text)),
                            err);
    }
    return e;
}

static snug_err read_tekken_ranks(const json_t *root, ranks *r, snug_error *err) {
    const json_t *list = json_object_get(root, "vocab");
    snug_err e = SNUG_OK;
    for (size_t i = 0; i < json_array_size(list) && !e; i++) {
        const json_t *j = json_array_get(list, i), *bytes = json_object_get(j, "token_bytes");
        uint64_t rank = 0;
        e = json_get_u64(j, "tekken.json: a token", "rank", &rank, err);
        if (!e && !json_is_string(bytes))
            e = err_set(err, SNUG_ERR_FORMAT, "tekken.json: vocab[%zu] has no token_bytes", i);
        if (!e) e = add_rank(r, json_string_value(bytes), json_string_length(bytes), rank, err);
    }
    if (!e && !r->n) e = err_set(err, SNUG_ERR_FORMAT, "tekken.json: no tokens in 'vocab'");
    return e;
}

snug_err hf_open_tekken(tokenizer *t, const char *dir, const char *text, size_t n, snug_error *err) {
    ranks r;
    hf_added added = {0};
    json_t *root = NULL;
    uint64_t n_all = 0, n_special = 0;
    const char *source = NULL;
    snug_err e = ranks_init(&r, "tekken.json", err);
    if (!e) e = json_read_buffer("tekken.json", text, n, &root, err);
    const json_t *config = json_object_get(root, "config"), *list = json_object_get(root, "special_tokens");
    if (!e) e = json_get_string(config, "tekken.json: config", "pattern", &source, err);
    if (!e) e = json_get_u64(config, "tekken.json: config", "default_vocab_size", &n_all, err);
    if (!e) e = json_get_u64(config, "tekken.json: config", "default_num_special_tokens", &n_special, err);
    if (!e && (n_all >= VOCAB_MAX_TOKENS / 2 || n_special > n_all || n_special > 100000))
        e = err_set(err, SNUG_ERR_FORMAT, "tekken.json: %llu tokens, %llu of them special", (unsigned long long)n_all,
                    (unsigned long long)n_special);
    r.shift = (uint32_t)n_special;
    r.limit = (uint32_t)(n_all - n_special);
    if (!e) e = read_tekken_ranks(root, &r, err);
    if (!e) e = put_tekken_specials(json_is_null(list) ? NULL : list, r.shift, &added, &t->mem, err);
    if (!e) e = hf_added_read(&added, dir, err);
    if (!e) e = set_pipeline(t, json_null(), pre_from_pattern(source, strlen(source)), err);
    if (!e) e = set_model(t, &r, &added, err);
    size_t n_spec;
    added_spec *spec = hf_added_spec(&added, &n_spec);
    if (!e) e = tokenizer_set_added(t, spec, n_spec, err);
    if (!e) e = finish(t, dir, &added, "<s>", "</s>", err);
    json_decref(root);
    hf_added_fini(&added);
    ranks_fini(&r);
    return e;
}
