#!/usr/bin/env python3
"""The outlier twin of a model: the same function, bit for bit, with the outlier channels that large models have.

    tools/make_twin.py SRC OUT [--seed N] [--check]       # SRC: a Hugging Face folder, or a GGUF in f32, f16 or bf16

A small model lacks the outlier channels which make large ones hard to compress.  Where the network multiplies y = B(A x) and
nothing but scaling-invariant arithmetic stands between, a channel of A may grow by 2^k while the matching column of B shrinks by
2^-k.  Powers of two change no mantissa, so every product and sum of the network keeps its bits (barring overflow and denormals,
which are looked for), while weights, activations and the KV cache gain outliers:

    norm gain          x 2^k     columns of what reads the norm (q, k, v; gate, up; an untied head)     x 2^-k
    K rows (RoPE pair) x 2^k     Q rows of the heads that read them                                     x 2^-k
                                 (with q/k norms: their gains instead of the rows)
    V rows             x 2^k     the O columns of every query head of the group                         x 2^-k
    up rows            x 2^k     columns of down                                                        x 2^-k

RoPE rotates pairs, so both rows of a pair take the same k: rows i and i + d/2 in Hugging Face folders and in GGUFs of Qwen
models, rows 2i and 2i + 1 in GGUFs of the llama architecture.  Channels and exponents are drawn with a fixed seed, in the
proportions that are reported for 7 B models: about 1 % of the normed channels 8 to 64 times larger, one or two RoPE pairs per KV
head 4 to 16 times, 3 % of the value channels 2 to 8 times, 1 % of the feed-forward channels 4 to 32 times.

--check compares logits of both models on random tokens, which must be equal: by `transformers` for folders, by llama.cpp (see
tests/interop) for GGUF.

Needs: numpy; the gguf package for GGUF.
"""
import argparse
import json
import pathlib
import shutil
import struct
import sys

import numpy as np

DTYPES = {"F32": ("<f4", 4), "F16": ("<f2", 2), "BF16": ("<u2", 2)}


def widen(stored, dtype):
    return (stored.astype("<u4") << 16).view("<f4") if dtype == "BF16" else stored.astype("<f4")


def scale(array, dtype, index, k):
    """array[index] *= 2^k in place; fails unless that is exact."""
    old = widen(np.atleast_1d(array[index]), dtype)
    new = np.ldexp(old, k)
    stored = (np.ascontiguousarray(new).view("<u4") >> 16).astype("<u2") if dtype == "BF16" else new.astype(array.dtype)
    if not np.array_equal(np.ldexp(widen(stored, dtype).astype("<f8"), -k), old.astype("<f8")):
        raise ValueError(f"2^{k} is not exact in {dtype}; a folder can be widened by --f32")
    array[index] = stored if np.ndim(array[index]) else stored[0]


