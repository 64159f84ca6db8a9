#!/usr/bin/env python3
"""Random-weight checkpoints in real shapes, to measure memory, speed and resumption on: Hugging Face folders and GGUF files.

    tools/make_checkpoint.py --shape llama-3.2-1b OUT
    tools/make_checkpoint.py --shape llama-3-8b --layers 4 --shards 3 OUT
    tools/make_checkpoint.py --shape llama-3.1-405b --shards 191 --headers-only OUT     # sparse files, real headers
    tools/make_checkpoint.py --shape deepseek-v3 --shards 163 --headers-only OUT
    tools/make_checkpoint.py --shape llama-3-8b --format gguf --type q4_k OUT.gguf

bf16 matrices, N(0, 0.02) cut at a table's ends, norm gains 1; config.json in the published form; a byte-level tokenizer.json whose
vocabulary is the 256 bytes, a few merges and filler up to the model's size.  Written as a stream: memory stays near 100 MB whatever
the shape.  The same seed gives the same bytes.

With --headers-only the headers are real and the tensor data are a hole in the file: a 70 B checkpoint takes a few
hundred kilobytes of disk and reads as zeros; one of 10^12 weights 10 MB.

A GGUF holds every matrix in one type (f16, bf16, or a block type as ggml encodes it; a matrix whose rows the block does not divide
falls back to q8_0, then f16).  Encoding billions of weights would take hours, so blocks are drawn at random from a pool of a million
encoded weights: what a kernel reads is as varied as it would be, for the price of writing it.  Its weights are not those of the folder.

gemma-3-1b and mixtures of experts: the folder only; `snug convert` makes a GGUF of it. (DeepSeek-V3 is published in 8 bits; its layer that predicts a
further token is left out.)

Needs: numpy; for --format gguf the packages of tests/interop/requirements.txt.
"""
import argparse
import json
import pathlib
import struct
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHUNK = 1 << 22      # weights drawn at a time: 8 MB of bf16
POOL = 1 << 20       # weights of the blocks that a GGUF is drawn from
GGUF_TYPES = ("f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs")

LLAMA3_SCALING = lambda factor: {"factor": factor, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                                 "original_max_position_embeddings": 8192, "rope_type": "llama3"}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
         "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "vocab_size": 128256, "bos_token_id": 128000, "eos_token_id": 128001,
         "head_dim": 128, "num_key_value_heads": 8, "tie_word_embeddings": False, "max_position_embeddings": 131072}
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu", "attention_bias": False, "rms_norm_eps": 1e-6,
         "rope_theta": 1000000, "rope_scaling": None, "vocab_size": 151936, "bos_token_id": 151643, "eos_token_id": 151645,
         "head_dim": 128, "num_key_value_heads": 8, "tie_word_embeddings": True, "max_position_embeddings": 40960,
         "sliding_window": None, "use_sliding_window": False}
