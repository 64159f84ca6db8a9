#!/usr/bin/env python3
"""Random budgets from the least possible size to the bf16 size: never one byte over, at least 99.5 % used (GGUF: 97 %).

SNUG_BUDGETS=200 in the environment asks for another number of budgets (default 40, half of them for GGUF).
"""
import os
import random
import re

import harness
from harness import OK, TOO_BIG

QUICK = ["--effort", "quick", "--calib", "none"]


def least_and_most(t, target):
    r = t.run("fit", t.demo, "-o", t.path("x"), "--size", "1000", "--for", target, *QUICK, expect=TOO_BIG)
    least = min(n for n in (int(s.replace(",", "")) for s in re.findall(r"\d[\d,]{5,}", r.stderr)) if n > 1000)
    return least, t.run("inspect", t.demo, "--json", expect=OK).json()["file_bytes"]


def budgets(t, target, least_used, seed):
    count = int(os.environ.get("SNUG_BUDGETS", "40")) // 2
    if t.sanitized:
        count = min(count, 4)
    least, most = least_and_most(t, target)
    rng = random.Random(seed)
    worst, wasteful = 1.0, []
    for i in range(count):
        # Even in the logarithm: small budgets are the interesting ones.
        size = int(least * (most / least) ** rng.random())
        _, report = t.fit("a.snug", "--size", size, "--for", target)
        written = t.path("a.snug").stat().st_size
        assert written == report["bytes"] <= size, (target, size, written)
        used = written / size
        # Above what every tensor at its best takes there is nothing left to spend.
        best = all(r["codec"] in ("bf16", "f32", "f16") for r in report["plan"])
        if not best:
            worst = min(worst, used)
            if used < least_used:
                wasteful.append((size, written, round(100 * used, 3)))
    print(f"      {count} budgets for {target} from {least} to {most}: least used {100 * worst:.3f} %")
    assert not wasteful, f"(budget, written, % used): {wasteful}"


def test_snug(t):
    budgets(t, "snug", 0.995, 1)


def test_gguf(t):
    budgets(t, "gguf", 0.97, 2)


def test_last_byte(t):
    """Payloads end at multiples of 32 bytes, so a plan that is a byte too long may take many rounds to get shorter."""
    for size in (120063, 120350, 120511):
        r = t.run("fit", t.source / "tests" / "golden" / "llama2", "-o", t.path("x"), "--size", size, "--plan-only", "--json", *QUICK, expect=OK).json()
        assert 0.995 * size <= r["bytes"] <= size, (size, r["bytes"])


if __name__ == "__main__":
    harness.main(globals())
