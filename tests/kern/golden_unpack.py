#!/usr/bin/env python3
"""Hashes of ggml's decoding of pseudo-random blocks, for tests/kern/test_kern.c (golden_hash) and, of the types that are only read,
tests/unit/test_read_only.c. Needs what tests/interop needs, whose oracle is ggml's C. Blocks: 64 of them, bytes from a 64-bit LCG (top byte
of the state), the exponent's top bit of each f16 scale cleared so that all is finite. Hash: FNV-1a 64 over the little-endian f32s."""
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "interop"))
import ggml_oracle  # noqa: E402

# Where the scales' upper bytes are; of iq1_m the byte that has the upper nibble.
SCALES = {"q8_0": [1], "q4_0": [1], "iq4_nl": [1], "q2_k": [81, 83], "q3_k": [109], "q4_k": [1, 3], "q5_k": [1, 3], "q6_k": [209], "iq4_xs": [1],
          "tq1_0": [53], "tq2_0": [65], "q4_1": [1, 3], "q5_0": [1], "q5_1": [1, 3], "q1_0": [1], "mxfp4": [], "nvfp4": [], "iq2_xxs": [1], "iq2_xs": [1],
          "iq2_s": [1], "iq3_xxs": [1], "iq3_s": [1], "iq1_s": [1], "iq1_m": [55]}
for name, scales in SCALES.items():
    _, _, block, size = ggml_oracle.TYPES[name]
    state, raw = 1, bytearray()
    for _ in range(64 * size):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        raw.append(state >> 56)
    for b in range(64):
        for s in scales:
            raw[b * size + s] &= 0xBF
    w = ggml_oracle.dequantize(name, raw, 1, 64 * block)
    h = 0xCBF29CE484222325
    for byte in w.astype("<f4").tobytes():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    print(f'    {{"{name}", 0x{h:016x}u}},' if name in ggml_oracle.READ_TYPES else f"    [KERN_{name.upper()}] = 0x{h:016x}u,")
