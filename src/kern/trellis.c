/* Trellis codes one chunk of a row at a time, for who decodes or refers; dots take many states at once (kern/simd/panel_codes.h). */
#include "kern/trellis.h"

#include "base/f16.h"

#include <string.h>

float kern_tcq2_chunk(const uint8_t *panel, size_t c, size_t r, int8_t q[32]) {
    const uint8_t *at = panel + TCQ2_HEAD + TCQ2_CHUNK * c + 2 * r;
    for (int w = 0; w < 4; w++, at += 2 * KERN_PANEL_ROWS)
        for (int h = 0; h < 2; h++) {
            const unsigned p = kern_tcq2_code(at[h - 1], at[h]);
            for (int i = 0; i < 4; i++) q[8 * w + kern_tcq2_column(h, i)] = (int8_t)kern_tcq2_level(p >> 4 * i & 15);
        }
    uint16_t d;
    memcpy(&d, panel + 2 * r, sizeof d);
    return bf16_to_f32(d);
}
