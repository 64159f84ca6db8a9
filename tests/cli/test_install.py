#!/usr/bin/env python3
"""Installs into an empty folder and builds a program against what is there, through pkg-config and through find_package."""
import os
import subprocess
import sys

import harness

PROGRAM = """#include <snug.h>
#include <stdio.h>
int main(int argc, char **argv) {
    snug_model *model = NULL;
    snug_error err;
    if (argc < 2 || snug_model_open(argv[1], &model, &err)) return 1;
    printf("%s %u\\n", snug_version(), snug_model_get_info(model)->n_layers);
    snug_model_close(&model);
    return 0;
}
"""
CMAKE = """cmake_minimum_required(VERSION 3.20)
project(user LANGUAGES C)
find_package(snug REQUIRED)
add_executable(user user.c)
target_link_libraries(user PRIVATE snug::snug)
"""
BUILD = None


def run(*args, **kwargs):
    p = subprocess.run([str(a) for a in args], capture_output=True, text=True, **kwargs)
    assert p.returncode == 0, f"{args}\n{p.stdout[-3000:]}\n{p.stderr[-3000:]}"
    return p.stdout


def install(t):
    prefix = t.path("prefix")
    run("cmake", "--install", BUILD, "--prefix", prefix)
    config = list(prefix.rglob("snug-config.cmake"))
    assert len(config) == 1, config
    return prefix, config[0].parents[2]


def test_what_is_installed(t):
    prefix, _ = install(t)
    assert run(prefix / "bin/snug", "--version").startswith("snug ")
    assert (prefix / "include/snug.h").is_file()
    assert [p.name for p in (prefix / "include").iterdir()] == ["snug.h"]
    page = prefix / "share/man/man1/snug.1"
    assert page.is_file() and page.read_text().count("\n.SH ") >= 5


def test_no_other_names(t):
    """A static library's users may call their functions what they like."""
    _, lib = install(t)
    for archive in lib.glob("libsnug.a"):
        names = [line.split()[-1] for line in run("nm", "-g", "--defined-only", archive).splitlines() if len(line.split()) == 3]
        assert "snug_version" in names
        assert [n for n in names if not n.startswith("snug_")] == []


def test_pkg_config(t):
    prefix, lib = install(t)
    source = t.path("user.c")
    source.write_text(PROGRAM)
    env = dict(os.environ, PKG_CONFIG_PATH=str(lib / "pkgconfig"))
    flags = run("pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "snug", env=env).split()
    run("cc", source, "-o", t.path("user"), *flags)
    assert run(t.path("user"), t.demo, env=dict(env, LD_LIBRARY_PATH=str(lib))).split()[1] == "4"


def test_find_package(t):
    prefix, lib = install(t)
    folder = t.path("user")
    folder.mkdir()
    (folder / "user.c").write_text(PROGRAM)
    (folder / "CMakeLists.txt").write_text(CMAKE)
    run("cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", folder / "build")
    assert run(folder / "build/user", t.demo).split()[1] == "4"


if __name__ == "__main__":
    i = sys.argv.index("--build")
    BUILD = sys.argv[i + 1]
    del sys.argv[i:i + 2]
    harness.main(globals())
