#!/usr/bin/env bash
# What the last `bootstrap test` in BUILD says: the ten slowest tests, what was skipped and why, and the totals.
#   tests/summary.sh [--skips|--totals] BUILD
# --skips: fails when something was skipped for a reason that is not in tests/skips.allowed. --totals: the totals alone.
set -euo pipefail
mode=all
case "${1:-}" in --*) mode=${1#--}; shift ;; esac
log=${1:?build folder}/tests.log
allowed=$(dirname "$0")/skips.allowed

# Skips of whole tests and of parts of them, "NAME: REASON".
skips() {
    sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
        /^[0-9]+\/[0-9]+ Test: / { test = $3 }
        /^skipped: / { sub(/^skipped: /, ""); print test ": " $0 }
        /^skip / { sub(/^skip /, ""); print test ": " $0 }
        /^\[SKIP\] / { sub(/^\[SKIP\] /, ""); if ($0 !~ /: Test is disabled$/) print test ": " $0 }'
}

# "SECONDS NAME" of every test, and of the unit tests inside.
times() {
    sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
        /^[0-9]+\/[0-9]+ Test: / { test = $3 }
        /^Test time = / { print $4, test }
        /^\[PASS\] .*: \([0-9.]+s\)$/ { seconds = $NF; gsub(/[()s]/, "", seconds); sub(/:$/, "", $2); print seconds, test " " $2 }'
}

totals() {
    awk '
        /^[0-9]+\/[0-9]+ Test: / { total++; skipped = 0 }
        /^skipped: |^skip: / { skipped = 1 }
        /^Test Passed\.$/ { if (skipped) skips++; else passed++ }
        /^Test Skipped\.$/ { skips++ }
        END { printf "%d passed, %d failed, %d skipped\n", passed, total - passed - skips, skips }' "$log"
}

case $mode in
skips)
    if skips | grep -vE -f <(grep -v '^#' "$allowed"); then
        echo "skipped for the reasons above, none of which is in tests/skips.allowed"
        exit 1
    fi
    ;;
totals) totals ;;
all)
    echo "slowest, in seconds:"
    times | sort -rn | sed -n '1,10s/^/  /p'
    if [ -n "$(skips)" ]; then
        echo "skipped:"
        skips | sed 's/^/  /'
    fi
    totals
    ;;
*) echo "usage: tests/summary.sh [--skips|--totals] BUILD"; exit 2 ;;
esac
