#!/usr/bin/env python3
"""Writes src/codec/iq_grids.c: the points of the grids of ggml's iq types, from the Python package gguf, as bitmaps (src/codec/read_only.h).

    tools/make_iq_grids.py > src/codec/iq_grids.c
"""
import numpy as np
from gguf import quants

print("/* The points of the grids of ggml's iq types (read_only.h says how). Written by tools/make_iq_grids.py. */\n#include \"codec/read_only.h\"")
for name, kind, words in (("iq2_xxs", quants.IQ2_XXS, 103), ("iq2_xs", quants.IQ2_XS, 103), ("iq2_s", quants.IQ2_S, 103), ("iq1", quants.IQ1_S, 103),
                          ("iq3_xxs", quants.IQ3_XXS, 64), ("iq3_s", quants.IQ3_S, 64)):
    kind.init_grid()
    points, values = np.array(kind.grid).reshape(kind.grid_shape), [float(v) for v in kind.grid_map]
    numbers = [sum(values.index(v) * len(values) ** i for i, v in enumerate(p)) for p in points]
    assert numbers == sorted(set(numbers)), f"{name}: the points do not rise"
    bits = sum(1 << n for n in numbers)
    text = [f"0x{bits >> 64 * i & (1 << 64) - 1:x}" for i in range(words)]
    size = "IQ_TERNARY_WORDS" if words == 103 else "IQ_OCTAL_WORDS"
    print(f"\nconst uint64_t {name}_points[{size}] = {{")
    line = "   "
    for word in text:
        if len(line) + len(word) + 2 > 150:
            print(line)
            line = "   "
        line += f" {word},"
    print(line + "\n};")
