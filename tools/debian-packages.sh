#!/bin/sh
# Installs the Debian packages that a build (or the tests) need and that are missing. Does nothing when all are there, and only
# names what is needed where there is no dpkg. Usage: tools/debian-packages.sh build|test|tsan|mpi|neon
set -eu
build="cmake ninja-build gcc libc6-dev pkg-config libjansson-dev libpcre2-dev libxxhash-dev libzstd-dev libopenblas-dev
       liblapacke-dev libutf8proc-dev nettle-dev libcurl4-openssl-dev libcmocka-dev"
test="$build python3 python3-venv"
case "${1:-}" in
build) wanted=$build ;;
test) wanted=$test ;;
tsan) wanted="$build clang libomp-14-dev" ;;
mpi) wanted="$build libopenmpi-dev openmpi-bin python3" ;;
neon) wanted="cmake ninja-build gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user" ;;
*) echo "usage: $0 build|test|tsan|mpi|neon" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
    # Another system: CMake says what it does not find.
    exit 0
fi
missing=
for package in $wanted; do
    case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true) in
    *" installed") ;;
    *) missing="$missing $package" ;;
    esac
done
# A tool that came by another way (pip, pyenv, a tarball) does as well as its package.
have() { command -v "$1" >/dev/null 2>&1; }
keep=
for package in $missing; do
    case $package in
    cmake) have cmake || keep="$keep $package" ;;
    ninja-build) have ninja || keep="$keep $package" ;;
    gcc) have cc || keep="$keep $package" ;;
    pkg-config) have pkg-config || keep="$keep $package" ;;
    libcurl4-openssl-dev) pkg-config --exists libcurl 2>/dev/null || keep="$keep $package" ;; # its variants exclude each other
    python3) have python3 || keep="$keep $package" ;;
    python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null || keep="$keep $package" ;;
    *) keep="$keep $package" ;;
    esac
done
[ -n "$keep" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null 2>&1; then
    sudo=sudo
else
    echo "These Debian packages are missing; install them as root, then try again:" >&2
    echo "    apt-get install$keep" >&2
    exit 1
fi
echo "Installing:$keep"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $keep ||
       { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $keep; }
     } >"$log" 2>&1; then
    cat "$log" >&2
    echo "apt-get could not install:$keep" >&2
    exit 1
fi
