"""Hugging Face folders into GGUF files without snug: by the gguf package and ggml's own encoders.

    python3 tests/interop/make_gguf.py SRC OUT [--type q4_k] [--pre qwen2] [--importance FILE.npz]

An independent writer, so that a test of snug's GGUF reader does not rest on snug's GGUF writer.  Follows llama.cpp's published
mapping: names, the interleaving of q and k rows for the llama architecture, `rope_freqs.weight` for llama3 scaling, the two
kinds of tokenizer.  A tensor whose rows the type's block does not divide falls back to q8_0, then f16 (bf16 and f32 files: none
needed).  Families: llama, mistral (as architecture llama, as llama.cpp has it: the window is written, which llama.cpp ignores),
ministral3, qwen2, qwen3, bitnet; mixtral (architecture llama too), qwen2_moe, qwen3_moe, olmoe, whose experts are stacked; gemma 1 to 3 (gains + 1), granite, olmo2, olmo3,
gpt_oss (experts out of MXFP4, as that or widened), phi3 (fused matrices as they are; longrope's factors as tensors), smollm3, starcoder2, gpt_neox (q, k, v one after the other), stablelm,
deepseek_v2 and deepseek_v3 (kv_b of all heads as it is, or as two stacks, of keys transposed and of values, as converters have written it since 2025); mamba2,
granitemoe, granitemoehybrid (A = -exp(A_log); heads of keys and values layer by layer, 0 for state spaces).
"""
import argparse
import json
import math
import pathlib
import re
import struct

import gguf
import numpy as np

import ggml_oracle

PRE = {"llama": "llama-bpe", "mistral": "tekken", "ministral3": "tekken", "qwen2": "qwen2", "qwen3": "qwen2", "mixtral": "tekken", "qwen3_moe": "qwen2", "olmoe": "qwen2",
       "bitnet": "llama-bpe", "olmo2": "qwen2", "olmo3": "qwen2", "smollm3": "llama-bpe", "granite": "gpt-2", "starcoder2": "gpt-2", "gpt_neox": "gpt-2", "qwen2_moe": "qwen2", "stablelm": "gpt-2",
       "gpt_oss": "llama-bpe", "deepseek_v2": "llama-bpe", "deepseek_v3": "llama-bpe", "mamba2": "qwen2", "granitemoe": "gpt-2", "granitemoehybrid": "gpt-2"}
ARCH = {"gpt_oss": "gpt-oss", "mistral": "llama", "ministral3": "mistral3", "olmo3": "olmo2", "mixtral": "llama", "qwen3_moe": "qwen3moe", "qwen2_moe": "qwen2moe", "gpt_neox": "gptneox", "gemma3_text": "gemma3",
        "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", "granitemoehybrid": "granitehybrid"}
INTERLEAVED = ("llama", "mistral3", "granite", "granitemoe", "granitehybrid", "smollm3")
POST_NORMS = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}
OWN = {"gemma2": POST_NORMS, "gemma3_text": POST_NORMS, "olmo2": POST_NORMS, "olmo3": POST_NORMS,
       "gpt_oss": {"post_attention_layernorm": "post_attention_norm", "mlp.router": "ffn_gate_inp"}}
LAYER = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "self_attn.attn_sub_norm": "attn_sub_norm", "mlp.ffn_sub_norm": "ffn_sub_norm",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down", "self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up",
         "attention.query_key_value": "attn_qkv", "attention.dense": "attn_output", "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down",
         "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp", "mlp.shared_expert.down_proj": "ffn_down_shexp",
         "mlp.shared_experts.gate_proj": "ffn_gate_shexp", "mlp.shared_experts.up_proj": "ffn_up_shexp", "mlp.shared_experts.down_proj": "ffn_down_shexp",
         "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
         "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm", "self_attn.kv_b_proj": "attn_kv_b",
         "norm": "attn_norm", **{f"{of}.{part}": f"ssm_{name}" for of in ("mixer", "mamba") for part, name in
         (("in_proj", "in"), ("out_proj", "out"), ("conv1d", "conv1d"), ("norm", "norm"))}, "mlp.shared_expert_gate": "ffn_gate_inp_shexp", "mlp.gate": "ffn_gate_inp", "block_sparse_moe.gate": "ffn_gate_inp"}
