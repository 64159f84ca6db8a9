#!/usr/bin/env python3
"""Is the planner's loss worth planning by?  Predicted against true KL on random plans.

    predicted.py [lit4m|stories260K] [--plans 30] [--svg FILE] [--csv FILE]

The plans are random, not the planner's own: each draws a mean rate, then for every matrix a codec near that rate (--kind pins), so cheap and
dear tensors are mixed as no optimum would.  snug predicts the KL of each (--json), `snug eval` tells the truth on held-out text.
--kind sizes asks for random sizes instead: the plans that the planner would really make.  Printed: Spearman's rank correlation,
the correlation of the logarithms, and the median and spread of true / predicted.
"""
import argparse
import json
import math
import pathlib
import random

import common
from common import CASES, Failed

# Codecs by rate; all exist for any row length (snug files pad the last block).
CODECS = [("int2g64", 2.5), ("q2_k", 2.6), ("int3g128", 3.3), ("q3_k", 3.4), ("int3g32", 3.8), ("iq4_xs", 4.25), ("q4_k", 4.5), ("int4g64", 4.5),
          ("int5g64", 5.5), ("q5_k", 5.5), ("int6g64", 6.5), ("q6_k", 6.6), ("int8g64", 8.5), ("q8_0", 8.5)]


def random_pins(rng, tensors):
    """A pin for every matrix: rates spread by about a bit and a half around a mean drawn first."""
    mean, spread = rng.uniform(2.3, 7.5), rng.uniform(0.2, 1.6)
    out = []
    for tensor in tensors:
        wanted = rng.gauss(mean, spread)
        out.append((tensor, min(CODECS, key=lambda c: abs(c[1] - wanted) + 0.3 * rng.random())[0]))
    return out


