#!/usr/bin/env python3
"""Looking into a model: listing, picture, checksums, export."""
import xml.etree.ElementTree as ElementTree

import harness
from harness import FAILED, OK


def test_listing(t):
    for model in (t.demo, t.fit("a.snug", "--ratio", "35%")[0], t.fit("g.gguf", "--ratio", "35%", "--for", "gguf")[0]):
        r = t.run("inspect", model, "--json", expect=OK).json()
        assert r["architecture"] == "llama" and r["n_layers"] == 4 and r["n_vocab"] == 4096 and len(r["tensors"]) == 38
        assert sum(x["bytes"] for x in r["tensors"]) <= r["tensor_bytes"] <= r["file_bytes"]
        assert sum(x["rows"] * x["cols"] for x in r["tensors"]) == r["n_weights"] == 4196608
        assert sum(c["bytes"] for c in r["codecs"].values()) == sum(c["bytes"] for c in r["roles"].values())
        text = t.run("inspect", model, expect=OK).stdout
        for x in r["tensors"]:
            assert x["name"] in text
        t.run("verify", model, expect=OK)
        assert t.run("verify", model, "--json", expect=OK).json()["ok"] is True


def test_picture(t):
    model, _ = t.fit("a.snug", "--ratio", "35%")
    svg = t.path("a.svg")
    t.run("inspect", model, "--svg", svg, expect=OK)
    root = ElementTree.parse(svg).getroot()
    width, height = float(root.get("width")), float(root.get("height"))
    ns = "{http://www.w3.org/2000/svg}"
    texts = ["".join(x.itertext()) for x in root.iter(ns + "text")]
    assert [x for x in texts if x.startswith("layer ")] == [f"layer {i}" for i in range(4)]
    assert "bits per weight" in texts
    for rect in root.iter(ns + "rect"):
        if rect.get("x"):
            assert 0 <= float(rect.get("x")) and float(rect.get("x")) + float(rect.get("width")) <= width
            assert float(rect.get("y")) + float(rect.get("height")) <= height
    for x in root.iter(ns + "text"):
        assert 0 <= float(x.get("x")) <= width and 0 < float(x.get("y")) <= height


def test_export(t):
    for name, extra in (("a.snug", []), ("g.gguf", ["--for", "gguf"])):
        model, _ = t.fit(name, "--ratio", "35%", *extra)
        out = t.path(name + ".exported.gguf")
        said = t.run("export", model, "-o", out, expect=OK).stderr
        assert ("rounded a second time, to " in said and "--for gguf" in said) == (name == "a.snug"), said
        r = t.run("inspect", out, "--json", expect=OK).json()
        assert r["format"] == "gguf" and r["n_weights"] == 4196608
        kl = t.run("eval", out, "--against", model, "--text", t.text, "--ctx", "64", "--tokens", "320", "--json", expect=OK).json()["kl_mean"]
        assert kl < 0.02, kl
        t.run("verify", out, expect=OK)
    lossless = t.path("bf16.gguf")
    t.run("export", t.demo, "-o", lossless, expect=OK)
    r = t.run("eval", lossless, "--against", t.demo, "--text", t.text, "--ctx", "64", "--tokens", "320", "--json", expect=OK).json()
    assert r["kl_max"] < 1e-6 and r["top1"] == 1, r # rotary pairs lie elsewhere in a row: rounding only


def test_convert(t):
    """Plain GGUFs: bf16 and f32 keep a bf16 checkpoint to the bit, f16 nearly, and what is rounded is said."""
    for kind, options in (("bf16", []), ("f32", ["--type", "f32"]), ("f16", ["--type", "f16"])):
        out = t.path(kind + ".gguf")
        said = t.run("convert", t.demo, "-o", out, *options, expect=OK).stdout
        assert f"{out.stat().st_size:,}" in said, said
        assert ("Every weight is what it was." in said) == (kind != "f16"), said
        matrices = {x["codec"] for x in t.run("inspect", out, "--json", expect=OK).json()["tensors"] if x["rows"] > 1}
        assert matrices == {kind}, matrices
        r = t.run("eval", out, "--against", t.demo, "--text", t.text, "--ctx", "64", "--tokens", "320", "--json", expect=OK).json()
        assert r["kl_max"] < (1e-6 if kind != "f16" else 1e-5) and r["top1"] == 1, (kind, r)
    back = t.path("back.gguf")
    r = t.run("convert", t.path("f32.gguf"), "-o", back, "--json", expect=OK).json()
    assert r["narrowed"] == 29 and r["worst_rel_error"] == 0 and back.read_bytes() == t.path("bf16.gguf").read_bytes(), r
    t.run("convert", t.demo, "-o", back, "--type", "q4_k", expect=harness.USAGE)


def test_a_file_in_the_way(t):
    folder = t.path("folder.gguf")
    folder.mkdir()
    r = t.run("export", t.demo, "-o", folder, expect=FAILED)
    assert "folder.gguf" in r.stderr, r


if __name__ == "__main__":
    harness.main(globals())
