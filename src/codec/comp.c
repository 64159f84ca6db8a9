/* Compositions: the names of a weight's terms joined by '+'. */
#include <string.h>

#include "codec/transform.h"
#include "codec/weight.h"

bool comp_parse(const char *text, comp *out) {
    comp c = {0};
    for (;;) {
        size_t n = strcspn(text, "+");
        char name[CODEC_NAME_MAX];
        if (c.n_terms == WEIGHT_MAX_TERMS || n == 0 || n >= sizeof name) return false;
        memcpy(name, text, n);
        name[n] = '\0';
        comp_term *t = &c.term[c.n_terms++];
        if (!codec_parse(name, &t->codec, &t->params)) return false;
        if (text[n] == '\0') break;
        text += n + 1;
    }
    *out = c;
    return true;
}

void comp_format(const comp *c, char text[COMP_NAME_MAX]) {
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < c->n_terms; i++) { /* 4 names of at most 27 bytes and 3 '+' fit in 128 */
        if (i) text[at++] = '+';
        codec_format(c->term[i].codec, c->term[i].params, text + at);
        at += strlen(text + at);
    }
}

bool comp_equal(const comp *a, const comp *b) {
    if (a->n_terms != b->n_terms) return false;
    for (uint32_t i = 0; i < a->n_terms; i++) {
        const comp_term *s = &a->term[i], *t = &b->term[i];
        if (s->codec != t->codec || s->params.bits != t->params.bits || s->params.group != t->params.group ||
            s->params.rank != t->params.rank || s->params.in != t->params.in) return false;
    }
    return true;
}

bool comp_reads(const comp *c, int transform) {
    for (uint32_t i = 0; i < c->n_terms; i++)
        if (c->term[i].params.in == transform) return true;
    return false;
}

uint64_t comp_term_bytes(const comp *c, uint32_t i, uint64_t rows, uint64_t cols) {
    const codec_params p = c->term[i].params;
    return transform_takes(p.in, cols) ? c->term[i].codec->bytes(p, rows, cols) : 0;
}
