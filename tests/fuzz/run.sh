#!/bin/sh
# Builds every fuzz target into BUILD and runs each for SECONDS from its seeds; stops at the first that finds something.
# usage: tests/fuzz/run.sh BUILD SECONDS [TARGET...]
set -eu
cd "$(dirname "$0")/../.."
build=$1
seconds=$2
shift 2
[ $# -gt 0 ] || set -- tests/fuzz/fuzz_*.c

cmake -S . -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang -DND_CUDA=OFF -DND_FUZZ=ON -DND_TESTS=OFF >"$build.log" 2>&1 ||
    { cat "$build.log" >&2; exit 1; }
rm -f "$build.log"
cmake --build "$build" --target fuzz

for source in "$@"; do
    name=$(basename "$source" .c)
    seeds=tests/fuzz/corpus/${name#fuzz_}
    found=$build/corpus/$name # what it finds goes here, so the seeds stay as they are
    mkdir -p "$found"
    if "$build/$name" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$build/$name-" "$found" "$seeds" >"$build/$name.log" 2>&1; then
        echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$name.log") inputs, nothing found"
    else
        tail -n 40 "$build/$name.log" >&2
        echo "$name: failed; the input is $build/$name-*" >&2
        exit 1
    fi
done
