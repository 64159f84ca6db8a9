#!/usr/bin/env python3
"""Holds the house's shape: which room may include which, that OpenMP, MPI and libcurl stand in one file each, that cli/ and examples/ see the
public header alone, and that libsnug exports names that begin with snug_ and no others.

Usage: rooms_check.py SOURCE-FOLDER [LIBSNUG]      (libsnug.a or libsnug.so)
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# What each room may include, beside itself and the public header. Arrows point down only: there is no cycle.
ROOMS = {
    "base": [],
    "format": ["base"],
    "hub": ["base"],
    "linalg": ["base"],
    "kern": ["base"],
    "token": ["base", "format"],
    "codec": ["base", "kern", "format"],
    "solve": ["base", "linalg", "codec"],
    "plan": ["base", "codec", "solve"],
    "kv": ["base", "kern"],
    "model": ["base", "format", "token", "codec", "kern", "kv"],
    "run": ["base", "format", "token", "codec", "kern", "kv", "model"],
    "eval": ["base", "token", "model", "run"],
    "fit": ["base", "format", "token", "linalg", "kern", "codec", "solve", "plan", "kv", "model", "run", "eval"],
}
# base holds the pieces that everything may use; format knows ggml's type numbers, which codecs name.

MADE = {"model/families.h"}  # by the build: the list of src/model/arch

ONLY_IN = {"omp.h": "base/thread.c", "mpi.h": "base/cluster.c", "curl/curl.h": "hub/curl.h"}

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def check_no_cycle():
    order = list(ROOMS)
    return [f"ROOMS: {room} may use {used}, which is not below it" for room in order for used in ROOMS[room]
            if order.index(used) >= order.index(room)]


def includes(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1), match.group(2)


def check_src(src):
    faults = []
    for path in sorted(src.rglob("*.[ch]")):
        room = path.relative_to(src).parts[0]
        if room not in ROOMS:
            faults.append(f"{path}: '{room}' is no room; name it in tests/rooms_check.py")
            continue
        for number, kind, name in includes(path):
            if ONLY_IN.get(name, path.relative_to(src).as_posix()) != path.relative_to(src).as_posix():
                faults.append(f"{path}:{number}: <{name}> is {ONLY_IN[name]}'s alone")
            if kind == "<" or name == "snug.h":
                continue
            if (src / name).exists() or name in MADE:
                used = name.split("/")[0]
            elif (path.parent / name).exists():
                faults.append(f"{path}:{number}: \"{name}\" should be written as \"{(path.parent / name).resolve().relative_to(src.resolve())}\"")
                continue
            else:
                faults.append(f"{path}:{number}: \"{name}\" is not in the house")
                continue
            if used != room and used not in ROOMS[room]:
                faults.append(f"{path}:{number}: {room} must not use {used} (\"{name}\")")
    return faults


def check_outside(folder, src):
    """Programs use the installed header; of their own folder what they like."""
    faults = []
    for path in sorted(folder.rglob("*.[ch]")):
        for number, _, name in includes(path):
            if (src / name).exists():
                faults.append(f"{path}:{number}: only snug.h may be used here, not \"{name}\"")
    return faults


def check_exports(library):
    """A static library is linked into a throw-away shared one: what is visible there is what a linker would see."""
    with tempfile.TemporaryDirectory() as folder:
        if library.suffix == ".a":
            shared = Path(folder) / "libsnug.so"
            subprocess.run(["cc", "-shared", "-o", shared, "-Wl,--whole-archive", library, "-Wl,--no-whole-archive"], check=True)
            library = shared
        out = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    names = [line.split()[-1] for line in out.splitlines()]
    faults = [f"libsnug exports {name}" for name in names if not name.startswith("snug_")]
    if not any(name == "snug_version" for name in names):
        faults.append("libsnug does not export snug_version: nothing was looked at")
    return faults


def main():
    root = Path(sys.argv[1])
    src = root / "src"
    faults = check_no_cycle() + check_src(src) + check_outside(root / "cli", src) + check_outside(root / "examples", src)
    if len(sys.argv) > 2:
        faults += check_exports(Path(sys.argv[2]))
    for fault in faults:
        print(fault)
    if not faults:
        print("the rooms are in order")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
