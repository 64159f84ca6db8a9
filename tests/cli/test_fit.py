#!/usr/bin/env python3
"""Fitting: the budget is a promise, the report tells the truth, plans replay, and the same question has the same bytes."""
import json
import math
import re
import shutil
import struct

import harness
from harness import FAILED, OK, TOO_BIG, USAGE, Skip

QUICK = ["--effort", "quick", "--calib", "none"]
# Where the plan is not what is tested, most of it is given: measuring menus is most of a quick fit's time.
LAYERS = ["--pin", "blk.*=int4g64"]


def test_report(t):
    out, report = t.fit("a.snug", "--ratio", "35%")
    size = out.stat().st_size
    assert report["bytes"] == size
    assert report["budget_bytes"] == int(0.35 * report["source_tensor_bytes"])
    assert 0.995 * report["budget_bytes"] <= size <= report["budget_bytes"], (size, report["budget_bytes"])
    assert math.isclose(report["bpw"], 8 * size / report["n_weights"], rel_tol=1e-9)
    assert math.isclose(report["ratio"], size / report["source_tensor_bytes"], rel_tol=1e-9)
    assert report["predicted_kl"] > 0 and report["skipped"] == []
    assert report["run_memory"]["total_bytes"] >= size * 0.9
    rows = report["plan"]
    assert report["run_work"]["multiply_adds"] == sum(r["rows"] * r["cols"] for r in rows if r["rows"] > 1), report["run_work"]
    assert report["run_work"]["transform_adds"] == 0, report["run_work"]
    assert sum(r["bytes"] for r in rows) <= size
    names = [r["tensor"] for r in rows]
    assert len(set(names)) == len(names) and "token_embd.weight" in names and "blk.3.ffn_down.weight" in names
    for r in rows:
        assert r["codec"] and r["bytes"] > 0 and r["rows"] > 0 and r["cols"] > 0 and r["rel_error"] >= 0 and r["predicted_loss"] >= 0, r
    seen = t.run("inspect", out, "--json", expect=OK).json()
    assert seen["file_bytes"] == size and seen["format"] == "snug"
    assert {x["name"]: x["codec"] for x in seen["tensors"]} == {r["tensor"]: r["codec"] for r in rows}
    assert math.isclose(seen["predicted_kl"], report["predicted_kl"], rel_tol=1e-5)


def zero_tensor(path, name):
    """A tensor of a safetensors file becomes zeros, in place."""
    with open(path, "r+b") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        begin, end = json.loads(f.read(n))[name]["data_offsets"]
        f.seek(8 + n + begin)
        f.write(bytes(end - begin))


def test_dead_inputs(t):
    """A layer whose inputs are all zero has no second moments to factor: its matrices are encoded without, and the report says which. What the errors
    of the others came to is near to what the plan said, and told layer by layer."""
    if t.sanitized:
        raise Skip("takes minutes; tests/unit/test_hessian.c has sums of dead inputs")
    source = t.path("dead")
    shutil.copytree(t.demo, source)
    (source / "model.safetensors").chmod(0o644)
    zero_tensor(source / "model.safetensors", "model.layers.1.input_layernorm.weight")
    r = t.run("fit", source, "-o", t.path("a.snug"), "--pin", "*=int4g64", "--calib", t.short_text(3000), "--json", expect=OK)
    rows = {x["tensor"]: x.get("note", "") for x in r.json()["plan"]}
    noted = {name for name, note in rows.items() if "cannot be factored" in note}
    assert {f"blk.1.attn_{m}.weight" for m in "qkv"} <= noted and not any(name.startswith(("blk.0", "blk.2", "blk.1.ffn")) for name in noted), rows
    assert t.run("run", t.path("a.snug"), "-p", "Once", "-n", "5", "--temp", "0", expect=OK).stdout.strip()
    measured = {x["tensor"]: x["measured_error"] / x["rel_error"] for x in r.json()["plan"] if "measured_error" in x}
    assert "blk.1.attn_q.weight" not in measured and len(measured) == 4 * 7 + 1 - len(noted), (measured, noted)
    assert all(0.4 < x < 2.5 for x in measured.values()), measured
    told = [json.loads(line).get("note", "") for line in r.stderr.splitlines()]
    assert [x.split(":")[0] for x in told if x.startswith("layer")] == [f"layer {i} of 4" for i in (1, 2, 3, 4)], told


