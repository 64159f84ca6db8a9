#!/usr/bin/env python3
"""The budget is a promise: random budgets from the least possible to the bf16 size, for both targets.

    budgets.py [lit4m|stories260K] [--n 200] [--for snug,gguf] [--effort quick] [--calib none]

For each budget `snug fit --size B`: exit 0, the file (by stat) never one byte over B, its report true, and the share used.  Half of the
budgets are drawn evenly, half evenly in the logarithm.  Then the edge: one byte below the least must end with exit 3, leave no file
and name the least; the least itself must work.  Sensitivities and statistics are cached, so a refit costs the encoding alone.
Ends with 1 if a promise was broken: over the budget, or less used than --least-share (99.5 % snug, 97 % gguf).
"""
import argparse
import math
import pathlib
import random
import re

import common
from common import CASES, Failed

SHARE = {"snug": 0.995, "gguf": 0.97}


def numbers(text):
    """Whole numbers in a message, with or without thousands separators."""
    return [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]{2,}", text)]


def find_least(snug, fit, out):
    """(least bytes that snug names for an impossible budget, its message)."""
    try:
        common.snug_json(snug, *fit, "-o", out, "--size", 1000)
    except Failed as e:
        if e.code != 3:
            raise SystemExit(f"a budget of 1000 bytes: exit {e.code}, expected 3: {e.text}") from e
        named = [n for n in numbers(e.text) if n > 1000]
        if not named:
            raise SystemExit(f"a budget of 1000 bytes: the message names no least size: {e.text}") from e
        if out.exists():
            raise SystemExit(f"a budget of 1000 bytes: {out} was left behind") from e
        return max(named), e.text
    raise SystemExit("a budget of 1000 bytes: exit 0, expected 3")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", default="lit4m", choices=sorted(CASES))
    parser.add_argument("--src", type=pathlib.Path)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--for", dest="targets", default="snug,gguf")
    parser.add_argument("--effort", default="quick", choices=("quick", "normal", "max"))
    parser.add_argument("--calib", default="none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plan-only", action="store_true", help="only plan: the size is the report's, not stat's")
    common.add_common(parser)
    args = parser.parse_args()
    src = args.src or CASES[args.case]["src"]
    common.check_inputs(args.snug, src)
    args.work.mkdir(parents=True, exist_ok=True)
    rows, broken = [], []
    for target in args.targets.split(","):
        fit = ["fit", src, "--for", target, "--calib", args.calib, "--effort", args.effort, *(["--threads", args.threads] if args.threads else [])]
        out = args.work / f"budget.{target}"
        out.unlink(missing_ok=True)
        least, message = find_least(args.snug, fit, out)
        print(f"--for {target}: least {least} bytes; said: {message}")
        try:
            common.snug_json(args.snug, *fit, "-o", out, "--size", least - 1)
            broken.append(f"{target}: {least - 1} bytes, one below the least named, worked")
        except Failed as e:
            if e.code != 3 or out.exists():
                broken.append(f"{target}: {least - 1} bytes: exit {e.code}, file left: {out.exists()}")
        most = common.snug_json(args.snug, *fit, "-o", out, "--size", least, "--plan-only")
        most = 2 * most["n_weights"]
        rng, shares, clock = random.Random(args.seed), [], common.Clock()
        budgets = [least, most] + [round(rng.uniform(least, most)) if i % 2 else round(math.exp(rng.uniform(math.log(least), math.log(most))))
                                   for i in range(args.n - 2)]
        for i, budget in enumerate(budgets):
            out.unlink(missing_ok=True)
            try:
                report = common.snug_json(args.snug, *fit, "-o", out, "--size", budget, *(["--plan-only"] if args.plan_only else []))
            except Failed as e:
                broken.append(f"{target}: --size {budget}: {e}")
                continue
            size = report["bytes"] if args.plan_only else out.stat().st_size
            share = size / budget
            shares.append(share)
            rows.append({"target": target, "budget": budget, "bytes": size, "share": round(share, 6), "predicted_kl": report["predicted_kl"]})
            if size > budget:
                broken.append(f"{target}: --size {budget}: {size} bytes, {size - budget} over")
            if report["bytes"] != size or report["budget_bytes"] != budget:
                broken.append(f"{target}: --size {budget}: reported {report['bytes']} of {report['budget_bytes']}, the file has {size}")
            if share < SHARE[target]:
                broken.append(f"{target}: --size {budget}: {size} bytes, only {100 * share:.2f} % used")
        if shares:
            ordered = sorted(shares)
            print(f"--for {target}: {len(shares)} budgets from {least} to {most} bytes, {'planned' if args.plan_only else 'written'}: "
                  f"used at least {100 * ordered[0]:.3f} %, median {100 * ordered[len(ordered) // 2]:.4f} %, most {100 * ordered[-1]:.4f} %; "
                  f"{clock() / len(budgets):.2f} s each", flush=True)
        common.write_csv(args.csv, rows)
    out.unlink(missing_ok=True)
    for line in broken:
        print("BROKEN", line)
    print(f"{len(rows)} budgets, {len(broken)} broken promises")
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    main()
