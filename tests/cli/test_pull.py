#!/usr/bin/env python3
"""snug pull against an imitation of the hub (hub_server.py): what is chosen, what is fetched, and every way in which it goes wrong."""
import functools
import json
import random
import resource
import signal
import time

import harness
from harness import FAILED, OK, TOO_BIG, USAGE
from hub_server import Hub

MB = 1 << 20
SIZE = 14 * MB
TOKEN = "hf_secretsecretsecret"


@functools.lru_cache
def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


def model(**more):
    """A repository that is chosen whole: two small files and 14 MB, which come in four ranges."""
    return {"config.json": b"{}", "tokenizer.json": b"{} ", "model.safetensors": noise(SIZE), **more}


def pull(t, hub, *args, expect=OK, token=None, source="hf:org/name", **kwargs):
    return t.run("pull", source, t.path("out"), *args, env=hub.env(token), expect=expect, **kwargs)


def check(t, hub, names):
    """The folder holds these files, as the hub has them, and nothing else."""
    there = {str(p.relative_to(t.path("out"))) for p in t.path("out").rglob("*") if p.is_file()}
    assert there == set(names), there
    for name in names:
        assert (t.path("out") / name).read_bytes() == hub.files[name], name


def error(t, hub, *words, expect=FAILED, **kwargs):
    r = pull(t, hub, expect=expect, **kwargs)
    line = next(l for l in r.stderr.splitlines() if l.startswith("snug pull: "))
    for word in words:
        assert word in line, f"'{word}' is not in: {line}"
    return r


# ---------------------------------------------------------------- what is chosen ----

def test_demo_model(t):
    files = {p.name: p.read_bytes() for p in t.demo.iterdir() if p.is_file()}
    files |= {"README.md": b"# hello", "pytorch_model.bin": b"x", "onnx/model.onnx": b"x", "original/config.json": b"x", "demo.gguf": b"x",
              "model-00001-of-00002.safetensors": b"x"}
    with Hub(files, page=2) as hub:
        r = pull(t, hub)
        wanted = [n for n in files if n in ("config.json", "generation_config.json", "model.safetensors") or n.startswith("tokenizer")]
        check(t, hub, wanted)
        assert f"Next: snug fit {t.path('out')} " in r.stdout and "0123456789ab" in r.stdout, r
        t.run("inspect", t.path("out"), expect=OK)
        served = sum(hub.served.values())
        assert served == sum(len(files[n]) for n in wanted)
        r = pull(t, hub, "--json") # all is there: hashed, not fetched
        assert sum(hub.served.values()) == served and r.json()["fetched_bytes"] == 0
        report = r.json()
        assert report["present_bytes"] == report["bytes"] == served and report["needed_bytes"] == 0 and report["model"] == str(t.path("out"))
        assert {f["path"] for f in report["files"]} == set(wanted) and all(len(f.get("sha256", f.get("git-sha1"))) in (40, 64) for f in report["files"])
        assert all(json.loads(line)["event"] == "progress" for line in r.stderr.splitlines())


def test_default_folder_and_dry_run(t):
    with Hub({"config.json": b"{}", "model.safetensors": noise(5000)}) as hub:
        r = t.run("pull", "hf:org/name", "--dry-run", env=hub.env(), cwd=t.folder, expect=OK)
        assert "model.safetensors" in r.stdout and "4.88K" in r.stdout and not t.path("name").exists() and not hub.served, r
        t.run("pull", "hf:org/name", env=hub.env(), cwd=t.folder, expect=OK)
        assert t.path("name/config.json").read_bytes() == b"{}"


def test_shards_of_the_index(t):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors", "c": "model-00001-of-00002.safetensors"}}
    files = {"config.json": b"{}", "model.safetensors.index.json": json.dumps(index).encode(), "consolidated.safetensors": noise(1000),
             "model-00001-of-00002.safetensors": noise(200000), "model-00002-of-00002.safetensors": noise(3000), "vision.safetensors": noise(10)}
    with Hub(files) as hub:
        pull(t, hub)
        check(t, hub, [n for n in files if not n.startswith(("consolidated", "vision"))])
        for shard in ("model-00003-of-00002.safetensors", "../evil.safetensors", "/etc/passwd"):
            hub.files["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": shard}}).encode()
            error(t, hub, "model.safetensors.index.json", shard)
        hub.files["model.safetensors.index.json"] = b'{"weight_map": {"a": '
        error(t, hub, "model.safetensors.index.json", "JSON")


