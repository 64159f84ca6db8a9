/* Experts as folders of gpt-oss have them. A layer's matrices stand in two stacks, gate_up_proj and down_proj; rows of gate and up stand in turns, an
 * even one gate's, an odd one up's, and so do their biases. A stack is
 *
 *     plain   (experts, inputs, outputs), of a float type
 *     MXFP4   NAME_blocks (experts, outputs, inputs / 32, 16) and NAME_scales (experts, outputs, inputs / 32), bytes: 32 codes of four bits share
 *             2^(scale - 127). Byte i of a block holds codes 2 i and 2 i + 1; ggml's has codes i and i + 16, behind the scale:
 *
 *             | scale | c0 c16 | c1 c17 | ... | c15 c31 |      17 bytes, as codec/read_only.c reads them
 *
 * MXFP4 stays where it is: a term knows where its codes and scales are (store_apart), and reading it brings them together as ggml's type. What stands
 * transposed, and biases in turns, are written anew when the folder is opened, in a file without a name. Source: transformers' integrations/mxfp4.py. */
#include "base/checked.h"
#include "base/err.h"
#include "codec/codecs.h"
#include "model/arch.h"
#include "model/store_impl.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 32 /* weights */, CODE_BYTES = BLOCK / 2, BLOCK_BYTES = 1 + CODE_BYTES, READ_ROWS = 64 };

/* ---- reading MXFP4 ---- */

static unsigned code_at(const uint8_t *codes, unsigned i) { return codes[i / 2] >> 4 * (i % 2) & 15u; }

static void pack_row(const uint8_t *codes, const uint8_t *scales, size_t n_blocks, uint8_t *dst) {
    for (size_t b = 0; b < n_blocks; b++, codes += CODE_BYTES, dst += BLOCK_BYTES) {
        dst[0] = scales[b];
        for (unsigned i = 0; i < CODE_BYTES; i++) dst[1 + i] = (uint8_t)(code_at(codes, i) | code_at(codes, i + CODE_BYTES) << 4);
    }
}

snug_err store_apart_read(const store *s, const store_term *t, uint64_t row0, uint64_t n, uint8_t *dst, snug_error *err) {
    const store_apart *a = &t->apart;
    const size_t n_blocks = (size_t)(t->cols / BLOCK), most = (size_t)min_u64(n, READ_ROWS);
    const size_t code_step = a->step * n_blocks * CODE_BYTES, scale_step = a->step * n_blocks;
    uint8_t *codes = malloc(most * (code_step + scale_step) + 1), *scales = codes + most * code_step;
    snug_err rc = codes ? SNUG_OK : err_nomem(err, most * (code_step + scale_step));
    for (uint64_t r = 0; r < n && !rc; r += most) {
        const size_t k = (size_t)min_u64(most, n - r), last = k - 1;
        rc = io_pread(&s->files[t->file], t->offset + (row0 + r) * code_step, codes, last * code_step + n_blocks * CODE_BYTES, err);
        if (!rc) rc = io_pread(&s->files[a->file], a->offset + (row0 + r) * scale_step, scales, last * scale_step + n_blocks, err);
        for (size_t i = 0; i < k && !rc; i++) pack_row(codes + i * code_step, scales + i * scale_step, n_blocks, dst + (r + i) * n_blocks * BLOCK_BYTES);
    }
    free(codes);
    return rc;
}

/* ---- names ---- */

typedef enum form { FORM_PLAIN, FORM_BLOCKS, FORM_SCALES, FORM_BIAS } form;
typedef struct stack { const st_tensor *t; int layer; bool gate_up; form form; } stack; /* gate_up: else down's */

/* Biases of down are as everything else is. */
static bool stack_of(const store *s, const st_tensor *t, stack *out) {
    static const char before[] = "model.layers.", within[] = ".mlp.experts.";
    static const struct { const char *name; bool gate_up; form form; } names[] = {
        {"gate_up_proj", true, FORM_PLAIN},         {"down_proj", false, FORM_PLAIN},         {"gate_up_proj_blocks", true, FORM_BLOCKS}, {"down_proj_blocks", false, FORM_BLOCKS},
        {"gate_up_proj_scales", true, FORM_SCALES}, {"down_proj_scales", false, FORM_SCALES}, {"gate_up_proj_bias", true, FORM_BIAS}};
    const char *digits = t->name + sizeof before - 1;
    if (!s->cfg.arch->in_turns || strncmp(t->name, before, sizeof before - 1)) return false;
    if (*digits < '0' || *digits > '9' || (*digits == '0' && digits[1] != '.')) return false;
    char *rest;
    const unsigned long layer = strtoul(digits, &rest, 10);
    if (layer >= s->cfg.n_layers || strncmp(rest, within, sizeof within - 1)) return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(rest + sizeof within - 1, names[i].name)) {
            *out = (stack){t, (int)layer, names[i].gate_up, names[i].form};
            return true;
        }
    return false;
}

