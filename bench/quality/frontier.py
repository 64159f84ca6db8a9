#!/usr/bin/env python3
"""Distortion against decode speed: what codes of every family make of a Gaussian, and how fast their dots are.

    frontier.py BUILD/tests/test_kern [--svg FILE] > docs/frontier.md's table

Errors are those of tests/results.csv (64 rows of 4,096 Gaussian weights, normal effort, every byte counted); speeds are the kernel checker's, one
thread, one token, weights per ns with each level.  FILE gets a picture: speed with AVX2 to the right, distance to the rate-distortion bound upward."""
import argparse
import csv
import math
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
SLOTS = {"int2g64": "panel_dot_int2x1", "int3g64": "panel_dot_int3x1", "int4g64": "panel_dot_int4x1", "int5g64": "panel_dot_int5x1", "q2_k": "panel_dot_q2_kx1",
         "q3_k": "panel_dot_q3_kx1", "q4_k": "panel_dot_q4_kx1", "iq4_xs": "panel_dot_iq4_xsx1", "q5_k": "panel_dot_q5_kx1", "tcqf2": "tcqf2_dotx1", "tcq1": "tcq1_dotx1",
         "tcq2": "tcq2_dotx1", "tcq3": "tcq3_dotx1", "tcq4": "tcq4_dotx1", "tcq5": "tcq5_dotx1",
         "e8b2": "books_e8b2_dotx1", "e8b3": "books_e8b3_dotx1", "e8b4": "books_e8b4_dotx1"}
FAMILIES = [("tcqf", "#c33", "trellis, fast"), ("tcq", "#36c", "trellis, dense"), ("e8b", "#c80", "points of E8"), ("int", "#393", "integers, scale and zero point"), ("", "#888", "ggml's types")]


def speeds(program):
    """{slot: {level: weights per ns}}, the best of three runs: other work only slows."""
    out = {}
    for _ in range(3):
        for word in ("tcq", "panel_dot", "books_e8b"):
            for line in subprocess.run([program, "--bench", word], check=True, capture_output=True, text=True).stdout.splitlines():
                m = re.match(r"(\S+)\s+(\w+)\s+\d+ ns\s+([\d.]+) units/ns", line)
                if m:
                    slot = out.setdefault(m[1], {})
                    slot[m[2]] = max(slot.get(m[2], 0), float(m[3]))
    return out


def picture(path, rows):
    width, height, left, bottom = 720, 420, 60, 50
    x = lambda v: left + (math.log10(v) - math.log10(6)) / (math.log10(150) - math.log10(6)) * (width - left - 20)
    y = lambda v: height - bottom - v / 5 * (height - bottom - 30)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="#fff"/>',
           f'<text x="{width / 2}" y="18" text-anchor="middle" font-size="14">Distance to the rate-distortion bound against decode speed, AVX2, one thread</text>']
    for v in (6, 10, 20, 40, 80, 150):
        out.append(f'<line x1="{x(v):.1f}" y1="{y(0):.1f}" x2="{x(v):.1f}" y2="{y(5):.1f}" stroke="#eee"/><text x="{x(v):.1f}" y="{y(0) + 16:.1f}" text-anchor="middle">{v}</text>')
    for v in range(6):
        out.append(f'<line x1="{left}" y1="{y(v):.1f}" x2="{width - 20}" y2="{y(v):.1f}" stroke="#eee"/><text x="{left - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v} dB</text>')
    out.append(f'<text x="{width / 2}" y="{height - 12}" text-anchor="middle">weights per ns, dot with one token</text>')
    labels = []
    for name, _, gap, speed in sorted(rows, key=lambda r: -r[2]):
        colour = next(c for prefix, c, _ in FAMILIES if name.startswith(prefix))
        beside = [b for a, b in labels if abs(a - x(speed)) < 60]
        at = max([y(gap) + 4] + [b + 13 for b in beside if b > y(gap) - 9])  # names do not cover each other
        labels.append((x(speed), at))
        out.append(f'<circle cx="{x(speed):.1f}" cy="{y(gap):.1f}" r="4" fill="{colour}"/><text x="{x(speed) + 8:.1f}" y="{at:.1f}" fill="{colour}">{name}</text>')
    for i, (_, colour, label) in enumerate(FAMILIES):
        out.append(f'<circle cx="{width - 230}" cy="{230 + 18 * i}" r="4" fill="{colour}"/><text x="{width - 220}" y="{234 + 18 * i}">{label}</text>')
    path.write_text("\n".join(out) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the kernel checker, BUILD/tests/test_kern")
    parser.add_argument("--svg", type=pathlib.Path)
    args = parser.parse_args()
    with open(ROOT / "tests/results.csv", newline="") as f:
        errors = {r["codec"]: r for r in csv.DictReader(f) if r["source"] == "gaussian" and r["effort"] == "normal"}
    speed, rows = speeds(args.program), []
    levels = [level for level in ("avx2", "avx512", "neon") if any(level in s for s in speed.values())]
    print("| code | bits | error | dB above the bound | " + " | ".join(f"weights/ns, {level}" for level in levels) + " |")
    print("|---" * (4 + len(levels)) + "|")
    for name, slot in sorted(SLOTS.items(), key=lambda i: float(errors[i[0]]["bpw"])):
        e = errors[name]
        print(f"| {name} | {float(e['bpw']):.2f} | {float(e['rel_mse']):.5f} | {float(e['gap_db']):.2f} | " + " | ".join(f"{speed[slot].get(level, 0):.1f}" for level in levels) + " |")
        rows.append((name, float(e["bpw"]), float(e["gap_db"]), speed[slot][levels[0]]))
    if args.svg:
        picture(args.svg, rows)


if __name__ == "__main__":
    main()