def test_ggufs(t):
    with Hub({"README.md": b"", "m.Q2_K.gguf": noise(3000), "m.Q8_0.gguf": noise(200000)}) as hub:
        error(t, hub, "2 GGUF files", "--file", "m.Q2_K.gguf", expect=USAGE)
        r = pull(t, hub, "--dry-run")
        assert "m.Q2_K.gguf" in r.stdout and "m.Q8_0.gguf" in r.stdout and "README" not in r.stdout, r
        r = pull(t, hub, "--file", "*Q8_0*")
        check(t, hub, ["m.Q8_0.gguf"])
        assert f"snug fit {t.path('out')}/m.Q8_0.gguf" in r.stdout, r
        r = t.run("pull", "hf:org/name", t.path("out"), "--file", "*Q5*", env=hub.env(), expect=FAILED)
        assert "*Q5*" in r.stderr and "--dry-run" in r.stderr, r
        r = t.run("pull", "hf:org/name", t.path("all"), "--file", "*", "--dry-run", env=hub.env(), expect=OK)
        assert "README.md" in r.stdout and "3 files of 3" in r.stdout, r
    with Hub({"q/m-00001-of-00002.gguf": b"a", "q/m-00002-of-00002.gguf": b""}) as hub:
        t.run("pull", "hf:org/name", t.path("parts"), env=hub.env(), expect=OK)
        assert t.path("parts/q/m-00002-of-00002.gguf").read_bytes() == b""


def test_nothing_to_open(t):
    with Hub({"config.json": b"{}", "pytorch_model.bin": b"x"}) as hub:
        error(t, hub, "pickled", "pytorch_model.bin", "safetensors")
    with Hub({"README.md": b"x"}) as hub:
        error(t, hub, "no weights")
    with Hub({"model.safetensors": b"x"}) as hub:
        error(t, hub, "config.json")
    with Hub({"adapter_model.safetensors": b"x", "config.json": b"{}"}) as hub:
        error(t, hub, "adapter_model.safetensors")
    with Hub({"a.part": b"x", "b": b"y"}) as hub:
        r = pull(t, hub, "--file", "*", expect=FAILED)
        assert "a.part" in r.stderr, r
    assert not t.path("out").exists()


# ---------------------------------------------------------------- who may ----

def test_token_goes_to_the_hub_alone(t):
    with Hub(model()) as hub:
        hub.token, hub.renamed_from = TOKEN, "org/old"
        r = pull(t, hub, token=TOKEN, source="hf:org/old")
        check(t, hub, model())
        assert TOKEN not in r.stdout + r.stderr
        assert all(auth == f"Bearer {TOKEN}" for port, _, _, auth in hub.requests if port == "hub")
        stored = [auth for port, _, _, auth in hub.requests if port == "storage"]
        assert stored == [None] * 4, stored


def test_gated(t):
    with Hub(model()) as hub:
        hub.token = TOKEN
        error(t, hub, "gated", "licence", "HF_TOKEN", "org/name")
        r = error(t, hub, "gated", "HF_TOKEN", token="hf_another")
        assert "hf_another" not in r.stdout + r.stderr
        hub.gated_only_files = True
        error(t, hub, "gated", "HF_TOKEN")
        r = error(t, hub, "HF_TOKEN", "control character", token="hf_a\r\nX: y", expect=USAGE)
        assert "X: y" not in r.stdout + r.stderr
    assert not any(p.is_file() for p in t.path("out").rglob("*"))


