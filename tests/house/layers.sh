#!/usr/bin/env bash
# The arrows of the house: what each room, and each room within a room, may include. A room may always include itself and
# base; and no two files need each other, not even in one room (circles.py).
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
rule host/quantize quantize/ run/ model/
rule host/check check/ run/
rule datasets datasets/
rule eval eval/ decouple/ run/ model/ datasets/
rule bench bench/ decouple/ quantize/ run/ model/ check/
rule host/cli cli/ eval/ bench/ check/ decouple/ quantize/ run/ model/ datasets/
rule cuda cuda/ run/backend.h run/quantized.h

# Rooms within rooms, from the bottom up. decouple.h, bench.h, cli.h and device.h are what their whole room shares.
rule host/model/infer model/infer/ model/dims.h model/graph.h model/images.h
rule host/model/weights model/weights/ model/graph.h model/model.h
rule host/model/zoo model/zoo/ model/graph.h model/model.h
rule host/model/onnx model/onnx/ model/infer/ model/graph.h model/graph_names.h model/model.h
rule host/run/ref run/backend.h run/plugins.h run/quantized.h run/ref/
rule host/run/cpu run/backend.h run/plugins.h run/quantized.h run/cpu/
rule host/run/cpu/kernels run/backend.h run/plugins.h run/quantized.h run/cpu/cpu.h run/cpu/kernels/
rule host/decouple/fit decouple/fit/ decouple/chain.h run/ model/
rule host/decouple/methods decouple/methods/ decouple/fit/ decouple/chain.h run/ model/
rule host/decouple/plan decouple/plan/ decouple/methods/ decouple/chain.h decouple/decouple.h run/ model/
rule host/decouple/calib decouple/calib/ decouple/plan/ decouple/methods/ decouple/fit/ decouple/chain.h decouple/decouple.h run/ model/
rule host/decouple/curves decouple/curves/ decouple/calib/ decouple/plan/ decouple/methods/ decouple/fit/ decouple/chain.h decouple/decouple.h run/ model/
rule datasets/annotations datasets/annotations/ datasets/image/ datasets/lines.h datasets/source.h
rule datasets/image datasets/image/
rule eval/detect eval/detect/ run/ model/
rule eval/report eval/report/
rule bench/timing bench/timing/ bench/bench.h decouple/ quantize/ run/ model/
rule bench/subjects bench/subjects/ bench/timing/ bench/bench.h decouple/ run/ model/ check/
rule bench/gate bench/gate/ bench/timing/
rule host/cli/args cli/args/ cli/cli.h datasets/ model/ run/
rule host/cli/out cli/out/ cli/cli.h
rule cuda/kernels cuda/kernels/ cuda/check.h run/backend.h run/quantized.h
rule cuda/tune cuda/tune/ cuda/kernels/ cuda/device.h cuda/check.h run/backend.h
rule cuda/quantized cuda/quantized/ cuda/kernels/ cuda/device.h cuda/check.h run/backend.h run/quantized.h
rule cuda/libs cuda/libs/ cuda/tune/ cuda/kernels/ cuda/device.h cuda/check.h
rule cuda/separable cuda/separable/ cuda/quantized/ cuda/libs/ cuda/tune/ cuda/kernels/ cuda/device.h cuda/check.h


if git ls-files 'host/*' 'datasets/*' 'eval/*' 'bench/*' | xargs grep -nE '#[ ]*include [<"](cuda|cudnn|cublas|cusolver)' /dev/null; then
    echo "a CUDA header outside cuda/"
    failed=1
fi
[ "$checked" -gt 100 ] || { echo "only $checked includes found: wrong folder?"; exit 1; }
python3 tests/house/circles.py || failed=1
echo "layers: $checked includes"
exit $failed
