#!/usr/bin/env python3
"""Does snug decode every GGUF type to the bits that ggml decodes it to, and does llama.cpp load what snug writes?

1. Of every type, those that snug only reads included: payloads of random codes and random finite scales (tiny, huge, denormal, negative, zero), and payloads encoded by ggml: snug's
   decoder and ggml's must agree in every bit.
2. `snug fit --pin '*=TYPE' --for gguf`: every tensor of the file is decoded by both, in every bit; against the source it must be
   the same matrix up to the type's error (layout, RoPE order); llama.cpp loads the file and its logits are finite.
"""
import pathlib
import sys
import tempfile

import common

# Where a block keeps its f16 scales.
SCALES = {"q8_0": (0,), "q4_0": (0,), "q2_k": (80, 82), "q3_k": (108,), "q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,), "iq4_nl": (0,),
          "iq4_xs": (0,), "tq1_0": (52,), "tq2_0": (64,), "q4_1": (0, 2), "q5_0": (0,), "q5_1": (0, 2), "q1_0": (0,), "mxfp4": (), "nvfp4": (),
          "iq2_xxs": (0,), "iq2_xs": (0,), "iq2_s": (0,), "iq3_xxs": (0,), "iq3_s": (0,), "iq1_s": (0,), "iq1_m": ()}


def random_payload(rng, type_name, n_rows, n_cols):
    _, _, block, size = ggml_oracle.TYPES[type_name]
    data = rng.integers(0, 256, (n_rows * n_cols // block, size), np.uint8)
    for at in SCALES[type_name]:
        bits = rng.integers(0, 1 << 16, len(data), np.uint16)
        bits[(bits & 0x7C00) == 0x7C00] ^= 0x4000        # no infinities, no NaN
        bits[::7] = rng.choice(np.array([0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x7BFF, 0xFBFF, 0x3C00], np.uint16), len(bits[::7]))
        data[:, at:at + 2] = bits.view(np.uint8).reshape(-1, 2)
    if type_name == "iq1_m":  # its f16's nibbles lie above four others: none of the highest exponent's
        data[:, 55] &= 0xBF
    return data.tobytes()


def same_bits(what, ours, theirs):
    different = np.flatnonzero(ours.reshape(-1).view(np.uint32) != theirs.reshape(-1).view(np.uint32))
    if len(different):
        i = int(different[0])
        print(f"FAIL {what}: {len(different)} of {ours.size} values differ, first at {i}: snug {ours.flat[i]!r}, ggml {theirs.flat[i]!r}")
    return not len(different)


def check_payloads(args, type_name):
    rng, good = np.random.default_rng(7), True
    n_rows, n_cols = 24, 1024
    payloads = {"random payload": random_payload(rng, type_name, n_rows, n_cols)}
    w = rng.standard_normal((n_rows, n_cols)).astype(np.float32) * np.exp(rng.standard_normal((n_rows, 1)) * 4).astype(np.float32)
    w[3], w[4, ::2] = 0, 0
    importance = np.ones(n_cols, np.float32) if type_name in ggml_oracle.NEED_IMPORTANCE else None
    payloads["payload encoded by ggml"] = ggml_oracle.quantize(type_name, w, importance)
    for what, payload in payloads.items():
        ours = common.snug_dequantize(args, type_name, payload, n_rows, n_cols)
        good &= same_bits(f"{type_name}, {what}", ours, ggml_oracle.dequantize(type_name, payload, n_rows, n_cols))
    return good


def check_file(args, type_name, folder, source):
    import gguf
    out, good, checked = folder / f"{type_name}.gguf", True, 0
    common.fit_pinned(args, type_name, out)
    for t in gguf.GGUFReader(out).tensors:
        kind, cols = t.tensor_type.name.lower(), int(t.shape[0])
        rows = t.n_elements // cols
        if kind == type_name:
            checked += 1
        theirs = ggml_oracle.dequantize(kind, t.data.tobytes(), rows, cols)
        if kind in SCALES:
            good &= same_bits(f"{type_name} file, {t.name}", common.snug_dequantize(args, kind, t.data.tobytes(), rows, cols), theirs)
        w = source[t.name].reshape(rows, cols)
        error = np.square(theirs - w).sum() / max(np.square(w).sum(), 1e-30)
        if not error < (0.25 if kind.startswith("tq") else 0.2):
            print(f"FAIL {type_name} file, {t.name}: relative squared error {error:.3g} against the source")
            good = False
    with ggml_oracle.Model(out) as model:
        logits = model.logits(model.tokenize("Once upon a time there was a house by the sea."), 256)
    if not np.isfinite(logits).all():
        print(f"FAIL {type_name} file: llama.cpp's logits are not finite")
        good = False
    if not checked:
        print(f"FAIL {type_name} file: no tensor has the type")
    return good and checked > 0


def main():
    import json
    import make_gguf
    config = json.loads((args.model / "config.json").read_text())
    source = {}
    for name, w in make_gguf.read_tensors(args.model).items():
        if config["model_type"] == "llama" and (".q_proj." in name or ".k_proj." in name):
            w = make_gguf.interleave(w, config["num_attention_heads" if ".q_proj." in name else "num_key_value_heads"])
        source[make_gguf.gguf_name(name)] = w
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for type_name in [t for t in args.types or common.FILE_TYPES if t not in ggml_oracle.READ_TYPES]:
            ok = type_name not in SCALES or check_payloads(args, type_name)
            ok = check_file(args, type_name, pathlib.Path(folder), source) and ok
            print(f"{type_name}: {'same bits, loads' if ok else 'FAILED'}")
            good &= ok
    for type_name in args.types or ggml_oracle.READ_TYPES:
        if type_name in ggml_oracle.READ_TYPES:
            ok = check_payloads(args, type_name)
            print(f"{type_name}: {'same bits' if ok else 'FAILED'}")
            good &= ok
    return 0 if good else 1


if __name__ == "__main__":
    args = common.arguments(__doc__)
    import numpy as np
    import ggml_oracle
    sys.exit(main())
