#!/bin/sh
# Makes the Python environment of tests/interop, once: the packages of REQUIREMENTS, and those of FILES without what they depend on (files are
# all that is wanted of these). Without a network the tests that need it are skipped, except in CI, where that is a failure.
# Usage: tests/venv.sh FOLDER REQUIREMENTS FILES
set -eu
venv=$1
requirements=$2
files=$3
stamp=$venv/.$(cat "$requirements" "$files" | cksum | cut -d' ' -f1)
[ -e "$stamp" ] && exit 0
if python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check -r "$requirements" &&
    "$venv/bin/pip" install -q --disable-pip-version-check --no-deps --no-compile -r "$files"; then
    touch "$stamp"
    exit 0
fi
if [ "${CI:-}" = true ]; then
    echo "tests/venv.sh: the packages in $requirements and $files could not be installed, and in CI they must be" >&2
    exit 1
fi
echo "tests/venv.sh: the packages in $requirements and $files could not be installed; the interoperation tests will be skipped" >&2
