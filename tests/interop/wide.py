"""Random models of every family with rows of 256 and 512 weights, which the K types take: a golden's configuration and tensors (tests/golden), widened.

A golden's dimensions are told apart by their size, and each is given a larger one; everything else of the configuration stays. Weights are normal numbers. What
layers add is larger than the embedding, so that a model with a tied head says more than the token that it has just read.
"""
import json
import pathlib
import shutil
import struct

import numpy as np

import make_gguf

WIDTH, FF = 256, 512
FF_KEYS = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "n_inner")


def widen_config(config):
    """The wide configuration, and {old dimension: new one}."""
    wide = dict(config)
    keys = ("n_embd", "n_head", "n_head") if "n_embd" in config else ("hidden_size", "num_attention_heads", "num_key_value_heads")
    width, heads, kv = (config.get(k, config[keys[1]]) for k in keys)
    d = config.get("head_dim") or width // heads
    new_heads = 8 if heads == 8 else 4
    new_kv = new_heads if kv == heads else min(kv, 2)
    new_d = WIDTH // new_heads
    wide.update(zip(keys, (WIDTH, new_heads, new_kv)))
    if "head_dim" in config:
        wide["head_dim"] = new_d
    ff = {config[k]: FF for k in FF_KEYS if k in config}
    wide.update({k: FF for k in FF_KEYS if k in config})
    if "query_pre_attn_scalar" in config:
        wide["query_pre_attn_scalar"] = new_d
    scaling = config.get("rope_scaling") or {}
    if "long_factor" in scaling:
        n = int(new_d * config.get("partial_rotary_factor", 1)) // 2
        wide["rope_scaling"] = {**scaling, **{k: np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(scaling[k])), scaling[k]).tolist()
                                              for k in ("long_factor", "short_factor")}}
    q, k, new_k = heads * d, kv * d, new_kv * new_d
    kept = {n: n for n in (1, config["vocab_size"], config.get("n_positions"), config.get("num_experts"), config.get("num_local_experts"))}
    return wide, {**kept, heads: new_heads, q + 2 * k: WIDTH + 2 * new_k, d: new_d, k: new_k, q: WIDTH, width: WIDTH, **ff, **{2 * old: 2 * new for old, new in ff.items()}}


def draw(name, shape, family, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    if len(shape) == 1 and name.endswith("bias"):
        return 0.1 * x
    if name.endswith("_proj_bias"):
        return 0.1 * x
    if len(shape) == 1:
        return 0.1 * x + (0 if family.startswith("gemma") else 1)
    stem = name.removesuffix(".weight").split(".")[-1]
    if stem in ("embed_tokens", "lm_head", "wte", "wpe", "embed_in", "embed_out"):
        return (0.05 if family.startswith(("gemma", "granite")) else 0.125) * x
    gain = 3 if stem in ("o_proj", "down_proj", "c_proj", "w2", "dense", "dense_4h_to_h") else 1
    return gain * x / np.float32(np.sqrt(shape[-2] if family == "gpt2" or name.endswith("_proj") and family == "gpt_oss" else shape[-1]))


def write(golden, folder, options, rng):
    """A wide model of a golden's kind into a new folder, in bf16; options: of config.json."""
    config = {**json.loads((golden / "config.json").read_text()), **options}
    wide, sizes = widen_config(config)
    header, data = {}, []
    for name, w in make_gguf.read_tensors(golden).items():
        shape = tuple(sizes[n] for n in w.shape)
        raw = (draw(name, shape, config["model_type"], rng).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        at = sum(map(len, data))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        data.append(raw)
    folder.mkdir()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    (folder / "config.json").write_text(json.dumps(wide))
    for file in pathlib.Path(golden).glob("tokenizer*"):
        shutil.copy(file, folder)
