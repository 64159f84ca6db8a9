/* The table of architectures, put together from the families' files, and what readers of these have in common. */
#include "model/arch.h"

#include "base/buf.h"
#include "base/err.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define FAMILY(stem) extern const arch arch_##stem[];
#include "model/families.h" /* made by the build from the names of src/model/arch/ */
#undef FAMILY
#define FAMILY(stem) arch_##stem,
static const arch *const families[] = {
#include "model/families.h"
};
#undef FAMILY
enum { N_FAMILIES = sizeof families / sizeof *families };

/* All rows, one after the other. */
static const arch *next(size_t *family, size_t *row) {
    while (*family < N_FAMILIES) {
        const arch *a = &families[*family][*row];
        if (a->gguf_name) {
            (*row)++;
            return a;
        }
        (*family)++;
        *row = 0;
    }
    return NULL;
}

const arch *arch_by_hf_class(const char *name) {
    const arch *a;
    for (size_t f = 0, r = 0; (a = next(&f, &r));)
        if (!strcmp(a->hf_class, name)) return a;
    return NULL;
}

/* A name that says which it is (qwen3moe) is found either way: the check of the configuration tells of missing experts. */
const arch *arch_by_gguf_name(const char *name, bool experts) {
    const arch *other = NULL, *a;
    for (size_t f = 0, r = 0; (a = next(&f, &r));) {
        if (strcmp(a->gguf_name, name) && (!a->gguf_also || strcmp(a->gguf_also, name))) continue;
        if ((a->experts != NULL) == experts) return a;
        if (!other) other = a;
    }
    return other;
}

/* ---- names for messages ---- */

enum { MAX_NEAR = 3, LEAST_PREFIX = 3 };

/* Letters that two names begin with alike, in either case. */
static size_t common_prefix(const char *a, const char *b) {
    size_t n = 0;
    while (a[n] && tolower((unsigned char)a[n]) == tolower((unsigned char)b[n])) n++;
    return n;
}

/* Is this row the first to have its GGUF name? Several may: "llama" is Llama's, Mistral's and Mixtral's. */
static bool is_first_of_gguf(const arch *row) {
    const arch *a;
    for (size_t f = 0, r = 0; (a = next(&f, &r)) && a != row;)
        if (!strcmp(a->gguf_name, row->gguf_name)) return false;
    return true;
}

/* "near it: A, B; docs/models.md lists all 27": there are too many to name them all. Versions of a family begin alike. */
static const char *known(const char *name, bool gguf, char text[ARCH_KNOWN_MAX]) {
    const char *near[MAX_NEAR];
    size_t n_near = 0, n = 0;
    const arch *a;
    for (size_t f = 0, r = 0; (a = next(&f, &r));) {
        if (gguf && !is_first_of_gguf(a)) continue;
        const char *own = gguf ? a->gguf_name : a->hf_class;
        size_t at = n_near;
        n++;
        while (at > 0 && common_prefix(near[at - 1], name) < common_prefix(own, name)) at--;
        if (common_prefix(own, name) < LEAST_PREFIX || at == MAX_NEAR) continue;
        n_near += n_near < MAX_NEAR;
        memmove(&near[at + 1], &near[at], (n_near - 1 - at) * sizeof *near);
        near[at] = own;
    }
    text[0] = 0;
    for (size_t i = 0, len = 0; i < n_near; i++, len = strlen(text)) snprintf(text + len, ARCH_KNOWN_MAX - len, "%s%s%s", i ? ", " : "near it: ", near[i], i + 1 < n_near ? "" : "; ");
    const size_t len = strlen(text);
    snprintf(text + len, ARCH_KNOWN_MAX - len, "docs/models.md lists all %zu", n);
    return text;
}

const char *arch_known_hf(const char *name, char text[ARCH_KNOWN_MAX]) { return known(name, false, text); }
const char *arch_known_gguf(const char *name, char text[ARCH_KNOWN_MAX]) { return known(name, true, text); }

void config_defaults(config *c) {
    const arch *a = c->arch;
    c->head_dim = a->head_dim;
    c->rope_base = a->rope_base ? a->rope_base : 1e4;
    c->tied = a->tied;
    c->act = a->act;
    c->norm_eps = 1e-6f;
    c->embd_scale = c->residual_scale = c->logit_scale = 1;
    c->rope_magnitude = 1;
}

void layers_set(config *c, layer_kind kind, uint32_t from, uint32_t every) {
    for (uint32_t l = from; l < c->n_layers && l < CONFIG_MAX_LAYERS; l++)
        if (every == 0 || (l + 1) % every) c->layer[l] |= (uint8_t)kind;
}

void layers_local_rope(config *c, double base) {
    c->rope_base_local = base;
    for (uint32_t l = 0; l < c->n_layers && l < CONFIG_MAX_LAYERS; l++)
        if (c->layer[l] & LAYER_WINDOW) c->layer[l] |= LAYER_LOCAL_ROPE;
}

static const char *const activations[ACT_COUNT] = {[ACT_SILU] = "silu", [ACT_RELU2] = "relu2", [ACT_GELU] = "gelu_pytorch_tanh", [ACT_GELU_ERF] = "gelu"};
const char *activation_name(activation a) { return activations[a]; }

static const char *key_for(const config *c, const char *suffix, char key[128]) {
    snprintf(key, 128, "%s.%s", c->arch->gguf_name, suffix);
    return key;
}

bool arch_put_u32(const config *c, gguf_kvs *out, const char *suffix, uint32_t value) {
    char key[128];
    return gguf_put_u32(out, key_for(c, suffix, key), value);
}

bool arch_put_f32(const config *c, gguf_kvs *out, const char *suffix, double value) {
    char key[128];
    return gguf_put_f32(out, key_for(c, suffix, key), (float)value);
}

bool arch_put_str(const config *c, gguf_kvs *out, const char *suffix, const char *value) {
    char key[128];
    return gguf_put_str(out, key_for(c, suffix, key), value, strlen(value));
}
