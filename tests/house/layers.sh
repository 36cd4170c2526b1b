#!/usr/bin/env bash
# The arrows of the house: what each room may include. A room may always include itself and base.
set -euo pipefail
cd "$(dirname "$0")/../.."
failed=0
checked=0

# rule ROOM ALLOWED...: no file of ROOM includes a room that is not allowed.
rule() {
    local room=$1 file line include
    shift
    while IFS=: read -r file line include; do
        checked=$((checked + 1))
        include=${include#*\"}
        include=${include%%\"*}
        local ok=0 allowed
        for allowed in base/ "$@"; do
            case "$include" in "$allowed"*) ok=1 ;; esac
        done
        case "$include" in */*) ;; *) ok=1 ;; esac # a neighbour in the same folder, or a generated header
        if [ $ok = 0 ]; then
            echo "$file:$line: $room may not include $include"
            failed=1
        fi
    done < <(git ls-files "$room/*.c" "$room/*.h" "$room/*.cu" "$room/*.cuh" | xargs -r grep -nE '^ *#[ ]*include "' /dev/null || true)
}

rule host/base
rule host/model model/
rule host/run run/ model/
rule host/decouple decouple/ run/ model/
rule host/check check/ run/
rule datasets datasets/
rule eval eval/ decouple/ run/ model/ datasets/
rule bench bench/ decouple/ run/ model/ check/
rule host/cli cli/ eval/ bench/ check/ decouple/ run/ model/ datasets/
rule cuda cuda/ run/backend.h tests/simt/ # the emulator stands in for the CUDA runtime where a host compiler reads a kernel
rule host/run/cpu run/ cpu/

if git ls-files 'host/*' 'datasets/*' 'eval/*' 'bench/*' | xargs grep -nE '#[ ]*include [<"](cuda|cudnn|cublas|cusolver)' /dev/null; then
    echo "a CUDA header outside cuda/"
    failed=1
fi
[ "$checked" -gt 100 ] || { echo "only $checked includes found: wrong folder?"; exit 1; }
echo "layers: $checked includes"
exit $failed
