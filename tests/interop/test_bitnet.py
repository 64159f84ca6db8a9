#!/usr/bin/env python3
"""BitNet in GGUF: transformers' logits (tests/golden/bitnet), llama.cpp's and snug's on the same weights, in f32.

Files by snug and by make_gguf.py.  With relu2 gates both must give snug the golden's logits.  llama.cpp reads the gates' kind since 2026 only and
takes silu before, without a word; so the two engines are compared on a copy whose gates are silu.
"""
import json
import pathlib
import shutil
import struct
import sys
import tempfile

import common

BAR = 1e-4
GOLDEN = common.ROOT / "tests/golden/bitnet"


def golden_logits():
    data = (GOLDEN / "logits.bin").read_bytes()
    n, vocab = struct.unpack_from("<II", data, 8)
    return np.frombuffer(data, "<i4", n, 16), np.frombuffer(data, "<f4", n * vocab, 16 + 4 * n).reshape(n, vocab)


def worst(a, b):
    return float((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max())


def main():
    import make_gguf
    tokens, golden = golden_logits()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for gates in ("relu2", "silu"):
            model = pathlib.Path(folder) / gates
            shutil.copytree(GOLDEN, model)
            config = json.loads((model / "config.json").read_text()) | {"hidden_act": gates}
            (model / "config.json").write_text(json.dumps(config))
            files = {"snug": model / "snug.gguf", "gguf": model / "gguf.gguf"}
            common.run(args.snug, "fit", model, "-o", files["snug"], "--for", "gguf", "--pin", "*=f32", "--calib", "none", "--effort", "quick")
            make_gguf.write(model, files["gguf"], "f32")
            for writer, path in files.items():
                ours = common.snug_logits(args, path, tokens, 256, golden.shape[1], act="f32", kv="f32")
                reference = golden
                if gates == "silu":
                    with ggml_oracle.Model(path) as m:
                        reference = m.logits(list(tokens), 256, kv="f32")
                error = worst(ours, reference)
                print(f"{gates}, file by {writer}: snug and {'transformers' if gates == 'relu2' else 'llama.cpp'} differ by {error:.2g}")
                good &= error <= BAR
    return 0 if good else 1


if __name__ == "__main__":
    args = common.arguments(__doc__)
    import numpy as np
    import ggml_oracle
    sys.exit(main())
