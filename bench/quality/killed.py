#!/usr/bin/env python3
"""A calibrated fit that is killed again and again ends with the same bytes.

    tools/make_checkpoint.py ... DIR; killed.py DIR [--kills 10] [--size 25M] [--seed 1] [--fit-option=--effort=normal]

The fit is run once in peace; then from the start, killed with SIGKILL at a random moment of its time and resumed, as often as --kills says, each time
with an empty statistics cache so that nothing but the journal and the part file is there to go on from.
"""
import argparse
import hashlib
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import common


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=pathlib.Path)
    parser.add_argument("--size", default="25M")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fit-option", action="append", default=[])
    common.add_common(parser)
    args = parser.parse_args()
    common.check_inputs(args.snug, args.src)
    args.work.mkdir(parents=True, exist_ok=True)
    cache, threads = args.work / "killed-cache", ["--threads", str(args.threads)] if args.threads else []

    def start(out, resume):
        shutil.rmtree(cache, ignore_errors=True)
        command = [args.snug, "fit", args.src, "-o", out, "--size", args.size, *args.fit_option, *threads, *(["--resume"] if resume else [])]
        return subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "XDG_CACHE_HOME": str(cache)})

    whole, parts = args.work / "peace.snug", args.work / "killed.snug"
    for path in (whole, parts, *args.work.glob("killed.snug.*")):
        path.unlink(missing_ok=True)
    began = time.monotonic()
    process = start(whole, False)
    if process.wait():
        sys.exit(process.stderr.read().decode())
    seconds = time.monotonic() - began
    want = hashlib.sha256(whole.read_bytes()).hexdigest()
    print(f"in peace: {seconds:.0f} s, {whole.stat().st_size} bytes, {want[:16]}; {common.machine()}")
    rng, kills, resume = random.Random(args.seed), 0, False
    while True:
        process = start(parts, resume)
        at = rng.uniform(0.02, 1.6 / max(args.kills, 1)) * seconds
        try:
            code = process.wait(timeout=at if kills < args.kills else None)
            if code:
                sys.exit(f"exit {code}: {process.stderr.read().decode()[-1000:]}")
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            lines = sum(1 for _ in open(str(parts) + ".journal", "rb")) if pathlib.Path(str(parts) + ".journal").exists() else 0
            print(f"killed after {at:.1f} s, {lines} records in the journal", flush=True)
            resume = lines > 0
    got = hashlib.sha256(parts.read_bytes()).hexdigest()
    print(f"{kills} kills: {got[:16]}: {'the same bytes' if got == want else 'OTHER BYTES'}")
    sys.exit(got != want)


if __name__ == "__main__":
    main()