EXPERT = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps", "w1": "ffn_gate_exps", "w3": "ffn_up_exps",
          "w2": "ffn_down_exps"}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "gpt_neox.embed_in": "token_embd",
       "gpt_neox.final_layer_norm": "output_norm", "embed_out": "output", "backbone.embeddings": "token_embd", "backbone.norm_f": "output_norm"}
SSM = {"A_log": "ssm_a", "D": "ssm_d", "dt_bias": "ssm_dt.bias"}


def read_tensors(folder):
    """{name: float32 array} of all safetensors files of a folder."""
    out = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        data = path.read_bytes()
        n = struct.unpack_from("<Q", data)[0]
        for name, info in json.loads(data[8:8 + n]).items():
            if name == "__metadata__":
                continue
            raw = data[8 + n + info["data_offsets"][0]:8 + n + info["data_offsets"][1]]
            flat = {"F32": lambda: np.frombuffer(raw, "<f4"), "F16": lambda: np.frombuffer(raw, "<f2").astype("<f4"),
                    "U8": lambda: np.frombuffer(raw, np.uint8),
                    "BF16": lambda: (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")}[info["dtype"]]()
            out[name] = flat.reshape(info["shape"])
    return out


def stack_experts(tensors):
    """{GGUF name: (experts, out, in)} out of the experts' matrices, which leave `tensors`: one by one, or fused by two."""
    parts = {}
    for name in [n for n in tensors if ".experts." in n]:
        head, _, rest = name.partition(".experts.")
        layer = head.split(".")[2]
        if rest == "gate_up_proj":
            gate, up = np.split(tensors.pop(name), 2, axis=1)
            parts[f"blk.{layer}.ffn_gate_exps.weight"], parts[f"blk.{layer}.ffn_up_exps.weight"] = dict(enumerate(gate)), dict(enumerate(up))
        elif rest == "down_proj":
            parts[f"blk.{layer}.ffn_down_exps.weight"] = dict(enumerate(tensors.pop(name)))
        else:
            expert, kind, _ = rest.split(".")
            parts.setdefault(f"blk.{layer}.{EXPERT[kind]}.weight", {})[int(expert)] = tensors.pop(name)
    return {name: np.stack([part[e] for e in range(len(part))]) for name, part in parts.items()}


def pack_mxfp4(blocks, scales):
    """(..., blocks, 16), two codes a byte in their order, and (..., blocks) to ggml's: the scale, then codes i and i + 16 in byte i."""
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)
    packed = codes[..., :16] | codes[..., 16:] << 4
    return np.concatenate([scales[..., None], packed], axis=-1).reshape(*scales.shape[:-1], -1)


def gpt_oss_experts(tensors):
    """{GGUF name: (experts, out, in), or biases (experts, out)} and {GGUF name: the same in MXFP4's bytes}, out of gpt-oss's stacks, which leave `tensors`."""
    wide, raw, values = {}, {}, np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    values = np.concatenate([values, -values])
    for name in [n for n in tensors if n.endswith(("_proj_blocks", "_proj_bias"))]:
        layer, stem = name.split(".")[2], name.rpartition(".")[2]
        kind = "weight" if stem.endswith("_blocks") else "bias"
        t, s = tensors.pop(name), tensors.pop(name.replace("_blocks", "_scales")) if kind == "weight" else None
        for part, rows in {"gate_up": (("gate", slice(0, None, 2)), ("up", slice(1, None, 2))), "down": (("down", slice(None)),)}[stem.rpartition("_proj")[0]]:
            out = f"blk.{layer}.ffn_{part}_exps.{kind}"
            if kind == "bias":
                wide[out] = t[:, rows]
                continue
            codes = np.stack([t[:, rows] & 15, t[:, rows] >> 4], axis=-1).reshape(*t[:, rows].shape[:-1], 32)
            wide[out] = np.ldexp(values[codes], s[:, rows, :, None].astype(int) - 127).reshape(*codes.shape[:2], -1)
            raw[out] = pack_mxfp4(t[:, rows], s[:, rows])
    return wide, raw


def gguf_name(name, family=None):
    if name.endswith(".sinks"):
        return f"blk.{name.split('.')[2]}.attn_sinks.weight"
    stem, _, part = name.rpartition(".")
    if part == "e_score_correction_bias":
        return f"blk.{name.split('.')[2]}.exp_probs_b.bias"
    if stem in TOP:
        return f"{TOP[stem]}.{part}"
    if part in SSM:
        return f"blk.{stem.split('.')[2]}.{SSM[part]}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{OWN.get(family, {}).get(rest) or LAYER[rest]}.{part}"


def interleave(w, n_heads):
    """Rows i and i + d/2 of each head (Hugging Face's RoPE pairs) to rows 2i and 2i + 1 (the llama architecture's)."""
    d = w.shape[0] // n_heads
    return w.reshape(n_heads, 2, d // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def unweave(w, n_heads):
    """Rows of GPT-NeoX's q, k and v, which stand head by head, one after the other."""
    return w.reshape(n_heads, 3, -1, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape)


def rename_granite(config, tensors):
    """Mixtures of Granite: their stacks, routers and the feed-forward of all tokens, whose gate and up are one, by the names of the others."""
    feed_forward = "mlp.shared_expert" if config["num_local_experts"] else "mlp"
    names = {"block_sparse_moe.input_linear.weight": "mlp.experts.gate_up_proj", "block_sparse_moe.output_linear.weight": "mlp.experts.down_proj",
             "block_sparse_moe.router.layer.weight": "mlp.gate.weight", "shared_mlp.output_linear.weight": f"{feed_forward}.down_proj.weight"}
    for name in list(tensors):
        before, layer, stem = name.rpartition(re.search(r"\.\d+\.|$", name)[0] or name)
        if stem in names:
            tensors[before + layer + names[stem]] = tensors.pop(name)
        elif stem == "shared_mlp.input_linear.weight":
            for part, w in zip(("gate_proj", "up_proj"), np.split(tensors.pop(name), 2)):
                tensors[f"{before}{layer}{feed_forward}.{part}.weight"] = w


def reshape_ssm(writer, config, tensors):
    """Vectors of state spaces in llama.cpp's shapes, written."""
    groups = config.get("n_groups") or config.get("mamba_n_groups")
    for name in [n for n in tensors if ".mixer." in n or ".mamba." in n]:
        kind = name.split(".", 4)[4]
        if kind not in ("in_proj.weight", "out_proj.weight"):
            w = tensors.pop(name)
            w = -np.exp(w)[:, None] if kind == "A_log" else w[:, None] if kind == "D" else w.reshape(groups, -1) if kind == "norm.weight" else w
            writer.add_tensor(gguf_name(name), np.ascontiguousarray(w[:, 0] if kind == "conv1d.weight" else w, np.float32))


def rope_factors(scaling, theta, d):
    """llama3's scaling: what each of the d/2 frequencies is divided by."""
    factor, low, high = scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"]
    original, out = scaling["original_max_position_embeddings"], []
    for i in range(0, d, 2):
        wavelength = 2 * math.pi * theta ** (i / d)
        if wavelength < original / high:
            out.append(1.0)
        elif wavelength > original / low:
            out.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            out.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(out, np.float32)


def add_tokenizer(writer, tok, config, pre):
    model = tok["model"]
    size = config["vocab_size"]
    tokens, kinds = [f"[PAD{i}]" for i in range(size)], [gguf.TokenType.UNUSED] * size
    for content, i in model["vocab"].items():
        tokens[i], kinds[i] = content, gguf.TokenType.NORMAL
    for a in tok["added_tokens"]:
        tokens[a["id"]] = a["content"]
        kinds[a["id"]] = gguf.TokenType.CONTROL if a["special"] else gguf.TokenType.USER_DEFINED
    if model.get("byte_fallback"):
        for b in range(256):
            kinds[model["vocab"][f"<0x{b:02X}>"]] = gguf.TokenType.BYTE
        kinds[model["vocab"][model["unk_token"]]] = gguf.TokenType.UNKNOWN
        writer.add_tokenizer_model("llama")
        writer.add_token_scores([-float(i) for i in range(size)])
        writer.add_unk_token_id(model["vocab"][model["unk_token"]])
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def fitting_type(wanted, n_cols):
    for name in (wanted, "q8_0", "f16"):
        if n_cols % ggml_oracle.TYPES[name][2] == 0:
            return name


def rope_of(config):
    """(theta, scaling or None), where either spelling of config.json has them."""
    rope = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    theta = config.get("rope_theta") or config.get("rotary_emb_base") or rope.get("rope_theta") or 10000.0
    return theta, config.get("rope_scaling") or (rope if rope.get("rope_type", "default") != "default" else None)


def head_dim(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def add_deepseek(writer, config, split):
    """Latent attention and experts of DeepSeek; split: keys and values of all heads count as one latent."""
    rank, rope, value = config["kv_lora_rank"], config["qk_rope_head_dim"], config["v_head_dim"]
    key = config["qk_nope_head_dim"] + rope
    scaling = config["rope_scaling"]
    writer.add_head_count_kv(1 if split else config["num_attention_heads"])
    writer.add_key_length(rank + rope if split else key)
    writer.add_value_length(rank if split else value)
    if split:
        writer.add_key_length_mla(key)
        writer.add_value_length_mla(value)
    writer.add_kv_lora_rank(rank)
    if config["q_lora_rank"]:
        writer.add_q_lora_rank(config["q_lora_rank"])
    writer.add_rope_dimension_count(rope)
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_expert_count(config["n_routed_experts"])
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])
    writer.add_expert_weights_norm(config["norm_topk_prob"])
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID if config["scoring_func"] == "sigmoid" else gguf.ExpertGatingFuncType.SOFTMAX)
    if config["n_group"] > 1 and config["topk_method"] != "greedy":
        writer.add_expert_group_count(config["n_group"])
        writer.add_expert_group_used_count(config["topk_group"])
    if scaling:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_log_mul(0.1 * scaling["mscale_all_dim"])


