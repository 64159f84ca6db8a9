#!/bin/sh
# The main job on real input: fits models/demo into 30 % of its size, judges the result against the source on a novel that the
# model never saw, and writes a paragraph with it. Usage: tools/demo.sh PATH-TO-SNUG
set -eu
snug=${1:-build/snug}
out=out
mkdir -p "$out"
run() { # prints the command as one would type it, then does it
    printf '\n$'
    for word; do case $word in *[!A-Za-z0-9_./%=-]*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac; done
    printf '\n'
    "$@"
}

run "$snug" fit models/demo -o "$out/demo.snug" --ratio 30%
run "$snug" eval "$out/demo.snug" --against models/demo --text models/demo-text.txt
run "$snug" run "$out/demo.snug" -p "It was a cold evening, and the old house" -n 120 --temp 0.8 --seed 1 --echo
printf '\nThe file is %s (%s bytes); models/demo has %s bytes. Next: %s --help\n' "$out/demo.snug" "$(stat -c %s "$out/demo.snug")" \
    "$(stat -c %s models/demo/model.safetensors)" "$snug"
