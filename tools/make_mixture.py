#!/usr/bin/env python3
"""A dense model made a mixture of experts, as a stand-in for a trained one: for measuring, where a real mixture is too large.

    tools/make_mixture.py SRC OUT [--experts 8] [--used 2] [--noise 0.3] [--lop 2.0]      # SRC: a folder of the Llama family

Every expert is the source's feed-forward with noise of its own on each matrix (--noise, a share of its standard deviation), so that it
matters which are picked; routers are random, with a common direction that makes the first experts favourites and the last ones
rarely wanted, or the other way round, from token to token (--lop).  Written as MixtralForCausalLM in bf16.  With shares that sum to 1 the
mixture stays near its source: it writes the same language, and a text means as much to it.

Needs: torch (CPU will do), safetensors.
"""
import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file

PARTS = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def experts_of(name, w, n, noise, rng):
    """{name: matrix} of n experts out of one of a feed-forward."""
    head, _, part = name.partition(".mlp.")
    w = w.float()
    return {f"{head}.block_sparse_moe.experts.{e}.{PARTS[part.split('.')[0]]}.weight":
            (w + noise * w.std() * torch.randn(w.shape, generator=rng)).bfloat16() for e in range(n)}


def router(width, gain, n, lop, rng):
    """(n, width), for inputs behind a norm of this gain."""
    rows = torch.randn((n, width), generator=rng) / width ** 0.5 * 1.5
    common = torch.randn(width, generator=rng)
    rows += lop * torch.linspace(1, -1, n)[:, None] * common[None] / width ** 0.5
    return (rows / gain.float().abs().mean()).bfloat16()


def main(args):
    config = json.loads((args.src / "config.json").read_text())
    rng = torch.Generator().manual_seed(1)
    dense, mixture = {}, {}
    for path in sorted(args.src.glob("*.safetensors")):
        dense.update(load_file(path))
    for name, w in dense.items():
        mixture.update(experts_of(name, w, args.experts, args.noise, rng) if ".mlp." in name else {name: w})
    for layer in range(config["num_hidden_layers"]):
        gain = dense[f"model.layers.{layer}.post_attention_layernorm.weight"]
        mixture[f"model.layers.{layer}.block_sparse_moe.gate.weight"] = router(config["hidden_size"], gain, args.experts, args.lop, rng)
    config.update(architectures=["MixtralForCausalLM"], model_type="mixtral", num_local_experts=args.experts, num_experts_per_tok=args.used,
                  sliding_window=None)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(mixture, args.out / "model.safetensors", metadata={"format": "pt"})
    for path in args.src.glob("tokenizer*"):
        shutil.copy(path, args.out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--used", type=int, default=2)
    parser.add_argument("--noise", type=float, default=0.3)
    parser.add_argument("--lop", type=float, default=2.0)
    main(parser.parse_args())
