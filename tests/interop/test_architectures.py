#!/usr/bin/env python3
"""Architectures in GGUF, both ways.

Goldens of dense architectures, written as GGUF by snug (exact and in 8 bits) and without snug (make_gguf.py): llama.cpp loads each and has
transformers' logits, snug has llama.cpp's on the same file. Mixtures are test_moe.py's.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import common

# Median KL of (transformers || llama.cpp), in f32, and of (llama.cpp || snug). llama.cpp takes GELU from a table of f16, and that of GPT-NeoX by tanh.
BARS = {"f32": 1e-6, "q8_0": 5e-3}
# What a golden says and llama.cpp decides by the architecture is refused; of a copy that says as llama.cpp does, transformers' logits are not known.
USUAL = {"gemma2": {"query_pre_attn_scalar": 16}, "gemma3": {"rope_local_base_freq": 10000.0}, "mamba2": {"time_step_limit": [0.0, float("inf")]}}
WINDOW = {"phi3": 16, "starcoder2": 16}     # which llama.cpp does not have: compared are the tokens before its end
# Text models of those with pictures: snug writes them as text models; in others' files they are named so, and positions of pictures have parts of the dimensions.
SECTIONS = {"qwen2vl": [2, 3, 3, 0], "qwen3vl": [4, 4, 4, 0]}
RENAMED = {"phi3": "short", "phi3_long": "long"}    # of a model named so llama.cpp expects tokens of Phi 3's
NAMES = ("gemma", "gemma2", "gemma3", "gpt2", "gptneox", "gptneox_serial", "granite", "granitehybrid", "llama3", "mamba2", "ministral3", "olmo2", "olmo3", "phi3", "phi3_long", "qwen2", "qwen2_yarn", "qwen2vl", "qwen3", "qwen3vl", "smollm3", "stablelm", "starcoder2")


def judge(name, writer, type_name, path, folder):
    tokens, reference = common.golden(folder)
    tokens, reference = tokens[:WINDOW.get(name)], reference[:WINDOW.get(name)]
    with ggml_oracle.Model(path) as model:
        theirs = model.logits(tokens, 256, kv="f32")
    ours = common.snug_logits(args, path, tokens, 256, reference.shape[1], act="f32" if type_name == "f32" else "q8", kv="f32")
    exact = np.median(common.kl_and_top1(reference, theirs)[0])
    apart = np.median(common.kl_and_top1(theirs, ours)[0])
    ok = max(exact if type_name == "f32" and name not in USUAL else 0, apart) <= BARS[type_name]
    print(f"| {name} | {writer} | {type_name} | {exact:.3g} | {apart:.3g} |" + ("" if ok else f"  FAIL: bar {BARS[type_name]:g}"), flush=True)
    return ok


def usual(folder, options, scratch):
    """A copy of the folder with other options; and whether the folder itself is refused."""
    done = subprocess.run([str(args.snug), "convert", str(folder), "-o", str(scratch / "x.gguf"), "--type", "f32"], capture_output=True, text=True)
    copy = scratch / folder.name
    shutil.copytree(folder, copy)
    config = {**json.loads((copy / "config.json").read_text()), **options}
    (copy / "config.json").chmod(0o644)
    (copy / "config.json").write_text(json.dumps(config))
    return copy, done.returncode == 1 and next(iter(options)) in done.stderr


def main():
    good = True
    print("| model | file by | type | KL(transformers, llama.cpp) | KL(llama.cpp, snug) |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.types or NAMES:
            folder, path = common.ROOT / "tests" / "golden" / name, pathlib.Path(scratch, "a.gguf")
            if name in RENAMED:
                folder = shutil.copytree(folder, pathlib.Path(scratch, RENAMED[name]))
            if name in USUAL:
                folder, refused = usual(folder, USUAL[name], pathlib.Path(scratch))
                print("" if refused else f"{name}: what llama.cpp would compute otherwise was not refused\n", end="")
                good &= refused
            for type_name in BARS:
                common.run(args.snug, "fit", folder, "-o", path, "--for", "gguf", "--pin", f"*={type_name}", "--calib", "none", "--effort", "quick")
                good &= judge(name, "snug", type_name, path, folder)
                if name in SECTIONS:
                    make_gguf.copy(path, path.with_suffix(".vl.gguf"), arch=name, extra={"rope.dimension_sections": SECTIONS[name]})
                    good &= judge(name, "gguf, named so", type_name, path.with_suffix(".vl.gguf"), folder)
                elif name not in ("gpt2", "qwen2_yarn"):
                    make_gguf.write(folder, path, type_name)
                    good &= judge(name, "gguf", type_name, path, folder)
    return 0 if good else 1


if __name__ == "__main__":
    args = common.arguments(__doc__)
    import ggml_oracle
    import make_gguf
    import numpy as np
    sys.exit(main())
