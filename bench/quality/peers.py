#!/usr/bin/env python3
"""At the very byte size of each of llama.cpp's files: who is nearer to the source?

    peers.py lit4m [--calib FILE|self|none] [--effort max] [--pieces 12]
    peers.py lit4m --src TWIN --peers FOLDER --prefix tw-lit4m-          # the outlier twin; make_peers.py made FOLDER

For each peer file: `snug fit SRC --size <its bytes>`, then `snug eval` of both files against SRC on all of the held-out text, every
position scored, f32 activations, the same tokens for both.  The verdict is paired: the text is cut into pieces (at line ends), both
files are judged on each, and the interval is of the mean difference over pieces (Student's t), so what is hard in the text cancels.
With --pieces 0 only the whole text is judged.

The evaluations of peer files are kept in WORK/peers.jsonl and used again: delete it when the engine changes.

A peer of a type that snug does not read (IQ2_XS ...) is judged through an exact f32 copy made by widen.py, which needs the pinned packages
of tests/interop/requirements.txt; its size stays that of the peer.

The peers had the first 700,000 bytes of the calibration text; so has snug, unless --calib says otherwise.
"""
import argparse
import pathlib
import sys

import common
from common import CASES, Failed

T95 = {5: 2.571, 7: 2.365, 9: 2.262, 11: 2.201, 15: 2.131, 19: 2.093, 23: 2.069}


