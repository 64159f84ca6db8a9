#!/usr/bin/env python3
"""Headers with one field changed: safetensors, GGUF, config.json. Whatever the value, the program ends in good order: with one sentence that names the file and
the field (or the tensor that the field contradicts), or, where the value is one that a model may have, with the model that it describes.

Two kinds: mutations that were chosen, with the words that must be said (file, field, found, expected); and drawn ones, 500 for each format, from a fixed seed
(a part of them in builds with sanitizers)."""
import json
import random
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness
import safetensors
from harness import FAILED, OK

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
DRAWN, DRAWN_SANITIZED, MOST_TOLD = 500, 60, 20


def inspect(t, path):
    """Exit code, message, report."""
    r = t.run("inspect", path, "--json", timeout=60)
    return r, (r.json() if r.code == OK else None)


def tensors_of(report):
    return [(x["name"], x["codec"], x["rows"], x["cols"]) for x in report["tensors"]]


def judge(t, path, names, may_pass, original, what):
    """An error that names the file and one of `names`; or success, if such a value may be, with the tensors that the model had."""
    r, report = inspect(t, path)
    if r.code == OK:
        assert may_pass, f"{what}: was taken\n{r}"
        if may_pass != "another":
            assert tensors_of(report) == tensors_of(original), f"{what}: other tensors\n{r}"
        return
    assert r.code == FAILED, f"{what}\n{r}"
    line = r.stderr.strip().splitlines()[-1]
    assert line.startswith("snug inspect: ") and str(path) in line, f"{what}: does not name the file: {line}"
    assert any(n in line for n in names), f"{what}: names none of {names}: {line}"


def all_of(t, cases):
    """Runs what was drawn, two at a time, and tells of the first that fail."""
    with ThreadPoolExecutor(2) as pool:
        wrong = [str(e) for e in [done.exception() for done in [pool.submit(f) for f in cases]] if e]
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong[:MOST_TOLD])


def count(t):
    return DRAWN_SANITIZED if t.sanitized else DRAWN


# ---- config.json ----

# Whose values may be others in a model of the same tensors, or are not looked at; and those that are not needed.
FREE = {"rms_norm_eps", "rope_theta", "max_position_embeddings", "model_type", "pretraining_tp", "initializer_range", "attention_dropout", "use_cache", "torch_dtype",
        "bos_token_id", "eos_token_id", "attention_bias", "tie_word_embeddings", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "mlp_bias", "architectures"}
OPTIONAL = FREE | {"num_key_value_heads", "head_dim", "rope_scaling", "mlp_bias", "hidden_act"}
WRONG = (None, "many", -1, 0, 1, 2 ** 31, 2 ** 40, 2 ** 62, 0.5, 1e300, True, [], [1], {}, {"a": 1}, "")


def folder_with(t, name, config=None, tensors=None, drop=()):
    """A copy of the golden model with another config.json, or other tensors."""
    folder = t.path(name)
    folder.mkdir()
    source = GOLDEN / "llama2"
    for f in ("config.json", "tokenizer.json", "model.safetensors"):
        if f not in drop:
            (folder / f).symlink_to(source / f)
    if config is not None:
        (folder / "config.json").unlink()
        (folder / "config.json").write_text(config)
    return folder


def test_drawn_configs(t):
    draw = random.Random(1)
    config = json.loads((GOLDEN / "llama2" / "config.json").read_text())
    original = inspect(t, GOLDEN / "llama2")[1]
    cases = []
    for i in range(count(t)):
        changed, key = json.loads(json.dumps(config)), draw.choice(sorted(config))
        old = config[key]
        if draw.random() < 0.1:
            del changed[key]
            value = "removed"
        else:
            near = [old + 1, old - 1, old * 2, -old] if isinstance(old, (int, float)) and not isinstance(old, bool) else []
            value = changed[key] = draw.choice(near + list(WRONG))
        may = "another" if key == "tie_word_embeddings" else key in OPTIONAL or value == old

        def case(i=i, changed=changed, key=key, value=value, may=may):
            folder = folder_with(t, f"c{i}", json.dumps(changed))
            judge(t, folder, (key, "by the configuration", "is missing", "layers 0 to", "no part of"), may, original, f"config.json: {key} = {value!r}")
            shutil.rmtree(folder)
        cases.append(case)
    all_of(t, cases)