QWEN3_MOE = {**QWEN3, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "tie_word_embeddings": False, "num_experts_per_tok": 8,
             "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}
DEEPSEEK = {"hidden_act": "silu", "attention_bias": False, "rms_norm_eps": 1e-6, "rope_theta": 10000, "bos_token_id": 0, "eos_token_id": 1, "head_dim": 192,
            "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_layer_freq": 1, "max_position_embeddings": 163840,
            "tie_word_embeddings": False}
DEEPSEEK_YARN = lambda mscale: {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": mscale, "mscale_all_dim": mscale,
                                "original_max_position_embeddings": 4096}
SHAPES = {
    "deepseek-v2-lite": {**DEEPSEEK, "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944,
                         "moe_intermediate_size": 1408, "num_hidden_layers": 27, "num_attention_heads": 16, "num_key_value_heads": 16, "q_lora_rank": None,
                         "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1, "topk_method": "greedy",
                         "n_group": 1, "topk_group": 1, "scoring_func": "softmax", "norm_topk_prob": False, "routed_scaling_factor": 1.0,
                         "vocab_size": 102400, "rope_scaling": DEEPSEEK_YARN(0.707)},
    "deepseek-v3": {**DEEPSEEK, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432,
                    "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536,
                    "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "topk_method": "noaux_tc",
                    "n_group": 8, "topk_group": 4, "scoring_func": "sigmoid", "norm_topk_prob": True, "routed_scaling_factor": 2.5,
                    "vocab_size": 129280, "rope_scaling": DEEPSEEK_YARN(1.0)},
    "llama-50m": {**LLAMA, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 4,
                  "head_dim": 64, "rope_scaling": None, "max_position_embeddings": 2048, "vocab_size": 32000, "tie_word_embeddings": True,
                  "bos_token_id": 31998, "eos_token_id": 31999},
    "llama-3.2-1b": {**LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
                     "head_dim": 64, "rope_scaling": LLAMA3_SCALING(32.0), "tie_word_embeddings": True},
    "llama-3-8b": {**LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
                   "rope_scaling": None, "max_position_embeddings": 8192},
    "llama-3.1-70b": {**LLAMA, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
                      "rope_scaling": LLAMA3_SCALING(8.0)},
    "llama-3.1-405b": {**LLAMA, "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128,
                       "rope_scaling": LLAMA3_SCALING(8.0)},
    "qwen3-0.6b": {**QWEN3, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "qwen3-4b": {**QWEN3, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
    "qwen3-235b-a22b": {**QWEN3_MOE, "hidden_size": 4096, "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_hidden_layers": 94,
                        "num_attention_heads": 64, "num_key_value_heads": 4, "num_experts": 128},
    # Nobody's: the width, layers and experts of the largest mixtures that are published, as a Qwen3-MoE.
    "moe-1t": {**QWEN3_MOE, "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
               "num_attention_heads": 64, "num_key_value_heads": 8, "num_experts": 384},
    "gemma-3-1b": {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912,
                   "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
                   "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "attention_bias": False,
                   "rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": None, "sliding_window": 512,
                   "sliding_window_pattern": 6, "max_position_embeddings": 32768, "tie_word_embeddings": True, "final_logit_softcapping": None,
                   "attn_logit_softcapping": None, "bos_token_id": 2, "eos_token_id": 1},
}


def deepseek_layer(c, i):
    """(name, shape) of every tensor of a DeepSeek model's layer."""
    p, h, heads, rank = f"model.layers.{i}.", c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    nope, rope, value = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    ffn = lambda name, width: [(f"{p}mlp.{name}down_proj.weight", (h, width)), (f"{p}mlp.{name}gate_proj.weight", (width, h)), (f"{p}mlp.{name}up_proj.weight", (width, h))]
    yield p + "input_layernorm.weight", (h,)
    if i < c["first_k_dense_replace"]:
        yield from ffn("", c["intermediate_size"])
    else:
        for e in range(c["n_routed_experts"]):
            yield from ffn(f"experts.{e}.", c["moe_intermediate_size"])
        yield p + "mlp.gate.weight", (c["n_routed_experts"], h)
        if c["scoring_func"] == "sigmoid":
            yield p + "mlp.gate.e_score_correction_bias", (c["n_routed_experts"],)
        yield from ffn("shared_experts.", c["moe_intermediate_size"] * c["n_shared_experts"])
    yield p + "post_attention_layernorm.weight", (h,)
    yield p + "self_attn.kv_a_layernorm.weight", (rank,)
    yield p + "self_attn.kv_a_proj_with_mqa.weight", (rank + rope, h)
    yield p + "self_attn.kv_b_proj.weight", (heads * (nope + value), rank)
    yield p + "self_attn.o_proj.weight", (h, heads * value)
    if c["q_lora_rank"]:
        yield p + "self_attn.q_a_layernorm.weight", (c["q_lora_rank"],)
        yield p + "self_attn.q_a_proj.weight", (c["q_lora_rank"], h)
        yield p + "self_attn.q_b_proj.weight", (heads * (nope + rope), c["q_lora_rank"])
    else:
        yield p + "self_attn.q_proj.weight", (heads * (nope + rope), h)


def tensors(c):
    """(name, shape) of every tensor, in the order of the published files: embedding, blocks, final norm, head."""
    h, f, d = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    yield "model.embed_tokens.weight", (c["vocab_size"], h)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        if "kv_lora_rank" in c:
            yield from deepseek_layer(c, i)
            continue
        yield p + "input_layernorm.weight", (h,)
        if c["model_type"] == "qwen3_moe":
            for e in range(c["num_experts"]):
                yield p + f"mlp.experts.{e}.down_proj.weight", (h, c["moe_intermediate_size"])
                yield p + f"mlp.experts.{e}.gate_proj.weight", (c["moe_intermediate_size"], h)
                yield p + f"mlp.experts.{e}.up_proj.weight", (c["moe_intermediate_size"], h)
            yield p + "mlp.gate.weight", (c["num_experts"], h)
        else:
            yield p + "mlp.down_proj.weight", (h, f)
            yield p + "mlp.gate_proj.weight", (f, h)
            yield p + "mlp.up_proj.weight", (f, h)
        yield p + "post_attention_layernorm.weight", (h,)
        if c["model_type"] == "gemma3_text":
            yield p + "post_feedforward_layernorm.weight", (h,)
            yield p + "pre_feedforward_layernorm.weight", (h,)
        if c["model_type"] in ("qwen3", "qwen3_moe", "gemma3_text"):
            yield p + "self_attn.k_norm.weight", (d,)
        yield p + "self_attn.k_proj.weight", (kv, h)
        yield p + "self_attn.o_proj.weight", (h, q)
        if c["model_type"] in ("qwen3", "qwen3_moe", "gemma3_text"):
            yield p + "self_attn.q_norm.weight", (d,)
        yield p + "self_attn.q_proj.weight", (q, h)
        yield p + "self_attn.v_proj.weight", (kv, h)
    yield "model.norm.weight", (h,)
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (c["vocab_size"], h)


def normal_table():
    """2^16 quantiles of N(0, 0.02) as bf16: one random u16 then picks a weight, 20 times faster than drawing normals."""
    u = (np.arange(1 << 16) + 0.5) / (1 << 16)
    grid = np.linspace(-5, 5, 200001)
    density = np.exp(-grid * grid / 2)
    cdf = np.cumsum(density)
    w = 0.02 * np.interp(u, (cdf - density / 2) / cdf[-1], grid)
    return to_bf16(w.astype(np.float32))


def to_bf16(x):
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)      # round to nearest even


def stream_weights(f, n_weights, pool, block, rng):
    """Units of `block` weights, picked at random from pool (a power of two of units, at most 2^16; their bytes)."""
    left = n_weights // block
    while left:
        n = min(left, CHUNK // block)
        picks = np.frombuffer(rng.bytes(2 * n), np.uint16) & np.uint16(len(pool) - 1)
        f.write(pool[picks].tobytes())
        left -= n


def write_shard(path, part, rng, table, norm_gain, headers_only):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in part:
        n_bytes = 2 * n_weights_of(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + n_bytes]}
        at += n_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        if headers_only:
            f.truncate(8 + len(text) + at)
            return
        for _, shape in part:
            if len(shape) == 1:
                f.write(to_bf16(np.full(shape, norm_gain, np.float32)).tobytes())
            else:
                stream_weights(f, n_weights_of(shape), table, 1, rng)


def n_weights_of(shape):
    return int(np.prod(shape, dtype=np.int64))


def byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    out, extra = {b: chr(b) for b in keep}, 256
    for b in range(256):
        if b not in out:
            out[b] = chr(extra)
            extra += 1
    return [out[b] for b in range(256)]


def tokenizer_json(c):
    """Bytes, a few merges, then filler that no text meets, then the added tokens that the config names.  How text is split before is
    the family's own way, which files name rather than describe."""
    n, named = c["vocab_size"], {c["bos_token_id"]: "<|begin|>", c["eos_token_id"]: "<|end|>"}
    merges = ["t h", "i n", "e r", "th e"]
    first, vocab = iter(byte_alphabet() + [m.replace(" ", "") for m in merges]), {}
    for i in range(n):
        vocab[named.get(i) or next(first, None) or f"<filler_{i}>"] = i      # a gap in the ids would shift the added tokens
    llama = c["model_type"] == "llama"
    numbers = r"\p{N}{1,3}" if llama else r"\p{N}"
    words = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + numbers +
             r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    split = {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                              "special": True} for i, s in sorted(named.items())],
            "normalizer": None if llama else {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": llama, "vocab": vocab, "merges": merges}}


def write_folder(out, config, n_shards, rng, headers_only):
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (out / "tokenizer.json").write_text(json.dumps(tokenizer_json(config), ensure_ascii=False), encoding="utf-8")
    todo = list(tensors(config))
    total = sum(2 * n_weights_of(shape) for _, shape in todo)
    parts, done = [[] for _ in range(n_shards)], 0
    for name, shape in todo:
        parts[min(done * n_shards // total, n_shards - 1)].append((name, shape))
        done += 2 * n_weights_of(shape)
    parts = [part for part in parts if part]
    table, where = normal_table(), {}
    norm_gain = 0.0 if config["model_type"] == "gemma3_text" else 1.0       # Gemma multiplies by 1 + gain
    for i, part in enumerate(parts):
        file = "model.safetensors" if len(parts) == 1 else f"model-{i + 1:05d}-of-{len(parts):05d}.safetensors"
        write_shard(out / file, part, rng, table, norm_gain, headers_only)
        where.update({name: file for name, _ in part})
        if sys.stderr.isatty():
            print(f"\r{out}: {i + 1}/{len(parts)} files", end="", file=sys.stderr)
    print(f"\r{out}: {len(parts)} files, {total / 2 / 1e9:.3f} B weights, {total} bytes of tensors", file=sys.stderr)
    if len(parts) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def encoded_pool(oracle, type_name, table, rng):
    """(weights per unit, units as rows of bytes) of a type."""
    _, _, block, unit_bytes = oracle.TYPES[type_name]
    if type_name == "bf16":
        return block, table
    if type_name == "f16":
        return block, (table.astype(np.uint32) << 16).view(np.float32).astype(np.float16)
    drawn = table[np.frombuffer(rng.bytes(2 * POOL), np.uint16)]
    raw = oracle.quantize(type_name, (drawn.astype(np.uint32) << 16).view(np.float32).reshape(-1, block))
    return block, np.frombuffer(raw, np.uint8).reshape(-1, unit_bytes)


def write_gguf(out, name, config, type_name, rng):
    """Tensor infos first, then every matrix as a stream.  q and k rows need no interleaving: they are random."""
    sys.path.insert(0, str(ROOT / "tests" / "interop"))
    import gguf
    import ggml_oracle as oracle
    import make_gguf
    writer = make_gguf.open_writer(out, name, config, tokenizer_json(config))
    types, n_weights = {}, 0
    for name, shape in tensors(config):
        n_weights += n_weights_of(shape)
        name = make_gguf.gguf_name(name)
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
            continue
        types[name] = kind = make_gguf.fitting_type(type_name, shape[1])
        writer.add_tensor_info(name, shape, np.dtype(np.float32), shape[0] * oracle.row_bytes(kind, shape[1]),
                               gguf.GGMLQuantizationType[kind.upper()])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    f, table = writer.fout[0], normal_table()
    pools = {kind: encoded_pool(oracle, kind, table, rng) for kind in sorted(set(types.values()))}
    writer.write_padding(f, f.tell())
    for name, info in writer.tensors[0].items():
        if name in types:
            block, pool = pools[types[name]]
            stream_weights(f, n_weights_of(info.shape), pool, block, rng)
        else:
            f.write(info.tensor.tobytes())
        writer.write_padding(f, info.nbytes)
    writer.close()
    fallen = sum(kind != type_name for kind in types.values())
    print(f"{out}: {n_weights / 1e9:.3f} B weights, {out.stat().st_size} bytes" + (f", {fallen} matrices fell back" if fallen else ""),
          file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--shape", required=True, choices=sorted(SHAPES))
    parser.add_argument("--layers", type=int, help="cut the model to so many blocks")
    parser.add_argument("--format", choices=("hf", "gguf"), default="hf")
    parser.add_argument("--type", choices=GGUF_TYPES, default="bf16", help="of a GGUF's matrices (default bf16)")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--headers-only", action="store_true", help="sparse files: real headers, no data")
    args = parser.parse_args()

    config = {**SHAPES[args.shape], "torch_dtype": "bfloat16", "initializer_range": 0.02, "use_cache": True}
    if args.layers:
        config["num_hidden_layers"] = args.layers
    rng = np.random.default_rng(args.seed)
    if args.format == "hf":
        if args.type != "bf16":
            parser.error("--type is of a GGUF; folders are bf16")
        write_folder(args.out, config, args.shards, rng, args.headers_only)
        return
    if config["model_type"] in ("gemma3_text", "qwen3_moe") or "kv_lora_rank" in config:
        parser.error(f"{args.shape} is made as a folder only")
    if args.shards > 1 or args.headers_only:
        parser.error("--shards and --headers-only are of folders")
    write_gguf(args.out, args.shape, config, args.type, rng)


if __name__ == "__main__":
    main()