def split_kv(tensors, config):
    """{GGUF name: stack} of keys, transposed, and values of each head, out of kv_b, which leaves `tensors`."""
    heads, nope, out = config["num_attention_heads"], config["qk_nope_head_dim"], {}
    for name in [n for n in tensors if n.endswith("kv_b_proj.weight")]:
        layer, w = name.split(".")[2], tensors.pop(name)
        k, v = np.split(w.reshape(heads, -1, w.shape[1]), [nope], axis=1)
        out[f"blk.{layer}.attn_k_b.weight"], out[f"blk.{layer}.attn_v_b.weight"] = np.ascontiguousarray(k.swapaxes(1, 2)), np.ascontiguousarray(v)
    return out


def open_writer(out, name, config, tok, pre=None, split=False):
    """A GGUFWriter with everything but the weights: what config.json and tokenizer.json say, and llama3's RoPE factors."""
    family = config["model_type"]
    latent, attends = "kv_lora_rank" in config, "num_attention_heads" in config
    d = head_dim(config) if attends else 0
    theta, scaling = rope_of(config)
    writer = gguf.GGUFWriter(str(out), ARCH.get(family, family))
    writer.add_name(name)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config.get("max_position_embeddings", 2 ** 20))
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["shared_intermediate_size"] if config.get("num_local_experts") == 0 else config.get("intermediate_size", 0))
    writer.add_head_count(config.get("num_attention_heads", 0))
    if latent:
        add_deepseek(writer, config, split)
    elif attends:
        kv_heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        writer.add_head_count_kv([kv_heads if kind == "attention" else 0 for kind in config["layer_types"]] if "mamba_n_heads" in config else kv_heads)
        writer.add_key_length(d)
        writer.add_value_length(d)
        writer.add_rope_dimension_count(int(d * config.get("partial_rotary_factor", config.get("rotary_pct", 1))))
    if attends:
        writer.add_rope_freq_base(theta)
    if "expand" in config or "mamba_expand" in config:
        of = {k.removeprefix("mamba_"): v for k, v in config.items()}
        writer.add_ssm_conv_kernel(of.get("conv_kernel") or of["d_conv"])
        writer.add_ssm_inner_size(of["expand"] * config["hidden_size"])
        writer.add_ssm_state_size(of.get("state_size") or of["d_state"])
        writer.add_ssm_time_step_rank(of.get("num_heads") or of["n_heads"])
        writer.add_ssm_group_count(of["n_groups"])
    if config.get("position_embedding_type") == "nope":
        writer.add_rope_scaling_finetuned(False)
    if "norm_epsilon" in config or "layer_norm_eps" in config:
        writer.add_layer_norm_eps(config.get("norm_epsilon") or config["layer_norm_eps"])
    else:
        writer.add_layer_norm_rms_eps(config.get("rms_norm_eps") or config["layer_norm_epsilon"])
    if config.get("num_experts_per_tok"):
        if not latent:
            writer.add_expert_count(config.get("num_experts") or config["num_local_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        if "moe_intermediate_size" in config:
            writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
        for key in ("shared_expert_intermediate_size", "shared_intermediate_size"):
            if key in config:
                writer.add_expert_shared_feed_forward_length(config[key])
    if "use_parallel_residual" in config:
        writer.add_parallel_residual(config["use_parallel_residual"])
    for key, add in (("attn_logit_softcapping", "add_attn_logit_softcapping"), ("final_logit_softcapping", "add_final_logit_softcapping"),
                     ("embedding_multiplier", "add_embedding_scale"), ("residual_multiplier", "add_residual_scale"),
                     ("attention_multiplier", "add_attention_scale"), ("logits_scaling", "add_logit_scale")):
        if config.get(key) is not None:
            getattr(writer, add)(config[key])
    if family == "gpt_oss":
        writer.add_expert_feed_forward_length(config["intermediate_size"])
    if family in ("mistral", "gemma2", "gemma3_text", "phi3", "gpt_oss", "olmo3") and config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if family == "olmo3":
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config["layer_types"]])
    if family == "bitnet" and config["hidden_act"] != "silu":
        writer.add_string(f"{writer.arch}.hidden_activation", config["hidden_act"])
    add_tokenizer(writer, tok, config, pre or PRE.get(family))
    kind = scaling and (scaling.get("rope_type") or scaling["type"])
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(scaling.get("beta_fast", 32))
        writer.add_rope_scaling_yarn_beta_slow(scaling.get("beta_slow", 1))
        if family == "ministral3":
            writer.add_rope_scaling_yarn_log_mul(scaling["mscale_all_dim"])
            writer.add_attn_temperature_scale(scaling["llama_4_scaling_beta"])
    elif kind == "longrope":
        original = config["original_max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(config["max_position_embeddings"] / original) / math.log(original)))
        for length in ("long", "short"):
            writer.add_tensor(f"rope_factors_{length}.weight", np.array(scaling[f"{length}_factor"], np.float32))
    elif scaling and not latent:
        if kind != "llama3":
            raise ValueError(f"rope_type {kind}")
        writer.add_tensor("rope_freqs.weight", rope_factors(scaling, theta, d))
    return writer


def add_matrix(writer, name, w, kind, importance=None):
    """w: (out, in), or (experts, out, in)."""
    if kind == "f32":
        writer.add_tensor(name, np.ascontiguousarray(w, np.float32))
        return
    flat = w.reshape(-1, w.shape[-1])
    raw = flat.astype(np.float16).tobytes() if kind == "f16" else ggml_oracle.quantize(kind, flat, importance)
    data = np.frombuffer(raw, np.float16 if kind == "f16" else np.uint8).reshape(*w.shape[:-1], -1)
    writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[kind.upper()])


