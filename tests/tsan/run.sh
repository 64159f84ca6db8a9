#!/bin/sh
# Everything that has threads, under ThreadSanitizer: the unit tests, fit, run and eval with two threads, and a model shared by
# threads of the program's own. libomp's barriers are invisible to the sanitizer; Archer, which comes with libomp, reports them to it
# and control.c holds that it does. Usage: tests/tsan/run.sh BUILD-FOLDER      (made by `make tsan`)
set -eu
build=$(cd "$1" && pwd)
source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

OMP_TOOL_LIBRARIES=$(clang -print-resource-dir)/../../libarcher.so
OMP_WAIT_POLICY=passive
XDG_CACHE_HOME=$work/cache
# Calls out of libraries that were built without the sanitizer (libomp, OpenBLAS) are not looked at; what our own code does always is.
TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1 exitcode=66 ${TSAN_OPTIONS:-}"
export OMP_TOOL_LIBRARIES OMP_WAIT_POLICY XDG_CACHE_HOME TSAN_OPTIONS
[ -e "$OMP_TOOL_LIBRARIES" ] || { echo "tsan: $OMP_TOOL_LIBRARIES is not there (package libomp-14-dev)" >&2; exit 1; }
# Clang 14's sanitizer does not find its way where the kernel spreads mappings over more than 28 bits.
fixed=$(command -v setarch || true)
[ -n "$fixed" ] && fixed="$fixed $(uname -m) -R"
$fixed true 2>/dev/null || fixed=

failures=0
# expect STATUS NAME COMMAND...
expect() {
    wanted=$1 name=$2 status=0
    shift 2
    $fixed "$@" >"$work/log" 2>&1 || status=$?
    if [ "$status" = "$wanted" ]; then
        echo "ok      $name"
    else
        echo "FAILED  $name (exit code $status, not $wanted)"
        cat "$work/log"
        failures=$((failures + 1))
    fi
}

expect 66 "control: a race is seen" "$build/tests/tsan_control" race
expect 0 "control: what OpenMP orders is none" "$build/tests/tsan_control" ordered

for test in "$build"/tests/test_base "$build"/tests/test_kv* "$build"/tests/test_run_* "$build"/tests/test_fit* "$build"/tests/test_eval \
    "$build"/tests/test_solve "$build"/tests/test_weight "$build"/tests/test_model_*; do
    case $test in
    */test_run_memory | */test_run_sampler) continue ;; # resident bytes mean nothing here; no threads
    esac
    if [ -x "$test" ]; then expect 0 "${test##*/}" "$test"; fi
done

# A folder of its own: a chat template is put beside the model.
cp "$source"/models/demo/* "$work"
printf '%s' '{% for m in messages %}<|{{ m.role }}|>{{ m.content|trim }}{% endfor %}' >"$work/chat_template.jinja"
head -c 3000 "$source/models/demo-text.txt" >"$work/text"
snug=$build/snug
expect 0 "fit, no calibration" "$snug" fit "$work" -o "$work/a.snug" --calib none --effort quick --size 2M --threads 2
expect 0 "fit, statistics, a sum of terms" "$snug" fit "$work" -o "$work/b.snug" --calib "$work/text" --effort quick --size 1300K --threads 2 \
    --pin 'blk.0.ffn_up.weight=int2g64+lowrank8'
expect 0 "fit, feedback, trellis codes" "$snug" fit "$source/tests/golden/llama3" -o "$work/d.snug" --calib "$work/text" --threads 2 \
    --pin '*=int4g32' --pin 'blk.*attn*=had:tcq2'
expect 0 "fit, experts" "$snug" fit "$source/tests/golden/qwen3moe" -o "$work/e.snug" --calib "$work/text" --threads 2 \
    --pin '*=int4g32' --pin 'blk.0.*=tcq2'
expect 0 "run, experts" "$snug" run "$work/e.snug" -p "Once upon a time" -n 16 --threads 2
expect 0 "run" "$snug" run "$work/b.snug" -p "Once upon a time" -n 16 --threads 2
expect 0 "eval" "$snug" eval "$work/a.snug" --against "$work" --text "$work/text" --tokens 400 --ctx 128 --threads 2
expect 0 "verify" "$snug" verify "$work/b.snug" --threads 2
expect 0 "export" "$snug" export "$work/b.snug" -o "$work/c.gguf" --threads 2
expect 0 "one model, three contexts" "$build/tests/tsan_shared_model" "$work"
[ "$failures" = 0 ] && echo "no races seen"
