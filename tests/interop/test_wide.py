#!/usr/bin/env python3
"""f16 and Q4_K by architecture, both ways: the goldens are narrower than a block of the K types, so wide random models (wide.py) stand in for them.

For each: the f16 GGUF that snug writes has the same perplexity in llama.cpp as here, within 0.1 %; so have the Q4_K file that snug writes, and one that
ggml's encoder makes of the f16 file, within what the two engines' activations of 8 bits allow. Tokens are random: two engines are compared, not a model and a text.
A few architectures by default, all with --all, some with --types qwen3,phi3.
"""
import pathlib
import shutil
import sys
import tempfile

import common

N_TOKENS = 160 # as many positions as the GPT-2 has
# Texts, 1 by default. V3 picks groups, and experts out of them, by scores between 0 and 1 that lie close together: f16 turns a choice now and then, and then a text's perplexity with it.
TEXTS = {"deepseek3": 64}
# In f16: of perplexities, there over here. llama.cpp rounds activations to f16.
PERPLEXITY = 1e-3
# In Q4_K activations are rounded to 8 bits, there per 256 values, here per 32. The step is max / 127, of 256 normal numbers 2.9 / 127: the error is
# (2.9 / 127)^2 / 12 = 4e-5 of a value's energy, of 32 half as much, together 6e-5; that of Q4_K's weights is 5e-3. So KL(llama.cpp || snug) should be 1.2 % of KL(f16 || Q4_K),
# which is measured; the bar is twice that. In mixtures a router that is torn between two experts decides by the last bit.
# What state spaces multiply by a gate and give to ssm_out is no normal number: its largest of 256 makes steps 2.2 times as long (sampled), which leaves 6.5 % of what that matrix loses.
# With ssm_in's 1.6 % that is 4 % of a layer's; the bar is a quarter above.
SHARE, SHARE_OF_STATES, SHARE_OF_EXPERTS = 0.025, 0.05, 0.15
STATES = ("granitehybrid", "mamba2")
EXPERTS = ("deepseek2", "deepseek3", "gpt_oss", "granitehybrid_moe", "granitemoe", "mixtral", "olmoe", "qwen2moe", "qwen3moe")
# Logits that are d apart (mean square) make a KL of d / 2; the logarithm of perplexity is a mean over tokens, which random ones take with that scatter: 4 standard deviations.
SIGMAS = 4
# What llama.cpp decides by the architecture (test_architectures.py), and windows that it does not have.
OPTIONS = {"gemma3": {"rope_local_base_freq": 10000.0}, "phi3": {"sliding_window": None}, "starcoder2": {"sliding_window": None}, "mistral": {"sliding_window": None},
           "bitnet": {"hidden_act": "silu"}, "gpt_oss": {"swiglu_limit": 7.0, "rope_scaling": None}, "deepseek2": {"topk_method": "greedy"},
           "mamba2": {"time_step_limit": [0.0, float("inf")]}}
RENAMED = {"phi3": "short", "phi3_long": "long"}
# Of the same kind as another: in f16 alone, as they are.
NARROW = ("gpt_oss_mxfp4", "granite4", "mistral3", "qwen2vl", "qwen3vl")
FEW = ("deepseek2", "gemma3", "gpt2", "granitehybrid", "mamba2", "mixtral", "phi3", "qwen3")
NAMES = ("bitnet", "deepseek2", "deepseek3", "gemma", "gemma2", "gemma3", "gpt2", "gpt_oss", "gptneox", "gptneox_serial", "granite", "granitehybrid", "granitehybrid_moe", "granitemoe", "llama2", "llama3", "mamba2", "ministral3", "mistral", "mixtral", "olmo2", "olmo3", "olmoe", "phi3", "phi3_long", "qwen2", "qwen2_yarn",
         "qwen2moe", "qwen3", "qwen3moe", "smollm3", "stablelm", "starcoder2")


def requantize(source, out, type_name):
    """A GGUF's f16 matrices by ggml's encoder, everything else as it is."""
    make_gguf.copy(source, out, recode=lambda t: type_name if is_matrix(t) else None)


def is_matrix(t):
    """One that is encoded: routers and positions are not."""
    return len(t.shape) > 1 and t.shape[1] > 1 and not any(kept in t.name for kept in ("ffn_gate_inp", "position_embd", "ssm_conv1d", "ssm_a", "ssm_d", "ssm_norm", ".bias"))


