#!/usr/bin/env python3
"""Files that are missing, truncated or not what they say: one sentence that names the file, exit code 1, nothing written."""
import json
import os
import struct
from pathlib import Path

import harness
from harness import FAILED, OK, USAGE


def fails(t, path, *words):
    """Every command that opens a model refuses this one in the same way."""
    out = t.path("refused.snug")
    for args in (["inspect", path], ["verify", path], ["run", path, "-p", "a"], ["eval", path, "--text", t.text],
                 ["fit", path, "-o", out, "--ratio", "40%", "--effort", "quick", "--calib", "none"], ["export", path, "-o", out]):
        r = t.run(*args, expect=FAILED)
        line = r.stderr.strip().splitlines()[-1]
        assert line.startswith(f"snug {args[0]}: "), r
        for word in words:
            assert word in line, f"'{word}' is not in: {line}"
        assert t.leftovers(out) == [] or all(".snug" not in p or p != out.name for p in t.leftovers(out)), t.leftovers(out)
        assert not out.exists()


def test_wrong_path(t):
    fails(t, t.path("nothing-here"), "nothing-here")


def test_empty_folder(t):
    folder = t.path("empty")
    folder.mkdir()
    fails(t, folder, "empty")


def test_files_that_are_no_models(t):
    for name, content in [("empty.gguf", b""), ("short.gguf", b"GG"), ("text.gguf", b"hello world, this is a text\n" * 100),
                          ("random.snug", bytes((i * 197 + 13) % 256 for i in range(10000))), ("magic.gguf", b"GGUF" + b"\xff" * 60)]:
        path = t.path(name)
        path.write_bytes(content)
        fails(t, path, name)


def test_transform_of_columns_that_have_none(t):
    """An artifact that calls every matrix transformed, among them one of 172 columns, which no block of 16 or more divides."""
    path, golden = t.path("turned.snug"), Path(__file__).resolve().parents[1] / "golden" / "llama3"
    t.run("fit", golden, "-o", path, "--pin", "*=int4g64", "--pin", "*attn*=had:int4g64", "--effort", "quick", "--calib", "none", expect=OK)
    t.run("verify", path, expect=OK)
    data = bytearray(path.read_bytes())
    names = data.index(b"snug.codecs") + 11 + 4 + 4 # an array of strings, their number, and the strings
    n_names, at, codecs = struct.unpack_from("<Q", data, names)[0], names + 8, []
    for _ in range(n_names):
        length = struct.unpack_from("<Q", data, at)[0]
        codecs.append(bytes(data[at + 8:at + 8 + length]))
        at += 8 + length
    assert set(codecs) == {b"int4g64", b"had:int4g64"}, codecs
    index = data.index(b"snug.payload.codec") + 18 + 4 + 4
    n = struct.unpack_from("<Q", data, index)[0]
    data[index + 8:index + 8 + n] = bytes([codecs.index(b"had:int4g64")]) * n
    path.write_bytes(data)
    fails(t, path, "turned.snug", "is transformed, expected a multiple of 16 columns, it has 172")
    r = t.run("fit", golden, "-o", t.path("x.snug"), "--pin", "*=had:int4g64", "--effort", "quick", "--calib", "none", expect=USAGE)
    assert "cannot be stored so" in r.stderr and "172" in r.stderr, r


