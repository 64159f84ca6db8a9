#!/usr/bin/env python3
"""snug beside llama.cpp on the same files: tokens per second of reading a prompt and of writing, and their ratio.

    bench/vs_llama.py SRC --out DIR                             a Hugging Face folder or a GGUF, fitted to every type by snug
    bench/vs_llama.py --shape llama-3.2-1b --out DIR            random weights in a real shape (tools/make_checkpoint.py)
    bench/vs_llama.py SRC --types q4_k,q2_k --depth 0,8192 --threads 1,2 --rounds 3
    bench/vs_llama.py SRC --ik PATH/llama-bench                 ik_llama.cpp beside them, with run-time repacking (-rtr 1)

A GGUF per type, every matrix in it; they stay in DIR and are used again.  Then, for each type and number of threads, rounds in
alternation: snug, llama.cpp (and ik_llama.cpp), snug, llama.cpp ...; each time a process of its own, both engines by one protocol
(llama_worker.py).  What disturbs the machine for a while disturbs all of them, but a machine that stays busy does not do so evenly
(threads that spin lose more): measure on a quiet one.  Figures are medians over rounds and repetitions, with the least and
the most, and ratios are of medians.  ik_llama.cpp's program reads prompts on an empty context only.

llama.cpp is the binding that tests/interop/requirements.txt pins, a prebuilt wheel; where this Python lacks it, a virtual environment
gets it (build/venv).  Results: vs_llama.md and vs_llama.csv in DIR, rewritten after each type and number of threads.
"""
import argparse
import csv
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TYPES = "q8_0,q4_0,q4_k,q6_k,q3_k,q2_k,iq4_xs,q5_k"
PHASES = ("decode", "prefill")


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def say(text):
    print(text, file=sys.stderr, flush=True)


def python_with_llama():
    """An interpreter that has the pinned binding; made once, by the script that makes the tests' own."""
    if importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("gguf"):
        return sys.executable
    venv = ROOT / "build" / "venv"
    run(ROOT / "tests" / "venv.sh", venv, ROOT / "tests" / "interop" / "requirements.txt")
    python = venv / "bin" / "python3"
    if subprocess.run([python, "-c", "import xllamacpp"], capture_output=True).returncode:
        sys.exit("no llama.cpp to compare with: pip install -r tests/interop/requirements.txt")
    return python


def make_file(args, python, kind):
    """DIR/NAME-TYPE.gguf: every matrix in one type, written under another name until it is whole."""
    name = args.shape or args.src.name.removesuffix(".gguf")
    file = args.out / f"{name}-{kind}.gguf"
    if file.exists():
        say(f"{file}: there already")
        return file
    part = file.with_suffix(".making")
    if args.shape:
        run(python, ROOT / "tools" / "make_checkpoint.py", "--shape", args.shape, "--format", "gguf", "--type", kind, part)
    else:
        run(args.snug, "fit", args.src, "-o", part, "--for", "gguf", "--pin", f"*={kind}", "--calib", "none", "--effort", "quick")
    part.rename(file)
    return file


def protocol(args, threads):
    return ["--threads", threads, "--depth", ",".join(map(str, args.depth)), "--prompt", args.prompt, "--gen", args.gen,
            "--repeats", args.repeats]


def run_snug(args, python, file, threads):
    return json.loads(run(args.snug, "bench", file, "--json", *protocol(args, threads)))


def run_llama(args, python, file, threads):
    return json.loads(run(python, ROOT / "bench" / "llama_worker.py", file, *protocol(args, threads)))


def run_ik(args, python, file, threads):
    """Its own program; "tg64@pp4096" writes 64 tokens behind 4096."""
    deep = [word for depth in args.depth if depth for word in ("-gp", f"{depth},{args.gen}")]
    empty = ["-p", args.prompt, "-n", args.gen] if 0 in args.depth else ["-p", 0, "-n", 0]
    tests = json.loads(run(args.ik, "-m", file, "-t", threads, *empty, *deep, "-r", args.repeats, "-rtr", 1, "-o", "json"))
    runs = []
    for test in tests:
        written, _, behind = test["test"].partition("@pp")
        phase = "prefill" if written.startswith("pp") else "decode"
        runs.append({"threads": threads, "depth": int(behind or 0), phase + "_samples_tps": test["samples_ts"]})
    return {"runs": runs}


ENGINES = {"snug": run_snug, "llama.cpp": run_llama, "ik": run_ik}


