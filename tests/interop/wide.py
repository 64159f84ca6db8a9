"""Random models of every family with rows of 256 and 512 weights, which the K types take: a golden's configuration and tensors (tests/golden), widened.

A golden's dimensions are told apart by their size, and each is given a larger one, by rule (widen_config) or, where latents or state spaces have dimensions of their own,
by table (TABLES); everything else of the configuration stays. Weights are normal numbers. What layers add is larger than the embedding, so that a model with a tied
head says more than the token that it has just read.
"""
import json
import pathlib
import shutil
import struct

import numpy as np

import make_gguf

WIDTH, FF = 256, 512
# (configuration, {old dimension: new one}). Latents: four heads of 256 + 32 columns for scores and 128 for values. State spaces: eight heads of 64.
DEEPSEEK = ({"hidden_size": 256, "intermediate_size": 512, "moe_intermediate_size": 256, "kv_lora_rank": 256, "qk_nope_head_dim": 256, "qk_rope_head_dim": 32, "v_head_dim": 128},
            {64: 256, 100: 512, 28: 256, 36: 256, 44: 256 + 32, 80: 4 * (256 + 32), 104: 4 * (256 + 128), 56: 512})
TABLES = {
    "deepseek_v2": DEEPSEEK,
    "deepseek_v3": DEEPSEEK,
    "mamba2": ({"hidden_size": 256, "num_heads": 8, "head_dim": 64, "state_size": 64}, {72: 256, 6: 8, 144: 512, 224: 512 + 2 * 2 * 64, 374: 2 * 512 + 2 * 2 * 64 + 8}),
    "granitemoe": ({"hidden_size": 256, "intermediate_size": 256}, {64: 256, 32: 128, 28: 256, 56: 512}),
    "granitemoehybrid": ({"hidden_size": 256, "intermediate_size": 256, "shared_intermediate_size": 512, "mamba_d_head": 64, "mamba_d_state": 64},
                         {64: 256, 32: 128, 100: 512, 200: 1024, 60: 512, 120: 1024, 28: 256, 56: 512, 128: 512, 176: 512 + 2 * 64, 312: 2 * 512 + 2 * 64 + 8}),
}
FF_KEYS = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "n_inner")


def widen_config(config):
    """The wide configuration, and {old dimension: new one}; a dimension that is not there stays."""
    wide = dict(config)
    if config["model_type"] in TABLES:
        changes, sizes = TABLES[config["model_type"]]
        wide.update(changes, **({"q_lora_rank": 256} if config.get("q_lora_rank") else {}))
        return wide, sizes
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
    kept = {n: n for n in (config["vocab_size"], config.get("n_positions"), config.get("num_experts"), config.get("num_local_experts"))}
    return wide, {**kept, heads: new_heads, q + 2 * k: WIDTH + 2 * new_k, d: new_d, k: new_k, q: WIDTH, width: WIDTH, **ff, **{2 * old: 2 * new for old, new in ff.items()}}


def draw(name, shape, config, rng):
    family = config["model_type"]
    x = rng.standard_normal(shape).astype(np.float32)
    if name.endswith("A_log"): # as state spaces begin: decays of 1 to 16, times steps of 0.001 to 0.1
        return np.log(rng.uniform(1, 16, shape)).astype(np.float32)
    if name.endswith("dt_bias"):
        return np.log(np.expm1(np.exp(rng.uniform(np.log(0.001), np.log(0.1), shape)))).astype(np.float32)
    if len(shape) == 1 and name.endswith("bias"):
        return 0.1 * x
    if name.endswith("_proj_bias"):
        return 0.1 * x
    if len(shape) == 1:
        return 0.1 * x + (0 if family.startswith("gemma") else 1)
    stem = name.removesuffix(".weight").split(".")[-1]
    if stem in ("embed_tokens", "embeddings", "lm_head", "wte", "wpe", "embed_in", "embed_out"):
        return (0.05 if family.startswith(("gemma", "granite")) else 0.125) * x
    gain = 3 if stem in ("o_proj", "down_proj", "c_proj", "w2", "dense", "dense_4h_to_h", "out_proj", "output_linear") else 1
    if ".experts." in name and stem == "down_proj": # what all of a token's experts add is as large as elsewhere
        gain /= config.get("routed_scaling_factor", 1)
    return gain * x / np.float32(np.sqrt(shape[-2] if family == "gpt2" or name.endswith("_proj") and family == "gpt_oss" else shape[-1]))


def write(golden, folder, options, rng):
    """A wide model of a golden's kind into a new folder, in bf16; options: of config.json."""
    config = {**json.loads((golden / "config.json").read_text()), **options}
    wide, sizes = widen_config(config)
    header, data = {}, []
    for name, w in make_gguf.read_tensors(golden).items():
        shape = tuple(sizes.get(n, n) for n in w.shape)
        raw = (draw(name, shape, config, rng).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        at = sum(map(len, data))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        data.append(raw)
    folder.mkdir()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    (folder / "config.json").write_text(json.dumps(wide))
    for file in pathlib.Path(golden).glob("tokenizer*"):
        shutil.copy(file, folder)
