#!/usr/bin/env bash
# The unit tests under ASan and UBSan. Criterion does not fail a test that leaks, so LeakSanitizer writes to files, and
# any file is a failure; and a filter that matches nothing passes, so the number of tests is checked. Beside them the
# CUDA kernels under their emulator: what compute-sanitizer would say of a read or a write outside a buffer shows here.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build-sanitize}
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DND_CUDA=OFF -DND_SANITIZE=address,undefined -DCMAKE_C_FLAGS=-O1 >/dev/null
cmake --build "$build"
reports=$(mktemp -d)
simt=
trap '[ -z "$simt" ] || kill "$simt" 2>/dev/null || :; rm -rf "$reports"' EXIT
export ASAN_OPTIONS="detect_leaks=1:log_path=$reports/report:strict_string_checks=1:detect_stack_use_after_return=1"
# With a plugin's threads alive LeakSanitizer of gcc 12 faults while it reads their thread-local storage (use_tls=0).
export LSAN_OPTIONS="use_tls=0:suppressions=$PWD/tests/house/leaks.supp:print_suppressions=0"
export UBSAN_OPTIONS="print_stacktrace=1"
export OPENBLAS_NUM_THREADS=1
export OMP_WAIT_POLICY=passive
ASAN_OPTIONS="detect_leaks=0" "$build/nd_simt" >"$reports/simt" 2>&1 &
simt=$!
"$build/nd_unit" --json="$reports/tests.json" >"$reports/log" 2>&1 ||
    { grep -E '^\[(FAIL|----)|runtime error|Synthesis' "$reports/log"; cat "$reports"/report* 2>/dev/null | sed -n 1,60p; exit 1; }
tested=$(grep -c '"status"' "$reports/tests.json")
[ "$tested" -gt 50 ] || { echo "only $tested tests ran"; exit 1; }
# A library's worker that ends while LeakSanitizer stops the threads is noted in a report file of its own; it holds no leak.
if cat "$reports"/report* 2>/dev/null | grep -Ev '^==[0-9]+==Unable to get registers from thread [0-9]+\.$|^$'; then
    echo "sanitizer reports above"
    exit 1
fi
wait $simt || { tail -40 "$reports/simt"; exit 1; }
echo "sanitized: $tested tests and $(tail -1 "$reports/simt"), no report"