def types_of(path):
    return {t.tensor_type.name.lower() for t in gguf.GGUFReader(path).tensors if is_matrix(t)}


def draw_texts(name, rng):
    return rng.integers(3, 500, (TEXTS.get(name, 1), N_TOKENS)).astype(np.int32)


def perplexity(logits, texts):
    p = common.log_softmax(logits).reshape(*texts.shape, -1)[:, :-1]
    return np.exp(-np.take_along_axis(p, texts[:, 1:, None], axis=2).mean())


def judge(path, texts, type_name):
    """(theirs, ours): logits of both engines, the texts one after the other."""
    with ggml_oracle.Model(path) as model:
        theirs = model.logits(texts.ravel(), N_TOKENS, kv="f32")
    return theirs, common.snug_logits(args, path, texts.ravel(), N_TOKENS, theirs.shape[1], act="f32" if type_name == "f16" else "q8", kv="f32")


def compare(name, writer, type_name, path, texts, exact):
    """A line of the table; exact: llama.cpp's logits in f16."""
    theirs, ours = judge(path, texts, type_name)
    there, here = perplexity(theirs, texts), perplexity(ours, texts)
    apart = common.kl_and_top1(theirs, ours)[0].mean()
    cost = common.kl_and_top1(exact, theirs)[0].mean() if exact is not None else 0
    ok = types_of(path) == {type_name}
    if exact is None:
        ok &= abs(there / here - 1) <= PERPLEXITY
    else:
        ok &= apart <= (SHARE_OF_EXPERTS if name in EXPERTS else SHARE_OF_STATES if name in STATES else SHARE) * cost and abs(np.log(there / here)) <= SIGMAS * np.sqrt(2 * apart / texts.size)
    share = f"{100 * apart / cost:.1f} %" if cost else ""
    print(f"| {name} | {writer} | {type_name} | {there:.2f} | {here:.2f} | {100 * (there / here - 1):+.3f} % | {apart:.3g} | {cost:.3g} | {share} |" +
          ("" if ok else f"  FAIL ({', '.join(types_of(path))})"), flush=True)
    return ok, theirs


def narrow(name, scratch):
    """f16 alone."""
    folder, path = pathlib.Path(scratch, name), pathlib.Path(scratch, "narrow.gguf")
    shutil.copytree(common.ROOT / "tests" / "golden" / name, folder)
    texts = draw_texts(name, np.random.default_rng(list(name.encode())))
    common.run(args.snug, "convert", folder, "-o", path, "--type", "f16")
    return compare(name, "–", "f16", path, texts, None)[0]


def main():
    good = True
    print("| model | encoder | type | perplexity, llama.cpp | snug | apart | KL(llama.cpp, snug) | KL(f16, Q4_K) | share |\n|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for name in NAMES:
            if name not in (args.types or (NAMES if args.all else FEW)):
                continue
            rng = np.random.default_rng(list(name.encode()))
            folder = pathlib.Path(scratch, RENAMED.get(name, name))
            f16, q4_k = folder.with_suffix(".f16.gguf"), folder.with_suffix(".q4_k.gguf")
            wide.write(common.ROOT / "tests" / "golden" / name, folder, OPTIONS.get(name, {}), rng)
            texts = draw_texts(name, rng)
            common.run(args.snug, "convert", folder, "-o", f16, "--type", "f16")
            ok, exact = compare(name, "–", "f16", f16, texts, None)
            good &= ok
            common.run(args.snug, "fit", folder, "-o", q4_k, "--for", "gguf", "--pin", "*=q4_k", "--calib", "none", "--effort", "quick")
            good &= compare(name, "snug", "q4_k", q4_k, texts, exact)[0]
            requantize(f16, q4_k, "q4_k")
            good &= compare(name, "ggml", "q4_k", q4_k, texts, exact)[0]
            if name.startswith("deepseek"): # keys' and values' parts of kv_b as stacks, as converters have written them since 2025
                make_gguf.write(folder, q4_k, "q4_k", split=True)
                good &= compare(name, "ggml, k_b and v_b", "q4_k", q4_k, texts, exact)[0]
        for name in NARROW:
            if name in (args.types or NARROW):
                good &= narrow(name, scratch)
    return 0 if good else 1


if __name__ == "__main__":
    args = common.arguments(__doc__, lambda parser: parser.add_argument("--all", action="store_true", help="every architecture"))
    import gguf
    import ggml_oracle
    import make_gguf
    import numpy as np
    import wide
    sys.exit(main())
