/* Any bytes as the config.json of a model: every family's reader, and what is made of a configuration that passes. */
#include "fuzz.h"
#include "model/arch.h"

#include <math.h>

static void check_roles(const config *c, int layer) {
    uint64_t rows, cols;
    for (int r = 0; r < ROLE_COUNT; r++) {
        const int at = role_in_layer((tensor_role)r) ? layer : -1;
        role_shape(c, (tensor_role)r, at, EXPERT_NONE, &rows, &cols);
        FUZZ_CHECK(!role_required(c, (tensor_role)r, at) || role_allowed(c, (tensor_role)r, at));
        FUZZ_CHECK(!role_allowed(c, (tensor_role)r, at) || (rows > 0 && cols > 0 && cols < (uint64_t)1 << 31));
    }
}

static void use(const config *c) {
    snug_error e = {0};
    gguf_kvs kvs = {0};
    FUZZ_CHECK(config_check(c, "config.json", &e) == SNUG_OK);
    for (uint32_t l = 0; l < c->n_layers; l++) FUZZ_CHECK(layer_window(c, l) == 0 || layer_window(c, l) == c->sliding_window);
    check_roles(c, 0);
    check_roles(c, (int)c->n_layers - 1); /* which may be of another kind */
    double *freq = malloc(c->rope_dims / 2 * sizeof *freq);
    for (uint32_t ctx = 1; freq && ctx < 1u << 24; ctx *= 64) {
        rope_inv_freq(c, NULL, false, ctx, freq);
        for (uint32_t i = 0; i < c->rope_dims / 2; i++) FUZZ_CHECK(freq[i] >= 0 && !isnan(freq[i]));
        if (c->rope_base_local != 0) rope_inv_freq(c, NULL, true, ctx, freq);
    }
    free(freq);
    FUZZ_CHECK(config_to_gguf(c, &kvs, &e) == SNUG_OK);
    gguf_kvs_fini(&kvs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static config c;
    json_t *o = NULL;
    snug_error e = {0};
    if (json_read_buffer("config.json", (const char *)data, n, &o, NULL)) return 0;
    const snug_err rc = config_from_json(o, "config.json", &c, &e);
    if (rc) FUZZ_CHECK(e.code == rc && e.message[0]);
    else use(&c);
    json_decref(o);
    return 0;
}
