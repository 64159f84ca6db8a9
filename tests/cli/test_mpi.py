#!/usr/bin/env python3
"""Several processes share a fit (builds with SNUG_MPI): the bytes of one, whatever is killed on the way, and no process waits for one
that is gone."""
import os
import shutil
import signal
import subprocess

import harness
from harness import FAILED, OK, USAGE, Result, Skip

MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none"] + (["--allow-run-as-root"] if os.geteuid() == 0 else [])
# Error feedback, sensitivities, menus, tiles of trellis codes: all that is shared.
FIT = ["--ratio", "60%", "--calib", "self", "--threads", "1", "--pin", "blk.0.*=tcq2", "--pin", "blk.1.ffn_down.weight=int3g32+lowrank4"]
made = {}


def mpi_args(t, parts):
    """parts: (number of processes, arguments of snug) ..., as mpirun wants them."""
    words = []
    for n, args in parts:
        words += ([":"] if words else []) + ["-n", n, t.snug, *args]
    return [*map(str, MPIRUN + words)]


def mpirun(t, *parts, expect=None, cache=None):
    env = {**t.env, "XDG_CACHE_HOME": str(cache)} if cache else t.env
    result = Result([n for n, _ in parts], subprocess.run(mpi_args(t, parts), capture_output=True, timeout=120, env=env))
    assert expect is None or result.code == expect, result
    return result


def needs_mpi(t):
    if not shutil.which("mpirun"):
        raise Skip("there is no mpirun")
    said = mpirun(t, (2, ["--version"]), expect=OK).stdout.count("kernels")
    if said != 1:
        raise Skip("snug was built without SNUG_MPI")


def test_experts(t):
    """Experts' inputs are gathered, run and summed by all."""
    needs_mpi(t)
    fit = ["fit", t.source / "tests" / "golden" / "mixtral", "--bpw", "5", "--calib", t.short_text(1500), "--threads", "1", "--pin", "blk.0.*=tcq2"]
    t.run(*fit, "-o", t.path("one.snug"), expect=OK, env={"XDG_CACHE_HOME": str(t.path("one"))})
    for n in (2, 3):
        out = t.path(f"{n}.snug")
        mpirun(t, (n, [*fit, "-o", out]), expect=OK, cache=t.path(f"c{n}"))
        assert out.read_bytes() == t.path("one.snug").read_bytes(), n


def source(t):
    return t.source / "tests" / "golden" / "llama3"


def reference(t):
    """What one process makes, from a cache of its own."""
    if not made:
        out = t.path("reference.snug")
        t.run("fit", source(t), "-o", out, *FIT, expect=OK, env={"XDG_CACHE_HOME": str(t.path("one"))})
        made["bytes"] = out.read_bytes()
    return made["bytes"]


def test_other_commands(t):
    needs_mpi(t)
    r = mpirun(t, (2, ["inspect", t.demo]), expect=USAGE)
    assert r.stdout == "" and r.stderr.count("inspect runs in one process") == 1, r
    r = mpirun(t, (2, ["fit", t.demo]), expect=USAGE)
    assert r.stderr.count("no budget") == 1, r


def test_same_bytes(t):
    needs_mpi(t)
    for n in (3, 2): # measured anew; the second fills the cache that other tests use
        out = t.path(f"{n}.snug")
        r = mpirun(t, (n, ["fit", source(t), "-o", out, *FIT]), expect=OK, cache=t.path("three") if n == 3 else None)
        assert r.stdout.count("Wrote") == 1, r
        assert out.read_bytes() == reference(t), n
        assert t.leftovers(out) == [out.name], t.leftovers(out)


def test_same_bytes_of_sums(t):
    """Sums of terms and other codecs, without statistics; and the plan."""
    needs_mpi(t)
    options = ["--effort", "quick", "--calib", "none", "--ratio", "60%", "--pin", "*.ffn_down.weight=int2g64+lowrank8",
               "--pin", "blk.0.attn_q.weight=q4_k"]
    plans = []
    for n in (1, 3):
        out, plan = t.path(f"{n}.snug"), t.path(f"{n}.json")
        mpirun(t, (n, ["fit", t.demo, "-o", out, "--save-plan", plan, *options]), expect=OK)
        plans.append((out.read_bytes(), plan.read_bytes()))
    assert plans[0] == plans[1]