def test_not_there(t):
    with Hub(model()) as hub:
        error(t, hub, "org/other", "404", source="hf:org/other")
        error(t, hub, "org/name", "revision", "v9", source="hf:org/name@v9")
        hub.revisions.add("refs/pr/1")
        hub.listed_first = [{"type": "file", "path": "tokenizer.model", "size": 5, "oid": "0" * 40}]
        error(t, hub, "tokenizer.model", "404", source="hf:org/name@refs/pr/1")
        assert any(path.endswith("/revision/refs%2Fpr%2F1") for _, path, _, _ in hub.requests)
    r = t.run("pull", "hf:org/name", env=hub.env(), expect=FAILED) # the servers are gone
    assert "cannot reach" in r.stderr and "HF_ENDPOINT" in r.stderr, r


def test_names_that_make_no_sense(t):
    for source in ("org/name", "hf:", "hf:name", "hf:org/", "hf:/name", "hf:org/na me", "hf:../name", "hf:org/..", "hf:org/name@", "hf:a/b/c", "https://x/y",
                   "hf:org/name@a b"):
        r = t.run("pull", source, expect=USAGE)
        assert "hf:ORG/NAME" in r.stderr, r
    for endpoint in ("ftp://x", "x", "http://", "https://user@x", "http://x?y", "http://a b"):
        assert "HF_ENDPOINT" in t.run("pull", "hf:org/name", env={"HF_ENDPOINT": endpoint}, expect=USAGE).stderr


# ---------------------------------------------------------------- hostile lists ----

def test_names_that_leave_the_folder(t):
    with Hub(model()) as hub:
        for name in ("../model.safetensors", "a/../../b", "/etc/passwd", "a//b", "a/./b", "..", "a\\b", "a\0b", "a\nb", "", "x" * 300, "a/" * 600 + "b"):
            hub.listed_first = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40}]
            error(t, hub, "nothing of this repository is fetched")
    assert not t.path("out").exists()


def test_lists_that_lie(t):
    entry = {"type": "file", "path": "a", "size": 1, "oid": "0" * 40}
    with Hub(model()) as hub:
        for bad in ({**entry, "size": -1}, {**entry, "size": "1"}, {**entry, "size": 2**60}, {**entry, "oid": "0" * 39}, {**entry, "oid": "../" * 13 + "."},
                    {**entry, "oid": 5}, {"path": "a"}, 5, None, {**entry, "lfs": {"oid": "0" * 40, "size": 1}}, {**entry, "path": 7},
                    {**entry, "path": "config.json"}):
            hub.listed_first = [bad]
            error(t, hub, "org/name")
        hub.listed_first, hub.list_cut = [], 100
        error(t, hub, "org/name", "JSON")
        hub.list_cut, hub.link = None, f'<{hub.other}/steal?cursor=0>; rel="next"' # only the query counts, and it leads in a circle
        error(t, hub, "no end", token=TOKEN)
        assert not [r for r in hub.requests if r[0] == "storage"]
        for link in ('<http://x/y>; rel="next"', '<http://x/y?a b>; rel="next"', f'<http://x/?{"a" * 3000}>; rel="next"'): # not the end of the list
            hub.link = link
            error(t, hub, "next page")
        hub.link, hub.commit = None, "main/../../x"
        error(t, hub, "sha")
    assert not t.path("out").exists()


# ---------------------------------------------------------------- what comes ----

def test_cut_connections(t):
    with Hub(model()) as hub:
        hub.cut_after = [MB + 1000, 0, 3 * MB, 10]
        pull(t, hub, "--connections", "3")
        check(t, hub, model())
        assert hub.served["model.safetensors"] == SIZE # not a byte twice
        assert all(int(last) - int(first) < 4 * MB for _, _, r, _ in hub.requests if r for first, last in [r.split("=")[1].split("-")])


def test_a_server_that_never_gets_far(t):
    with Hub({**model(), "model.safetensors": noise(200000)}) as hub:
        hub.cut_after = [0] * 100
        began = time.monotonic()
        p = t.start("pull", "hf:org/name", t.path("out"), env=hub.env())
        assert harness.wait_until(lambda: len([r for r in hub.requests if r[0] == "storage"]) >= 2)
        p.send_signal(signal.SIGINT)
        _, stderr = p.communicate(timeout=10)
        assert p.returncode == FAILED and b"same command" in stderr and time.monotonic() - began < 20, stderr