def test_table(t):
    r = t.run("fit", t.demo, "-o", t.path("a.snug"), "--ratio", "35%", *QUICK, *LAYERS, expect=OK)
    assert re.search(r"^  tensor +codec +bpw +bytes +rel.error +pred.loss$", r.stdout, re.M), r
    assert re.search(r"^  blk\.0\.attn_q\.weight +\S+ +[\d.]+ +[\d,]+ +\d\.\d\de-?\+?\d\d", r.stdout, re.M), r
    assert "of the budget used" in r.stdout and "to run" in r.stdout and "kept" in r.stdout, r
    assert t.run("run", t.path("a.snug"), "-p", "Once", "-n", "5", "--temp", "0", expect=OK).stdout.strip()


def test_three_ways_to_name_a_budget(t):
    weights = t.run("inspect", t.demo, "--json", expect=OK).json()["n_weights"]
    out, a = t.fit("a.snug", "--bpw", "5", *LAYERS)
    assert a["budget_bytes"] == int(5 * weights / 8) and a["bpw"] <= 5
    out_b, b = t.fit("b.snug", "--size", a["budget_bytes"], *LAYERS)
    assert out.read_bytes() == out_b.read_bytes()


def test_too_small(t):
    """Exit code 3, and the message names the least size, which works; one byte less does not."""
    out = t.path("small.snug")
    r = t.run("fit", t.demo, "-o", out, "--size", "1000", *QUICK, expect=TOO_BIG)
    numbers = [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]{5,}", r.stderr)]
    assert numbers and t.leftovers(out) == [], r
    least = max(numbers) if len(numbers) == 1 else min(n for n in numbers if n > 1000)
    _, report = t.fit("least.snug", "--size", least)
    assert report["bytes"] <= least
    t.run("fit", t.demo, "-o", out, "--size", least - 1, *QUICK, expect=TOO_BIG)
    r = t.run("fit", t.demo, "-o", out, "--size", "1000", *QUICK, "--json", expect=TOO_BIG)
    assert r.json()["error"]["message"], r
    assert t.leftovers(out) == []


def test_ram(t):
    out, report = t.fit("ram.snug", "--ram", "40M", "--ctx", "256")
    assert report["run_memory"]["total_bytes"] <= 40 << 20, report["run_memory"]
    t.run("run", out, "-p", "a", "-n", "3", "--ctx", "256", "--ram", "40M", expect=OK)
    t.run("run", out, "-p", "a", "-n", "3", "--ctx", "256", "--ram", "1M", expect=TOO_BIG)
    t.run("fit", t.demo, "-o", t.path("x"), "--ram", "1M", "--ctx", "256", *QUICK, expect=TOO_BIG)
    said = t.run("fit", t.demo, "-o", t.path("x"), "--ram", "1M", "--bpw", "3", "--ctx", "256", *QUICK, expect=TOO_BIG).stderr
    assert "of memory at 256 positions" in said, said


def test_gguf(t):
    out, report = t.fit("a.gguf", "--ratio", "40%", "--for", "gguf")
    assert report["bytes"] == out.stat().st_size <= report["budget_bytes"]
    native = {"f32", "f16", "bf16", "q8_0", "q4_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0"}
    assert {r["codec"] for r in report["plan"]} <= native
    assert {x["codec"] for x in t.run("inspect", out, "--json", expect=OK).json()["tensors"]} <= native
    t.run("verify", out, expect=OK)


