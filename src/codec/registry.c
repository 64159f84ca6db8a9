/* The registry: which codecs exist, and their names. A name is the family and its parameters: bits, "g" group; or rank, "b" bits, "g" group,
 * as many as it has; before them the transform of its input, if it has one. Codecs of whole matrices have no groups of columns: there it is "s"
 * and a number of entries, behind the rank. Rates in quarters of a bit are written with a point: tcq2.25. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "codec/codecs.h"
#include "codec/transform.h"

static const snug_codec *const table[] = {
    &codec_f32, &codec_f16, &codec_bf16, &codec_q8_0, &codec_q4_0, &codec_iq4_nl,
    &codec_q2_k, &codec_q3_k, &codec_q4_k, &codec_q5_k, &codec_q6_k, &codec_iq4_xs, &codec_tq1_0, &codec_tq2_0,
    &codec_int, &codec_lowrank, &codec_sp, &codec_sp2of4, &codec_sp3of4, &codec_tern34, &codec_tern,
    &codec_out, &codec_gs, &codec_dict, &codec_tcq, &codec_tcqf, &codec_ec, &codec_e8b, &codec_aq,
    &codec_q4_1, &codec_q5_0, &codec_q5_1, &codec_q1_0, &codec_mxfp4, &codec_nvfp4,
    &codec_iq2_xxs, &codec_iq2_xs, &codec_iq2_s, &codec_iq3_xxs, &codec_iq3_s, &codec_iq1_s, &codec_iq1_m, &codec_f8,
};
enum { N_CODECS = sizeof table / sizeof *table, MAX_TEST_CODECS = 4 };

static const snug_codec *test_codecs[MAX_TEST_CODECS]; /* filled before any thread starts */
static size_t n_test_codecs;

size_t codec_count(void) { return N_CODECS + n_test_codecs; }

const snug_codec *codec_at(size_t i) { return i < N_CODECS ? table[i] : i < codec_count() ? test_codecs[i - N_CODECS] : NULL; }

void codec_register_for_test(const snug_codec *codec) {
    for (size_t i = 0; i < n_test_codecs; i++)
        if (test_codecs[i] == codec) return;
    if (n_test_codecs < MAX_TEST_CODECS) test_codecs[n_test_codecs++] = codec;
}

const snug_codec *codec_by_id(uint16_t id) {
    for (size_t i = 0; i < codec_count(); i++)
        if (codec_at(i)->id == id) return codec_at(i);
    return NULL;
}

const snug_codec *codec_by_ggml_type(uint32_t type) {
    for (size_t i = 0; i < codec_count(); i++)
        if (codec_at(i)->ggml_type >= 0 && (uint32_t)codec_at(i)->ggml_type == type) return codec_at(i);
    return NULL;
}

static const char *const fractions[4] = {"", ".25", ".5", ".75"};

void codec_format(const snug_codec *codec, codec_params params, char name[CODEC_NAME_MAX]) {
    int n = snprintf(name, CODEC_NAME_MAX, "%s%s", transform_prefix(params.in), codec->family);
    if (codec->caps & CODEC_QUARTERS) n += snprintf(name + n, (size_t)(CODEC_NAME_MAX - n), "%u%s", params.rank / 4, fractions[params.rank % 4]);
    else if (params.rank) n += snprintf(name + n, (size_t)(CODEC_NAME_MAX - n), "%u", params.rank);
    const bool whole = codec->caps & CODEC_WHOLE;
    if (params.group && whole) n += snprintf(name + n, (size_t)(CODEC_NAME_MAX - n), "s%u", params.group);
    if (params.bits) n += snprintf(name + n, (size_t)(CODEC_NAME_MAX - n), params.rank ? "b%u" : "%u", params.bits);
    if (params.group && !whole) snprintf(name + n, (size_t)(CODEC_NAME_MAX - n), "g%u", params.group);
}

/* Reads at most four digits without a leading zero; 0 = none there. */
static uint16_t read_number(const char **p) {
    unsigned v = 0;
    if (**p == '0') return 0;
    for (int i = 0; i < 4 && **p >= '0' && **p <= '9'; i++) v = v * 10 + (unsigned)(*(*p)++ - '0');
    return (uint16_t)v;
}

/* Does text after the family's name spell parameters that the codec takes? Which field a number is, the codec says. */
static bool parse_params(const snug_codec *codec, const char *text, codec_params *out) {
    codec_params p = {0};
    const bool whole = codec->caps & CODEC_WHOLE;
    uint16_t number = read_number(&text);
    if (codec->caps & CODEC_QUARTERS) {
        unsigned part = 0;
        for (unsigned i = 1; i < 4; i++)
            if (strncmp(text, fractions[i], strlen(fractions[i])) == 0 && (part == 0 || strlen(fractions[i]) > strlen(fractions[part]))) part = i;
        text += strlen(fractions[part]);
        number = (uint16_t)(number < 1000 ? 4 * number + part : 0);
    }
    if (*text == 's' && whole) {
        text++;
        p.group = read_number(&text);
        if (!p.group || *text != 'b') return false;
    }
    if (*text == 'b') {
        text++;
        p.rank = number;
        p.bits = read_number(&text);
        if (!p.rank || !p.bits) return false;
    } else if (*text == 'g' && !(codec->caps & CODEC_QUARTERS)) p.bits = number;
    else p.rank = number;
    if (*text == 'g' && !whole) {
        text++;
        p.group = read_number(&text);
        if (!p.group) return false;
    }
    *out = p;
    return *text == '\0' && codec->params_ok(p);
}

bool codec_parse(const char *name, const snug_codec **codec, codec_params *params) {
    const uint16_t in = transform_parse(&name);
    for (size_t i = 0; i < codec_count(); i++) {
        const snug_codec *c = codec_at(i);
        size_t n = strlen(c->family);
        if (in && c->caps & (CODEC_WHOLE | CODEC_LOSSLESS | CODEC_READ_ONLY)) continue;
        if (strncmp(name, c->family, n) == 0 && parse_params(c, name + n, params)) {
            params->in = in;
            *codec = c;
            return true;
        }
    }
    return false;
}

snug_err wt_open(const snug_codec *codec, codec_params params, uint64_t rows, uint64_t cols, const uint8_t *data, uint64_t bytes,
                 wt *out, snug_error *err) {
    *out = (wt){.codec = codec, .params = params, .rows = rows, .cols = cols, .data = data, .bytes = bytes};
    char name[CODEC_NAME_MAX];
    codec_format(codec, params, name);
    if (!codec->params_ok(params) || params.in >= TRANSFORM_COUNT) return err_set(err, SNUG_ERR_FORMAT, "codec %s: parameters out of range", name);
    if (rows == 0 || cols == 0) return err_set(err, SNUG_ERR_FORMAT, "codec %s: a shape of %llu x %llu", name,
                                               (unsigned long long)rows, (unsigned long long)cols);
    uint64_t need = codec->bytes(params, rows, cols);
    if (need == 0 || need != bytes) {
        return err_set(err, SNUG_ERR_FORMAT, "codec %s: a payload of %llu bytes where %llu x %llu weights need %llu", name,
                       (unsigned long long)bytes, (unsigned long long)rows, (unsigned long long)cols, (unsigned long long)need);
    }
    return codec->check ? codec->check(out, err) : SNUG_OK;
}
