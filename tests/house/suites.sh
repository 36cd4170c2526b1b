#!/usr/bin/env bash
# Every test of ctest is in a suite and has a time limit.
set -euo pipefail
build=${1:-build}
ctest --test-dir "$build" --show-only=json-v1 | python3 -c '
import json, sys
tests = json.load(sys.stdin)["tests"]
bad = 0
for test in tests:
    named = {p["name"]: p["value"] for p in test["properties"]}
    labels = named.get("LABELS", [])
    if len(labels) != 1 or labels[0] not in ("quick", "full") or "TIMEOUT" not in named:
        print(test["name"], "needs a label, quick or full, and a time limit: see nd_suite in tests/tests.cmake")
        bad += 1
print("suites:", len(tests), "tests")
sys.exit(bad > 0 or not tests)'
