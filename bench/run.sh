#!/bin/sh
# The measurements behind bench/RESULTS.md, one after the other; two hours or so on two quiet cores, and 8 GB of disk (out/). What needs
# texts and models that are not part of the project says so and is left out. Usage: bench/run.sh PATH-TO-SNUG
set -u
snug=$(realpath "${1:-build/snug}")
cd "$(dirname "$0")/quality" || exit 1
for step in "budgets.py lit4m --n 200" "predicted.py lit4m --plans 30" "peers.py lit4m" "peers.py stories260K"; do
    printf '\n## %s\n\n' "$step"
    # shellcheck disable=SC2086 # the words of a step are its arguments
    python3 $step --snug "$snug" || echo "(failed, or not possible here)"
done
printf '\n## speed\n\n'
"$snug" bench ../../models/demo --threads 1,2
python3 ../vs_llama.py --snug "$snug" --shape llama-3.2-1b --threads 1,2 || echo "(failed, or not possible here)"
