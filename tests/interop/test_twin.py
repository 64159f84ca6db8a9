#!/usr/bin/env python3
"""The outlier twin (tools/make_twin.py) is the same function as its source, with the outlier channels of large models: a calibrated fit has to
see through them.

1. Kept in bf16, with channels balanced, the twin's fit has KL exactly 0 to one without (f32 cache: f16 has too few exponents).
2. The norms' gains stand nearer to each other in that fit than in the twin: outlier channels were balanced.
3. At 4 bits the twin's KL is at most a fifth above the source's. (Without balance it is more than half above.)
"""
import json
import pathlib
import sys
import tempfile

import common

MOST = 1.2


def kl(args, model, ref, text):
    out = common.run(args.snug, "eval", model, "--against", ref, "--text", text, "--ctx", 256, "--stride", 256, "--act", "f32", "--kv", "f32", "--tokens", 4000, "--json")
    return json.loads(out.decode().strip().splitlines()[-1])["kl_mean"]


def spread(path):
    """Largest over median gain of the first layer's norms."""
    gains = [t.data for t in gguf.GGUFReader(path).tensors if t.name.startswith("blk.0.") and t.name.endswith("norm.weight")]
    return max(float(np.abs(g).max() / np.median(np.abs(g))) for g in gains)


def main():
    args = common.arguments(__doc__)
    text = common.ROOT / "models/demo-text.txt"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        calib = folder / "calib.txt"
        calib.write_text(common.prose(8000))
        twin = folder / "twin"
        common.run(sys.executable, common.ROOT / "tools/make_twin.py", args.model, twin)
        exact, plain = folder / "exact.gguf", folder / "plain.gguf"
        options = ["--for", "gguf", "--pin", "*=bf16", "--calib", calib]
        common.run(args.snug, "fit", twin, "-o", exact, *options)
        common.run(args.snug, "fit", twin, "-o", plain, *options, "--effort", "quick")
        value = kl(args, exact, plain, text)
        assert value == 0, f"KL {value} of a balanced bf16 copy to a plain one"
        before, after = spread(plain), spread(exact)
        print(f"largest over median gain of the first layer's norms: {before:.1f} in the twin, {after:.1f} balanced")
        assert after < before / 2, (before, after)
        values = {}
        for source in (args.model, twin):
            out = folder / "int4.snug"
            common.run(args.snug, "fit", source, "-o", out, "--pin", "*=int4g64", "--calib", calib)
            values[source] = kl(args, out, source, text)
            out.unlink()
        share = values[twin] / values[args.model]
        print(f"KL at int4g64: source {values[args.model]:.6f}, twin {values[twin]:.6f}: {share:.3f}")
        assert share < MOST, share
    return 0


if __name__ == "__main__":
    if not common.import_error:
        import gguf
        import numpy as np
    sys.exit(main())
