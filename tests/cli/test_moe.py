#!/usr/bin/env python3
"""Mixtures of experts as the program's user meets them: reports, tables, and files that do not say the truth about their experts."""
import json
import random
import shutil
import struct

import harness
import safetensors
from harness import FAILED, OK

QUICK = ["--effort", "quick", "--calib", "none"]


def golden(t, name, copy=None, **config):
    """A golden's folder, or a copy of it whose config.json says otherwise."""
    folder = t.source / "tests" / "golden" / name
    if copy is None:
        return folder
    shutil.copytree(folder, t.path(copy))
    path = t.path(copy) / "config.json"
    path.chmod(0o644)
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return t.path(copy)


def test_folders_that_lie(t):
    cases = [
        ("qwen3moe", {"num_experts": 0}, ["number of experts is 0", "expected 1 to"]),
        ("qwen3moe", {"num_experts": 4000000000}, ["number of experts is 4000000000"]),
        ("qwen3moe", {"num_experts": None}, ["num_local_experts", "missing"]),
        ("qwen3moe", {"num_experts": 6}, ["expected"]),
        ("qwen3moe", {"num_experts": 8}, ["8 x 72"]),
        ("qwen3moe", {"num_experts_per_tok": 8}, ["experts per token is 8", "expected 1 to 7"]),
        ("qwen3moe", {"num_experts_per_tok": 0}, ["experts per token is 0", "expected 1 to 7"]),
        ("qwen3moe", {"moe_intermediate_size": 45}, ["44", "45", "expected"]),
        ("qwen3moe", {"decoder_sparse_step": 2}, ["layers.0.mlp.", "no part of a qwen3moe model"]),
        ("qwen3moe", {"mlp_only_layers": [1]}, ["layers.1.mlp.", "no part of a qwen3moe model"]),
        ("olmoe", {"num_experts": 9}, ["expected"]),
        ("olmoe", {"intermediate_size": 61}, ["60", "61", "expected"]),
        ("mixtral", {"architectures": ["MistralForCausalLM"]}, ["no part of a llama model"]),
        ("mistral", {"architectures": ["MixtralForCausalLM"], "num_local_experts": 2, "num_experts_per_tok": 1}, ["no part of a llama model"]),
    ]
    for i, (name, config, words) in enumerate(cases):
        folder = golden(t, name, f"lie{i}", **config)
        r = t.run("inspect", folder, expect=FAILED)
        assert all(w in r.stderr for w in words), (name, config, r)


def set_u32(data, key, value):
    """The value of a u32 key of a GGUF, in place."""
    at = data.index(key.encode()) + len(key)
    assert struct.unpack_from("<I", data, at)[0] == 4
    return data[:at + 4] + struct.pack("<I", value) + data[at + 8:]


