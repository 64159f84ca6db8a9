"""Runs the program as its users do and looks at what comes out. Python's standard library only.

A test script is a set of functions `test_*(t)` and ends with `harness.main(globals())`. `t` is a Runner: a scratch folder of its
own, a cache folder that the script's tests share, and the program. Usage of a script: SCRIPT --snug PROGRAM [--source FOLDER] [--only NAME]
"""
import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

OK, FAILED, USAGE, TOO_BIG = 0, 1, 2, 3
SKIPPED = 77


class Skip(Exception):
    pass


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of `size` (as mount names it) at a new folder; Skip where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()) != 0:
        raise Skip("mounting a small tmpfs is not allowed here")
    try:
        yield folder
    finally:
        libc.umount(str(folder).encode())


class Result:
    def __init__(self, args, process):
        self.args, self.code = args, process.returncode
        self.out, self.err = process.stdout, process.stderr

    @property
    def stdout(self):
        return self.out.decode("utf-8", "replace")

    @property
    def stderr(self):
        return self.err.decode("utf-8", "replace")

    def json(self):
        """stdout is one JSON object without NaN or Infinity."""
        def refuse(name):
            raise AssertionError(f"{name} in the JSON of {' '.join(map(str, self.args))}")
        return json.loads(self.out, parse_constant=refuse)

    def __str__(self):
        return f"$ snug {' '.join(map(str, self.args))}\nexit code {self.code}\n--- stdout\n{self.stdout[-3000:]}\n--- stderr\n{self.stderr[-3000:]}"


class Runner:
    def __init__(self, snug, source, folder, cache):
        self.snug, self.source, self.folder = Path(snug).resolve(), Path(source).resolve(), Path(folder)
        self.demo = self.source / "models" / "demo"
        self.text = self.source / "models" / "demo-text.txt"
        self.sanitized = os.environ.get("SNUG_TEST_SANITIZED") == "1"
        self.env = dict(os.environ, XDG_CACHE_HOME=str(cache), TERM="dumb")
        self.made = Path(cache) / "made"

    def path(self, name):
        return self.folder / name

    def run(self, *args, stdin=b"", timeout=600, expect=None, env=None, **kwargs):
        process = subprocess.run([self.snug, *map(str, args)], input=stdin, capture_output=True, timeout=timeout,
                                 env={**self.env, **(env or {})}, **kwargs)
        result = Result(args, process)
        if expect is not None and result.code != expect:
            raise AssertionError(f"exit code {result.code}, expected {expect}\n{result}")
        # Whatever happens, it happens in an orderly way.
        assert result.code in (OK, FAILED, USAGE, TOO_BIG), f"exit code {result.code}\n{result}"
        assert "Sanitizer" not in result.stderr and "runtime error" not in result.stderr, str(result)
        return result

    def start(self, *args, env=None, **kwargs):
        return subprocess.Popen([self.snug, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**self.env, **(env or {})},
                                **kwargs)

    def fit(self, name, *args):
        """A quick fit of the demo model; returns the path and the JSON report. What a script asks for again, not by a file, is not made again."""
        folder = self.made / hashlib.sha256(repr(args).encode()).hexdigest()
        if not folder.exists() or any(isinstance(a, Path) for a in args):
            result = self.run("fit", self.demo, "-o", self.path(name), "--effort", "quick", "--calib", "none", "--json", *args, expect=OK)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "report").write_bytes(result.out)
            shutil.copy(self.path(name), folder / "file")
        else:
            shutil.copy(folder / "file", self.path(name))
        return self.path(name), json.loads((folder / "report").read_bytes())

    def short_text(self, n_bytes):
        """The beginning of the demo's text, to calibrate on."""
        path = self.path(f"text{n_bytes}")
        path.write_bytes(self.text.read_bytes()[:n_bytes])
        return path

    def demo_copy(self, name):
        """A folder like models/demo whose files may be changed."""
        folder = self.path(name)
        shutil.copytree(self.demo, folder)
        return folder

    def leftovers(self, out):
        return sorted(p.name for p in out.parent.iterdir() if p.name.startswith(out.name))


def wait_until(condition, seconds=60, step=0.01):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(step)
    return False


def cpu_seconds():
    t = os.times() # of programs that have ended
    return t.children_user + t.children_system


def main(names):
    parser = argparse.ArgumentParser()
    parser.add_argument("--snug", required=True)
    parser.add_argument("--source", default=Path(__file__).resolve().parents[2])
    parser.add_argument("--only")
    args = parser.parse_args()
    failed = skipped = passed = 0
    cache = tempfile.TemporaryDirectory(prefix="snug-test-cache-") # one for the script: what was measured once is not measured again
    for name, function in list(names.items()):
        if not name.startswith("test_") or not callable(function) or (args.only and args.only not in name):
            continue
        began = cpu_seconds()
        with tempfile.TemporaryDirectory(prefix="snug-test-") as folder:
            try:
                function(Runner(args.snug, args.source, folder, cache.name))
                passed += 1
                print(f"ok    {name} ({cpu_seconds() - began:.1f} s of processors)", flush=True)
            except Skip as reason:
                skipped += 1
                print(f"SKIP: {name}: {reason}", flush=True)
            except Exception:
                failed += 1
                print(f"FAIL  {name}\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else SKIPPED if skipped and not passed else 0)
