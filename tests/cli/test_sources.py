#!/usr/bin/env python3
"""What opens beside plain weights: numbers of eight bits with scales (fp8), of four bits in blocks (MXFP4), and what is said when a source is quantized already; plans as llama-quantize's
arguments; GGUFs in parts. Small models, standard library only."""
import bisect
import json
import math
import shutil
import struct
from pathlib import Path

import harness
import safetensors
from harness import FAILED, OK, TOO_BIG, USAGE

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def e4m3(byte):
    e, m = byte >> 3 & 15, byte & 7
    size = m * 2.0 ** -9 if e == 0 else (1 + m / 8) * 2.0 ** (e - 7)
    return -size if byte & 128 else size


POSITIVE = [e4m3(b) for b in range(127)]  # rising; 127 is NaN


def encode(w):
    i = bisect.bisect_left(POSITIVE, min(abs(w), 448.0))
    if i > 0 and POSITIVE[i] - abs(w) > abs(w) - POSITIVE[i - 1]:
        i -= 1
    return i | 128 if w < 0 else i


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def blocks_of(kind, rows, cols):
    """Rows and columns that share a scale."""
    return {"tensor": (rows, cols), "channel": (1, cols), "block": (32, 48)}[kind]


def quantize(values, rows, cols, kind):
    """Bytes, scales (bf16 numbers), and what they mean."""
    br, bc = blocks_of(kind, rows, cols)
    nr, nc = -(-rows // br), -(-cols // bc)
    top = [1e-9] * (nr * nc)
    for i, w in enumerate(values):
        k = i // cols // br * nc + i % cols // bc
        top[k] = max(top[k], abs(w))
    scales = safetensors.floats(safetensors.bf16([t / 400 for t in top], [nr, nc]))
    data, exact = bytearray(), []
    for i, w in enumerate(values):
        s = scales[i // cols // br * nc + i % cols // bc]
        data.append(encode(w / s))
        exact.append(f32(e4m3(data[-1]) * s))
    return bytes(data), scales, [nr, nc], exact


CONFIGS = {"tensor": {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None},
           "channel": {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {
               "group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}}},
           "block": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [32, 48]}}


def make_folders(t, golden, kind):
    """A golden model in fp8, and the f32 model that it means; both in folders of one name."""
    source, made = GOLDEN / golden, [t.path(f"{kind}-{form}") / "model" for form in ("fp8", "f32")]
    eight, wide = {}, {}
    for name, tensor in safetensors.read(source).items():
        shape = tensor[1]
        if "_proj.weight" not in name:
            eight[name] = wide[name] = tensor
            continue
        data, scales, n, exact = quantize(safetensors.floats(tensor), *shape, kind)
        eight[name] = "F8_E4M3", shape, data
        suffix = "_scale_inv" if kind == "block" else "_scale"
        eight[name + suffix] = safetensors.f32(scales, []) if kind == "tensor" else safetensors.bf16(scales, n)
        if kind == "tensor":
            eight[name.replace(".weight", ".input_scale")] = safetensors.f32([1.0], [])
        wide[name] = safetensors.f32(exact, shape)
    for folder, tensors in zip(made, (eight, wide)):
        folder.mkdir(parents=True)
        safetensors.write(folder / "model.safetensors", tensors)
        shutil.copy(source / "tokenizer.json", folder)
        config = json.loads((source / "config.json").read_text())
        if tensors is eight:
            config["quantization_config"] = CONFIGS[kind]
        (folder / "config.json").write_text(json.dumps(config))
    return made


def test_fp8_is_widened_exactly(t):
    for golden, kind in (("llama3", "tensor"), ("qwen3", "channel"), ("llama3", "block"), ("qwen3moe", "block"), ("phi3", "block")):
        eight, wide = make_folders(t, golden, kind)
        files = [t.path(f"{golden}-{kind}-{i}.gguf") for i in range(2)]
        if golden != "phi3":  # whose matrices are several roles' in one, which llama.cpp wants together
            for folder, out in zip((eight, wide), files):
                t.run("convert", folder, "-o", out, "--type", "f32", expect=OK)
            assert files[0].read_bytes() == files[1].read_bytes(), f"{golden}, {kind}: the weights are not what they mean"
        r = t.run("eval", eight, "--against", wide, "--text", t.short_text(2000), "--ctx", "64", "--act", "f32", "--kv", "f32", "--json", expect=OK).json()
        assert r["kl_mean"] == 0, (golden, kind, r["kl_mean"])
        t.run("verify", eight, expect=OK)
        shutil.rmtree(eight.parent), shutil.rmtree(wide.parent)


def test_fp8_is_a_source(t):
    eight, wide = make_folders(t, "llama3", "block")
    r = t.run("inspect", eight, "--json", expect=OK).json()
    assert any(x["codec"] == "f8_e4m3" and x["bpw"] == 8 for x in r["tensors"]), r
    out = t.path("small.snug")
    how = ["--pin", "*=int4g32", "--calib", t.short_text(600)]
    r = t.run("fit", eight, "-o", out, *how, expect=OK)
    assert "quantized already (f8_e4m3" in r.stderr, r
    t.run("run", out, "-p", "the", "-n", "4", expect=OK)
    if not t.sanitized:
        t.run("fit", wide, "-o", t.path("wide.snug"), *how, expect=OK)
        assert out.read_bytes() == t.path("wide.snug").read_bytes(), "a fit of what the numbers mean is another"
    r = t.run("fit", eight, "-o", out, "--pin", "*=f8_e4m3", expect=USAGE)
    assert "reads and does not write" in r.stderr, r


def broken(t, folder, name, config=None, tensors=None):
    copy = t.path(name)
    shutil.copytree(folder, copy)
    if config:
        c = json.loads((copy / "config.json").read_text())
        config(c)
        (copy / "config.json").write_text(json.dumps(c))
    if tensors:
        all_tensors = safetensors.read(copy)
        tensors(all_tensors)
        safetensors.write(copy / "model.safetensors", all_tensors)
    return t.run("inspect", copy, expect=FAILED).stderr


def test_fp8_refusals(t):
    eight, _ = make_folders(t, "llama3", "block")
    q = "model.layers.0.self_attn.q_proj.weight"
    says = broken(t, eight, "a", tensors=lambda x: x.pop(q + "_scale_inv"))
    assert q in says and "_scale_inv' or" in says, says
    says = broken(t, eight, "b", tensors=lambda x: x.update({q + "_scale_inv": safetensors.bf16([1.0] * 4, [2, 2])}))
    assert f"'{q}_scale_inv' is 2 x 2, expected 3 x 2" in says, says
    says = broken(t, eight, "c", tensors=lambda x: x.update({q + "_scale_inv": safetensors.f32([float("nan")] * 6, [3, 2])}))
    assert "no finite number" in says, says
    says = broken(t, eight, "d", config=lambda c: c["quantization_config"].update(weight_block_size=[0, 128]))
    assert "weight_block_size" in says and "two whole numbers" in says, says
    says = broken(t, eight, "e", config=lambda c: c["quantization_config"].update(fmt="e5m2"))
    assert "fmt is 'e5m2', expected 'e4m3'" in says, says
    says = broken(t, eight, "f", config=lambda c: c.pop("quantization_config"))
    assert "type F8_E4M3" in says and "quantization_config" in says, says
    says = broken(t, eight, "g", tensors=lambda x: x.update({q: ("BF16", x[q][1], x[q][2] * 2)}))
    assert f"{q}_scale_inv" in says, says
    for method in ("awq", "gptq", "bitsandbytes", "aqlm", "hqq", "mxfp4"):
        says = broken(t, eight, method, config=lambda c, m=method: c.update(quantization_config={"quant_method": m, "bits": 4}))
        assert f"quant_method '{method}'" in says and "give the checkpoint that they were made from" in says, says
    packed = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    says = broken(t, eight, "packed", config=lambda c: c.update(quantization_config=packed))
    assert "format 'pack-quantized'" in says, says
    groups = {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": {"weights": {"type": "int", "num_bits": 8}}}}
    says = broken(t, eight, "int8", config=lambda c: c.update(quantization_config=groups))
    assert "group_0" in says and "'int' with 8 bits, expected 'float' with 8" in says, says


FP4 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def widen_mxfp4(tensors):
    """Stacks of blocks and scales, (experts, outputs, inputs), as stacks of bf16, (experts, inputs, outputs)."""
    out = {}
    for name, (dtype, shape, data) in tensors.items():
        if not name.endswith("_blocks"):
            if not name.endswith("_scales"):
                out[name] = dtype, shape, data
            continue
        scales = tensors[name.replace("_blocks", "_scales")][2]
        n, rows, cols = shape[0], shape[1], 32 * shape[2]
        codes = [c for b in data for c in (b & 15, b >> 4)]
        values = [(-1 if c & 8 else 1) * FP4[c & 7] * 2.0 ** (scales[i // 32] - 127) for i, c in enumerate(codes)]
        turned = [values[(e * rows + r) * cols + c] for e in range(n) for c in range(cols) for r in range(rows)]
        out[name.removesuffix("_blocks")] = safetensors.bf16(turned, [n, cols, rows])
    return out


def test_mxfp4_is_widened_exactly(t):
    """A folder of gpt-oss's and one of what it means: the same f32 file and, as plain weights are balanced and those are not, the same run."""
    four, wide = GOLDEN / "gpt_oss_mxfp4", t.path("wide") / "gpt_oss_mxfp4"
    wide.mkdir(parents=True)
    shutil.copy(four / "tokenizer.json", wide)
    config = json.loads((four / "config.json").read_text())
    config.pop("quantization_config")
    (wide / "config.json").write_text(json.dumps(config))
    safetensors.write(wide / "model.safetensors", widen_mxfp4(safetensors.read(four)))
    files = [t.path(f"{i}.gguf") for i in range(3)]
    for source, out in zip((four, wide), files):
        r = t.run("convert", source, "-o", out, "--type", "f32", expect=OK)
        assert ("quantized already (mxfp4" in r.stderr) == (source == four), r
    assert files[0].read_bytes() == files[1].read_bytes(), "the weights are not what they mean"
    r = t.run("eval", four, "--against", wide, "--text", t.short_text(2000), "--ctx", "64", "--act", "f32", "--kv", "f32", "--json", expect=OK).json()
    assert r["kl_mean"] < 1e-9, r["kl_mean"]
    t.run("verify", four, expect=OK)
    t.run("export", four, "-o", files[2], expect=OK)    # experts as they are
    for source in (four, files[2]):
        r = t.run("inspect", source, "--json", expect=OK).json()
        assert {x["codec"] for x in r["tensors"] if x.get("expert", -1) >= 0} == {"mxfp4"}, r
    r = t.run("eval", files[2], "--against", four, "--text", t.short_text(2000), "--ctx", "64", "--json", expect=OK).json()
    assert r["kl_mean"] == 0, r["kl_mean"]


def test_mxfp4_is_a_source(t):
    four, out = GOLDEN / "gpt_oss_mxfp4", t.path("small.snug")
    r = t.run("fit", four, "-o", out, "--ratio", "60%", "--effort", "quick", expect=OK)
    assert "quantized already (mxfp4" in r.stderr, r
    t.run("run", out, "-p", "the", "-n", "4", expect=OK)
    t.run("verify", out, expect=OK)
    r = t.run("fit", four, "-o", t.path("kept.snug"), "--ratio", "99%", "--effort", "quick", "--json", expect=OK).json()
    assert {x["codec"] for x in r["plan"] if ".ffn_up." in x["tensor"]} == {"mxfp4"}, r
    assert "reads and does not write" in t.run("fit", GOLDEN / "gpt_oss", "-o", out, "--pin", "*=mxfp4", expect=USAGE).stderr


def test_mxfp4_refusals(t):
    four = GOLDEN / "gpt_oss_mxfp4"
    up, down = (f"model.layers.1.mlp.experts.{x}_proj" for x in ("gate_up", "down"))
    u8 = lambda *shape: ("U8", list(shape), bytes(math.prod(shape)))
    cases = [
        (lambda x: x.pop(up + "_scales"), f"'{up}_blocks' has no tensor of scales beside it"),
        (lambda x: x.pop(up + "_blocks"), f"'{up}_scales' has no tensor of blocks beside it"),
        (lambda x: (x.pop(up + "_blocks"), x.pop(up + "_scales")), "'blk.1.ffn_gate.0.weight' is missing"),
        (lambda x: x.update({up + "_scales": u8(5, 128, 4)}), f"'{up}_scales' is 5 x 128 x 4, expected 5 x 128 x 3 by the configuration"),
        (lambda x: x.update({up + "_blocks": u8(5, 3, 128, 16)}), f"'{up}_blocks' is 5 x 3 x 128 x 16, expected 5 x 128 x 3 x 16"),
        (lambda x: x.update({down + "_blocks": u8(5, 96, 32)}), f"'{down}_blocks' is 5 x 96 x 32, expected 5 x 96 x 2 x 16"),
        (lambda x: x.update({down + "_scales": safetensors.f32([1.0] * 960, [5, 96, 2])}), "expected U8"),
        (lambda x: x.update({up: safetensors.bf16([1.0] * 61440, [5, 96, 128])}), "is term 0 of its weight, expected term 1"),
        (lambda x: x.update({up + "_bias": safetensors.bf16([1.0] * 635, [5, 127])}), f"'{up}_bias' is 5 x 127, expected 5 x 128"),
        (lambda x: x.pop(up + "_bias"), "'blk.1.ffn_gate_exps.bias' is missing"),
        (lambda x: x.pop("model.layers.2.self_attn.sinks"), "'blk.2.attn_sinks.weight' is missing"),
        (lambda x: x.pop("model.layers.0.post_attention_layernorm.weight"), "'blk.0.post_attention_norm.weight' is missing"),
        (lambda x: x.update({"model.layers.9.mlp.experts.down_proj_blocks": x[down + "_blocks"]}), "model.layers.9.mlp.experts.down_proj_blocks"),
        (lambda x: x.update({"model.layers.01.mlp.experts.down_proj_blocks": x[down + "_blocks"]}), "is no part of GptOssForCausalLM"),
    ]
    for i, (change, words) in enumerate(cases):
        says = broken(t, four, f"four{i}", tensors=change)
        assert words in says, (i, says)
    for i, (change, words) in enumerate([({"num_local_experts": 4}, "expected 4 x"), ({"swiglu_limit": 0}, "swiglu_limit is 0"), ({"attention_bias": False}, "attention_bias is false"),
                                         ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"), ({"intermediate_size": 65}, "rows of 65 weights, expected a multiple of 32")]):
        says = broken(t, four, f"config{i}", config=lambda c, change=change: c.update(change))
        assert words in says, (change, says)


def test_quantized_sources_are_named(t):
    small, types = t.path("small.gguf"), ["--for", "gguf", "--pin", "*=q4_0", "--pin", "token_embd.weight=q8_0", "--effort", "quick"]
    t.run("fit", GOLDEN / "llama3", "-o", small, *types, expect=OK)
    r = t.run("fit", small, "-o", t.path("again.snug"), "--ratio", "80%", "--effort", "quick", expect=OK)
    assert "warning: the source is quantized already (q4_0 64 %, q8_0 18 % of its matrices): what is lost now adds" in r.stderr, r
    r = t.run("fit", small, "-o", t.path("x.snug"), "--ratio", "80%", "--effort", "quick", "--plan-only", "--json", expect=OK)
    events = [json.loads(line) for line in r.stderr.splitlines()]
    assert any("quantized already" in e.get("warning", "") for e in events), r
    r = t.run("convert", small, "-o", t.path("wide.gguf"), expect=OK)
    assert "quantized already" in r.stderr and "nothing of what was lost" in r.stderr, r
    for args in (["fit", small, "-o", t.path("same.gguf"), *types], ["convert", GOLDEN / "llama3", "-o", t.path("plain.gguf")]):
        assert "quantized already" not in t.run(*args, expect=OK).stderr


def test_tensor_types(t):
    out = t.path("types.txt")
    source = GOLDEN / "llama2"
    args = ["fit", source, "--for", "gguf", "--ratio", "60%", "--effort", "quick", "--calib", "none"]
    plan = t.run(*args, "--dry-run", "--emit-tensor-types", out, "--json", expect=OK).json()["plan"]
    lines = out.read_text().splitlines()
    wanted = {r["tensor"]: r["codec"] for r in plan if r["rows"] > 1}
    assert len(lines) == len(wanted)
    for line in lines:
        option, value = line.split(" ")
        if option == "--tensor-type":
            pattern, kind = value.split("=")
            name = pattern[1:-1].replace("[.]", ".")
            assert pattern[0] == "^" and pattern[-1] == "$", line
        else:
            name, kind = {"--token-embedding-type": "token_embd.weight", "--output-tensor-type": "output.weight"}[option], value
        assert wanted.pop(name) == kind.lower(), line
    assert t.run(*args, "--dry-run", "--emit-tensor-types", "-", expect=OK).stdout.splitlines() == lines
    made = t.run(*args, "-o", t.path("made.gguf"), "--emit-tensor-types", t.path("made.txt"), expect=OK)
    assert t.path("made.txt").read_text().splitlines() == lines and "Wrote" in made.stdout
    assert "say --for gguf too" in t.run("fit", source, "--ratio", "60%", "--dry-run", "--emit-tensor-types", out, expect=USAGE).stderr
    assert "both write to stdout" in t.run(*args, "--dry-run", "--emit-tensor-types", "-", "--json", expect=USAGE).stderr
    assert t.run(*args, "--dry-run", "--emit-tensor-types", t.path("no/such/folder"), expect=FAILED).stderr.count("no/such/folder")


def test_parts(t):
    whole = t.path("whole.gguf")
    t.run("convert", t.demo, "-o", whole, expect=OK)
    r = t.run("convert", t.demo, "-o", t.path("cut.gguf"), "--split-max-size", "3M", "--json", expect=OK).json()
    parts = sorted(t.folder.glob("cut-*.gguf"))
    assert r["parts"] == len(parts) >= 3 and r["output"] == str(parts[0]) and r["bytes"] == sum(p.stat().st_size for p in parts), r
    assert all(p.stat().st_size <= 3 << 20 for p in parts) and not t.path("cut.gguf").exists()
    for part in parts:
        t.run("verify", part, expect=OK)
        r = t.run("inspect", part, "--json", expect=OK).json()
        assert r["n_weights"] == 4196608 and r["file_bytes"] == sum(p.stat().st_size for p in parts), r
    t.run("convert", parts[-1], "-o", t.path("again.gguf"), expect=OK)
    assert t.path("again.gguf").read_bytes() == whole.read_bytes()
    parts[1].rename(t.path("elsewhere"))
    r = t.run("run", parts[0], "-p", "a", expect=FAILED)
    assert f"{parts[1].name}: is missing: part 2 of a model in {len(parts)} parts" in r.stderr, r
    r = t.run("fit", t.demo, "-o", t.path("fit.gguf"), "--for", "gguf", "--pin", "*=bf16", "--calib", "none", "--effort", "quick", "--split-max-size", "3M", expect=OK)
    assert "fit-00001-of-0000" in r.stdout and "more part" in r.stdout, r
    assert "say --for gguf too" in t.run("fit", t.demo, "-o", t.path("x.snug"), "--ratio", "30%", "--split-max-size", "1M", expect=USAGE).stderr
    r = t.run("export", t.demo, "-o", t.path("tiny.gguf"), "--split-max-size", "10K", expect=TOO_BIG)
    assert "alone takes" in r.stderr, r


if __name__ == "__main__":
    harness.main(globals())
