#!/usr/bin/env python3
"""Is snug's encoder of every GGUF type at least as good as ggml's, tensor by tensor?

For each matrix W of the model (a spread of its rows: --rows) and each type, both encoders get the same W and the same importances a, and are judged by
E = Σ a_j (w_ij − ŵ_ij)², decoded by ggml.  Three kinds of importances: `model` (mean x² of the model on English text), `flat` (all
ones), `wild` (log-normal over four orders of magnitude, fixed seed).  snug must not lose on any tensor: E_snug ≤ E_ggml (1 + 1e-6).

Prints a Markdown table of E_snug / E_ggml per type: geometric mean and worst tensor.  --table FILE writes it too.
"""
import pathlib
import sys
import tempfile

import common

SLACK = 1e-6
ROWS = 64


def importances(model):
    """kind -> function (name, n_cols) -> float32 (n_cols,)."""
    import importance
    from tokenizers import Tokenizer
    tokens = Tokenizer.from_file(str(model / "tokenizer.json")).encode(common.prose(24000), add_special_tokens=False).ids[:4096]
    measured = importance.measure(model, np.array(tokens))
    wild = lambda n: np.exp(1.5 * np.random.default_rng(n).standard_normal(n)).astype(np.float32)
    return {"model": lambda name, n: measured[name], "flat": lambda name, n: np.ones(n, np.float32), "wild": lambda name, n: wild(n)}


def main():
    import make_gguf
    matrices = {name.removesuffix(".weight"): w[::max(1, len(w) // args.rows)] for name, w in make_gguf.read_tensors(args.model).items() if w.ndim == 2}
    types, lost, rows = args.types or ggml_oracle.BLOCK_TYPES, 0, []
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "importance.f32"
        for kind, weights in importances(args.model).items():
            for type_name in types:
                ratios = {}
                for name, w in matrices.items():
                    if w.shape[1] % ggml_oracle.TYPES[type_name][2]:
                        continue
                    a = weights(name, w.shape[1])
                    file.write_bytes(a.astype("<f4").tobytes())
                    error = lambda data: float((a.astype(np.float64) * np.square(
                        (ggml_oracle.dequantize(type_name, data, *w.shape) - w).astype(np.float64))).sum())
                    ours = error(common.snug_quantize(args, type_name, w, file))
                    theirs = error(ggml_oracle.quantize(type_name, w, a))
                    ratios[name] = ours / theirs
                    if ours > theirs * (1 + SLACK):
                        lost += 1
                        print(f"FAIL {type_name}, {kind} importances, {name}: snug {ours:.6g}, ggml {theirs:.6g}, ratio {ours / theirs:.6f}")
                worst = max(ratios, key=ratios.get)
                mean = float(np.exp(np.mean(np.log(list(ratios.values())))))
                rows.append(f"| {type_name} | {kind} | {len(ratios)} | {mean:.4f} | {ratios[worst]:.4f} | {worst} |")
                print(rows[-1], flush=True)
    table = "| type | importances | tensors | snug / ggml, geometric mean | worst | worst tensor |\n|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    if args.table:
        args.table.write_text(table)
    print(f"\n{table}")
    return 1 if lost else 0


def options(parser):
    parser.add_argument("--table", type=pathlib.Path, help="write the table here")
    parser.add_argument("--rows", type=int, default=ROWS, help="of a matrix, about")


if __name__ == "__main__":
    args = common.arguments(__doc__, options)
    import numpy as np
    import ggml_oracle
    sys.exit(main())
