#!/usr/bin/env python3
"""GGUF files of the types that snug reads and does not write, and files in parts.

1. The demo model as ggml encodes it, each matrix in another of the types: snug's logits are llama.cpp's. (Bits of each type: test_dequant.py.)
2. `snug export` keeps those matrices byte for byte; a pin that names such a type elsewhere is refused; a fit reads them.
3. `--split-max-size`: parts as llama-gguf-split names them and no larger, with its keys, which llama.cpp loads, and snug from any of them; and
   the file is the same once the parts are put together.
"""
import hashlib
import pathlib
import subprocess
import sys
import tempfile

import common

# Mean KL (llama.cpp || snug) over 512 tokens: both round activations to 8 bits, ggml per 256 values for most of these types. Measured: 2.5e-4.
BAR = 2e-3


def refusal(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    return done.returncode, done.stderr


def tensors(path):
    return {t.name: (t.tensor_type.name.lower(), hashlib.sha256(t.data.tobytes()).hexdigest()) for t in gguf.GGUFReader(path).tensors}


def check_logits(path, what):
    with ggml_oracle.Model(path) as model:
        tokens = model.tokenize(common.prose())[:512]
        theirs, n_vocab = model.logits(tokens, 256), model.n_vocab
    kl, top1 = common.kl_and_top1(theirs, common.snug_logits(args, path, tokens, 256, n_vocab))
    print(f"{what}: mean KL {kl.mean():.3g}, same top token {100 * top1:.1f} %")
    assert kl.mean() <= BAR, f"{what}: bar {BAR:g}"


def check_fit(path, folder):
    exported, fitted = folder / "exported.gguf", folder / "fitted.gguf"
    before = tensors(path)
    common.run(args.snug, "export", path, "-o", exported)
    after = tensors(exported)
    assert all(after[name] == t for name, t in before.items() if t[0] in ggml_oracle.READ_TYPES), "an exported matrix has changed"
    code, text = refusal(args.snug, "fit", args.model, "-o", fitted, "--for", "gguf", "--pin", "*=iq2_xs")
    assert code == 2 and "reads and does not write" in text, (code, text)
    common.run(args.snug, "fit", path, "-o", fitted, "--for", "gguf", "--bpw", "4.5", "--calib", "none", "--effort", "quick")
    kinds = {kind for kind, _ in tensors(fitted).values()}
    print("a fit of it to 4.5 bits has", ", ".join(sorted(kinds)))


def check_parts(path, folder):
    whole, most = folder / "whole.gguf", 1_200_000
    common.run(args.snug, "export", path, "-o", whole)
    before = tensors(whole)
    code, text = refusal(args.snug, "export", path, "-o", folder / "cut.gguf", "--split-max-size", "700K")
    assert code == 3 and "token_embd.weight alone takes" in text, (code, text)
    common.run(args.snug, "export", path, "-o", folder / "cut.gguf", "--split-max-size", most)
    parts = sorted(folder.glob("cut-*.gguf"))
    assert not (folder / "cut.gguf").exists() and len(parts) >= 2
    assert [p.name for p in parts] == [f"cut-{i + 1:05}-of-{len(parts):05}.gguf" for i in range(len(parts))]
    found = {}
    for i, part in enumerate(parts):
        reader = gguf.GGUFReader(part)
        number = {k: int(reader.fields[k].parts[-1][0]) for k in ("split.no", "split.count", "split.tensors.count")}
        assert number == {"split.no": i, "split.count": len(parts), "split.tensors.count": len(before)}, number
        assert part.stat().st_size <= most, (part, part.stat().st_size)
        found.update(tensors(part))
    assert found == before, "the parts do not have the file's tensors"
    check_logits(parts[0], f"{len(parts)} parts")
    again = folder / "again.gguf"
    common.run(args.snug, "export", parts[1], "-o", again)
    assert again.read_bytes() == whole.read_bytes(), "the parts do not make the file again"


def main():
    i = iter(range(1000))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        mixed = folder / "mixed.gguf"
        types = ggml_oracle.READ_TYPES
        make_gguf.write(args.model, mixed, lambda tensor: "q8_0" if tensor == "token_embd.weight" else types[next(i) % len(types)])
        kinds = {kind for kind, _ in tensors(mixed).values()}
        assert kinds >= set(types), set(types) - kinds
        check_logits(mixed, "a matrix of each type")
        check_fit(mixed, folder)
        check_parts(mixed, folder)
    return 0


if __name__ == "__main__":
    args = common.arguments(__doc__)
    import ggml_oracle
    import gguf
    import make_gguf
    sys.exit(main())
