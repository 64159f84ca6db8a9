#!/usr/bin/env python3
"""DeepSeek in GGUF, both ways.

The golden of V3, written by snug (kv_b of all heads) and without snug (make_gguf.py: kv_b, or the two stacks of newer converters): llama.cpp loads each and has
transformers' logits, snug has llama.cpp's on the same file. The goldens of V2 have what llama.cpp computes otherwise, and are refused; copies that have not are
compared with llama.cpp alone: one that picks experts without groups, one with the 26 layers by which it knows a model without a latent for queries.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import common

# Median KL; see test_moe.py. Of 26 random layers rounding to 8 bits leaves little, so that one is compared in f32.
BARS = {"f32": 1e-10, "q8_0": 5e-3}


def judge(name, writer, type_name, path, folder, exact):
    tokens, reference = common.golden(folder)
    with ggml_oracle.Model(path) as model:
        theirs = model.logits(tokens, 256, kv="f32")
    ours = common.snug_logits(args, path, tokens, 256, reference.shape[1], act="f32" if type_name == "f32" else "q8", kv="f32")
    of_transformers = np.median(common.kl_and_top1(reference, theirs)[0]) if exact else 0
    apart = np.median(common.kl_and_top1(theirs, ours)[0])
    ok = max(of_transformers if type_name == "f32" else 0, apart) <= BARS[type_name]
    print(f"| {name} | {writer} | {type_name} | {of_transformers:.3g} | {apart:.3g} |" + ("" if ok else f"  FAIL: bar {BARS[type_name]:g}"), flush=True)
    return ok


def by_all(name, folder, path, types, exact):
    good = True
    for type_name in types:
        common.run(args.snug, "fit", folder, "-o", path, "--for", "gguf", "--pin", f"*={type_name}", "--calib", "none", "--effort", "quick")
        good &= judge(name, "snug", type_name, path, folder, exact)
        for split in (False, True):
            make_gguf.write(folder, path, type_name, split=split)
            good &= judge(name, "gguf, k_b and v_b" if split else "gguf, kv_b", type_name, path, folder, exact)
    return good


def altered(name, scratch, **options):
    """A copy of a golden whose config.json says otherwise."""
    copy = shutil.copytree(common.ROOT / "tests" / "golden" / name, scratch / name)
    config = {**json.loads((copy / "config.json").read_text()), **options}
    (copy / "config.json").chmod(0o644)
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def stretched(name, scratch, n_layers):
    """A copy of a golden whose last layer stands there as often as that takes."""
    copy = altered(name, scratch, num_hidden_layers=n_layers)
    tensors = {}
    for key, w in make_gguf.read_tensors(copy).items():
        tensors[key] = w
        if key.startswith("model.layers.2."):
            tensors.update({key.replace("layers.2.", f"layers.{i}."): w for i in range(3, n_layers)})
    header, at = {}, 0
    for key, w in tensors.items():
        header[key] = {"dtype": "F32", "shape": list(w.shape), "data_offsets": [at, at + w.nbytes]}
        at += w.nbytes
    text = json.dumps(header).encode()
    file = copy / "model.safetensors"
    file.chmod(0o644)
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(np.ascontiguousarray(w, "<f4").tobytes() for w in tensors.values()))
    return copy


def refused(name, word, scratch):
    folder = common.ROOT / "tests" / "golden" / name
    done = subprocess.run([str(args.snug), "export", str(folder), "-o", str(scratch / "x.gguf")], capture_output=True, text=True)
    ok = done.returncode == 1 and word in done.stderr and "--for gguf" in done.stderr
    if not ok:
        print(f"{name}: a GGUF that llama.cpp computes otherwise was not refused: {done.stderr}")
    return ok


def main():
    print("| model | file by | type | KL(transformers, llama.cpp) | KL(llama.cpp, snug) |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        path = scratch / "a.gguf"
        good = by_all("deepseek3", common.ROOT / "tests" / "golden" / "deepseek3", path, BARS, True)
        good &= refused("deepseek2", "groups", scratch) and refused("deepseek2_lite", "q_lora_rank", scratch)
        good &= by_all("deepseek2 without groups", altered("deepseek2", scratch, topk_method="greedy"), path, BARS, False)
        good &= by_all("deepseek2_lite of 26 layers", stretched("deepseek2_lite", scratch, 26), path, ("f32",), False)
    return 0 if good else 1


if __name__ == "__main__":
    args = common.arguments(__doc__)
    import ggml_oracle
    import make_gguf
    import numpy as np
    sys.exit(main())