def widen_safetensors(path):
    """Rewrite a safetensors file with all its tensors as F32."""
    data = path.read_bytes()
    n = struct.unpack_from("<Q", data)[0]
    header, out, at = json.loads(data[8:8 + n]), [], 0
    for info in (i for name, i in header.items() if name != "__metadata__"):
        start, end = (8 + n + x for x in info["data_offsets"])
        out.append(widen(np.frombuffer(data[start:end], DTYPES[info["dtype"]][0]), info["dtype"]).tobytes())
        info.update(dtype="F32", data_offsets=[at, at + len(out[-1])])
        at += len(out[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(out))


class Folder:
    """Tensors of a copied Hugging Face folder, edited in place."""
    NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
             "v": "self_attn.v_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
             "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
    TOP = {"final_norm": "model.norm", "head": "lm_head"}
    FAMILIES = ("llama", "mistral", "qwen2", "qwen3")

    def __init__(self, src, out, f32):
        shutil.copytree(src, out, copy_function=shutil.copyfile)
        config = json.loads((out / "config.json").read_text())
        if config["model_type"] not in self.FAMILIES:
            raise ValueError(f"{src}: model_type {config['model_type']} is none of {', '.join(self.FAMILIES)}")
        if f32:
            config["torch_dtype"] = "float32"
            (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        self.n_layers, self.n_heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.n_kv = config.get("num_key_value_heads") or self.n_heads
        self.interleaved = False
        self.maps = {}
        for path in sorted(out.glob("*.safetensors")):
            if f32:
                widen_safetensors(path)
            with open(path, "rb") as f:
                n = struct.unpack("<Q", f.read(8))[0]
                header = json.loads(f.read(n))
            for name, info in header.items():
                if name != "__metadata__":
                    kind = DTYPES[info["dtype"]][0]
                    self.maps[name] = (np.memmap(path, kind, "r+", 8 + n + info["data_offsets"][0], tuple(info["shape"])), info["dtype"])

    def find(self, what, layer=None, part="weight"):
        if layer is None:
            return self.maps.get(f"{self.TOP[what]}.{part}")
        return self.maps.get(f"model.layers.{layer}.{self.NAMES[what]}.{part}")

    def close(self):
        for array, _ in self.maps.values():
            array.flush()


class Gguf:
    """Tensors of a copied GGUF, edited in place."""
    NAMES = {"attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
             "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down", "q_norm": "attn_q_norm", "k_norm": "attn_k_norm"}
    TOP = {"final_norm": "output_norm", "head": "output"}
    FAMILIES = ("llama", "qwen2", "qwen3")

    def __init__(self, src, out, f32):
        import gguf
        if f32:
            raise ValueError("--f32 is for folders")
        shutil.copyfile(src, out)
        self.reader = gguf.GGUFReader(out, "r+")
        field = lambda key: self.reader.fields[key].contents()
        arch = field("general.architecture")
        if arch not in self.FAMILIES:
            raise ValueError(f"{src}: architecture {arch} is none of {', '.join(self.FAMILIES)}")
        self.n_layers, self.n_heads = field(f"{arch}.block_count"), field(f"{arch}.attention.head_count")
        kv = f"{arch}.attention.head_count_kv"
        self.n_kv = field(kv) if kv in self.reader.fields else self.n_heads
        self.interleaved = arch == "llama"
        self.maps = {}
        for t in self.reader.tensors:
            if t.tensor_type.name not in DTYPES:
                raise ValueError(f"{src}: {t.name} is {t.tensor_type.name}: only f32, f16 and bf16 can be scaled exactly")
            array = t.data.view("<u2") if t.tensor_type.name == "BF16" else t.data
            self.maps[t.name] = (array, t.tensor_type.name)

    def find(self, what, layer=None, part="weight"):
        if layer is None:
            return self.maps.get(f"{self.TOP[what]}.{part}")
        return self.maps.get(f"blk.{layer}.{self.NAMES[what]}.{part}")

    def close(self):
        self.reader.data.flush()


class Twin:
    def __init__(self, model, seed):
        self.model, self.rng, self.edits = model, np.random.default_rng(seed), 0

    def draw(self, n, share, lo, hi, at_least=1):
        """Channels out of n, with an exponent each."""
        count = max(at_least, round(n * share))
        return [(int(c), int(self.rng.integers(lo, hi + 1))) for c in np.sort(self.rng.choice(n, count, replace=False))]

    def rows(self, what, layer, index, k):
        for part in ("weight", "bias"):
            found = self.model.find(what, layer, part)
            if found:
                scale(*found, index, k)
        self.edits += 1

    def cols(self, what, layer, index, k):
        scale(*self.model.find(what, layer), (slice(None), index), k)
        self.edits += 1

    def layer(self, i):
        m = self.model
        for norm, readers in (("attn_norm", "q k v"), ("ffn_norm", "gate up")):
            for c, k in self.draw(m.find(norm, i)[0].shape[0], 0.01, 3, 6, at_least=2):
                self.rows(norm, i, c, k)
                for reader in readers.split():
                    self.cols(reader, i, c, -k)
        n_group = m.n_heads // m.n_kv
        d = m.find("k", i)[0].shape[0] // m.n_kv
        pair = (lambda p: (2 * p, 2 * p + 1)) if m.interleaved else (lambda p: (p, p + d // 2))
        if m.find("k_norm", i):
            for p, k in self.draw(d // 2, 0.03, 2, 4):
                for row in pair(p):
                    self.rows("k_norm", i, row, k)
                    self.rows("q_norm", i, row, -k)
        for h in range(m.n_kv):
            if not m.find("k_norm", i):
                for p, k in self.draw(d // 2, 0.03, 2, 4):
                    for row in pair(p):
                        self.rows("k", i, h * d + row, k)
                        for g in range(n_group):
                            self.rows("q", i, (h * n_group + g) * d + row, -k)
            for c, k in self.draw(d, 0.03, 1, 3):
                self.rows("v", i, h * d + c, k)
                for g in range(n_group):
                    self.cols("o", i, (h * n_group + g) * d + c, -k)
        for c, k in self.draw(m.find("up", i)[0].shape[0], 0.01, 2, 5):
            self.rows("up", i, c, k)
            self.cols("down", i, c, -k)

    def make(self):
        for i in range(self.model.n_layers):
            self.layer(i)
        if self.model.find("head"):
            for c, k in self.draw(self.model.find("final_norm")[0].shape[0], 0.01, 3, 6):
                self.rows("final_norm", None, c, k)
                self.cols("head", None, c, -k)
        self.model.close()


def check(src, out, is_folder):
    """Logits of both on random tokens. Returns whether they are equal to the last bit."""
    if is_folder:
        import torch
        from transformers import AutoModelForCausalLM
        torch.set_num_threads(1)
        load = lambda p: AutoModelForCausalLM.from_pretrained(p, dtype=torch.float32, attn_implementation="eager").eval()
        both = [load(src), load(out)]
        tokens = torch.randint(0, both[0].config.vocab_size, (1, 64), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            a, b = (model(tokens).logits.numpy() for model in both)
    else:
        sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "interop"))
        import ggml_oracle
        tokens = None
        logits = []
        for path in (src, out):
            with ggml_oracle.Model(path, n_threads=1) as model:
                if tokens is None:
                    tokens = np.random.default_rng(1).integers(0, model.n_vocab, 64)
                logits.append(model.logits(tokens, 64, kv="f32"))
        a, b = logits
    print(f"logits: largest |difference| {np.abs(a - b).max():.3g}, standard deviation {a.std():.3g}")
    return np.array_equal(a, b)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--f32", action="store_true", help="widen the folder's tensors to f32 first (f16 has too few exponents)")
    parser.add_argument("--check", action="store_true", help="compare the logits of both; exit 1 if they differ")
    args = parser.parse_args()
    if args.out.exists():
        sys.exit(f"{args.out} exists")
    is_folder = args.src.is_dir()
    try:
        twin = Twin((Folder if is_folder else Gguf)(args.src, args.out, args.f32), args.seed)
        twin.make()
    except ValueError as e:
        shutil.rmtree(args.out) if args.out.is_dir() else args.out.unlink(missing_ok=True)
        sys.exit(f"make_twin: {e}")
    print(f"{args.out}: {twin.edits} rows and columns scaled")
    if args.check and not check(args.src, args.out, is_folder):
        sys.exit("the twin is another function")


if __name__ == "__main__":
    main()
