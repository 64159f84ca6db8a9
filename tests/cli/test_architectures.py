#!/usr/bin/env python3
"""Architectures as the program's user meets them: each fitted with its own calibration, channels in another order and balanced, whose function
must stay; and written to a file of snug's and read back."""
import harness
from harness import FAILED, OK

# What eight bits may cost: a function that did not survive reordering and balancing is far beyond.
MOST_KL = 0.05
NAMES = ("deepseek2", "gemma3", "gpt2", "gpt_oss", "gptneox", "granitehybrid_moe", "olmo3", "phi3_long", "qwen2moe_dense")


def prose(t):
    lines = (t.source / "tests/golden/tokenizers/lines.txt").read_text(encoding="utf-8").split("\n")[:400]
    path = t.path("prose.txt")
    path.write_text(" ".join(line for line in lines if "\\" not in line)[:2500])
    return path


def test_calibrated_fits(t):
    text = prose(t)
    for name in NAMES:
        source, out = t.source / "tests" / "golden" / name, t.path(f"{name}.snug")
        t.run("fit", source, "-o", out, "--pin", "*=int8g32", "--calib", text, expect=OK)
        report = t.run("eval", out, "--against", source, "--text", text, "--ctx", "64", "--json", expect=OK).json()
        assert 0 < report["kl_mean"] < MOST_KL, (name, report["kl_mean"])


def test_refused_for_others(t):
    for name, words in (("gpt_oss", "beta_fast 8"), ("gemma2", "query_pre_attn_scalar"), ("gemma3", "rope_local_base_freq")):
        r = t.run("export", t.source / "tests" / "golden" / name, "-o", t.path("x.gguf"), expect=FAILED)
        assert words in r.stderr and "--for gguf" in r.stderr and not t.path("x.gguf").exists(), r


if __name__ == "__main__":
    harness.main(globals())
