#!/usr/bin/env python3
"""How far are snug's logits from llama.cpp's on the same file?

Teacher-forced over 1,024 tokens of English in windows of 256, f16 KV cache, activations rounded to 8 bits in both: mean KL(llama.cpp ||
snug) per type, on files that snug wrote and on files written without snug (tests/interop/make_gguf.py).  The bars are about
three times what was measured when the test was made; --measure prints and judges nothing.
"""
import pathlib
import sys
import tempfile

import common

BARS = {"f16": 5e-7, "bf16": 1.7e-5, "q8_0": 2.3e-4, "q4_0": 2.3e-4, "iq4_nl": 2.3e-4, "tq1_0": 4.5e-3, "tq2_0": 4.5e-3}
BAR_QUANTIZED = 2e-3
N_TOKENS, N_CTX = 1024, 256


def main():
    import make_gguf
    good = True
    print("| type | file by | mean KL | 99 % KL | largest | same top token |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for type_name in args.types or common.FILE_TYPES:
            files = {"snug": pathlib.Path(folder) / f"snug-{type_name}.gguf", "ggml": pathlib.Path(folder) / f"ggml-{type_name}.gguf"}
            common.fit_pinned(args, type_name, files["snug"])
            make_gguf.write(args.model, files["ggml"], type_name)
            for writer, path in files.items():
                with ggml_oracle.Model(path) as model:
                    tokens = model.tokenize(common.prose())[:args.tokens]
                    if len(tokens) < args.tokens:
                        sys.exit(f"the text has {len(tokens)} tokens only")
                    theirs, n_vocab = model.logits(tokens, N_CTX, kv=args.kv), model.n_vocab
                ours = common.snug_logits(args, path, tokens, N_CTX, n_vocab, act=args.act, kv=args.kv)
                kl, top1 = common.kl_and_top1(theirs, ours)
                bar = BARS.get(type_name, BAR_QUANTIZED)
                ok = kl.mean() <= bar
                print(f"| {type_name} | {writer} | {kl.mean():.3g} | {np.quantile(kl, 0.99):.3g} | {kl.max():.3g} | {100 * top1:.2f} % |"
                      + ("" if ok else f"  FAIL: bar {bar:g}"), flush=True)
                good &= ok
                path.unlink()
    return 0 if good or args.measure else 1


def options(parser):
    parser.add_argument("--measure", action="store_true", help="print, judge nothing")
    parser.add_argument("--tokens", type=int, default=N_TOKENS)
    parser.add_argument("--act", default="q8", choices=("q8", "f32"))
    parser.add_argument("--kv", default="f16", choices=("f16", "f32"))


if __name__ == "__main__":
    args = common.arguments(__doc__, options)
    import numpy as np
    import ggml_oracle
    sys.exit(main())
