#!/usr/bin/env python3
"""Fitting a large checkpoint: memory, time, the honesty of the ETA, threads, resumption.

    tools/make_checkpoint.py --shape llama-3.2-1b DIR
    big.py DIR [--runs none,self] [--efforts quick,normal] [--size 700M] [--parts peak,threads,resume]

Each run is a process of its own with an empty cache folder.  Peak memory is the kernel's count for the process (ru_maxrss: mapped
pages count).  The ETA is read from the JSON event lines: at every event after 15 % of the run, |elapsed + eta - total| / (total - elapsed),
the error of the time left as a share of the true time left; the last 2 % of the run are left out, where the time left is a few events.
Resume: the same run is killed with SIGKILL at 80 % of its time and resumed; the bytes must equal those of the run that was left alone.
The last run's event lines, each behind the second it came, are left in WORK/big.events. Other load on the machine makes times and ETA worse; it is printed, with the CPU seconds.
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import common


class Run:
    """A `snug fit` watched: events with the time they came, the report, resources."""

    def __init__(self, args, name, options, out, cache, kill_after=None, resume=False):
        self.command = [str(x) for x in (args.snug, "fit", args.src, "-o", out, "--size", args.size, *options, "--json", *(["--resume"] if resume else []))]
        self.name, self.events, self.killed = name, [], False
        env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        stdout = open(args.work / "big.stdout", "w+")
        began = time.monotonic()
        process = subprocess.Popen(self.command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=env)
        timer = None
        if kill_after:
            timer = threading.Timer(kill_after, process.send_signal, [signal.SIGKILL])
            timer.start()
        self.messages = []
        log = open(args.work / "big.events", "w", buffering=1)
        for line in process.stderr:
            try:
                self.events.append((time.monotonic() - began, json.loads(line)))
                print(f"{self.events[-1][0]:.1f}\t{line.rstrip()}", file=log)
            except json.JSONDecodeError:
                self.messages.append(line.rstrip())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if timer:
            timer.cancel()
        self.seconds = time.monotonic() - began
        self.code, self.peak, self.cpu = process.returncode, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime
        stdout.seek(0)
        text = stdout.read()
        self.report = json.loads(text) if self.code == 0 and text else None

    def eta(self):
        """Errors of the time left from 15 % to 98 % of the run: (number, worst, share within 30 %, where the worst was)."""
        errors = [(abs(at + e["eta_s"] - self.seconds) / (self.seconds - at), at / self.seconds, e["stage"])
                  for at, e in self.events if e.get("eta_s") is not None and 0.15 <= at / self.seconds <= 0.98]
        if not errors:
            return 0, float("nan"), 0.0, "no events"
        worst = max(errors)
        return len(errors), worst[0], sum(x[0] <= 0.3 for x in errors) / len(errors), f"at {100 * worst[1]:.0f} % ({worst[2]})"

    def stages(self):
        """Seconds per stage, in order of appearance."""
        out, previous = {}, 0.0
        for at, e in self.events:
            out[e["stage"]] = out.get(e["stage"], 0.0) + at - previous
            previous = at
        return ", ".join(f"{k} {v:.0f} s" for k, v in out.items())

    def row(self):
        n, worst, share, where = self.eta()
        return {"run": self.name, "exit": self.code, "peak_mb": round(self.peak / 1e6, 1), "seconds": round(self.seconds, 1), "cpu_seconds": round(self.cpu, 1),
                "reported_seconds": self.report and round(self.report["seconds"], 1), "events": n, "eta_worst": round(worst, 3), "eta_within_30": round(share, 3),
                "eta_worst_where": where, "stages": self.stages()}


def sha(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            h.update(block)
    return h.hexdigest()[:16]


def say(run):
    r = run.row()
    print(f"| {r['run']} | {r['peak_mb']:.0f} MB | {r['seconds']:.0f} s | {r['cpu_seconds']:.0f} s | {100 * r['eta_worst']:.0f} % {r['eta_worst_where']} | "
          f"{100 * r['eta_within_30']:.0f} % of {r['events']} | {r['stages']} |", flush=True)
    if run.code not in (0, -signal.SIGKILL):
        print(f"exit {run.code}: {' '.join(run.command)}\n  " + "\n  ".join(run.messages[-5:]), flush=True)
    return r


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=pathlib.Path)
    parser.add_argument("--size", default="700M")
    parser.add_argument("--runs", default="none,self", help="ways of calibration")
    parser.add_argument("--efforts", default="quick,normal")
    parser.add_argument("--parts", default="peak,threads,resume")
    parser.add_argument("--resume-options", default="--calib none --effort quick", help="of the run that is killed")
    parser.add_argument("--thread-options", default="--calib none --effort quick")
    common.add_common(parser)
    args = parser.parse_args()
    common.check_inputs(args.snug, args.src)
    args.work.mkdir(parents=True, exist_ok=True)
    out, rows, parts = args.work / "big.snug", [], args.parts.split(",")

    def fresh(name, options, **more):
        cache = args.work / "cache"
        if not more.get("resume"):
            shutil.rmtree(cache, ignore_errors=True)
            for left in args.work.glob("big.snug*"):
                left.unlink()
        cache.mkdir(exist_ok=True)
        run = Run(args, name, options, out, cache, **more)
        rows.append(say(run))
        common.write_csv(args.csv, rows)
        return run

    print(f"{args.src.name}, --size {args.size}; {common.machine()}")
    print("| run | peak | time | CPU | worst error of the ETA | within 30 % | stages |\n|---|---|---|---|---|---|---|")
    base = ["--threads", str(args.threads)] if args.threads else []
    if "peak" in parts:
        for effort in args.efforts.split(","):
            for calib in args.runs.split(","):
                fresh(f"{effort}, calib {calib}", ["--effort", effort, "--calib", calib, *base])
    if "threads" in parts:
        options, found = args.thread_options.split(), {}
        for n in (1, 2):
            found[n] = fresh(f"{args.thread_options}, {n} threads", [*options, "--threads", str(n)])
            found[n].sha = sha(out) if found[n].code == 0 else None
        if all(r.code == 0 for r in found.values()):
            print(f"two threads take {found[2].seconds / found[1].seconds:.3f} of the time of one; same bytes: {found[1].sha == found[2].sha}")
    if "resume" in parts:
        options = [*args.resume_options.split(), *base]
        whole = fresh(f"{args.resume_options}, whole", options)
        if whole.code:
            sys.exit("the whole run failed")
        expected = sha(out)
        killed = fresh(f"{args.resume_options}, killed at 80 %", options, kill_after=0.8 * whole.seconds)
        print(f"killed: exit {killed.code}, a file under the target's name: {out.exists()}; last event: {killed.events[-1][1]['stage']} "
              f"{100 * killed.events[-1][1]['fraction']:.0f} %" if killed.events else "killed before the first event")
        other = Run(args, "other options", [*options, "--seed", "77"], out, args.work / "cache", resume=True)
        print(f"--resume with another seed: exit {other.code}: {' / '.join(other.messages[-2:])}")
        resumed = fresh(f"{args.resume_options}, resumed", options, resume=True)
        if resumed.code == 0:
            print(f"resumed: {resumed.seconds / whole.seconds:.3f} of the whole time, same bytes: {sha(out) == expected}, "
                  f"{len(resumed.report['skipped'])} of {len(resumed.report['plan'])} tensors kept")


if __name__ == "__main__":
    main()