bool store_turns_is(const store *s, const st_tensor *t) {
    stack unused;
    return stack_of(s, t, &unused);
}

/* NAME_blocks -> NAME_scales, and back; NULL: not there. */
static const st_tensor *sibling(const store *s, const st_tensor *t) {
    char name[256];
    const size_t n = strlen(t->name), m = sizeof "_blocks" - 1; /* as long as the other */
    if (n >= sizeof name) return NULL;
    memcpy(name, t->name, n - m);
    strcpy(name + n - m, t->name[n - m + 1] == 'b' ? "_scales" : "_blocks");
    return st_find(s->st, name);
}

/* ---- shapes ---- */

static snug_err wrong_shape(const store *s, const st_tensor *t, const uint64_t *want, uint32_t n_dims, snug_error *err) {
    char found[100] = "", expected[100] = "";
    for (uint32_t i = 0; i < t->n_dims && i < 4; i++) snprintf(found + strlen(found), sizeof found - strlen(found), "%s%llu", i ? " x " : "", (unsigned long long)t->dims[i]);
    for (uint32_t i = 0; i < n_dims; i++) snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%llu", i ? " x " : "", (unsigned long long)want[i]);
    return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' is %s%s, expected %s by the configuration", s->files[t->file].path, t->name, found, t->n_dims > 4 ? " x ..." : "", expected);
}

static snug_err check_dims(const store *s, const st_tensor *t, const uint64_t *want, uint32_t n_dims, snug_error *err) {
    bool same = t->n_dims == n_dims;
    for (uint32_t i = 0; same && i < n_dims; i++) same = t->dims[i] == want[i];
    return same ? SNUG_OK : wrong_shape(s, t, want, n_dims, err);
}

/* ---- placing ---- */

/* A part of a stack: an expert's matrix, or biases of all experts. step: rows of the stack from one of its rows to the next; first: its first one. */
typedef struct part { tensor_role role; int expert; uint64_t first, step; } part;

static size_t parts_of(const stack *k, int expert, part out[2]) {
    const bool bias = k->form == FORM_BIAS;
    if (!k->gate_up) {
        out[0] = (part){ROLE_DOWN, expert, 0, 1};
        return 1;
    }
    out[0] = (part){bias ? ROLE_GATE_EXPS_BIAS : ROLE_GATE, expert, 0, 2};
    out[1] = (part){bias ? ROLE_UP_EXPS_BIAS : ROLE_UP, expert, 1, 2};
    return 2;
}

static snug_err place_part(store *s, store_tensor **slots, const stack *k, const part *p, found_term *f, snug_error *err) {
    char name[64];
    role_tensor_name(p->role, k->layer, p->expert, name);
    f->name = name;
    f->shown = k->t->name;
    f->loss = -1;
    return store_place(s, slots, f, err);
}

static snug_err place_blocks(store *s, store_tensor **slots, const stack *k, uint64_t rows, uint64_t cols, snug_error *err) {
    const st_tensor *t = k->t, *scales = sibling(s, t);
    const uint64_t n_blocks = cols / BLOCK, want[] = {s->cfg.n_experts, rows, n_blocks, CODE_BYTES};
    if (cols % BLOCK) return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' holds rows of %llu weights, expected a multiple of 32", s->files[t->file].path, t->name, (unsigned long long)cols);
    if (!scales) return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' has no tensor of scales beside it", s->files[t->file].path, t->name);
    if (strcmp(t->dtype_name, "U8") || strcmp(scales->dtype_name, "U8"))
        return err_set(err, SNUG_ERR_UNSUPPORTED, "%s: tensor '%s' has type %s and its scales %s, expected U8", s->files[t->file].path, t->name, t->dtype_name, scales->dtype_name);
    snug_err rc = check_dims(s, t, want, 4, err);
    if (!rc) rc = check_dims(s, scales, want, 3, err);
    part list[2];
    for (uint64_t e = 0; e < s->cfg.n_experts && !rc; e++)
        for (size_t i = 0, n = parts_of(k, (int)e, list); i < n && !rc; i++) {
            const uint64_t first = e * rows + list[i].first, n_rows = rows / list[i].step;
            found_term f = {.rows = n_rows, .cols = cols};
            f.term = (store_term){.codec = &codec_mxfp4, .rows = n_rows, .cols = cols, .file = t->file, .offset = t->offset + first * n_blocks * CODE_BYTES};
            f.term.bytes = f.term.checked_bytes = codec_mxfp4.bytes((codec_params){0}, n_rows, cols);
            f.term.apart = (store_apart){list[i].step, scales->file, scales->offset + first * n_blocks};
            rc = place_part(s, slots, k, &list[i], &f, err);
        }
    return rc;
}

