#!/bin/sh
# The main job on real input: fits models/demo into 30 % of its size, judges the result against the source on a novel that the
# model never saw, and writes a paragraph with it. Usage: tools/demo.sh PATH-TO-SNUG
set -eu
snug=${1:-build/snug}
out=out
mkdir -p "$out"
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }
[ -t 1 ] || say() { printf '\n$ %s\n' "$*"; "$@"; }

say "$snug" fit models/demo -o "$out/demo.snug" --ratio 30%
say "$snug" eval "$out/demo.snug" --against models/demo --text models/demo-text.txt
say "$snug" run "$out/demo.snug" -p "It was a cold evening, and the old house" -n 120 --temp 0.8 --seed 1
printf '\nThe file is %s (%s bytes); models/demo has %s bytes. Next: %s --help\n' "$out/demo.snug" "$(stat -c %s "$out/demo.snug")" \
    "$(stat -c %s models/demo/model.safetensors)" "$snug"
