#!/usr/bin/env python3
"""Hashes of ggml's decoding of pseudo-random blocks, for tests/kern/test_kern.c (golden_hash). Needs PyPI `gguf`, whose numpy
decoders equal ggml's C bit for bit (tests/interop). Blocks: 64 of them, bytes from a 64-bit LCG (top byte of the state), the
exponent's top bit of each f16 scale cleared so that all is finite. Hash: FNV-1a 64 over the little-endian f32s."""
import gguf, numpy as np
from gguf import GGMLQuantizationType as T

FORMATS = {"q8_0": (34, [0]), "q4_0": (18, [0]), "iq4_nl": (18, [0]), "q2_k": (84, [80, 82]), "q3_k": (110, [108]),
           "q4_k": (144, [0, 2]), "q5_k": (176, [0, 2]), "q6_k": (210, [208]), "iq4_xs": (136, [0]), "tq1_0": (54, [52]), "tq2_0": (66, [64])}
for name, (size, scales) in FORMATS.items():
    state, raw = 1, bytearray()
    for _ in range(64 * size):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        raw.append(state >> 56)
    for b in range(64):
        for s in scales:
            raw[b * size + s + 1] &= 0xBF
    w = gguf.quants.dequantize(np.frombuffer(bytes(raw), np.uint8).reshape(1, -1), getattr(T, name.upper()))
    h = 0xCBF29CE484222325
    for byte in w.astype("<f4").tobytes():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    print(f"    [KERN_{name.upper()}] = 0x{h:016x}u,")