def test_no_ranges(t):
    for answer in (False, 416):
        with Hub(model()) as hub:
            hub.ranges = answer
            pull(t, hub, "--replace")
            check(t, hub, model())
            hub.files["model.safetensors"], hub.cut_after = noise(SIZE, 2), [9 * MB] # cut there, it begins again
            hub.served.clear()
            (t.path("out") / "model.safetensors").unlink()
            pull(t, hub)
            check(t, hub, hub.files)


def test_busy(t):
    with Hub(model()) as hub:
        hub.busy, hub.busy_api = [(429, 1), (500, None)], [(502, None)]
        began = time.monotonic()
        r = pull(t, hub, "--connections", "1")
        check(t, hub, model())
        assert time.monotonic() - began > 1.9 and hub.served["model.safetensors"] == SIZE, r
        hub.busy = [(429, 4000)]
        (t.path("out") / "config.json").unlink()
        error(t, hub, "429", "4000 s")
        hub.busy_api = [(400, None)]
        error(t, hub, "400")


def test_wrong_content(t):
    with Hub(model()) as hub:
        hub.content["model.safetensors"] = noise(SIZE, 2)
        error(t, hub, "model.safetensors", "sha256", "deleted")
        assert not list(t.path("out").glob("model*"))
        hub.content = {"tokenizer.json": b"{}x"}
        for left in t.path("out").glob("tokenizer*"): # the error of the other one may have stopped it
            left.unlink()
        error(t, hub, "tokenizer.json", "git-sha1", "deleted")
        hub.content = {}
        pull(t, hub)
        check(t, hub, model())


def test_answers_to_another_question(t):
    with Hub(model()) as hub:
        for content_range in ("bytes 5-6/7", "bytes 0-4194303/99", f"bytes 0-99999999/{SIZE}", "x"):
            hub.content_range = content_range
            error(t, hub, "model.safetensors", content_range)
    t.path("out").rename(t.path("before"))
    with Hub({"config.json": b"{}", "model.safetensors": noise(5000)}) as hub:
        hub.length_less = 1 # shorter than listed
        error(t, hub, "the hub lists", "the server sends")
        hub.length_less, hub.content = 0, {"config.json": b"{} much longer"}
        error(t, hub, "config.json", "2 bytes")
        hub.content = {}
        pull(t, hub)
        check(t, hub, hub.files)


# ---------------------------------------------------------------- stopped and gone on ----

def stop_in_the_middle(t, hub, sig):
    """Signals a pull once its journal has four ranges, each of a megabyte; more than 9 MB do not come."""
    journal = t.path("out") / "model.safetensors.journal"
    hub.served.clear()
    hub.hold_at = 9 * MB # of four connections, each of which may have most of a megabyte that is not in the journal
    p = t.start("pull", "hf:org/name", t.path("out"), env=hub.env())
    assert harness.wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 5)
    p.send_signal(sig)
    out = p.communicate(timeout=30)
    hub.hold_at = None
    time.sleep(0.05) # the servers' threads notice
    hub.served.clear()
    assert not (t.path("out") / "model.safetensors").exists()
    return p, out


def test_kill_and_go_on(t):
    with Hub(model()) as hub:
        stop_in_the_middle(t, hub, signal.SIGKILL)
        report = pull(t, hub, "--json").json()
        check(t, hub, model())
        there = next(f["present_bytes"] for f in report["files"] if f["path"] == "model.safetensors")
        assert there >= 4 * MB, there
        assert hub.served["model.safetensors"] == SIZE - there, (hub.served, there)


def test_interrupt_and_go_on(t):
    with Hub(model()) as hub:
        p, (_, stderr) = stop_in_the_middle(t, hub, signal.SIGINT)
        assert p.returncode == FAILED and b"Go on with the same command" in stderr, stderr
        r = pull(t, hub, "--dry-run", "--json").json()
        assert r["present_bytes"] > 4 * MB
        pull(t, hub)
        check(t, hub, model())
        assert sum(hub.served.values()) == r["bytes"] - r["present_bytes"]


