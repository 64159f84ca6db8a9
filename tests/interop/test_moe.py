#!/usr/bin/env python3
"""Mixtures of experts in GGUF, both ways.

The goldens with experts, written as GGUF by snug (experts stacked, exact and in 8 bits) and without snug (make_gguf.py): llama.cpp loads
each and has transformers' logits, snug has llama.cpp's on the same file, and what llama.cpp would compute otherwise is refused.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import common

# Median KL of (transformers || llama.cpp), in f32, and of (llama.cpp || snug). Not the mean: in 8 bits activations are rounded, and where a
# router is torn between two experts that decides, at a few positions. Measured: 2e-11 in f32, up to 3e-3 in 8 bits.
BARS = {"f32": 1e-10, "q8_0": 5e-3, "mxfp4": 5e-3}
NAMES = ("gpt_oss_mxfp4", "granitehybrid_moe", "granitemoe", "mixtral", "olmoe", "qwen2moe", "qwen3moe")


def judge(name, writer, type_name, path, folder):
    tokens, reference = common.golden(folder)
    with ggml_oracle.Model(path) as model:
        theirs = model.logits(tokens, 256, kv="f32")
    ours = common.snug_logits(args, path, tokens, 256, reference.shape[1], act="f32" if type_name == "f32" else "q8", kv="f32")
    exact = np.median(common.kl_and_top1(reference, theirs)[0])
    apart = np.median(common.kl_and_top1(theirs, ours)[0])
    ok = max(exact if type_name == "f32" else 0, apart) <= BARS[type_name]
    print(f"| {name} | {writer} | {type_name} | {exact:.3g} | {apart:.3g} |" + ("" if ok else f"  FAIL: bar {BARS[type_name]:g}"), flush=True)
    return ok


def refused(folder, scratch):
    """Shares that llama.cpp would normalise, or would not, whatever the file says."""
    copy = scratch / "other"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    config["norm_topk_prob"] = not config["norm_topk_prob"]
    (copy / "config.json").chmod(0o644)
    (copy / "config.json").write_text(json.dumps(config))
    done = subprocess.run([str(args.snug), "export", str(copy), "-o", str(scratch / "x.gguf")], capture_output=True, text=True)
    shutil.rmtree(copy)
    return done.returncode == 1 and "shares" in done.stderr and "--for gguf" in done.stderr


def main():
    good = True
    print("| model | file by | type | KL(transformers, llama.cpp) | KL(llama.cpp, snug) |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for name in NAMES:
            folder, path = common.ROOT / "tests" / "golden" / name, pathlib.Path(scratch, "a.gguf")
            for type_name in ("f32", "q8_0"):
                common.run(args.snug, "fit", folder, "-o", path, "--for", "gguf", "--pin", f"*={type_name}", "--calib", "none", "--effort", "quick")
                good &= judge(name, "snug", type_name, path, folder)
                make_gguf.write(folder, path, type_name)
                good &= judge(name, "gguf", type_name, path, folder)
            if name == "gpt_oss_mxfp4":    # experts as they are
                common.run(args.snug, "export", folder, "-o", path)
                good &= judge(name, "snug", "mxfp4", path, folder)
                make_gguf.write(folder, path, lambda tensor: "mxfp4" if "_exps" in tensor else "f32")
                good &= judge(name, "gguf", "mxfp4", path, folder)
            elif "norm_topk_prob" in json.loads((folder / "config.json").read_text()) and not refused(folder, pathlib.Path(scratch)):
                print(f"{name}: a GGUF of shares that llama.cpp computes otherwise was not refused")
                good = False
    return 0 if good else 1


if __name__ == "__main__":
    args = common.arguments(__doc__)
    import ggml_oracle
    import make_gguf
    import numpy as np
    sys.exit(main())