def copy(source, out, arch=None, extra=None, recode=lambda tensor: None):
    """A GGUF with another architecture's name, if one is given, and keys of `extra` (its arrays of int32); recode: a tensor's new type, None: as it is."""
    reader = gguf.GGUFReader(source)
    old = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(str(out), arch or old)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            name = field.name.replace(f"{old}.", f"{arch or old}.", 1) if field.name.startswith(f"{old}.") else field.name
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub)
    for key, value in (extra or {}).items():
        writer.add_array(f"{arch or old}.{key}", value)
    for t in reader.tensors:
        kind = recode(t)
        if kind:
            add_matrix(writer, t.name, np.asarray(t.data, np.float32), kind)
        else:
            writer.add_tensor(t.name, t.data, raw_dtype=t.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write(folder, out, type_name="f16", pre=None, importance=None, split=False):
    """importance: {Hugging Face module name: float32 (n_cols,)} or None. type_name: or a function of a matrix' GGUF name. split: of latent attention's kv_b."""
    folder = pathlib.Path(folder)
    type_of = type_name if callable(type_name) else lambda name: type_name
    config = json.loads((folder / "config.json").read_text())
    heads = config.get("num_attention_heads")
    kv_heads = config.get("num_key_value_heads") or heads
    writer = open_writer(out, folder.name, config, json.loads((folder / "tokenizer.json").read_text()), pre, split)
    arch, family = writer.arch, config["model_type"]
    tensors = {name: w for name, w in read_tensors(folder).items() if not name.startswith(f"model.layers.{config.get('num_hidden_layers')}.")}
    if family.startswith("granitemoe"):
        rename_granite(config, tensors)
    reshape_ssm(writer, config, tensors)
    wide, raw = gpt_oss_experts(tensors) if family == "gpt_oss" else ({}, {})
    for name, w in wide.items():
        if name.endswith(".bias"):
            writer.add_tensor(name, np.ascontiguousarray(w, np.float32))
        elif type_of(name) == "mxfp4":
            writer.add_tensor(name, np.ascontiguousarray(raw[name]), raw_dtype=gguf.GGMLQuantizationType.MXFP4)
        else:
            add_matrix(writer, name, w, fitting_type(type_of(name), w.shape[2]))
    for name, w in {**stack_experts(tensors), **(split_kv(tensors, config) if split else {})}.items():
        add_matrix(writer, name, w, fitting_type(type_of(name), w.shape[2]))
    for name, w in tensors.items():
        if family.startswith("gemma") and "norm" in name:
            w = w + 1
        if arch in INTERLEAVED and ".q_proj." in name:
            w = interleave(w, heads)
        if arch in INTERLEAVED and ".k_proj." in name:
            w = interleave(w, kv_heads)
        if ".query_key_value." in name:
            w = unweave(w, heads)
        if w.ndim == 1 or w.shape[0] == 1:
            w = w.reshape(-1)
            writer.add_tensor(gguf_name(name, family), np.ascontiguousarray(w, np.float32))
            continue
        kind = "f32" if "ffn_gate_inp" in gguf_name(name, family) else fitting_type(type_of(gguf_name(name, family)), w.shape[1])
        a = (importance or {}).get(name.removesuffix(".weight"))
        if a is None and kind in ggml_oracle.NEED_IMPORTANCE:
            a = np.ones(w.shape[1], np.float32)
        add_matrix(writer, gguf_name(name, family), w, kind, a)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src")
    parser.add_argument("out")
    parser.add_argument("--type", default="f16", choices=sorted(ggml_oracle.TYPES))
    parser.add_argument("--pre", help="tokenizer.ggml.pre; default by family")
    args = parser.parse_args()
    write(args.src, args.out, args.type, args.pre)