def test_what_is_left_may_be_damaged_or_of_another_time(t):
    with Hub(model()) as hub:
        def leave(journal=None, part=None):
            stop_in_the_middle(t, hub, signal.SIGINT)
            j, p = (t.path("out") / f"model.safetensors{end}" for end in (".journal", ".part"))
            assert j.read_text().startswith("snug pull 1 sha256 ")
            if journal:
                j.write_bytes(journal(j.read_bytes()))
            if part:
                p.write_bytes(part(p.read_bytes()))
            r = pull(t, hub)
            check(t, hub, hub.files)
            (t.path("out") / "model.safetensors").unlink()
            return r, hub.served["model.safetensors"]
        r, served = leave(part=lambda b: noise(len(b), 3))
        assert "damaged" in r.stderr and served > SIZE, r
        _, served = leave(part=lambda b: b[:2 * MB]) # shorter than the journal says
        assert served >= 12 * MB
        _, served = leave(journal=lambda b: b[:-3]) # the last line is cut short
        assert served < SIZE
        for junk in (b"\0\xff" * 100, b"snug pull 1 sha256 x 5\n0 5\n"):
            assert leave(journal=lambda b: junk)[1] == SIZE
        leave(journal=lambda b: b.splitlines(True)[0] + b"0 99999999999999999999\n5 2\n-1 7\n")
        stop_in_the_middle(t, hub, signal.SIGINT)
        hub.files["model.safetensors"] = noise(SIZE, 9) # the repository went on
        pull(t, hub)
        check(t, hub, hub.files)


def test_files_that_are_others(t):
    with Hub(model()) as hub:
        t.path("out").mkdir()
        for content, word in ((b"mine, and longer", "16 bytes"), (b"me", "git-sha1")):
            (t.path("out") / "config.json").write_bytes(content)
            error(t, hub, "config.json", word, "--replace")
            assert (t.path("out") / "config.json").read_bytes() == content
        pull(t, hub, "--replace")
        check(t, hub, model())
        (t.path("out") / "config.json").unlink()
        (t.path("out") / "config.json").mkdir()
        error(t, hub, "config.json", "no regular file")


def test_two_at_once(t):
    with Hub(model()) as hub:
        hub.hold_at = 2 * MB
        p = t.start("pull", "hf:org/name", t.path("out"), env=hub.env())
        assert harness.wait_until(lambda: hub.served["model.safetensors"] > MB)
        error(t, hub, "another process")
        hub.hold_at = None
        assert p.wait(60) == OK
        p.communicate()
        check(t, hub, model())


# ---------------------------------------------------------------- the disk ----

def test_disk_too_small_is_said_before(t):
    with Hub(model()) as hub:
        hub.listed["model.safetensors"] = {"lfs": {"oid": "0" * 64, "size": 2**50}}
        error(t, hub, "1.001P", "free", expect=TOO_BIG)
        assert not t.path("out").exists() and not hub.served


def test_file_size_limit(t):
    with Hub(model()) as hub:
        error(t, hub, "model.safetensors", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6 * MB, 6 * MB)))
        assert not (t.path("out") / "model.safetensors").exists()
        pull(t, hub)
        check(t, hub, model())


def test_full_disk(t):
    with harness.small_disk(t.path("out"), "30m") as disk, Hub(model()) as hub:
        hub.hold_at = 2 * MB
        p = t.start("pull", "hf:org/name", disk, env=hub.env()) # there is room when it begins
        assert harness.wait_until(lambda: hub.served["model.safetensors"] > MB)
        (disk / "filler").write_bytes(bytes(25 * MB))
        hub.hold_at = None
        _, stderr = p.communicate(timeout=60)
        assert p.returncode == FAILED and b"space" in stderr and b"model.safetensors" in stderr, stderr
        (disk / "filler").unlink()
        pull(t, hub)
        check(t, hub, model())


if __name__ == "__main__":
    harness.main(globals())
