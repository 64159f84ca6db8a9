"""Mean x² per input channel of every matrix of a small llama-family model: what an importance matrix holds.

A plain numpy forward pass in float32 of Llama (and Mistral without a window), no cache, whole windows at a time.  It is a third,
independent reading of the architecture, after snug's and llama.cpp's, and short enough to be read beside the paper.
"""
import json
import pathlib

import numpy as np

import make_gguf


def rms_norm(x, gain, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * gain


def rotate(x, theta):
    """x (n, heads, d): Hugging Face's RoPE, pairs (i, i + d/2)."""
    n, _, d = x.shape
    angle = np.arange(n)[:, None] * theta ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angle)[:, None, :].astype(np.float32), np.sin(angle)[:, None, :].astype(np.float32)
    a, b = x[..., :d // 2], x[..., d // 2:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


class Llama:
    def __init__(self, folder):
        self.c = json.loads((pathlib.Path(folder) / "config.json").read_text())
        if self.c["model_type"] not in ("llama", "mistral") or self.c.get("rope_scaling"):
            raise ValueError("importance.py knows Llama without RoPE scaling")
        self.w = make_gguf.read_tensors(folder)
        self.squares = {}

    def linear(self, x, name):
        total, n = self.squares.get(name, (0.0, 0))
        self.squares[name] = (total + np.square(x.astype(np.float64)).sum(axis=0), n + len(x))
        return x @ self.w[name + ".weight"].T

    def forward(self, tokens):
        """Logits (n, vocab) of one window."""
        c, n = self.c, len(tokens)
        heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        d = c.get("head_dim") or c["hidden_size"] // heads
        hidden = np.triu(np.full((n, n), -np.inf, np.float32), 1)
        x = self.w["model.embed_tokens.weight"][tokens]
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            h = rms_norm(x, self.w[p + "input_layernorm.weight"], c["rms_norm_eps"])
            q, k, v = (self.linear(h, f"{p}self_attn.{s}_proj").reshape(n, -1, d) for s in "qkv")
            q, k = rotate(q, c["rope_theta"]), rotate(k, c["rope_theta"])
            k, v = (np.repeat(t, heads // kv_heads, axis=1) for t in (k, v))
            score = np.einsum("qhd,khd->hqk", q, k) / np.float32(d) ** 0.5 + hidden
            score = np.exp(score - score.max(axis=-1, keepdims=True))
            out = np.einsum("hqk,khd->qhd", score / score.sum(axis=-1, keepdims=True), v)
            x = x + self.linear(out.reshape(n, -1), p + "self_attn.o_proj")
            h = rms_norm(x, self.w[p + "post_attention_layernorm.weight"], c["rms_norm_eps"])
            gate, up = self.linear(h, p + "mlp.gate_proj"), self.linear(h, p + "mlp.up_proj")
            x = x + self.linear(gate / (1 + np.exp(-gate)) * up, p + "mlp.down_proj")
        x = rms_norm(x, self.w["model.norm.weight"], c["rms_norm_eps"])
        head = "lm_head" if "lm_head.weight" in self.w else "model.embed_tokens"
        return self.linear(x, head)


def measure(folder, tokens, window=256):
    """{module name: float32 (n_cols,)}."""
    model = Llama(folder)
    for start in range(0, len(tokens), window):
        model.forward(tokens[start:start + window])
    return {name: (total / n).astype(np.float32) for name, (total, n) in model.squares.items()}