def test_chosen_configs(t):
    config = json.loads((GOLDEN / "llama2" / "config.json").read_text())
    chosen = [
        ({"hidden_size": "64"}, "config.json", "hidden_size", "expected"), ({"hidden_size": -64}, "hidden_size", "-64"),
        ({"num_hidden_layers": 0}, "num_hidden_layers", "0"), ({"num_hidden_layers": 1.5}, "num_hidden_layers", "expected"),
        ({"num_hidden_layers": 99}, "is missing"), ({"num_hidden_layers": 1}, "is in layer 1, expected layers 0 to 0"),
        ({"vocab_size": 7}, "model.safetensors", "expected 7 x", "by the configuration"), ({"intermediate_size": 48}, "model.safetensors", "expected 64 x 48", "by the configuration"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps", "expected"), ({"rope_theta": -1}, "rope_theta", "-1"),
        ({"hidden_act": "tanh"}, "hidden_act", "tanh"), ({"architectures": ["UnheardOfForCausalLM"]}, "UnheardOfForCausalLM"),
        ({"rope_scaling": {"rope_type": "xpos", "factor": 2.0}}, "rope_type 'xpos'", "known:"), ({"quantization_config": {"quant_method": "gptq"}}, "quant_method 'gptq'"),
        ({"tie_word_embeddings": 3}, "tie_word_embeddings"),
    ]
    for i, (change, *words) in enumerate(chosen):
        folder = folder_with(t, f"chosen{i}", json.dumps({**config, **change}))
        r = t.run("inspect", folder, expect=FAILED)
        for word in [folder.name, *words]:
            assert word in r.stderr, f"{change}: '{word}' is not said\n{r}"


# ---- safetensors ----

def header_of(path):
    data = path.read_bytes()
    n = struct.unpack_from("<Q", data)[0]
    return json.loads(data[8:8 + n]), data[8 + n:]


def write_header(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def mutate_tensor(draw, header, name):
    """What was changed, and whether a model may have that."""
    entry = header[name]
    field = draw.choice(["dtype", "shape", "data_offsets", "data_offsets", "shape", "entry", "name"])
    if field == "dtype":
        entry["dtype"] = value = draw.choice(["F32", "F64", "I8", "U8", "BOOL", "F8_E4M3", "F4", "X", "", 7, None, []])
        return f"dtype {value!r}", value == "F32"
    if field == "shape":
        shape = entry["shape"]
        value = draw.choice([[], [0], shape + [1], shape[::-1], [s + 1 for s in shape], [s * 2 for s in shape], [2 ** 62] * 3, [-s for s in shape], ["a"], "64", None, [0.5], shape * 5])
        entry["shape"] = value
        return f"shape {value!r}", value == shape
    if field == "data_offsets":
        begin, end = entry["data_offsets"]
        value = draw.choice([[end, begin], [begin + 2, end + 2], [begin - 2, end - 2], [begin, end + 2], [begin, end - 2], [begin], [begin, end, end], [2 ** 62, 2 ** 63 - 1],
                             [-begin - 1, end], "0", None, [0, 0], [begin + 0.5, end], [2 ** 70, 2 ** 71]])
        entry["data_offsets"] = value
        return f"data_offsets {value!r}", value == [begin, end]
    if field == "entry":
        header[name] = value = draw.choice([None, [], 3, "F32", {}, {"dtype": "F32"}])
        return f"entry {value!r}", False
    new = draw.choice(["", "x", name + "x", name.replace("layers.0", "layers.7"), name.replace("weight", "bias"), "a" * 400, "\u0001\u0002"])
    header[new] = header.pop(name)
    return f"name {new[:40]!r}", new == name


def test_drawn_safetensors(t):
    draw = random.Random(2)
    header, data = header_of(GOLDEN / "llama2" / "model.safetensors")
    original = inspect(t, GOLDEN / "llama2")[1]
    cases = []
    for i in range(count(t)):
        changed = json.loads(json.dumps(header))
        name = draw.choice(sorted(k for k in changed if k != "__metadata__"))
        what, may = mutate_tensor(draw, changed, name)

        def case(i=i, changed=changed, name=name, what=what, may=may):
            folder = folder_with(t, f"s{i}", drop=("model.safetensors",))
            write_header(folder / "model.safetensors", changed, data)
            judge(t, folder, (name, "overlap", "no part of", "is missing", "expected layers 0 to", "by the configuration", "not valid JSON"), may, original, f"{name}: {what}")
            shutil.rmtree(folder)
        cases.append(case)
    all_of(t, cases)


def test_chosen_safetensors(t):
    header, data = header_of(GOLDEN / "llama2" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    entry = header[name]
    begin, end = entry["data_offsets"]
    rows, cols = entry["shape"]
    chosen = [
        ({"dtype": "I16"}, name, "I16", "expected F32, F16 or BF16"), ({"dtype": "I32"}, name, "I32", "do not make"), ({"dtype": "F64"}, name, "F64", "do not make"), ({"dtype": 3}, name, "'dtype'"),
        ({"shape": [cols, rows]}, f"is {cols} x {rows}, expected {rows} x {cols} by the configuration"), ({"shape": [rows, cols, 1]}, name, "3 dimensions, expected 1 or 2"),
        ({"shape": [2 ** 40, 2 ** 40]}, name, "overflows"), ({"shape": [rows, -1]}, name, "'shape'"), ({"shape": "64"}, name, "'shape'"),
        ({"data_offsets": [begin - 4, end - 4]}, "overlap", name), ({"data_offsets": [begin, end + 4]}, name, "do not make"), ({"data_offsets": [end, begin]}, name, "'data_offsets'"),
        ({"data_offsets": [begin + 2 ** 40, end + 2 ** 40]}, name, "but the file ends"),
    ]
    for i, (change, *words) in enumerate(chosen):
        folder = folder_with(t, f"chosen{i}", drop=("model.safetensors",))
        write_header(folder / "model.safetensors", {**header, name: {**entry, **change}}, data)
        r = t.run("inspect", folder, expect=FAILED)
        for word in [folder.name, *words]:
            assert word in r.stderr, f"{change}: '{word}' is not said\n{r}"
    for i, (text, *words) in enumerate([(b'{"a": {}, "a": {}}', "a"), (b"[]", "no JSON object"), (b"{" * 2000, "JSON"), (b'{"x": 1}', "x"), (b"", "JSON")]):
        folder = folder_with(t, f"text{i}", drop=("model.safetensors",))
        write_header(folder / "model.safetensors", text, data)
        r = t.run("inspect", folder, expect=FAILED)
        for word in ["model.safetensors", *words]:
            assert word in r.stderr, f"{text}: '{word}' is not said\n{r}"


# ---- GGUF ----

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def fields_of(data):
    """(what it belongs to, kind of field, offset, bytes) of everything in a GGUF's header."""
    at, out = 24, [("magic", "magic", 0, 4), ("version", "version", 4, 4), ("tensors", "count", 8, 8), ("keys", "count", 16, 8)]
    n_tensors, n_keys = struct.unpack_from("<QQ", data, 8)

    def text():
        nonlocal at
        n = struct.unpack_from("<Q", data, at)[0]
        begin, at = at, at + 8 + n
        return begin, n, data[begin + 8:at].decode("utf-8", "replace")
    for _ in range(n_keys):
        begin, n, key = text()
        kind = struct.unpack_from("<I", data, at)[0]
        out += [(key, "name length", begin, 8), (key, "name", begin + 8, n), (key, "type", at, 4)]
        at += 4
        if kind == 8:
            begin, n, _ = text()
            out += [(key, "length", begin, 8), (key, "value", begin + 8, n)]
        elif kind == 9:
            of, n = struct.unpack_from("<IQ", data, at)
            out += [(key, "element type", at, 4), (key, "elements", at + 4, 8)]
            at += 12
            for _ in range(n if of == 8 else 0):
                text()
            at += 0 if of == 8 else n * SIZES[of]
        else:
            out.append((key, "value", at, SIZES[kind]))
            at += SIZES[kind]
    for _ in range(n_tensors):
        begin, n, name = text()
        dims = struct.unpack_from("<I", data, at)[0]
        out += [(name, "name length", begin, 8), (name, "name", begin + 8, n), (name, "dimensions", at, 4)]
        out += [(name, "dimension", at + 4 + 8 * i, 8) for i in range(dims)]
        at += 4 + 8 * dims
        out += [(name, "tensor type", at, 4), (name, "offset", at + 4, 8)]
        at += 12
    return out


def test_drawn_ggufs(t):
    draw = random.Random(3)
    base = t.path("base.gguf")
    t.run("convert", GOLDEN / "llama2", "-o", base, expect=OK)
    data, original = base.read_bytes(), inspect(t, base)[1]
    fields = fields_of(data)
    meaningful = [f for f in fields if not f[0].startswith("tokenizer.")] + [f for f in fields if f[0].startswith("tokenizer.") and f[1] != "value"]
    cases = []
    for i in range(count(t)):
        of, kind, at, n = draw.choice(meaningful)
        changed = bytearray(data)
        if kind in ("name", "value") and n > 8 or n == 0:
            changed[at + draw.randrange(max(n, 1))] ^= 1 << draw.randrange(7)
        else:
            old = int.from_bytes(data[at:at + n], "little")
            new = draw.choice([0, 1, 2, old + 1, old - 1, old * 2, old ^ 1 << draw.randrange(8 * n), (1 << 8 * n) - 1, 1 << 8 * n - 1, draw.getrandbits(8 * n)])
            changed[at:at + n] = (new % (1 << 8 * n)).to_bytes(n, "little")
        # Values of keys may be others; names of keys that are not needed, too; a type of as many bytes makes other numbers of the same.
        needed = ("block_count", "embedding_length", "feed_forward_length", "architecture", "alignment", "vocab_size")
        key = "." in of and not of.startswith(("blk.", "token_embd", "output"))
        may = bytes(changed) == data or ("another" if kind == "tensor type" else key and (kind in ("value", "type", "name") and not of.endswith(needed[:3]) or of.startswith(("tokenizer.", "snug.tokenizer.", "general."))))

        def case(i=i, changed=bytes(changed), of=of, kind=kind, may=may, at=at):
            path = t.path(f"g{i}.gguf")
            path.write_bytes(changed)
            judge(t, path, (of, of.split(".", 1)[-1], "key", "tensor", "is no GGUF file", "version", "header", "architecture", "layer_norm_rms_epsilon"), may, original, f"{of}: {kind} at byte {at}")
            path.unlink()
        cases.append(case)
    all_of(t, cases)


def test_chosen_ggufs(t):
    base = t.path("base.gguf")
    t.run("convert", GOLDEN / "llama2", "-o", base, expect=OK)
    data = base.read_bytes()
    where = {(of, kind): (at, n) for of, kind, at, n in fields_of(data)}
    name = "blk.0.ffn_up.weight"
    chosen = [
        (("magic", "magic"), int.from_bytes(b"GGML", "little"), "is no GGUF file", "47 47 55 46", "47 47 4d 4c"),
        (("version", "version"), 1, "GGUF version 1, expected 2 or 3"), (("version", "version"), 3 << 24, "big-endian"), (("version", "version"), 99, "GGUF version 99, expected 2 or 3"),
        (("tensors", "count"), 2 ** 60, "tensor", "expected 1 to 65535"), (("keys", "count"), 2 ** 60, "key"),
        (("llama.block_count", "value"), 9, "is missing"), (("llama.block_count", "value"), 0, "block_count) is 0, expected 1 to 1"), (("llama.embedding_length", "value"), 32, "by the configuration"),
        (("llama.block_count", "type"), 6, "llama.block_count", "expected a positive integer, found a value of type float32"), (("llama.block_count", "type"), 77, "llama.block_count", "77"),
        (("llama.block_count", "name length"), 2 ** 40, "key"), (("general.architecture", "length"), 2 ** 50, "general.architecture"),
        ((name, "tensor type"), 77, name, "ggml type 77 is not known"), ((name, "tensor type"), 9, name, "q8_1"), ((name, "tensor type"), 25, name, "i16"),
        ((name, "dimensions"), 5, name, "5 dimensions, expected at most 4"), ((name, "dimension"), 0, name, "is 0"), ((name, "dimension"), 2 ** 62, name, "overflows"),
        ((name, "offset"), 1, name, "offset 1 is no multiple of the alignment 32"), ((name, "offset"), 0, "overlap", name), ((name, "offset"), 2 ** 40, name, "but the file ends"),
    ]
    for i, (field, value, *words) in enumerate(chosen):
        at, n = where[field]
        path = t.path(f"chosen{i}.gguf")
        path.write_bytes(data[:at] + value.to_bytes(n, "little") + data[at + n:])
        r = t.run("inspect", path, expect=FAILED)
        for word in [path.name, *words]:
            assert word in r.stderr, f"{field} = {value}: '{word}' is not said\n{r}"


if __name__ == "__main__":
    harness.main(globals())
