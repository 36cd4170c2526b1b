#!/bin/sh
# Tries the gate on this machine: whether it keeps quiet where nothing changed (A/A), and whether it sees a planted
# slow-down of 5 %.
#   bench/gate/aa.sh BUILD [MODEL|SUITE [options of nd bench]]
# BUILD is a build with -DND_TEST_HOOKS=ON. ND_AA runs (20) and ND_PLANTED with the slow-down (10) are each compared, by
# `nd compare --confirm`, with a base measured just before: a machine shared with others drifts by more than 5 % within
# minutes, ratios included. All rows stay in BUILD/aa. Exit 1 when an A/A run was called SLOWER or FASTER, when fewer
# than nine in ten planted runs were called SLOWER by a ratio, or when a comparison was refused.
set -u
[ $# -gt 0 ] || {
    echo "usage: bench/gate/aa.sh BUILD [MODEL|SUITE [options of nd bench]]" >&2
    exit 2
}
build=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- resnet32 --no-layers --rank 3 --impl fused --threads 1 --sessions 64 --time-limit 12
aa=${ND_AA:-20} planted=${ND_PLANTED:-10} share=${ND_SHARE:-0.05}
nd=$build/nd rows=$build/aa
grep -qs ND_TEST_SLOWDOWN "$build"/libnd.so* "$nd" || {
    echo "bench/gate/aa.sh: $build was not configured with -DND_TEST_HOOKS=ON" >&2
    exit 2
}
mkdir -p "$rows" || exit 2
rm -f "$rows"/*.jsonl

# measure NAME [options of nd bench]
measure() {
    name=$1
    shift
    "$nd" bench "$@" --json "$rows/$name.jsonl" --quiet >/dev/null && return
    echo "bench/gate/aa.sh: nd bench ended with $?" >&2
    exit 2
}

# judge NAME: prints the verdict, REFUSED where there is none, and the rows that moved.
judge() {
    "$nd" compare "$rows/$1.base.jsonl" "$rows/$1.jsonl" --confirm --json "$rows/$1.verdicts.jsonl" >"$rows/table" 2>"$rows/errors"
    code=$?
    verdict=$(sed -n 's/^\(SAME\|FASTER\|SLOWER\|UNSURE\): .*/\1/p' "$rows/table")
    case $verdict:$code in
    SAME:0 | FASTER:0 | UNSURE:0 | SLOWER:1) ;;
    *) verdict=REFUSED ;;
    esac
    if [ "$verdict" = SLOWER ] && ! grep '"verdict":"SLOWER"' "$rows/$1.verdicts.jsonl" | grep -qv '"implementation":"dense"'; then
        verdict=DENSE
    fi
    echo "$verdict" >>"$rows/${1%-*}.counts"
    echo "$1: $verdict"
    case $verdict in
    REFUSED) sed 's/^/  /' "$rows/errors" ;;
    SAME) ;;
    *) grep -E ' (FASTER|SLOWER|UNSURE) ' "$rows/table" | sed 's/^/  /' ;;
    esac
}

# series NAME N SLOWDOWN [options of nd bench]
series() {
    series=$1 runs=$2 slowdown=$3 i=1
    shift 3
    : >"$rows/$series.counts"
    while [ "$i" -le "$runs" ]; do
        export ND_TEST_SLOWDOWN=0
        measure "$series-$i.base" "$@"
        export ND_TEST_SLOWDOWN="$slowdown" # of the confirmation too
        measure "$series-$i" "$@"
        judge "$series-$i"
        i=$((i + 1))
    done
}

count() { grep -c "^$2\$" "$rows/$1.counts"; }

echo "nd bench $*"
series aa "$aa" 0 "$@"
series planted "$planted" "$share" "$@"
moved=$(($(count aa SLOWER) + $(count aa FASTER) + $(count aa DENSE)))
refused=$(($(count aa REFUSED) + $(count planted REFUSED)))
found=$(count planted SLOWER)
for which in aa planted; do
    echo "$which: $(sort "$rows/$which.counts" | uniq -c | awk '{ printf "%s%d %s", (NR > 1 ? ", " : ""), $1, $2 }')"
done
[ $moved = 0 ] && [ $refused = 0 ] && [ $((10 * found)) -ge $((9 * planted)) ]