def process_of(out, rank):
    """The process id of one of those that make this output."""
    for folder in os.listdir("/proc"):
        try:
            with open(f"/proc/{folder}/cmdline", "rb") as words, open(f"/proc/{folder}/environ", "rb") as env:
                if str(out).encode() in words.read().split(b"\0") and f"OMPI_COMM_WORLD_RANK={rank}".encode() in env.read().split(b"\0"):
                    return int(folder)
        except OSError:
            pass
    return None


def interrupt(t, out, n, stage, sig, rank=None, options=(), cache=None):
    """A fit by n processes; once a stage is seen, mpirun or the process of a rank gets the signal. The exit code and what was said."""
    env = {**t.env, "XDG_CACHE_HOME": str(cache)} if cache else t.env
    p = subprocess.Popen(mpi_args(t, [(n, ["fit", source(t), "-o", out, *FIT, "--json", *options])]), stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env=env)
    for line in p.stderr:
        if f'"stage":"{stage}"'.encode() in line and b'"done":0,' not in line:
            break
    victim = p.pid if rank is None else process_of(out, rank)
    if victim and p.poll() is None:
        os.kill(victim, sig)
    _, said = p.communicate(timeout=60)
    return p.returncode, said.decode("utf-8", "replace")


def test_killed_and_resumed(t):
    """Any of them, or all, told to stop or killed; gone on with by another number, in the end by one."""
    needs_mpi(t)
    out = t.path("a.snug")
    for n, stage, sig, rank in ((3, "sensitivity", signal.SIGKILL, 1), (2, "encode", signal.SIGKILL, 0), (3, "encode", signal.SIGTERM, 1),
                                (2, "encode", signal.SIGINT, None)):
        code, said = interrupt(t, out, n, stage, sig, rank, options=["--resume"], cache=t.path("fresh"))
        if out.exists():  # whole, whatever the signal still met
            print(f"      {stage} by {n}: over before the signal came")
            assert out.read_bytes() == reference(t), (stage, n, code)
            out.unlink()
            continue
        assert code != OK, (stage, n)
        if sig == signal.SIGTERM:
            assert code == FAILED and "process 1: cancelled" in said and "--resume" in said, (code, said)
    r = t.run("fit", source(t), "-o", out, *FIT, "--resume", expect=OK)
    assert out.read_bytes() == reference(t), r
    assert t.leftovers(out) == [out.name], t.leftovers(out)


def test_one_that_fails_ends_all(t):
    needs_mpi(t)
    out = t.path("a.snug")
    fit = ["fit", source(t), "-o", out, *FIT]
    r = mpirun(t, (2, fit), (1, ["fit", t.path("nowhere"), "-o", out, *FIT]), expect=FAILED)
    assert "process 2: " in r.stderr and "nowhere" in r.stderr and not out.exists(), r
    r = mpirun(t, (1, fit), (1, [*fit, "--seed", "7"]), expect=FAILED)
    assert "process 1: " in r.stderr and "seed" in r.stderr and not out.exists(), r
    r = mpirun(t, (1, fit), (1, ["fit", t.demo, "-o", out, *FIT]), expect=FAILED)
    assert "process 1: " in r.stderr and "source contents" in r.stderr and not out.exists(), r


def test_full_disk(t):
    needs_mpi(t)
    with harness.small_disk(t.path("disk"), "100k") as disk:
        out = disk / "a.snug"
        r = mpirun(t, (3, ["fit", source(t), "-o", out, *FIT]), expect=FAILED)
        assert not out.exists() and "a.snug" in r.stderr and "space" in r.stderr, r


if __name__ == "__main__":
    harness.main(globals())
