"""What the quality scripts share: where things are, calls of snug, tables."""
import csv
import hashlib
import json
import math
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SHARED = ROOT.parent / "shared"

# A model, the text that judges it, the window: what every figure is given on.  mark: lines that part the stories and are no text (the
# model's vocabulary has no such token and reads them as a dozen strange ones); they are left out.
CASES = {
    "lit4m": {"src": ROOT / "models/demo", "peers": SHARED / "peers", "prefix": "lit4m-", "text": SHARED / "text/heldout.txt",
              "calib": SHARED / "text/calib.txt", "ctx": 256},
    "stories260K": {"src": SHARED / "models/stories260K-f32.gguf", "peers": SHARED / "peers", "prefix": "stories260K-",
                    "text": SHARED / "text/tinystories-valid.txt", "calib": SHARED / "text/tinystories-calib.txt", "ctx": 512, "mark": b"<|endoftext|>\n"},
}


class Failed(Exception):
    """A command ended with another exit code than 0; .code and .text say which and why."""

    def __init__(self, command, code, text):
        super().__init__(f"{' '.join(map(str, command))}: exit {code}: {text}")
        self.code, self.text = code, text


def run(*command, env=None):
    """Run, return stdout. Raises Failed with snug's own message (the last lines of stderr that are no progress)."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=env)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith("{")]
        raise Failed(command, done.returncode, " / ".join(lines[-3:]))
    return done.stdout


def snug_json(snug, *arguments, env=None):
    """Run snug with --json, return its report: the last line of stdout, or all of it."""
    text = run(snug, *arguments, "--json", env=env)
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return json.loads(text.strip().splitlines()[-1])


def evaluate(snug, model, ref, text, ctx, tokens=None, threads=None, env=None):
    """`snug eval` of every position with f32 activations."""
    extra = ["--tokens", tokens] if tokens else []
    extra += ["--threads", threads] if threads else []
    return snug_json(snug, "eval", model, "--text", text, "--against", ref, "--ctx", ctx, "--stride", ctx, "--act", "f32", *extra, env=env)


def prepared(case, which, folder, n_bytes=None):
    """A copy of the case's "text" or "calib" without its marks, cut to n_bytes; the file itself where nothing changes."""
    path, mark = case[which], case.get("mark")
    if not mark and not n_bytes:
        return path
    data = path.read_bytes()[:n_bytes]
    out = folder / (path.stem + (f"-{n_bytes}" if n_bytes else "") + path.suffix)
    out.write_bytes(data.replace(mark, b"") if mark else data)
    return out


class Memory:
    """Evaluations that were made before, as JSON lines: a peer file on a text gives the same figures every day."""

    def __init__(self, path):
        self.path, self.known = path, {}
        if path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self.known[tuple(entry["key"])] = entry["result"]

    def evaluate(self, snug, model, ref, text, ctx, tokens, threads):
        key = tuple(str(x) for x in (file_hash(model), tree_hash(ref), file_hash(text), ctx, tokens or 0))
        if key not in self.known:
            self.known[key] = evaluate(snug, model, ref, text, ctx, tokens, threads)
            with open(self.path, "a") as f:
                f.write(json.dumps({"key": key, "model": model.name, "result": self.known[key]}) + "\n")
        return self.known[key]


def file_hash(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16]


def tree_hash(path):
    """Of a file, or of the weights of a folder."""
    path = pathlib.Path(path)
    return file_hash(path) if path.is_file() else "+".join(file_hash(p) for p in sorted(path.glob("*.safetensors")))


def add_common(parser):
    parser.add_argument("--snug", type=lambda p: pathlib.Path(p).resolve(), default=ROOT / "build/snug")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "out/quality", help="folder for what is made on the way")
    parser.add_argument("--csv", type=pathlib.Path, help="write the rows here too")


def check_inputs(*paths):
    for path in paths:
        if not pathlib.Path(path).exists():
            sys.exit(f"{path} is missing: name it with an option (see --help)")


def write_csv(path, rows):
    if path and rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="") as f:
            writer = csv.DictWriter(f, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def machine():
    """One line: processor, cores, load. Times mean little without it."""
    name = "?"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    return f"{name}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"


def ranks(x):
    """Ranks from 0, ties share their mean."""
    order, out, i = sorted(range(len(x)), key=x.__getitem__), [0.0] * len(x), 0
    while i < len(order):
        j = i
        while j + 1 < len(order) and x[order[j + 1]] == x[order[i]]:
            j += 1
        for k in range(i, j + 1):
            out[order[k]] = (i + j) / 2
        i = j + 1
    return out


def pearson(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    sxy = sum((a - mx) * (b - my) for a, b in zip(x, y))
    return sxy / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


def spearman(x, y):
    return pearson(ranks(x), ranks(y))


class Clock:
    def __init__(self):
        self.began = time.monotonic()

    def __call__(self):
        return time.monotonic() - self.began