def scatter(path, rows, title):
    """log-log scatter as SVG: predicted across, true up, the diagonal dashed."""
    width, height, pad = 560, 480, 64
    x, y = [math.log10(r["predicted_kl"]) for r in rows], [math.log10(r["true_kl"]) for r in rows]
    lo, hi = min(x + y) - 0.1, max(x + y) + 0.1
    px = lambda v: pad + (v - lo) / (hi - lo) * (width - pad - 20)
    py = lambda v: height - pad - (v - lo) / (hi - lo) * (height - pad - 40)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<title>{title}</title>', f'<rect width="{width}" height="{height}" fill="#fff"/>', f'<text x="{pad}" y="24" font-size="14">{title}</text>']
    for power in range(math.floor(lo), math.ceil(hi) + 1):
        for step in (1, 2, 5):
            v = power + math.log10(step)
            if lo <= v <= hi:
                label = f"{10 ** v:.4g}"
                out += [f'<path d="M{px(v):.1f} {py(lo):.1f}V{py(hi):.1f}M{px(lo):.1f} {py(v):.1f}H{px(hi):.1f}" stroke="#e4e4e4"/>',
                        f'<text x="{px(v):.1f}" y="{py(lo) + 16:.1f}" text-anchor="middle">{label}</text>',
                        f'<text x="{px(lo) - 6:.1f}" y="{py(v) + 4:.1f}" text-anchor="end">{label}</text>']
    out += [f'<path d="M{px(lo):.1f} {py(lo):.1f}L{px(hi):.1f} {py(hi):.1f}" stroke="#888" stroke-dasharray="5 4"/>',
            f'<text x="{(pad + width) / 2:.0f}" y="{height - 16}" text-anchor="middle">predicted KL (nats per token)</text>',
            f'<text transform="translate(16 {height / 2:.0f}) rotate(-90)" text-anchor="middle">true KL on held-out text</text>']
    out += [f'<circle cx="{px(a):.1f}" cy="{py(b):.1f}" r="4" fill="#2458a6" fill-opacity=".75"/>' for a, b in zip(x, y)]
    path.write_text("\n".join(out) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", default="lit4m", choices=sorted(CASES))
    parser.add_argument("--src", type=pathlib.Path)
    parser.add_argument("--kind", choices=("pins", "sizes"), default="pins")
    parser.add_argument("--plans", type=int, default=30)
    parser.add_argument("--calib", default="self", help="self, none, a file, or `file`: the first 700,000 bytes of the case's")
    parser.add_argument("--effort", default="quick", choices=("quick", "normal", "max"))
    parser.add_argument("--tokens", type=int, default=32768, help="held-out tokens per plan")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--svg", type=pathlib.Path)
    common.add_common(parser)
    args = parser.parse_args()
    case = CASES[args.case]
    src = args.src or case["src"]
    common.check_inputs(args.snug, src, case["text"])
    args.work.mkdir(parents=True, exist_ok=True)
    text = common.prepared(case, "text", args.work)
    if args.calib == "file":
        args.calib = common.prepared(case, "calib", args.work, 700000)
    rng, rows, failures = random.Random(args.seed), [], 0
    fit = ["fit", src, "--calib", args.calib, "--effort", args.effort, *(["--threads", args.threads] if args.threads else [])]
    base = common.snug_json(args.snug, *fit, "--ratio", "40%", "--plan-only", "--save-plan", args.work / "predicted.base.json")
    tensors = [row["tensor"] for row in base["plan"] if row["rows"] > 1]
    smallest, largest = 0.15 * base["source_tensor_bytes"], 0.6 * base["source_tensor_bytes"]
    print(f"source {src.name}: {len(tensors)} matrices, --calib {args.calib}, --effort {args.effort}, {args.tokens} held-out tokens")
    for i in range(args.plans):
        out = args.work / f"predicted-{args.case}.snug"
        out.unlink(missing_ok=True)
        if args.kind == "pins":
            plan = args.work / f"predicted.{i}.json"
            plan.write_text(json.dumps({"snug_plan": 1, "target": "snug", "tensors": [{"tensor": t, "codec": c} for t, c in random_pins(rng, tensors)]}))
            budget = [word for t, c in json_pins(plan) for word in ("--pin", f"{t}={c}")]
        else:
            budget = ["--size", round(math.exp(rng.uniform(math.log(smallest), math.log(largest))))]
        try:
            report = common.snug_json(args.snug, *fit, "-o", out, *budget)
            truth = common.evaluate(args.snug, out, src, text, case["ctx"], args.tokens, args.threads)
        except Failed as e:
            failures += 1
            print(f"plan {i}: FAILED: {e}", flush=True)
            continue
        rows.append({"plan": i, "bytes": report["bytes"], "bpw": report["bpw"], "predicted_kl": report["predicted_kl"], "true_kl": truth["kl_mean"],
                     "true_kl_ci95": truth["kl_ci95"], "top1": truth["top1"]})
        print(f"plan {i}: {report['bpw']:.3f} bpw, predicted {report['predicted_kl']:.6f}, true {truth['kl_mean']:.6f} ± {truth['kl_ci95']:.6f}", flush=True)
        common.write_csv(args.csv, rows)
    if len(rows) >= 3:
        p, t = [r["predicted_kl"] for r in rows], [r["true_kl"] for r in rows]
        ratio = sorted(b / a for a, b in zip(p, t))
        summary = (f"Spearman {common.spearman(p, t):.4f}, correlation of logarithms {common.pearson([math.log(v) for v in p], [math.log(v) for v in t]):.4f}, "
                   f"true / predicted {ratio[0]:.2f} to {ratio[-1]:.2f}, median {ratio[len(ratio) // 2]:.2f}")
        print(f"{len(rows)} plans: {summary}")
        if args.svg:
            scatter(args.svg, rows, f"{src.stem}: {len(rows)} random plans, Spearman {common.spearman(p, t):.3f}")
    raise SystemExit(1 if failures else 0)


def json_pins(path):
    return [(t["tensor"], t["codec"]) for t in json.loads(path.read_text())["tensors"]]


if __name__ == "__main__":
    main()
