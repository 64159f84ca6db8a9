#!/usr/bin/env python3
"""Ctrl-C, kill -9, a full disk: nothing under the target's name, and --resume ends with the same bytes."""
import resource
import signal
import subprocess

import harness
from harness import FAILED, OK, Skip

# Slow enough to be hit in the middle of encoding: with feedback, trellis codes among it; what is measured before that comes from the cache
# after the first run. The embedding alone is left to the plan.
PINS = ["--ratio", "35%", "--threads", "1", "--pin", "blk.*=int3g64", "--pin", "blk.0.*=had:tcq2"]
CALIBRATING = [*PINS, "--calib", "self", "--effort", "quick"]


def slow(t):
    return [*PINS, "--calib", t.short_text(2500)]


def interrupt_when(t, out, options, stage, number, sig, **kwargs):
    """Starts a fit and signals it once `number` events of a stage were seen."""
    p = t.start("fit", t.demo, "-o", out, *options, "--json", **kwargs)
    seen = 0
    for line in p.stderr:
        if f'"stage":"{stage}"'.encode() in line and b'"done":0,' not in line:
            seen += 1
            if seen == number:
                p.send_signal(sig)
                break
    rest = p.communicate(timeout=120)
    return p, rest


def test_ctrl_c_leaves_nothing_under_the_name(t):
    fresh = {"XDG_CACHE_HOME": str(t.path("fresh"))}
    for options, stage, number, env in ((slow(t), "encode", 1, None), (slow(t), "encode", 3, None), (CALIBRATING, "calibrate", 1, fresh)):
        out = t.path(f"{stage}{number}.snug")
        p, (stdout, stderr) = interrupt_when(t, out, options, stage, number, signal.SIGINT, env=env)
        if p.returncode == OK:
            print(f"      {stage} {number}: over before the signal came")
            continue
        assert p.returncode == FAILED, (p.returncode, stderr[-500:])
        assert not out.exists()
        assert b"--resume" in stderr, stderr[-500:]
        t.run("fit", t.demo, "-o", out, *options, "--resume", expect=OK, env=env)
        assert t.leftovers(out) == [out.name], t.leftovers(out)


def test_kill_and_resume_give_the_same_bytes(t):
    reference = t.path("reference.snug")
    t.run("fit", t.demo, "-o", reference, *slow(t), expect=OK)
    hits = 0
    for number in (1, 3, 6):
        out = t.path(f"killed{number}.snug")
        p, _ = interrupt_when(t, out, slow(t), "encode", number, signal.SIGKILL)
        if p.returncode == OK:
            continue
        if out.exists(): # the signal came between the file's name and the end: then it is whole
            assert out.read_bytes() == reference.read_bytes()
            continue
        hits += 1
        report = t.run("fit", t.demo, "-o", out, *slow(t), "--resume", "--json", expect=OK).json()
        assert out.read_bytes() == reference.read_bytes()
        assert t.leftovers(out) == [out.name], t.leftovers(out)
        print(f"      killed at encode event {number}: resumed, {len(report['skipped'])} of {len(report['plan'])} tensors kept")
    if not hits:
        raise Skip("every run was over before it could be killed")


def test_resume_refuses_other_options(t):
    out = t.path("a.snug")
    p, _ = interrupt_when(t, out, slow(t), "encode", 1, signal.SIGKILL)
    if p.returncode == OK:
        raise Skip("the run was over before it could be killed")
    changed = [a if a != "35%" else "45%" for a in slow(t)]
    r = t.run("fit", t.demo, "-o", out, *changed, "--resume", expect=FAILED)
    assert "ratio" in r.stderr or "budget" in r.stderr or "size" in r.stderr, r
    r = t.run("fit", t.demo, "-o", out, *slow(t), "--resume", "--seed", "7", expect=FAILED)
    assert "seed" in r.stderr, r
    t.run("fit", t.demo, "-o", out, *slow(t), expect=OK) # without --resume it begins anew
    assert t.leftovers(out) == [out.name], t.leftovers(out)


def test_resume_with_nothing_to_resume(t):
    r = t.run("fit", t.demo, "-o", t.path("a.snug"), *slow(t), "--resume")
    assert r.code == OK or "a.snug" in r.stderr, r


def test_file_size_limit(t):
    """A write that the system refuses in the middle (here: a limit on the size of files) is an error, not an end."""
    for limit in (200, 100000, 900000):
        out = t.path(f"limit{limit}.snug")
        r = t.run("fit", t.demo, "-o", out, "--ratio", "35%", "--effort", "quick", "--calib", "none",
                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)), expect=FAILED)
        assert not out.exists() and out.name in r.stderr, r


def test_full_disk(t):
    with harness.small_disk(t.path("disk"), "1m") as disk:
        out = disk / "a.snug"
        r = t.run("fit", t.demo, "-o", out, "--ratio", "35%", "--effort", "quick", "--calib", "none", expect=FAILED)
        assert not out.exists() and "a.snug" in r.stderr and "space" in r.stderr, r
        r = t.run("export", t.demo, "-o", disk / "b.gguf", expect=FAILED)
        assert not (disk / "b.gguf").exists() and "space" in r.stderr, r


def test_full_standard_output(t):
    with open("/dev/full", "wb") as full:
        for args in (["inspect", t.demo], ["inspect", t.demo, "--json"], ["--help"], ["fit", "--help"], ["run", t.demo, "-p", "a", "-n", "3"]):
            p = subprocess.run([t.snug, *map(str, args)], stdout=full, stderr=subprocess.PIPE, env=t.env)
            assert p.returncode == FAILED, (args, p.returncode, p.stderr)


def test_ctrl_c_while_writing_text(t):
    p = t.start("run", t.demo, "-p", "Once upon a time", "-n", "250", "--temp", "1", "--seed", "3")
    first = p.stdout.read(1)
    p.send_signal(signal.SIGINT)
    rest, stderr = p.communicate(timeout=60)
    assert p.returncode in (OK, FAILED), p.returncode
    if p.returncode == FAILED:
        assert b"interrupt" in stderr, stderr
    (first + rest).decode("utf-8")


if __name__ == "__main__":
    harness.main(globals())