/* Rows of a part, out of an expert's `raw` (cols, rows of the stack), written and placed. */
static snug_err make_plain(store *s, store_tensor **slots, const stack *k, const part *p, const uint8_t *raw, uint64_t rows, uint64_t cols, const snug_codec *codec, uint8_t *out, snug_error *err) {
    const size_t each = k->t->dtype == ST_F32 ? 4 : 2, n_rows = (size_t)(rows / p->step);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t c = 0; c < cols; c++) memcpy(out + (r * cols + c) * each, raw + (c * rows + p->first + r * p->step) * each, each);
    found_term f = {.rows = n_rows, .cols = cols};
    snug_err rc = store_make_write(s, s->made.bytes, out, n_rows * cols * each, err);
    if (!rc) store_make_take(s, codec, &f);
    return rc ? rc : place_part(s, slots, k, p, &f, err);
}

static snug_err place_plain(store *s, store_tensor **slots, const stack *k, uint64_t rows, uint64_t cols, snug_error *err) {
    const st_tensor *t = k->t;
    const uint64_t want[] = {s->cfg.n_experts, cols, rows};
    const size_t bytes = (size_t)(rows * cols) * (t->dtype == ST_F32 ? 4 : 2);
    const snug_codec *codec = NULL;
    snug_err rc = store_float_codec(s, t, &codec, err);
    if (!rc) rc = check_dims(s, t, want, 3, err);
    uint8_t *raw = rc ? NULL : malloc(2 * bytes);
    if (!rc) rc = raw ? store_make_open(s, err) : err_nomem(err, 2 * bytes);
    part list[2];
    for (uint64_t e = 0; e < s->cfg.n_experts && !rc; e++) {
        rc = io_pread(&s->files[t->file], t->offset + e * bytes, raw, bytes, err);
        for (size_t i = 0, n = parts_of(k, (int)e, list); i < n && !rc; i++) rc = make_plain(s, slots, k, &list[i], raw, rows, cols, codec, raw + bytes, err);
    }
    free(raw);
    return rc;
}

/* (experts, 2 n_ff), gate's and up's in turns. */
static snug_err place_biases(store *s, store_tensor **slots, const stack *k, uint64_t rows, snug_error *err) {
    const st_tensor *t = k->t;
    const uint64_t want[] = {s->cfg.n_experts, rows};
    const size_t each = t->dtype == ST_F32 ? 4 : 2, n = (size_t)(s->cfg.n_experts * rows / 2);
    const snug_codec *codec = NULL;
    snug_err rc = store_float_codec(s, t, &codec, err);
    if (!rc) rc = check_dims(s, t, want, 2, err);
    uint8_t *raw = rc ? NULL : malloc(3 * n * each), *out = raw ? raw + 2 * n * each : NULL;
    if (!rc) rc = raw ? store_make_open(s, err) : err_nomem(err, 3 * n * each);
    if (!rc) rc = io_pread(&s->files[t->file], t->offset, raw, 2 * n * each, err);
    part list[2];
    for (size_t i = 0, m = parts_of(k, EXPERT_NONE, list); i < m && !rc; i++) {
        found_term f = {.rows = s->cfg.n_experts, .cols = rows / 2};
        for (size_t j = 0; j < n; j++) memcpy(out + j * each, raw + (2 * j + i) * each, each);
        rc = store_make_write(s, s->made.bytes, out, n * each, err);
        if (!rc) store_make_take(s, codec, &f);
        if (!rc) rc = place_part(s, slots, k, &list[i], &f, err);
    }
    free(raw);
    return rc;
}

snug_err store_turns_place(store *s, store_tensor **slots, const st_tensor *t, snug_error *err) {
    const config *c = &s->cfg;
    stack k = {0};
    stack_of(s, t, &k);
    const uint64_t rows = k.gate_up ? 2ull * c->n_ff : c->n_embd, cols = k.gate_up ? c->n_embd : c->n_ff;
    if (k.form == FORM_BLOCKS) return place_blocks(s, slots, &k, rows, cols, err);
    if (k.form == FORM_PLAIN) return place_plain(s, slots, &k, rows, cols, err);
    if (k.form == FORM_BIAS) return place_biases(s, slots, &k, rows, err);
    if (sibling(s, t)) return SNUG_OK; /* scales go with their blocks */
    return err_set(err, SNUG_ERR_FORMAT, "%s: tensor '%s' has no tensor of blocks beside it", s->files[t->file].path, t->name);
}
