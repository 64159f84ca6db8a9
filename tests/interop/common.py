"""What the interop tests share: the command line, skipping, and calls of the two programs."""
import argparse
import os
import pathlib
import struct
import subprocess
import sys

import_error = None
try:
    import numpy as np
    import ggml_oracle
    import gguf  # noqa: F401
except ImportError as e:
    import_error = e

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Types of a GGUF file that snug writes; the first two are exact stores.
FILE_TYPES = ("f16", "bf16", "q8_0", "q4_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0")


def skip(reason):
    """End the test as skipped; in CI (SNUG_REQUIRE_INTEROP=1) as failed."""
    print(f"SKIP: {reason}")
    sys.exit(1 if os.environ.get("SNUG_REQUIRE_INTEROP") == "1" else 77)


def arguments(doc, add=None):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", default=ROOT / "build/tests/snug-oracle", type=pathlib.Path, help="the program snug-oracle")
    parser.add_argument("--snug", default=ROOT / "build/snug", type=pathlib.Path, help="the program snug")
    parser.add_argument("--model", default=ROOT / "models/demo", type=pathlib.Path, help="a Hugging Face folder")
    parser.add_argument("--types", help="comma-separated; default all")
    if add:
        add(parser)
    args = parser.parse_args()
    args.types = tuple(args.types.split(",")) if args.types else None
    if import_error:
        skip(f"{import_error}: pip install -r tests/interop/requirements.txt")
    for program in (args.oracle, args.snug):
        if not program.exists():
            skip(f"{program} is not built")
    return args


def run(*command, stdin=b""):
    done = subprocess.run([str(c) for c in command], input=stdin, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return done.stdout


def fit_pinned(args, type_name, out):
    """A GGUF by snug with every tensor pinned to one type (norms and misfits fall back)."""
    run(args.snug, "fit", args.model, "-o", out, "--for", "gguf", "--pin", f"*={type_name}", "--calib", "none", "--effort", "quick")


def snug_dequantize(args, type_name, data, n_rows, n_cols):
    out = run(args.oracle, "dequantize", type_name, n_rows, n_cols, stdin=bytes(data))
    return np.frombuffer(out, "<f4").reshape(n_rows, n_cols)


def snug_quantize(args, type_name, w, importance_file=None):
    options = ["--importance", importance_file] if importance_file else []
    return run(args.oracle, "quantize", type_name, *w.shape, *options, stdin=np.ascontiguousarray(w, "<f4").tobytes())


def snug_logits(args, model, tokens, n_ctx, n_vocab, act="q8", kv="f16"):
    out = run(args.oracle, "logits", model, "--ctx", n_ctx, "--act", act, "--kv", kv, stdin=np.ascontiguousarray(tokens, "<i4").tobytes())
    return np.frombuffer(out, "<f4").reshape(-1, n_vocab)


def prose(n_bytes=60000):
    """English out of the committed tokenizer lines (which carry it first)."""
    lines = (ROOT / "tests/golden/tokenizers/lines.txt").read_text(encoding="utf-8").split("\n")[:2600]
    return " ".join(line for line in lines if "\\" not in line)[:n_bytes]


def log_softmax(logits):
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def kl_and_top1(reference, other):
    """Per-position KL(reference || other) in nats, and the share of positions with the same best token."""
    p, q = log_softmax(reference), log_softmax(other)
    return (np.exp(p) * (p - q)).sum(axis=1), (reference.argmax(axis=1) == other.argmax(axis=1)).mean()


def golden(folder):
    """Tokens of a golden and transformers' logits of them (tests/golden/README.md)."""
    data = (folder / "logits.bin").read_bytes()
    _, _, n, n_vocab = struct.unpack_from("<4sIII", data)
    return np.frombuffer(data, "<i4", n, 16), np.frombuffer(data, "<f4", n * n_vocab, 16 + 4 * n).reshape(n, n_vocab)
