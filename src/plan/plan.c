/* The plan as a JSON file: made by fit, read and edited by people, replayed by fit. One line per tensor:
 *
 *     { "snug_plan": 1, "target": "snug", ... "tensors": [
 *       {"tensor": "blk.0.attn_q.weight", "codec": "int4g64", "rows": 256, "cols": 256, "bytes": ...},
 *
 * Only "tensor" and "codec" of an entry decide anything; the rest tells the reader what was known when the plan was made, and
 * may be left out of a file written by hand. Anything else in the file is ignored. */
#include "plan/plan.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PLAN_VERSION = 1, MAX_ENTRIES = 1 << 20 };
static const size_t MAX_PLAN_BYTES = 256u << 20;

static bool put_string(buf *b, const char *s) {
    json_t *j = json_string(s);
    if (!j) j = json_string(""); /* not UTF-8: only notes can be, and they decide nothing */
    char *text = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    json_decref(j);
    bool ok = text && buf_append_str(b, text);
    free(text);
    return ok;
}

static bool put_entry(buf *b, const plan_entry *e, bool last) {
    char name[COMP_NAME_MAX];
    comp_format(&e->comp, name);
    bool ok = buf_append_str(b, "    {\"tensor\": ") && put_string(b, e->tensor) && buf_append_str(b, ", \"codec\": ") && put_string(b, name) &&
              buf_printf(b, ", \"rows\": %llu, \"cols\": %llu, \"bytes\": %llu", (unsigned long long)e->rows, (unsigned long long)e->cols,
                         (unsigned long long)e->bytes) &&
              buf_printf(b, ", \"rel_error\": %.6g, \"sensitivity\": %.6g, \"loss\": %.17g", e->rel_error, e->sensitivity, e->loss);
    for (size_t i = 0; i < e->n_tokens && ok; i++)
        ok = buf_printf(b, "%s%llu%s", i ? ", " : e->n_tokens > 1 ? ", \"tokens\": [" : ", \"tokens\": ", (unsigned long long)e->tokens[i],
                        i + 1 == e->n_tokens && e->n_tokens > 1 ? "]" : "");
    if (ok && e->note && *e->note) ok = buf_append_str(b, ", \"note\": ") && put_string(b, e->note);
    return ok && buf_append_str(b, last ? "}\n" : "},\n");
}

snug_err plan_save(const plan *p, const char *path, snug_error *err) {
    buf b = {0};
    bool ok = buf_printf(&b, "{\n  \"snug_plan\": %d,\n  \"target\": ", PLAN_VERSION) && put_string(&b, p->target) &&
              buf_append_str(&b, ",\n  \"calib\": ") && put_string(&b, p->calib) &&
              buf_printf(&b, ",\n  \"seed\": %llu,\n  \"source_fingerprint\": \"%016llx\",\n", (unsigned long long)p->seed,
                         (unsigned long long)p->source_fingerprint) &&
              buf_printf(&b, "  \"run_work\": {\"multiply_adds\": %llu, \"transform_adds\": %llu},\n", (unsigned long long)p->run_work.multiply_adds,
                         (unsigned long long)p->run_work.transform_adds) &&
              buf_printf(&b, "  \"budget_bytes\": %llu,\n  \"file_bytes\": %llu,\n  \"predicted_kl\": %.6g,\n  \"tensors\": [\n",
                         (unsigned long long)p->budget_bytes, (unsigned long long)p->file_bytes, p->predicted_kl);
    for (size_t i = 0; i < p->n && ok; i++) ok = put_entry(&b, &p->entry[i], i + 1 == p->n);
    ok = ok && buf_append_str(&b, "  ]\n}\n");
    snug_err rc = ok ? SNUG_OK : err_nomem(err, b.len);
    io_writer w = {.fd = -1};
    if (rc == SNUG_OK) rc = io_writer_open(path, false, false, &w, err);
    if (rc == SNUG_OK) rc = io_writer_write(&w, b.data, b.len, err);
    if (rc == SNUG_OK) rc = io_writer_commit(&w, err);
    io_writer_abort(&w);
    buf_fini(&b);
    return rc;
}

static snug_err read_string(const json_t *obj, const char *path, const char *key, char *dst, size_t cap, snug_error *err) {
    const char *s = json_string_value(json_object_get(obj, key));
    if (!s) {
        if (json_object_get(obj, key)) return err_set(err, SNUG_ERR_FORMAT, "%s: \"%s\" is not a string", path, key);
        return SNUG_OK;
    }
    if (strlen(s) >= cap) return err_set(err, SNUG_ERR_FORMAT, "%s: \"%s\" is longer than %zu bytes", path, key, cap - 1);
    memcpy(dst, s, strlen(s) + 1);
    return SNUG_OK;
}

