/* Folders whose matrices are numbers of eight bits with scales beside them (codec/f8.c), and what config.json says of it:
 *
 *     quant_method            scales                                            what they are for
 *     fp8                     NAME.weight_scale_inv (rows / 128, cols / 128)    blocks, "weight_block_size": [128, 128]: DeepSeek-V3, Qwen3-FP8
 *                             NAME.weight_scale(_inv), one number               the matrix: "weight_block_size" null or missing
 *     compressed-tensors,     NAME.weight_scale, one number; (rows, 1);         strategy "tensor"; "channel"; "block"
 *       float-quantized         (rows / 128, cols / 128)
 *
 * The weight is the number times the scale, whatever the name says of an inverse. Scales are read when the folder is opened (one in 16,384 weights, or one
 * a row); weights stay where they are. Scales of activations and of the cache, which some folders have too, are for engines that round these, and
 * are passed over. */
#include "base/checked.h"
#include "base/err.h"
#include "base/f16.h"
#include "codec/codecs.h"
#include "model/arch.h"
#include "model/store_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- config.json ---- */

static const char *text_of(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "?";
}

/* [rows, cols] of a block, if it is there. */
static snug_err read_block(const json_t *v, const char *where, const char *field, config *c, snug_error *err) {
    if (!v || json_is_null(v)) return SNUG_OK;
    for (size_t i = 0; i < 2; i++) {
        const json_t *n = json_array_get(v, i);
        if (json_array_size(v) != 2 || !json_is_integer(n) || json_integer_value(n) < 1 || json_integer_value(n) > 65536)
            return err_set(err, SNUG_ERR_FORMAT, "%s: %s: expected two whole numbers from 1 to 65536", where, field);
        c->f8.block[i] = (uint32_t)json_integer_value(n);
    }
    return SNUG_OK;
}

static snug_err read_groups(const json_t *q, const char *where, config *c, snug_error *err) {
    const char *name;
    json_t *group;
    snug_err rc = SNUG_OK;
    json_object_foreach(json_object_get(q, "config_groups"), name, group) {
        const json_t *w = json_object_get(group, "weights");
        const json_int_t bits = json_integer_value(json_object_get(w, "num_bits"));
        if (strcmp(text_of(w, "type"), "float") || bits != 8)
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: quantization_config: config_groups: %s: weights of type '%s' with %lld bits, expected 'float' with 8", where, name,
                           text_of(w, "type"), (long long)bits);
        if (!rc) rc = read_block(json_object_get(w, "block_structure"), where, "quantization_config: block_structure", c, err);
    }
    return rc;
}

snug_err config_quantization(const json_t *q, const char *where, config *c, snug_error *err) {
    const char *method = text_of(q, "quant_method"), *format = text_of(q, "format"), *fmt = text_of(q, "fmt");
    c->f8.present = true;
    if (!strcmp(method, "fp8")) {
        if (strcmp(fmt, "?") && strcmp(fmt, "e4m3"))
            return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: quantization_config: fmt is '%s', expected 'e4m3'", where, fmt);
        return read_block(json_object_get(q, "weight_block_size"), where, "quantization_config: weight_block_size", c, err);
    }
    if (!strcmp(method, "compressed-tensors") && (!strcmp(format, "float-quantized") || !strcmp(format, "naive-quantized"))) return read_groups(q, where, c, err);
    if (!strcmp(method, "mxfp4") && c->arch->in_turns) { /* store_turns.c: names tell which tensors */
        c->f8.present = false;
        return SNUG_OK;
    }
    const bool packed = !strcmp(method, "compressed-tensors");
    return err_set(err, SNUG_ERR_UNSUPPORTED,
                   "%s: the weights are quantized already (quant_method '%s'%s%s%s), in a form that snug does not read; give the checkpoint that they were made from, or a GGUF",
                   where, method, packed ? ", format '" : "", packed ? format : "", packed ? "'" : "");
}

/* ---- tensors ---- */

static bool ends_in(const char *name, const char *suffix) {
    const size_t n = strlen(name), m = strlen(suffix);
    return n >= m && !strcmp(name + n - m, suffix);
}

static bool is_f8(const st_tensor *t) { return !strcmp(t->dtype_name, "F8_E4M3"); }

/* A scale of weights goes with the matrix whose name its own begins with. */
static bool scales_weights(const store *s, const char *name, const char *suffix) {
    char of[256];
    if (!ends_in(name, suffix) || strlen(name) >= sizeof of) return false;
    snprintf(of, sizeof of, "%.*s", (int)(strlen(name) - strlen(suffix)), name);
    const st_tensor *t = st_find(s->st, of);
    return t && is_f8(t);
}

