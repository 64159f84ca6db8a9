#!/bin/sh
# Makes the Python environment of tests/interop, once. Without a network the tests that need it are skipped, except in CI, where
# that is a failure. Usage: tests/venv.sh FOLDER REQUIREMENTS
set -eu
venv=$1
requirements=$2
stamp=$venv/.$(cksum <"$requirements" | cut -d' ' -f1)
[ -e "$stamp" ] && exit 0
if python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check -r "$requirements"; then
    touch "$stamp"
    exit 0
fi
if [ "${CI:-}" = true ]; then
    echo "tests/venv.sh: the packages in $requirements could not be installed, and in CI they must be" >&2
    exit 1
fi
echo "tests/venv.sh: the packages in $requirements could not be installed; the interoperation tests will be skipped" >&2
