/* Codes of a panel, over the vocabulary of kern/simd/simd.h. */
#include "kern/panel.h"

/* The order of a chunk's words: of planes 0 4 1 5 2 6 3 7, which takes each set of the 4-bit one once. */
KERN_INLINE int word_at_turn(const panel_form f, int i) { return f.bits % 8 && !f.trellis ? i / 2 + 4 * (i % 2) : i; }

/* Loads what sets word j of the chunk at p (already at this pass's rows) is the first to need: those of the 4-bit plane, then of the
 * 2-bit and the 1-bit ones. bits = 0: bytes, the words of these rows alone, one after the other. Each is loaded once: loads are what
 * a few tokens wait for. */
KERN_INLINE void load_sets(const panel_form f, const uint8_t *p, int j, vi *set) {
    const int n4 = f.bits & 4 ? 4 : 0, n2 = f.bits & 2 ? 2 : 0;
    if (f.trellis == TRELLIS_TCQ) {
        const vi u = v_tcq(p + 2 * f.windows->quarters * (unsigned)j, f.windows, f.mask, f.bits - 2);
        set[j] = v_stay(f.bits == 8 ? v_code8(u) : u);
        return;
    }
    if (f.trellis == TRELLIS_BOOKS) { /* as have entries of books */
        if (j % 2) return;
        v_books(p + KERN_PANEL_ROWS * f.n_books * (unsigned)(j / 2), f.books, f.n_books, f.lattice, set + j);
        for (int i = j; i < j + 2; i++) set[i] = v_stay(f.bits == 8 ? v_code8(set[i]) : set[i]);
        return;
    }
    if (f.trellis) { /* a state has columns of two words */
        if (j % 2) return;
        const vi codes = v_tcqf(p + 2 * KERN_PANEL_ROWS * (j / 2));
        set[j] = v_stay(v_lookup(kern_tcqf_stored, v_and(codes, 15)));
        set[j + 1] = v_stay(v_lookup(kern_tcqf_stored, v_and(v_shr(codes, 4), 15)));
        return;
    }
    if (f.bits == 0) set[j] = v_load(p + 4 * LANES * j);
    if (f.bits == 8) set[j] = v_code8(v_load(p + 64 * j));
    if (j < n4) set[j] = v_stay(v_load(p + 64 * j));
    if (j == 0 && n2) set[n4] = v_stay(v_load(p + 64 * n4)), set[n4 + 1] = v_stay(v_load(p + 64 * (n4 + 1)));
    if (j == 0 && f.bits & 1) set[n4 + n2] = v_stay(v_load(p + 64 * (n4 + n2)));
}

KERN_INLINE vi nibble(const vi *set, int j) { return v_and(j < 4 ? set[j] : v_shr(set[j - 4], 4), 15); }

/* The 2-bit and the 1-bit plane's part of word j: fields of 4 bits that hold 3 serve words j and j + 4. */
KERN_INLINE vi three_bits(const vi *set, int j, int up) {
    const int odd = j % 2;
    vi low = set[odd], high = set[2];
    vi both = j % 4 < 2 ? v_select(0x33, low, v_shl(high, 2 - odd)) : v_select(0x33, v_shr(low, 2), odd ? v_shr(high, 1) : high);
    if (up) return v_and(j < 4 ? v_shl(both, 4) : both, 7 << 4);
    return v_and(j < 4 ? both : v_shr(both, 4), 7);
}

/* Codes of word j: those of 8 bits and the table's values less BIAS, of the others the stored ones. */
KERN_INLINE vi code_of(const panel_form f, const vi *set, int j) {
    const int n4 = f.bits & 4 ? 4 : 0;
    if (f.bits == 0 || f.bits == 8 || f.trellis) return set[j];
    if ((f.bits & 3) == 3) return n4 ? v_or(nibble(set, j), three_bits(set + 4, j, 4)) : three_bits(set, j, 0);
    vi u = n4 ? nibble(set, j) : set[0];
    if (f.bits & 2) {
        int down = 2 * (j / 2) - n4;
        vi v = set[n4 + j % 2];
        v = v_and(down >= 0 ? v_shr(v, down) : v_shl(v, -down), 3 << n4);
        u = n4 ? v_or(u, v) : v;
    }
    if (f.bits & 1) u = v_or(u, v_and(j >= n4 ? v_shr(set[n4], j - n4) : v_shl(set[n4], n4 - j), 1 << n4));
    return f.table ? v_iq4(u) : u;
}

/* Word j of the chunk at x of token t of a pass. */
KERN_INLINE const int8_t *word_at(const int8_t *x, int width, size_t ldx, int j, int t) {
    return width == 1 ? x + (size_t)t * ldx + 4 * j : x + 4 * (width * j + t);
}