def cut(text, n, folder):
    """n files of about equal length, cut at line ends."""
    data, out, start = text.read_bytes(), [], 0
    for i in range(n):
        end = len(data) if i == n - 1 else data.find(b"\n", len(data) * (i + 1) // n) + 1
        path = folder / f"{text.stem}.{i + 1}of{n}.txt"
        path.write_bytes(data[start:end])
        out.append(path)
        start = end
    return out


def readable(snug, peer, folder):
    """The peer, or its exact f32 copy where snug does not know a type in it."""
    try:
        common.run(snug, "inspect", peer)
        return peer
    except Failed as e:
        if "not supported" not in e.text:
            raise
    import widen
    out = folder / (peer.stem + "-f32.gguf")
    if not out.exists():
        widen.widen(peer, out)
    return out


def paired(ours, theirs):
    """Mean difference of KL (ours - theirs) over pieces and the half-width of its 95 % interval."""
    d = [a["kl_mean"] - b["kl_mean"] for a, b in zip(ours, theirs)]
    mean = sum(d) / len(d)
    deviation = (sum((x - mean) ** 2 for x in d) / (len(d) - 1)) ** 0.5
    return mean, T95.get(len(d) - 1, 2.1) * deviation / len(d) ** 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("--src", type=pathlib.Path)
    parser.add_argument("--peers", type=pathlib.Path)
    parser.add_argument("--prefix")
    parser.add_argument("--only", help="comma-separated names of peers, e.g. Q4_K_M,Q2_K")
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, help="judge on fewer tokens (a quick look, no result)")
    parser.add_argument("--calib", default="like-peer", help="like-peer (default: the peers' own 700,000 bytes), self, none or a file")
    parser.add_argument("--target", default="snug", choices=("snug", "gguf"))
    parser.add_argument("--effort", default="normal", choices=("quick", "normal", "max"))
    parser.add_argument("--pieces", type=int, default=0)
    parser.add_argument("--fit-option", action="append", default=[], metavar="X", help="passed on to snug fit, e.g. --fit-option=--seed=1")
    parser.add_argument("--tag", default="", help="part of the names of files made")
    common.add_common(parser)
    args = parser.parse_args()
    case = CASES[args.case]
    src, peers, prefix, ctx = args.src or case["src"], args.peers or case["peers"], args.prefix or case["prefix"], case["ctx"]
    common.check_inputs(args.snug, src, peers, args.text or case["text"], case["calib"])
    args.work.mkdir(parents=True, exist_ok=True)
    text = args.text or common.prepared(case, "text", args.work)
    known = common.Memory(args.work / "peers.jsonl")
    calib = args.calib
    if calib == "like-peer":
        calib = common.prepared(case, "calib", args.work, 700000)
    pieces = cut(text, args.pieces, args.work) if args.pieces else []
    threads = ["--threads", args.threads] if args.threads else []

    rows, lost = [], 0
    print(f"source {src.name}, text {text.name}, ctx {ctx}, calib {pathlib.Path(str(calib)).name}, --for {args.target}, --effort {args.effort}")
    print("| peer | bytes | snug's bytes | KL peer | KL snug | snug / peer | 99 % KL peer | snug | same top peer | snug | ppl peer | snug | predicted KL |"
          + (" paired difference |" if pieces else ""))
    print("|---|" + "---|" * (11 + bool(pieces)) + "---|")
    files = sorted(peers.glob(prefix + "*.gguf"), key=lambda p: -p.stat().st_size)
    if args.only:
        files = [f for f in files if f.stem.removeprefix(prefix) in args.only.split(",")]
    for peer in files:
        size, name = peer.stat().st_size, peer.stem.removeprefix(prefix)
        out = args.work / f"{prefix}{name}{args.tag}.{args.target}"
        out.unlink(missing_ok=True)
        try:
            fit = common.snug_json(args.snug, "fit", src, "-o", out, "--size", size, "--for", args.target, "--calib", calib, "--effort", args.effort,
                                   "--save-plan", out.with_suffix(out.suffix + ".plan.json"), *args.fit_option, *threads)
            judged = readable(args.snug, peer, args.work)
            ours = common.evaluate(args.snug, out, src, text, ctx, args.tokens, args.threads)
            theirs = known.evaluate(args.snug, judged, src, text, ctx, args.tokens, args.threads)
        except Failed as e:
            print(f"| {name} | {size} | FAILED: {e} |", flush=True)
            lost += 1
            continue
        if out.stat().st_size > size:
            print(f"{name}: {out.stat().st_size} bytes, budget {size}: OVER", flush=True)
            lost += 1
        row = {"case": args.case, "source": src.name, "peer": name, "calib": pathlib.Path(str(calib)).name, "target": args.target, "effort": args.effort,
               "bytes_peer": size, "bytes_snug": out.stat().st_size, "tokens": ours["tokens"],
               "kl_peer": theirs["kl_mean"], "kl_peer_ci95": theirs["kl_ci95"], "kl_snug": ours["kl_mean"], "kl_snug_ci95": ours["kl_ci95"],
               "kl_ratio": ours["kl_mean"] / theirs["kl_mean"], "p99_peer": theirs["kl_p99"], "p99_snug": ours["kl_p99"],
               "top1_peer": theirs["top1"], "top1_snug": ours["top1"], "ppl_source": ours["ppl_ref"], "ppl_peer": theirs["ppl"], "ppl_snug": ours["ppl"],
               "predicted_kl": fit["predicted_kl"], "fit_seconds": fit["seconds"]}
        line = (f"| {name} | {size} | {row['bytes_snug']} | {row['kl_peer']:.6f} ± {row['kl_peer_ci95']:.6f} | {row['kl_snug']:.6f} ± {row['kl_snug_ci95']:.6f} | "
                f"{row['kl_ratio']:.3f} | {row['p99_peer']:.5f} | {row['p99_snug']:.5f} | {100 * row['top1_peer']:.2f} % | {100 * row['top1_snug']:.2f} % | "
                f"{row['ppl_peer']:.4f} | {row['ppl_snug']:.4f} | {row['predicted_kl']:.6f} |")
        if pieces:
            both = [[judge(args.snug, model, src, piece, ctx, None, args.threads) for piece in pieces]
                    for judge, model in ((common.evaluate, out), (known.evaluate, judged))]
            row["difference"], row["difference_ci95"] = paired(*both)
            row["pieces_won"] = sum(a["kl_mean"] < b["kl_mean"] for a, b in zip(*both))
            line += f" {row['difference']:+.6f} ± {row['difference_ci95']:.6f}, {row['pieces_won']} of {len(pieces)} pieces |"
        print(line, flush=True)
        lost += row["kl_ratio"] >= 1
        rows.append(row)
        common.write_csv(args.csv, rows)
    if rows:
        print(f"\nsource's perplexity {rows[0]['ppl_source']:.4f}, {rows[0]['tokens']} tokens; lower KL than the peer: {len(files) - lost} of {len(files)}")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
