# nd bench: which rows there are, and what is refused. Times are not looked at.
nd devices --backend cpu >/dev/null 2>&1 || { echo "no cpu backend" >&2; exit 77; }
exec 2>&1
fields() {
    while read -r row; do
        grep -oE '"(model|method|form|rank|ranks|rule|target|original|batch|dtype|cold|layer|layers|implementation|operation|conv_macs|total_macs)":("[^"]*"|[^,}]*)' \
            <<<"$row" | sed 's/"//g' | paste -sd ' '
    done | sed '/implementation:best/ s/ conv_macs:[0-9]*//; /implementation:best/ s/ total_macs:[0-9]*//' # the times decide
}
network=(--backend cpu --threads 1 --time-limit 0.01 --sessions 1)
quick=("${network[@]}" --cache hot)
echo "layers, their stack, the network"
nd bench glyphs "${quick[@]}" --rank 1 --impl fused,best --json - | fields
echo
echo "networks alone, and their kernels"
nd bench glyphs "${network[@]}" --no-layers --rank 1 --energy 0.5 --impl fused --nodes --json - | fields
echo
echo "a network that was decoupled before"
nd decouple glyphs -o small.onnx --method pwdw --rank 1 --quiet >/dev/null
nd bench small.onnx --original glyphs "${network[@]}" --impl unfused --json - | fields
echo
try() {
    nd bench "$@" | sed 's/^/  /'
    echo "exit ${PIPESTATUS[0]}"
}
try glyphs --impl paint
try glyphs --cache warm
try glyphs --rank 0
try glyphs --energy 2 --no-layers
try glyphs --batch 0
try glyphs --sessions 0
try glyphs --dtype fp8
try glyphs --dtype tf32 --backend ref --no-layers
try glyphs --ranks some --no-layers
try nothing.onnx
try glyphs --original nothing.onnx
try glyphs --backend tpu
try glyphs --backend cpu --device 7
try glyphs --threads -1
try glyphs --threads 100000
try cifar --method spatial
try cifar --energy 0.9
try cifar --skip 'layer1*'
try glyphs "${quick[@]}" --rank 1 --strict | tail -2
try resnet18 --original resnet20 "${network[@]}"