def test_plan_only_and_replay(t):
    plan = t.path("plan.json")
    r = t.run("fit", t.demo, "--ratio", "35%", *QUICK, "--plan-only", "--save-plan", plan, "--json", expect=OK).json()
    assert list(t.folder.glob("*.snug*")) == []
    json.loads(plan.read_text())
    out, report = t.fit("direct.snug", "--ratio", "35%")
    assert r["bytes"] == report["bytes"] and r["plan"] == report["plan"]
    replayed, again = t.fit("replayed.snug", "--plan", plan)
    assert again["bytes"] == report["bytes"] and [r["codec"] for r in again["plan"]] == [r["codec"] for r in report["plan"]]
    same = t.run("eval", replayed, "--against", out, "--text", t.text, "--ctx", "64", "--tokens", "320", "--json", expect=OK).json()
    assert same["kl_max"] == 0, same
    # A plan is a text to edit: another codec for one tensor is obeyed.
    text = plan.read_text()
    codec = next(x["codec"] for x in report["plan"] if x["tensor"] == "blk.0.attn_v.weight")
    head, tail = text.split("blk.0.attn_v.weight", 1)
    plan.write_text(head + "blk.0.attn_v.weight" + tail.replace(f'"{codec}"', '"q8_0"', 1))
    _, edited = t.fit("edited.snug", "--plan", plan)
    assert next(x["codec"] for x in edited["plan"] if x["tensor"] == "blk.0.attn_v.weight") == "q8_0"
    # One that says nothing of a matrix is not a plan.
    less = json.loads(text)
    less["tensors"] = [x for x in less["tensors"] if x["tensor"] != "blk.0.attn_v.weight"]
    plan.write_text(json.dumps(less))
    r = t.run("fit", t.demo, "-o", t.path("less.snug"), *QUICK, "--plan", plan, expect=FAILED)
    assert 'no entry for the tensor "blk.0.attn_v.weight"' in r.stderr, r


def test_pins(t):
    _, report = t.fit("a.snug", "--ratio", "40%", "--pin", "blk.*.attn_v.weight=q8_0", "--pin", "token_embd.weight=int4g32", "--pin", "blk.0.attn_v.weight=bf16")
    codec = {r["tensor"]: r["codec"] for r in report["plan"]}
    assert codec["token_embd.weight"] == "int4g32" and codec["blk.0.attn_v.weight"] == "bf16"
    assert all(codec[f"blk.{i}.attn_v.weight"] == "q8_0" for i in (1, 2, 3))
    out, every = t.fit("b.snug", "--pin", "*=int4g64")
    assert {r["codec"] for r in every["plan"] if r["rows"] > 1} == {"int4g64"}
    for bad in ("nonsense", "a=b=c", "*=int99g64", "=q8_0"):
        r = t.run("fit", t.demo, "-o", t.path("x"), "--ratio", "40%", *QUICK, "--pin", bad)
        assert r.code in (FAILED, USAGE) and not t.path("x").exists(), r


def test_same_bytes(t):
    """For any number of threads, with and without the cache, and for self-calibration too."""
    runs = [(1, "c1"), (3, "c3"), (3, "c3")]
    for extra in (QUICK,) if t.sanitized else (QUICK, ["--effort", "quick", "--calib", "self", *LAYERS]):
        made = []
        for i, (threads, cache) in enumerate(runs[1:] if t.sanitized else runs):
            out = t.path(f"{i}.snug")
            t.run("fit", t.demo, "-o", out, "--ratio", "33%", *extra, "--threads", threads, env={"XDG_CACHE_HOME": str(t.path(cache))}, expect=OK)
            made.append(out.read_bytes())
        assert all(m == made[0] for m in made), [len(m) for m in made]


def test_a_text_calibrates(t):
    out = t.path("a.snug")
    report = t.run("fit", t.demo, "-o", out, "--ratio", "35%", "--effort", "quick", "--calib", t.short_text(4000), *LAYERS, "--json", expect=OK).json()
    assert report["calib_tokens"] > 100, report["calib_tokens"]
    assert out.stat().st_size == report["bytes"] <= report["budget_bytes"]


def calibrated(t, out, spill=(), **kwargs):
    """A fit of a small model on a short text, at normal effort unless that takes minutes."""
    return t.run("fit", t.source / "tests" / "golden" / "llama3", "-o", out, "--pin", "*=int4g32", "--calib", t.short_text(2000), *spill,
                 *(["--effort", "quick"] if t.sanitized else []), **kwargs)


