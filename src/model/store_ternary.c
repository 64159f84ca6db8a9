/* BitNet folders whose matrices are not what the model multiplies, but what it is made from (transformers' integrations/bitnet.py):
 *
 *     trained   w, of a float type. The model has d * q, m the mean of |w| over the matrix, at least 1e-5, d = 1 / (1 / m) rounded to w's
 *               type, q = round(w * (1 / m)), half to even, held to -1 .. 1
 *     packed    bytes (rows / 4, cols), and "NAME_scale", one number: d is that or 1 over it. Bits 2 k and up of byte (r, c) are q + 1 of
 *               weight (r + k rows / 4, c); 3 is q = 2, which nobody writes, and an error here
 *
 * Opening makes the model's weights of them, because everything else reads weights where they lie: rows of tq2_0 where that holds them exactly (d
 * is an f16, columns a multiple of 256), of bf16 or f32 elsewhere, in a file without a name. */
#include "base/checked.h"
#include "base/err.h"
#include "base/f16.h"
#include "codec/codecs.h"
#include "model/store_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct maker {
    store *s;
    const snug_codec *codec;
    uint64_t offset, row_bytes;
    size_t cols;
    float d;
    uint8_t *raw, *out; /* a row as it stands in the folder, and as it is written */
    int8_t *q;
} maker;

static void choose_codec(maker *m) {
    const char *name = m->cols % 256 == 0 && f16_to_f32(f32_to_f16(m->d)) == m->d ? "tq2_0" : bf16_to_f32(f32_to_bf16(m->d)) == m->d ? "bf16" : "f32";
    codec_params none;
    codec_parse(name, &m->codec, &none);
    m->row_bytes = m->codec->bytes((codec_params){0}, 1, m->cols);
}

/* Row r of d * m->q. */
static snug_err put_row(maker *m, uint64_t r, snug_error *err) {
    const bool half = m->codec == &codec_bf16;
    if (m->codec == &codec_tq2_0) tq2_0_pack_row(m->q, m->cols, f32_to_f16(m->d), m->out);
    for (size_t c = 0; c < m->cols && m->codec != &codec_tq2_0; c++) {
        const float w = m->d * (float)m->q[c];
        if (half) write_u16(m->out + 2 * c, f32_to_bf16(w));
        else memcpy(m->out + 4 * c, &w, sizeof w);
    }
    return store_make_write(m->s, m->offset + r * m->row_bytes, m->out, m->row_bytes, err);
}

/* ---- trained ---- */

static float rounded(const st_tensor *t, float d) {
    return t->dtype == ST_F32 ? d : t->dtype == ST_F16 ? f16_to_f32(f32_to_f16(d)) : bf16_to_f32(f32_to_bf16(d));
}

static snug_err make_of_trained(maker *m, const st_tensor *t, snug_error *err) {
    const io_file *file = &m->s->files[t->file];
    const size_t row = m->cols * (t->dtype == ST_F32 ? 4 : 2);
    double sum = 0;
    snug_err rc = SNUG_OK;
    for (uint64_t r = 0; r < t->dims[0] && !rc; r++) {
        rc = io_pread(file, t->offset + r * row, m->raw, row, err);
        for (size_t c = 0; c < m->cols && !rc; c++) sum += (double)fabsf(store_number_at(t, m->raw, c));
    }
    const float inverse = 1 / fmaxf((float)(sum / ((double)t->dims[0] * (double)m->cols)), 1e-5f);
    if (!rc && !(isfinite(sum) && inverse > 0)) return err_set(err, SNUG_ERR_NUMERIC, "%s: tensor '%s' has weights that are no finite numbers", m->s->path, t->name);
    m->d = rounded(t, 1 / inverse);
    choose_codec(m);
    for (uint64_t r = 0; r < t->dims[0] && !rc; r++) {
        rc = io_pread(file, t->offset + r * row, m->raw, row, err);
        for (size_t c = 0; c < m->cols && !rc; c++) m->q[c] = (int8_t)fmaxf(-1, fminf(1, rintf(store_number_at(t, m->raw, c) * inverse)));
        if (!rc) rc = put_row(m, r, err);
    }
    return rc;
}

/* ---- packed ---- */

static snug_err read_scale(maker *m, const st_tensor *t, snug_error *err) {
    char name[256];
    uint8_t raw[4] = {0};
    const int n = snprintf(name, sizeof name, "%s_scale", t->name);
    const st_tensor *scale = n > 0 && (size_t)n < sizeof name ? st_find(m->s->st, name) : NULL;
    if (!scale || scale->dtype == ST_OTHER || scale->bytes != (scale->dtype == ST_F32 ? 4 : 2))
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' has no '%s_scale' beside it that is one number", m->s->path, t->name, t->name);
    snug_err rc = io_pread(&m->s->files[scale->file], scale->offset, raw, (size_t)scale->bytes, err);
    m->d = store_number_at(scale, raw, 0);
    if (m->s->cfg.ternary == TERNARY_OVER) m->d = 1 / m->d;
    if (!rc && !(isfinite(m->d) && m->d > 0)) return err_set(err, SNUG_ERR_NUMERIC, "%s: tensor '%s' makes a scale of %g", m->s->path, name, (double)m->d);
    return rc;
}

static snug_err make_of_packed(maker *m, const st_tensor *t, snug_error *err) {
    snug_err rc = read_scale(m, t, err);
    if (!rc) choose_codec(m);
    for (uint64_t r = 0; r < t->dims[0] && !rc; r++) {
        rc = io_pread(&m->s->files[t->file], t->offset + r * m->cols, m->raw, m->cols, err);
        for (unsigned k = 0; k < 4 && !rc; k++) {
            bool known = true;
            for (size_t c = 0; c < m->cols; c++) {
                m->q[c] = (int8_t)((m->raw[c] >> 2 * k & 3) - 1);
                known &= m->q[c] < 2;
            }
            if (!known) return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' has codes other than 0, 1 and 2", m->s->path, t->name);
            rc = put_row(m, r + k * t->dims[0], err);
        }
    }
    return rc;
}

snug_err store_make_ternary(store *s, const st_tensor *t, found_term *f, snug_error *err) {
    const bool packed = s->cfg.ternary != TERNARY_TRAINED, fits = packed ? !strcmp(t->dtype_name, "U8") : t->dtype != ST_OTHER;
    if (!fits)
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: tensor '%s' has type %s, expected %s by the configuration", s->path, t->name, t->dtype_name,
                       packed ? "U8" : "F32, F16 or BF16");
    if (t->bytes == 0) return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is empty", s->path, t->name);
    maker m = {.s = s, .cols = (size_t)f->cols, .offset = s->made.bytes, .raw = malloc(4 * (size_t)f->cols), .out = malloc(4 * (size_t)f->cols), .q = malloc((size_t)f->cols)};
    snug_err rc = m.raw && m.out && m.q ? store_make_open(s, err) : err_nomem(err, 9 * f->cols);
    if (!rc) rc = (packed ? make_of_packed : make_of_trained)(&m, t, err);
    if (!rc) {
        f->rows *= packed ? 4 : 1;
        store_make_take(s, m.codec, f);
    }
    free(m.raw);
    free(m.out);
    free(m.q);
    return rc;
}