class Results:
    """Samples of every cell: (type, phase, depth, threads) -> engine -> tokens per second."""

    def __init__(self, args):
        self.args, self.cells, self.roofline, self.systems = args, {}, {}, {}
        self.load = os.getloadavg()[0]      # before anything of this run adds to it

    def add(self, engine, kind, threads, report):
        for one in report["runs"]:
            for phase in PHASES:
                cell = self.cells.setdefault((kind, phase, one["depth"], threads), {})
                cell.setdefault(engine, []).extend(one.get(phase + "_samples_tps", []))
            if "bandwidth_share" in one:
                self.roofline.setdefault((kind, one["depth"], threads), []).append(one["bandwidth_share"])
        system = report.get("system") or (report.get("cpu_level") and report["cpu_level"] + " kernels")
        if system:
            self.systems[engine] = system

    def rows(self):
        """type, phase, depth, threads, snug's roofline share (decode), {engine: samples}, most telling first: by phase and threads."""
        order = {kind: i for i, kind in enumerate(self.args.types)}
        for key in sorted(self.cells, key=lambda k: (k[1], -k[3], k[2], order[k[0]])):
            kind, phase, depth, threads = key
            share = statistics.median(self.roofline[kind, depth, threads]) if phase == "decode" else None
            yield kind, phase, depth, threads, share, {e: s for e, s in self.cells[key].items() if s}

    def write(self):
        peers = [e for e in self.args.engines if e != "snug"]
        with open(self.args.out / "vs_llama.csv", "w", newline="") as f:
            table = csv.writer(f)
            table.writerow(["type", "phase", "depth", "threads", "snug_roofline_share"] +
                           [f"{e}_{what}" for e in self.args.engines for what in ("median", "least", "most", "n")] +
                           [f"ratio_to_{e}" for e in peers])
            for kind, phase, depth, threads, share, samples in self.rows():
                row = [kind, phase, depth, threads, "" if share is None else f"{share:.4f}"]
                for e in self.args.engines:
                    s = samples.get(e)
                    row += [f"{statistics.median(s):.3f}", f"{min(s):.3f}", f"{max(s):.3f}", len(s)] if s else ["", "", "", 0]
                table.writerow(row + [ratio(samples, e) for e in peers])
        text = self.markdown(peers)
        (self.args.out / "vs_llama.md").write_text(text, encoding="utf-8")
        return text

    def markdown(self, peers):
        a = self.args
        lines = [f"Tokens per second, median (least .. most) of {a.rounds} rounds of {a.repeats}; prompts of {a.prompt}, {a.gen} tokens "
                 f"written; {a.shape or a.src.name}; {cpu_name()}; load average at the start {self.load:.1f}.", ""]
        lines += [f"- {engine}: {system}" for engine, system in self.systems.items()]
        head = ["type", "phase", "depth", "threads", "snug", "of memory's speed"]
        for e in peers:
            head += [e, "ratio"]
        lines += ["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for kind, phase, depth, threads, share, samples in self.rows():
            row = [kind, phase, depth, threads, spread(samples.get("snug")), "" if share is None else f"{100 * share:.0f} %"]
            for e in peers:
                row += [spread(samples.get(e)), f"**{ratio(samples, e)}**" if ratio(samples, e) else ""]
            lines.append("| " + " | ".join(map(str, row)) + " |")
        return "\n".join(lines) + "\n"


def ratio(samples, peer):
    if not samples.get("snug") or not samples.get(peer):
        return ""
    return f"{statistics.median(samples['snug']) / statistics.median(samples[peer]):.3f}"


def spread(samples):
    return f"{statistics.median(samples):.1f} ({min(samples):.1f} .. {max(samples):.1f})" if samples else ""


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "an unnamed CPU"


def arguments():
    def numbers(text):
        return sorted({int(n) for n in text.split(",")})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", nargs="?", type=pathlib.Path, help="a Hugging Face folder or a GGUF")
    parser.add_argument("--shape", help="random weights instead: a shape of tools/make_checkpoint.py")
    parser.add_argument("--types", default=TYPES, type=lambda text: text.lower().split(","), help=f"default {TYPES}")
    parser.add_argument("--depth", default=[0], type=numbers, help="default 0")
    parser.add_argument("--threads", default=[2], type=numbers, help="default 2")
    parser.add_argument("--prompt", default=512, type=int)
    parser.add_argument("--gen", default=64, type=int)
    parser.add_argument("--rounds", default=3, type=int, help="turns that each engine gets (default 3)")
    parser.add_argument("--repeats", default=1, type=int, help="repetitions within a turn (default 1)")
    parser.add_argument("--snug", default=ROOT / "build" / "snug", type=pathlib.Path)
    parser.add_argument("--ik", type=pathlib.Path, help="ik_llama.cpp's program llama-bench")
    parser.add_argument("--out", default=ROOT / "out", type=pathlib.Path, help="folder of the files and the results (default out)")
    args = parser.parse_args()
    if bool(args.src) == bool(args.shape):
        parser.error("name a model, or a --shape")
    args.types = list(dict.fromkeys(args.types))
    args.engines = ["snug", "llama.cpp"] + (["ik"] if args.ik else [])
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def main():
    args = arguments()
    results, text = Results(args), ""
    if results.load > 0.5:
        say(f"the load average is {results.load:.1f}: engines whose threads wait by spinning lose more by that than others")
    python = python_with_llama()
    for kind in args.types:
        file = make_file(args, python, kind)
        for threads in args.threads:
            for turn in range(args.rounds):
                for engine in args.engines:
                    say(f"{kind}, {threads} threads, round {turn + 1} of {args.rounds}: {engine}")
                    results.add(engine, kind, threads, ENGINES[engine](args, python, file, threads))
            text = results.write()
    print(text, end="")


if __name__ == "__main__":
    main()
