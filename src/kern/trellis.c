/* Trellis codes one chunk of a row at a time, for who decodes or refers; dots take many states at once (kern/simd/panel_codes.h). */
#include "kern/trellis.h"

#include "base/f16.h"

#include <string.h>

float kern_trellis_d(const uint8_t *panel, size_t r) {
    uint16_t d;
    memcpy(&d, panel + 2 * r, sizeof d);
    return bf16_to_f32(d);
}

kern_tcq_rates kern_tcq_rates_of(const uint8_t *panel, unsigned form, size_t n_chunks) {
    const unsigned quarters = kern_tcq_quarters(form), shift = kern_tcq_shift(form);
    const size_t band = (size_t)1 << shift;
    const kern_tcq_rates own = {panel + TCQ_RATES, quarters, shift}, all = {NULL, quarters, shift};
    size_t sum = 0;
    for (size_t c = 0; c < n_chunks; c += band) {
        const unsigned rate = kern_tcq_rate(own, c);
        if (rate < TCQ_QUARTERS_MIN || rate > TCQ_QUARTERS_MAX) return all; /* below 0 is far above */
        sum += rate * (n_chunks - c < band ? n_chunks - c : band);
    }
    return sum == quarters * n_chunks ? own : all;
}

kern_tcq_walk kern_tcq_begin(const uint8_t *panel, unsigned form, size_t n_chunks) {
    const uint8_t *at = panel + kern_tcq_mask_at(form, n_chunks);
    return (kern_tcq_walk){kern_tcq_rates_of(panel, form, n_chunks), at, 0, at[0] | (unsigned)at[1] << 8, kern_tcq_fields(kern_tcq_quarters(form))};
}

void kern_tcq_next(kern_tcq_walk *w, size_t r, int8_t q[32]) {
    const unsigned rate = kern_tcq_rate(w->rates, w->chunk++), fields = w->fields;
    const int zero = kern_tcq_zero(fields);
    uint16_t x[32];
    for (size_t i = 0; i < 32; i++) {
        const size_t state = i / TCQ_WORD * TCQ_WORD * KERN_PANEL_ROWS + TCQ_WORD * r + i % TCQ_WORD, from = (state + 1) * rate / 4;
        const uint8_t *at = w->at + from / 8;
        const unsigned last = from % 8 ? at[2] : 0;
        x[i] = (uint16_t)(((at[0] | (unsigned)at[1] << 8 | last << 16) >> from % 8) & w->mask);
    }
    for (size_t i = 0; i < 32; i++) q[i] = (int8_t)((int)kern_tcq_code(x[i], fields) - zero); /* apart, so that compilers take many at once */
    w->at += kern_tcq_chunk_bytes(rate);
}

kern_tcq_windows kern_tcq_window[2][TCQ_QUARTERS_MAX + 1];

/* Lane l of register v. */
static void fill_lane(kern_tcq_windows *w, bool wide, unsigned v, unsigned l) {
    enum { STATE = 16 };
    const int first = 8 * (2 * (int)l + (int)v), q = (int)w->quarters, end = (first + 8) * q / 4;
    int from; /* where the lane's bytes begin, in bits */
    if (wide) {
        from = ((first + 1) * q / 4 - STATE + 32) / 32 * 32 - 32;
        for (int k = 0; k < 4; k++) w->dword[v][4 * l + (unsigned)k] = (uint32_t)(from / 32 + 1 + k);
    } else from = 8 * (w->from[first / 8] = (end + 7) / 8 - 16);
    for (int pair = 0; pair < 4; pair++) {
        const int a = (first + 2 * pair + 1) * q / 4 - STATE - from, b = (first + 2 * pair + 2) * q / 4 - STATE - from, byte = a / 8;
        for (int k = 0; k < 4; k++) w->index[v][16 * l + 4 * (unsigned)pair + (unsigned)k] = (uint8_t)(byte + k < 16 ? byte + k : 0x80);
        w->down[v][4 * l + (unsigned)pair] = (uint32_t)(a - 8 * byte);
        w->up[v][4 * l + (unsigned)pair] = (uint32_t)(STATE - (b - 8 * byte));
    }
}
void kern_tcq_init(void) {
    for (unsigned wide = 0; wide < 2; wide++)
        for (unsigned q = TCQ_QUARTERS_MIN; q <= TCQ_QUARTERS_MAX; q++) {
            kern_tcq_window[wide][q].quarters = q;
            for (unsigned i = 0; i < (wide ? 8 : 4); i++) fill_lane(&kern_tcq_window[wide][q], wide, i % 2, i / 2);
        }
}

void kern_tcqf_chunk(const uint8_t *panel, size_t c, size_t r, int8_t q[32]) {
    const uint8_t *at = panel + TCQF_HEAD + TCQF_CHUNK * c + 2 * r;
    for (int w = 0; w < 4; w++, at += 2 * KERN_PANEL_ROWS)
        for (int h = 0; h < 2; h++) {
            const unsigned p = kern_tcqf_code(at[h - 1], at[h]);
            for (int i = 0; i < 4; i++) q[8 * w + kern_tcqf_column(h, i)] = (int8_t)kern_tcqf_level(p >> 4 * i & 15);
        }
}