def test_spill(t):
    """Hidden states in files of a folder: the same bytes, and nothing is left there. A folder that cannot be used is named before any work."""
    folder = t.path("spill")
    folder.mkdir()
    for name, spill in (("a.snug", []), ("b.snug", ["--spill", folder])): # each with a cache of its own: statistics are taken twice
        calibrated(t, t.path(name), spill, env={"XDG_CACHE_HOME": str(t.path("c" + name))}, expect=OK)
    assert t.path("a.snug").read_bytes() == t.path("b.snug").read_bytes() and list(folder.iterdir()) == []
    for bad in (t.path("nowhere"), t.short_text(2000)):
        r = calibrated(t, t.path("x.snug"), ["--spill", bad], expect=FAILED)
        assert str(bad) in r.stderr and "cannot make a file" in r.stderr and t.leftovers(t.path("x.snug")) == [], r


def test_spill_to_a_full_disk(t):
    with harness.small_disk(t.path("disk"), "64k") as disk:
        r = calibrated(t, t.path("x.snug"), ["--spill", disk], expect=FAILED)
        assert re.search(str(disk) + r": \d+ bytes cannot be reserved in this folder: No space left on device", r.stderr), r
        assert not t.path("x.snug").exists() and list(disk.iterdir()) == []


def test_source_may_be_an_artifact_or_gguf(t):
    a, _ = t.fit("a.snug", "--ratio", "60%")
    b = t.path("b.snug")
    t.run("fit", a, "-o", b, "--bpw", "5", *QUICK, *LAYERS, expect=OK)
    g, _ = t.fit("g.gguf", "--ratio", "60%", "--for", "gguf")
    t.run("fit", g, "-o", t.path("c.snug"), "--bpw", "5", *QUICK, *LAYERS, expect=OK)
    assert t.run("eval", b, "--against", t.demo, "--text", t.text, "--tokens", "512", "--ctx", "64", "--json", expect=OK).json()["kl_mean"] < 1


def test_output_is_replaced_only_when_whole(t):
    out = t.path("a.snug")
    out.write_text("precious")
    t.run("fit", t.demo, "-o", out, "--size", "1000", *QUICK, expect=TOO_BIG)
    assert out.read_text() == "precious"
    t.run("fit", t.demo, "-o", out, "--ratio", "40%", *QUICK, *LAYERS, expect=OK)
    assert t.leftovers(out) == ["a.snug"]


def test_json_events(t):
    small = t.source / "tests" / "golden" / "llama3"
    r = t.run("fit", small, "-o", t.path("a.snug"), "--ratio", "60%", "--effort", "quick", "--calib", "self", "--json", expect=OK)
    events = [json.loads(line) for line in r.stderr.splitlines()]
    assert events and all(e["event"] == "progress" and 0 <= e["fraction"] <= 1 for e in events)
    assert [e["fraction"] for e in events] == sorted(e["fraction"] for e in events)
    assert len({e["stage"] for e in events}) >= 2


def test_a_tied_head_from_the_cache(t):
    """Statistics that were kept leave out the head's second moments: they are a stage of their own then, and the bytes are the same."""
    if t.sanitized:
        raise Skip("too slow in a sanitized build")
    source, cache = t.source / "tests" / "golden" / "llama3", {"XDG_CACHE_HOME": str(t.path("cache"))}
    made = []
    for name in ("fresh", "kept"):
        r = t.run("fit", source, "-o", t.path(name), "--ratio", "60%", "--pin", "token_embd.weight=int4g32", "--calib", t.short_text(1500), "--json", env=cache, expect=OK)
        made.append((t.path(name).read_bytes(), {json.loads(line)["stage"] for line in r.stderr.splitlines()}))
    (fresh, fresh_stages), (kept, kept_stages) = made
    assert fresh == kept and "head" in kept_stages and "head" not in fresh_stages, (fresh_stages, kept_stages)


if __name__ == "__main__":
    harness.main(globals())
