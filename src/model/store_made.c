/* What a folder's tensors stand for, where they are not themselves what the model multiplies: weights that opening makes, in a file without a name
 * behind the folder's own, because everything else reads weights where they lie. */
#include "base/checked.h"
#include "base/err.h"
#include "base/f16.h"
#include "codec/codecs.h"
#include "model/store_impl.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

snug_err store_make_open(store *s, snug_error *err) {
    if (s->made.path) return SNUG_OK;
    io_file *files = arena_calloc(&s->mem, s->n_files + 1, sizeof *files);
    if (!files) return err_nomem(err, s->n_files * sizeof *files);
    snug_err rc = io_open_unnamed(&s->made, err);
    if (rc) return rc;
    memcpy(files, s->files, s->n_files * sizeof *files);
    files[s->n_files++] = s->made;
    s->files = files;
    return SNUG_OK;
}

snug_err store_make_write(store *s, uint64_t offset, const uint8_t *src, size_t n, snug_error *err) {
    const io_file *f = &s->made;
    while (n) {
        const ssize_t k = pwrite(f->fd, src, n, (off_t)offset);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return err_set(err, SNUG_ERR_IO, "%s: cannot write %zu bytes: %s", f->path, n, k < 0 ? strerror(errno) : "no room");
        offset += (uint64_t)k, src += k, n -= (size_t)k;
    }
    return SNUG_OK;
}

void store_make_take(store *s, const snug_codec *codec, found_term *f) {
    const uint64_t bytes = codec->bytes((codec_params){0}, f->rows, f->cols);
    f->term = (store_term){.codec = codec, .rows = f->rows, .cols = f->cols, .file = (uint32_t)(s->n_files - 1), .offset = s->made.bytes, .bytes = bytes, .checked_bytes = bytes};
    s->made.bytes += bytes;
    ((io_file *)(uintptr_t)s->files)[s->n_files - 1].bytes = s->made.bytes;
}

float store_number_at(const st_tensor *t, const uint8_t *p, size_t i) {
    float w;
    if (t->dtype != ST_F32) return t->dtype == ST_F16 ? f16_to_f32(read_u16(p + 2 * i)) : bf16_to_f32(read_u16(p + 2 * i));
    memcpy(&w, p + 4 * i, sizeof w);
    return w;
}

float store_gain(float less_one) { return 1 + less_one; }
float store_decay(float log) { return (float)-exp((double)log); }

snug_err store_make_vector(store *s, const st_tensor *t, float (*of)(float), found_term *f, snug_error *err) {
    const size_t n = (size_t)(f->rows * f->cols);
    uint8_t *raw = malloc((size_t)t->bytes + 1);
    float *made = malloc(n * sizeof *made + 1);
    snug_err rc = raw && made ? store_make_open(s, err) : err_nomem(err, t->bytes + 4 * n);
    if (!rc) rc = io_pread(&s->files[t->file], t->offset, raw, (size_t)t->bytes, err);
    for (size_t i = 0; i < n && !rc; i++) made[i] = of(store_number_at(t, raw, i));
    if (!rc) rc = store_make_write(s, s->made.bytes, (const uint8_t *)made, n * sizeof *made, err);
    if (!rc) store_make_take(s, &codec_f32, f);
    free(raw);
    free(made);
    return rc;
}

snug_err store_make_transposed(store *s, const st_tensor *t, found_term *f, snug_error *err) {
    const snug_codec *codec = f->term.codec;
    const size_t each = t->dtype == ST_F32 ? 4 : 2, rows = (size_t)t->dims[1], cols = (size_t)t->dims[0];
    if (t->bytes == 0) return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is empty", s->files[t->file].path, t->name);
    uint8_t *raw = malloc((size_t)t->bytes), *row = malloc(cols * each);
    snug_err rc = raw && row ? store_make_open(s, err) : err_nomem(err, t->bytes);
    if (!rc) rc = io_pread(&s->files[t->file], t->offset, raw, (size_t)t->bytes, err);
    for (size_t r = 0; r < rows && !rc; r++) {
        for (size_t c = 0; c < cols; c++) memcpy(row + c * each, raw + (c * rows + r) * each, each);
        rc = store_make_write(s, s->made.bytes + r * cols * each, row, cols * each, err);
    }
    f->rows = rows, f->cols = cols;
    if (!rc) store_make_take(s, codec, f);
    free(raw);
    free(row);
    return rc;
}

snug_err store_make_unwoven(store *s, const st_tensor *t, found_term *f, snug_error *err) {
    const uint64_t heads = s->cfg.n_heads, rows = t->dims[0];
    if (heads == 0 || s->cfg.n_kv_heads != heads || rows != 3 * heads * s->cfg.head_dim)
        return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' has %llu rows, expected %llu: q, k and v of %llu heads of %u", s->files[t->file].path, t->name, (unsigned long long)rows,
                       (unsigned long long)(3 * heads * s->cfg.head_dim), (unsigned long long)heads, s->cfg.head_dim);
    const size_t block = (size_t)(t->bytes / (3 * heads)); /* one head's q, k or v */
    uint8_t *raw = malloc(block + 1);
    snug_err rc = raw ? store_make_open(s, err) : err_nomem(err, block);
    for (uint64_t i = 0; i < 3 * heads && !rc; i++) {
        rc = io_pread(&s->files[t->file], t->offset + (i % heads * 3 + i / heads) * block, raw, block, err);
        if (!rc) rc = store_make_write(s, s->made.bytes + i * block, raw, block, err);
    }
    if (!rc) store_make_take(s, f->term.codec, f);
    free(raw);
    return rc;
}