static snug_err read_entry(plan *p, const json_t *j, size_t i, const char *path, snug_error *err) {
    char where[600];
    snprintf(where, sizeof where, "%.500s: tensors[%zu]", path, i);
    plan_entry *e = &p->entry[i];
    const char *tensor, *codec;
    if (!json_is_object(j)) return err_set(err, SNUG_ERR_FORMAT, "%s: is not an object", where);
    snug_err rc = json_get_string(j, where, "tensor", &tensor, err);
    if (rc == SNUG_OK) rc = json_get_string(j, where, "codec", &codec, err);
    if (rc == SNUG_OK && !comp_parse(codec, &e->comp)) rc = err_set(err, SNUG_ERR_FORMAT, "%s: \"%.64s\" is no codec that snug knows", where, codec);
    if (rc == SNUG_OK) rc = json_get_u64_or(j, where, "rows", 0, &e->rows, err);
    if (rc == SNUG_OK) rc = json_get_u64_or(j, where, "cols", 0, &e->cols, err);
    if (rc == SNUG_OK) rc = json_get_u64_or(j, where, "bytes", 0, &e->bytes, err);
    if (rc == SNUG_OK) rc = json_get_double_or(j, where, "rel_error", -1, &e->rel_error, err);
    if (rc == SNUG_OK) rc = json_get_double_or(j, where, "sensitivity", -1, &e->sensitivity, err);
    if (rc == SNUG_OK) rc = json_get_double_or(j, where, "loss", -1, &e->loss, err);
    if (rc != SNUG_OK) return rc;
    const char *note = json_string_value(json_object_get(j, "note"));
    e->tensor = arena_strdup(&p->mem, tensor);
    e->note = arena_strdup(&p->mem, note ? note : "");
    return e->tensor && e->note ? SNUG_OK : err_nomem(err, strlen(tensor));
}

static snug_err read_header(plan *p, const json_t *root, const char *path, snug_error *err) {
    uint64_t version;
    if (!json_is_object(root)) return err_set(err, SNUG_ERR_FORMAT, "%s: is not a plan: the file is not a JSON object", path);
    snug_err rc = json_get_u64(root, path, "snug_plan", &version, err);
    if (rc == SNUG_OK && (version < 1 || version > PLAN_VERSION))
        rc = err_set(err, SNUG_ERR_UNSUPPORTED, "%s: plan version %llu, expected %d", path, (unsigned long long)version, PLAN_VERSION);
    if (rc == SNUG_OK) rc = read_string(root, path, "target", p->target, sizeof p->target, err);
    if (rc == SNUG_OK) rc = read_string(root, path, "calib", p->calib, sizeof p->calib, err);
    if (rc == SNUG_OK) rc = json_get_u64_or(root, path, "seed", 0, &p->seed, err);
    if (rc == SNUG_OK) rc = json_get_u64_or(root, path, "budget_bytes", 0, &p->budget_bytes, err);
    if (rc == SNUG_OK) rc = json_get_u64_or(root, path, "file_bytes", 0, &p->file_bytes, err);
    if (rc == SNUG_OK) rc = json_get_double_or(root, path, "predicted_kl", -1, &p->predicted_kl, err);
    char hex[32] = "0";
    if (rc == SNUG_OK) rc = read_string(root, path, "source_fingerprint", hex, sizeof hex, err);
    p->source_fingerprint = strtoull(hex, NULL, 16);
    return rc;
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static snug_err check_unique(const plan *p, const char *path, snug_error *err) {
    const char **name = malloc((p->n + 1) * sizeof *name);
    if (!name) return err_nomem(err, p->n * sizeof *name);
    for (size_t i = 0; i < p->n; i++) name[i] = p->entry[i].tensor;
    qsort(name, p->n, sizeof *name, by_name);
    snug_err rc = SNUG_OK;
    for (size_t i = 1; i < p->n && rc == SNUG_OK; i++)
        if (strcmp(name[i - 1], name[i]) == 0) rc = err_set(err, SNUG_ERR_FORMAT, "%s: the tensor \"%.128s\" is named twice", path, name[i]);
    free(name);
    return rc;
}

snug_err plan_load(const char *path, plan **out, snug_error *err) {
    json_t *root = NULL;
    plan *p = NULL;
    *out = NULL;
    snug_err rc = json_read_file(path, MAX_PLAN_BYTES, &root, err);
    if (rc != SNUG_OK) return rc;
    const json_t *tensors = json_object_get(root, "tensors");
    p = calloc(1, sizeof *p);
    if (!p) rc = err_nomem(err, sizeof *p);
    if (rc == SNUG_OK) rc = read_header(p, root, path, err);
    if (rc == SNUG_OK && !json_is_array(tensors)) rc = err_set(err, SNUG_ERR_FORMAT, "%s: \"tensors\" is missing or not an array", path);
    if (rc == SNUG_OK && json_array_size(tensors) > MAX_ENTRIES)
        rc = err_set(err, SNUG_ERR_FORMAT, "%s: %zu tensors, expected at most %d", path, json_array_size(tensors), MAX_ENTRIES);
    if (rc == SNUG_OK) {
        p->n = json_array_size(tensors);
        p->entry = arena_calloc(&p->mem, p->n ? p->n : 1, sizeof *p->entry);
        if (!p->entry) rc = err_nomem(err, p->n * sizeof *p->entry);
    }
    for (size_t i = 0; rc == SNUG_OK && i < p->n; i++) rc = read_entry(p, json_array_get(tensors, i), i, path, err);
    if (rc == SNUG_OK) rc = check_unique(p, path, err);
    json_decref(root);
    if (rc != SNUG_OK) plan_destroy(&p);
    *out = p;
    return rc;
}

void plan_destroy(plan **p) {
    if (!*p) return;
    arena_fini(&(*p)->mem);
    free(*p);
    *p = NULL;
}