bool store_f8_beside(const store *s, const st_tensor *t) {
    static const char *const others[] = {".input_scale", ".activation_scale", ".output_scale", ".k_scale", ".v_scale", ".q_scale"};
    if (!s->cfg.f8.present) return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (ends_in(t->name, others[i])) return true;
    return scales_weights(s, t->name, "_scale_inv") || scales_weights(s, t->name, "_scale");
}

static const st_tensor *find_scale(const store *s, const st_tensor *t) {
    static const char *const suffixes[] = {"_scale_inv", "_scale"};
    for (size_t i = 0; i < 2; i++) {
        char name[256];
        const int n = snprintf(name, sizeof name, "%s%s", t->name, suffixes[i]);
        const st_tensor *found = n > 0 && (size_t)n < sizeof name ? st_find(s->st, name) : NULL;
        if (found) return found;
    }
    return NULL;
}

static snug_err wrong_shape(const store *s, const st_tensor *scale, uint64_t rows, uint64_t cols, snug_error *err) {
    return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is %llu x %llu, expected %llu x %llu: a scale for each block of %u x %u weights", s->path, scale->name,
                   (unsigned long long)scale->dims[0], (unsigned long long)scale->dims[1], (unsigned long long)rows, (unsigned long long)cols, s->cfg.f8.block[0], s->cfg.f8.block[1]);
}

/* What part of the weight each of the numbers is for. */
static snug_err choose_blocks(const store *s, const st_tensor *t, const st_tensor *scale, wt_scales *out, snug_error *err) {
    const uint64_t rows = t->dims[0], cols = t->dims[1], n = scale->dims[0] * scale->dims[1];
    *out = (wt_scales){.rows = rows, .cols = cols, .per_row = 1};
    if (scale->n_dims > 2) return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' has %u dimensions, expected at most 2", s->path, scale->name, scale->n_dims);
    if (n == 1) return SNUG_OK;
    if (s->cfg.f8.block[0]) {
        *out = (wt_scales){.rows = s->cfg.f8.block[0], .cols = s->cfg.f8.block[1]};
        out->per_row = div_up(cols, out->cols);
        return scale->dims[0] == div_up(rows, out->rows) && scale->dims[1] == out->per_row ? SNUG_OK : wrong_shape(s, scale, div_up(rows, out->rows), out->per_row, err);
    }
    out->rows = 1;
    if (scale->dims[0] == rows && scale->dims[1] == 1) return SNUG_OK;
    return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is %llu x %llu, expected one number, or one for each of %llu rows; blocks need a weight_block_size in config.json", s->path, scale->name,
                   (unsigned long long)scale->dims[0], (unsigned long long)scale->dims[1], (unsigned long long)rows);
}

static snug_err read_scales(store *s, const st_tensor *scale, wt_scales *out, snug_error *err) {
    const size_t n = (size_t)(scale->dims[0] * scale->dims[1]), width = scale->dtype == ST_F32 ? 4 : 2;
    float *at = arena_calloc(&s->mem, n, sizeof *at);
    uint8_t *raw = malloc(n * width);
    snug_err rc = at && raw ? io_pread(&s->files[scale->file], scale->offset, raw, n * width, err) : err_nomem(err, n * (width + sizeof *at));
    for (size_t i = 0; i < n && !rc; i++) {
        if (width == 4) memcpy(at + i, raw + 4 * i, 4);
        else at[i] = scale->dtype == ST_F16 ? f16_to_f32(read_u16(raw + 2 * i)) : bf16_to_f32(read_u16(raw + 2 * i));
        if (!isfinite(at[i])) rc = err_set(err, SNUG_ERR_NUMERIC, "%s: tensor '%s' holds a scale that is no finite number, at %zu", s->path, scale->name, i);
    }
    out->at = at;
    free(raw);
    return rc;
}

bool store_f8_is(const store *s, const st_tensor *t) { return s->cfg.f8.present && is_f8(t); }

snug_err store_f8(store *s, const st_tensor *t, found_term *f, snug_error *err) {
    const st_tensor *scale = find_scale(s, t);
    if (t->n_dims != 2) return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: tensor '%s' has type F8_E4M3 and %u dimensions, expected 2", s->path, t->name, t->n_dims);
    if (!scale) return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' has type F8_E4M3, expected '%s_scale_inv' or '%s_scale' beside it", s->path, t->name, t->name, t->name);
    if (scale->dtype == ST_OTHER || scale->bytes == 0)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: tensor '%s' has type %s and %llu bytes, expected F32, F16 or BF16", s->path, scale->name, scale->dtype_name, (unsigned long long)scale->bytes);
    f->term.codec = &codec_f8;
    snug_err rc = choose_blocks(s, t, scale, &f->term.scales, err);
    return rc ? rc : read_scales(s, scale, &f->term.scales, err);
}
