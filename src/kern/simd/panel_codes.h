/* Codes of a panel, over the vocabulary of kern/simd/simd.h. */
#include "kern/panel.h"

/* Codes of word j of the chunk at p (already at this pass's rows), those of 8 bits less BIAS. bits = 0: of a panel taken apart, bytes, the
 * words of these rows alone, one after the other. */
KERN_INLINE vi code_of(const panel_form f, const uint8_t *p, int j) {
    const int s2 = f.bits & 4 ? 4 : 0, s1 = s2 + (f.bits & 2 ? 2 : 0);
    if (f.bits == 0) return v_load(p + 4 * LANES * j);
    if (f.bits == 8) return v_code8(v_load(p + 64 * j));
    vi u = v_load(p);
    if (f.bits & 4) {
        u = v_load(p + 64 * (j % 4));
        u = v_and(j < 4 ? u : v_shr(u, 4), 15);
        p += 256;
    }
    if (f.bits & 2) {
        int down = 2 * (j / 2) - s2;
        vi v = v_load(p + 64 * (j % 2));
        v = v_and(down >= 0 ? v_shr(v, down) : v_shl(v, -down), 3 << s2);
        u = f.bits & 4 ? v_or(u, v) : v;
        p += 128;
    }
    if (f.bits & 1) {
        int down = j - s1;
        vi v = v_load(p);
        u = v_or(u, v_and(down >= 0 ? v_shr(v, down) : v_shl(v, -down), 1 << s1));
    }
    return f.table ? v_iq4(u) : u;
}

/* Word j of the chunk at x of token t of a pass. */
KERN_INLINE const int8_t *word_at(const int8_t *x, int width, size_t ldx, int j, int t) {
    return width == 1 ? x + (size_t)t * ldx + 4 * j : x + 4 * (width * j + t);
}