def test_truncated_safetensors(t):
    size = (t.demo / "model.safetensors").stat().st_size
    for keep in (0, 4, 100, size // 2, size - 1):
        folder = t.demo_copy(f"cut{keep}")
        os.truncate(folder / "model.safetensors", keep)
        fails(t, folder, "model.safetensors")


def test_hostile_safetensors_header(t):
    for i, head in enumerate([struct.pack("<Q", 2**63), struct.pack("<Q", 2**40) + b"{}", struct.pack("<Q", 2) + b"[]",
                              struct.pack("<Q", 14) + b'{"a":{"b":1}} ', struct.pack("<Q", 1) + b"{"]):
        folder = t.demo_copy(f"head{i}")
        (folder / "model.safetensors").write_bytes(head + b"\0" * 64)
        fails(t, folder, "model.safetensors")


def test_bad_json(t):
    for name in ("config.json", "tokenizer.json"):
        for i, content in enumerate([b"", b"{", b"[]", b'{"a": 1e999}', b"\xff\xfe{}", b"null"]):
            folder = t.demo_copy(f"{name}{i}")
            (folder / name).write_bytes(content)
            out = t.path("x.snug")
            r = t.run("fit", folder, "-o", out, "--ratio", "40%", "--effort", "quick", "--calib", "none", expect=FAILED)
            assert name in r.stderr, r
            assert not out.exists()


def test_unknown_architecture_is_refused_by_name(t):
    folder = t.demo_copy("strange")
    config = json.loads((folder / "config.json").read_text())
    config["architectures"], config["model_type"] = ["FrobnicatorForCausalLM"], "frobnicator"
    (folder / "config.json").write_text(json.dumps(config))
    fails(t, folder, "FrobnicatorForCausalLM")


def test_missing_tensor_and_wrong_shape(t):
    folder = t.demo_copy("wide")
    config = json.loads((folder / "config.json").read_text())
    config["intermediate_size"] = 777
    (folder / "config.json").write_text(json.dumps(config))
    r = t.run("fit", folder, "-o", t.path("x"), "--ratio", "40%", "--effort", "quick", "--calib", "none", expect=FAILED)
    assert "777" in r.stderr and "768" in r.stderr, r
    config["intermediate_size"], config["num_hidden_layers"] = 768, 5
    (folder / "config.json").write_text(json.dumps(config))
    r = t.run("fit", folder, "-o", t.path("x"), "--ratio", "40%", "--effort", "quick", "--calib", "none", expect=FAILED)
    assert "blk.4" in r.stderr or "layers.4" in r.stderr, r


def test_truncated_artifact(t):
    path, _ = t.fit("whole.snug", "--ratio", "40%")
    data = path.read_bytes()
    for keep in (3, 24, 1000, len(data) // 2, len(data) - 1):
        cut = t.path("cut.snug")
        cut.write_bytes(data[:keep])
        for args in (["inspect", cut], ["verify", cut], ["run", cut, "-p", "a"]):
            r = t.run(*args, expect=FAILED)
            assert "cut.snug" in r.stderr, r


def test_flipped_bits_are_found(t):
    path, _ = t.fit("whole.snug", "--ratio", "40%")
    t.run("verify", path, expect=OK)
    data = bytearray(path.read_bytes())
    # A tensor of some size, hit in its middle: payloads begin well after the header.
    at = len(data) - len(data) // 3
    data[at] ^= 0x10
    bad = t.path("bad.snug")
    bad.write_bytes(data)
    r = t.run("verify", bad, expect=FAILED)
    assert "bad.snug" in r.stderr and "checksum" in r.stderr, r
    for seed in range(40): # the header: whatever happens, no crash
        data = bytearray(path.read_bytes())
        data[(seed * 7919) % 4096] ^= 1 << seed % 8
        bad.write_bytes(data)
        t.run("inspect", bad)
        t.run("verify", bad)
        t.run("run", bad, "-p", "a", "-n", "2")


def test_other_files(t):
    model, _ = t.fit("m.snug", "--ratio", "40%")
    assert "no-such" in t.run("eval", model, "--text", t.path("no-such"), expect=FAILED).stderr
    short = t.path("short.txt")
    short.write_text("Too short.")
    assert "short.txt" in t.run("eval", model, "--text", short).stderr
    assert "no-such" in t.run("run", model, "-f", t.path("no-such"), expect=FAILED).stderr
    quick = ["--effort", "quick"]
    for option in ("--imatrix", "--plan"):
        junk = t.path("junk")
        junk.write_bytes(b"\0\1\2junk" * 50)
        r = t.run("fit", t.demo, "-o", t.path("o"), "--ratio", "40%", *quick, "--calib", "none", option, junk, expect=FAILED)
        assert "junk" in r.stderr, r
        r = t.run("fit", t.demo, "-o", t.path("o"), "--ratio", "40%", *quick, "--calib", "none", option, t.path("no-such"), expect=FAILED)
        assert "no-such" in r.stderr, r
    r = t.run("fit", t.demo, "-o", t.path("o"), "--ratio", "40%", *quick, "--calib", t.path("no-such"), expect=FAILED)
    assert "no-such" in r.stderr, r
    r = t.run("fit", t.demo, "-o", t.path("no-folder/o"), "--ratio", "40%", *quick, "--calib", "none", expect=FAILED)
    assert "no-folder" in r.stderr, r
    r = t.run("inspect", model, "--svg", t.path("no-folder/o.svg"), expect=FAILED)
    assert "no-folder" in r.stderr, r


def test_errors_as_json(t):
    r = t.run("inspect", t.path("nothing"), "--json", expect=FAILED)
    error = r.json()["error"]
    assert "nothing" in error["message"] and error["code"] == "input/output error", r


if __name__ == "__main__":
    harness.main(globals())