def test_ggufs_that_lie(t):
    made = t.path("a.gguf")
    t.run("export", golden(t, "qwen3moe"), "-o", made, expect=OK)
    good = made.read_bytes()
    t.run("inspect", made, expect=OK)
    bad = t.path("bad.gguf")
    cases = [
        (set_u32(good, "qwen3moe.expert_count", 0), ["number of experts is 0"]),
        (set_u32(good, "qwen3moe.expert_count", 6), ["ffn_", "expected"]),
        (set_u32(good, "qwen3moe.expert_count", 8), ["ffn_", "expected"]),
        (set_u32(good, "qwen3moe.expert_count", 0xffffffff), ["number of experts is 4294967295"]),
        (set_u32(good, "qwen3moe.expert_used_count", 0), ["experts per token is 0"]),
        (set_u32(good, "qwen3moe.expert_used_count", 9), ["experts per token is 9"]),
        (set_u32(good, "qwen3moe.expert_feed_forward_length", 43), ["ffn_", "expected"]),
        (set_u32(good, "qwen3moe.block_count", 4), ["missing"]),
        (good.replace(b"qwen3moe.expert_used_count", b"qwen3moe.expert_used_xount"), ["expert_used_count", "missing"]),
        (good.replace(b"blk.1.ffn_up_exps.weight", b"blk.1.ffn_uq_exps.weight"), ["ffn_uq_exps"]),
        (good.replace(b"blk.1.ffn_up_exps.weight", b"blk.0.ffn_up_exps.weight"), ["ffn_up"]),
    ]
    for data, words in cases:
        bad.write_bytes(data)
        for command in (["inspect", bad], ["run", bad, "-p", "a", "-n", "1"], ["fit", bad, "-o", t.path("x.snug"), "--bpw", "5", *QUICK]):
            r = t.run(*command, expect=FAILED)
            assert all(w in r.stderr for w in words), (words, r)
    cut = good[:len(good) * 2 // 3]
    bad.write_bytes(cut)
    t.run("inspect", bad, expect=FAILED)


def test_report(t):
    out = t.path("a.snug")
    r = t.run("fit", golden(t, "mixtral"), "-o", out, "--bpw", "5", "--effort", "quick", "--calib", t.short_text(3000), "--json", expect=OK).json()
    assert r["experts"] == 15 and 0 <= r["experts_missed"] <= 15, r
    rows = {x["tensor"]: x for x in r["plan"]}
    came = [rows[f"blk.2.ffn_down.{e}.weight"]["tokens"] for e in range(5)]
    assert sum(came) == 2 * r["calib_tokens"] and "tokens" not in rows["blk.2.attn_q.weight"], rows
    assert rows["blk.2.ffn_gate_inp.weight"]["codec"] in ("f16", "f32"), rows
    seen = t.run("inspect", out, "--json", expect=OK).json()
    assert seen["n_experts"] == 5 and seen["n_experts_used"] == 2
    of_an_expert = 3 * 60 * 64    # of each of three layers' five a token is sent to two
    assert seen["n_weights"] - seen["n_weights_used"] == 3 * 3 * of_an_expert, seen
    other = t.run("inspect", t.source / "tests" / "golden" / "deepseek3", "--json", expect=OK).json()
    assert [other[k] for k in ("n_ff", "n_ff_shared", "n_ff_dense", "n_expert_layers")] == [28, 28, 100, 2], other
    assert {x["expert"] for x in seen["tensors"] if x["role"] == "down"} == set(range(5))
    assert "experts     5 in each layer, 2 of them" in t.run("inspect", out, expect=OK).stdout
    r = t.run("run", out, "-p", "Once", "-n", "4", "--temp", "0", expect=OK)
    assert r.stdout


def test_memory(t):
    """--ram holds for mixtures too: what a run says it takes bounds what it does."""
    out = t.path("a.snug")
    r = t.run("fit", golden(t, "olmoe"), "-o", out, "--ram", "16M", "--ctx", "64", *QUICK, "--json", expect=OK).json()
    assert r["run_memory"]["total_bytes"] <= 16 << 20
    r = t.run("fit", golden(t, "olmoe"), "-o", out, "--ram", "9M", "--ctx", "64", *QUICK)
    assert r.code == harness.TOO_BIG and "the least that works" in r.stderr, r


N_MANY, MANY_LAYERS = 384, 9


def many_experts(t):
    """A Qwen3-MoE of 10,368 experts' matrices, 64 x 32 and 32 x 64; those of a role are pieces of one row of noise."""
    out = golden(t, "qwen3moe", "many", hidden_size=64, moe_intermediate_size=32, num_experts=N_MANY, num_hidden_layers=MANY_LAYERS, num_experts_per_tok=8)
    for file in out.glob("model*"):
        file.unlink()
    rng = random.Random(5)
    noise = safetensors.bf16([rng.gauss(0, 0.02) for _ in range(1 << 16)], [1 << 16])[2]
    matrix = lambda rows, cols: ("BF16", [rows, cols], noise[(at := 2 * rng.randrange(len(noise) // 2 - rows * cols)):at + 2 * rows * cols])
    vector = lambda n: safetensors.f32([1.0] * n, [n])
    tensors = {"model.embed_tokens.weight": matrix(512, 64), "model.norm.weight": vector(64), "lm_head.weight": matrix(512, 64)}
    for layer in range(MANY_LAYERS):
        p = f"model.layers.{layer}."
        tensors.update({p + "input_layernorm.weight": vector(64), p + "post_attention_layernorm.weight": vector(64), p + "mlp.gate.weight": matrix(N_MANY, 64),
                        p + "self_attn.q_norm.weight": vector(16), p + "self_attn.k_norm.weight": vector(16), p + "self_attn.q_proj.weight": matrix(64, 64),
                        p + "self_attn.k_proj.weight": matrix(32, 64), p + "self_attn.v_proj.weight": matrix(32, 64), p + "self_attn.o_proj.weight": matrix(64, 64)})
        for e in range(N_MANY):
            tensors.update({p + f"mlp.experts.{e}.{part}_proj.weight": matrix(*shape) for part, shape in (("gate", (32, 64)), ("up", (32, 64)), ("down", (64, 32)))})
    safetensors.write(out / "model.safetensors", tensors)
    return out


def test_many_experts(t):
    """So many are not measured one by one: those of a layer and role have one menu. The plan has an entry for each, uses the budget up, and its bytes are those of a replay."""
    model, plan = many_experts(t), t.path("plan.json")
    first = t.run("fit", model, "--size", "12M", *QUICK, "--plan-only", "--save-plan", plan, "--json", expect=OK).json()
    assert 0.995 * (12 << 20) < first["bytes"] <= 12 << 20, first["bytes"]
    errors, rows = {}, {}
    for x in json.loads(plan.read_text())["tensors"]:
        stem, kind, expert, *_ = x["tensor"].removeprefix("blk.").split(".") + [""]
        if kind.startswith("ffn_") and expert.isdigit():
            rows.setdefault((stem, kind), []).append(int(expert))
            errors.setdefault((stem, kind, x["codec"]), set()).add((x["rel_error"], x["bytes"]))
    assert len(rows) == 3 * MANY_LAYERS and all(sorted(r) == list(range(N_MANY)) for r in rows.values()), {k: len(r) for k, r in rows.items()}
    assert all(len(e) == 1 and next(iter(e))[0] > 0 for e in errors.values()), errors
    again = t.run("fit", model, "--plan", plan, *QUICK, "--plan-only", "--json", expect=OK).json()
    assert again["bytes"] == first["bytes"] and [x["codec"] for x in again["plan"]] == [x["codec"] for x in first["plan"]]
    # A pin tells one expert from the others; the rest of its layer still share.
    pinned = t.run("fit", model, "--size", "12M", *QUICK, "--pin", "blk.4.ffn_down.7.weight=q8_0", "--plan-only", "--json", expect=OK).json()
    codec = {x["tensor"]: x["codec"] for x in pinned["plan"]}
    assert codec["blk.4.ffn_down.7.weight"] == "q8_0" and len(codec) == len(first["plan"]) and pinned["bytes"] <= 12 << 20


if __name__ == "__main__":
    harness.main(globals())
