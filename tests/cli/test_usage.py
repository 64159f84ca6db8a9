#!/usr/bin/env python3
"""How the program is called: help, mistakes and what is said about them, exit codes."""
import harness
from harness import OK, USAGE

COMMANDS = ["fit", "run", "chat", "eval", "bench", "inspect", "verify", "export", "convert", "pull"]


def test_overview(t):
    r = t.run("--help", expect=OK)
    for command in COMMANDS:
        assert f"\n    {command} " in r.stdout, command
    assert t.run(expect=USAGE).stdout == ""
    assert t.run("--version", expect=OK).stdout.startswith("snug ")


def test_every_command_explains_itself_with_an_example_first(t):
    for command in COMMANDS:
        r = t.run(command, "--help", expect=OK)
        lines = r.stdout.splitlines()
        assert "Example:" in lines[:3] and f"snug {command} " in r.stdout.split("Example:")[1].split("Usage:")[0], r.stdout
        assert r.stdout.index("Example:") < r.stdout.index("Options:")
        assert r.stdout == t.run("help", command, expect=OK).stdout
        assert r.stdout == t.run(command, "-h", expect=OK).stdout
        if command != "chat":
            assert "--json" in r.stdout, command
        assert "--threads" in r.stdout or command == "pull", command
        assert max(map(len, lines)) <= 132, max(lines, key=len)


def test_what_is_missing_is_named(t):
    for command in COMMANDS:
        r = t.run(command, expect=USAGE)
        assert "no SRC given" in r.stderr or "no MODEL given" in r.stderr, r
        assert "--help" in r.stderr and r.stdout == ""
    assert "no budget" in t.run("fit", t.demo, "-o", "x", expect=USAGE).stderr
    assert "no output" in t.run("fit", t.demo, "--size", "1G", expect=USAGE).stderr
    assert "no text" in t.run("eval", t.demo, expect=USAGE).stderr
    assert "no output" in t.run("export", t.demo, expect=USAGE).stderr
    assert "no output" in t.run("convert", t.demo, expect=USAGE).stderr


def test_unknown_options_name_their_neighbour(t):
    for given, meant in [("--sise", "--size"), ("--rati", "--ratio"), ("--save-pln", "--save-plan"), ("--efort", "--effort"), ("--thread", "--threads")]:
        r = t.run("fit", t.demo, given, "1", expect=USAGE)
        assert f"unknown option {given}; did you mean {meant}?" in r.stderr, r
    assert "unknown option --zzzzzzzz\n" in t.run("run", t.demo, "--zzzzzzzz", expect=USAGE).stderr
    assert "unknown option -q\n" in t.run("run", t.demo, "-q", expect=USAGE).stderr
    assert "did you mean 'inspect'" in t.run("inspct", expect=USAGE).stderr
    assert "unknown command" in t.run("frobnicate", expect=USAGE).stderr


def test_values_that_make_no_sense(t):
    bad = [("--size", "3Q"), ("--size", "-1"), ("--size", "0"), ("--size", "1e400"), ("--size", "nan"), ("--size", ""), ("--size", "0x10"),
           ("--size", "99999999999999999999999"), ("--ratio", "40"), ("--ratio", "0"), ("--ratio", "120%"), ("--ratio", "inf"), ("--bpw", "0"),
           ("--bpw", "x"), ("--ctx", "-5"), ("--ctx", "1.5"), ("--seed", "-1"), ("--threads", "0"), ("--for", "ollama"), ("--effort", "full")]
    for option, value in bad:
        r = t.run("fit", t.demo, "-o", t.path("x"), option, value, expect=USAGE)
        assert option in r.stderr, r
        assert not t.path("x").exists()
    assert "needs a value" in t.run("fit", t.demo, "--size", expect=USAGE).stderr
    assert "takes no value" in t.run("fit", t.demo, "--json=yes", expect=USAGE).stderr
    assert "same thing" in t.run("fit", t.demo, "-o", "x", "--size", "1G", "--bpw", "3", expect=USAGE).stderr
    assert "same thing" in t.run("run", t.demo, "-p", "a", "-f", "b", expect=USAGE).stderr
    assert "too many" in t.run("verify", t.demo, t.demo, expect=USAGE).stderr
    t.run("bench", t.demo, "--threads", "1,,2", expect=USAGE)
    t.run("run", t.demo, "-p", "a", "--temp", "hot", expect=USAGE)


def test_sizes(t):
    """K, M, G are powers of 1024; KB, MB, GB of 1000; a bare number is bytes."""
    sizes = {"3145728": 3145728, "3M": 3 << 20, "3m": 3 << 20, "3MiB": 3 << 20, "3Mi": 3 << 20, "3MB": 3000000, "3072K": 3 << 20,
             "0.003G": int(0.003 * 2**30), "3145728B": 3 << 20, "3e6": 3000000}
    for text, size in list(sizes.items())[:2 if t.sanitized else None]:
        r = t.run("fit", t.demo, "--size", text, "--plan-only", "--effort", "quick", "--calib", "none", "--pin", "*=int4g64", "--json", expect=OK)
        assert r.json()["budget_bytes"] == size, (text, r.json()["budget_bytes"], size)


if __name__ == "__main__":
    harness.main(globals())
