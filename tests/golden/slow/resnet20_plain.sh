# ResNet-20 decoupled from its weights alone, against an independent implementation: top-1 and top-5 of 1000 images within 4.
model="$ND_DATA/models/resnet20-cifar10.safetensors" images="$ND_DATA/cifar10-bin/test_batch.bin"
[ -f "$model" ] && [ -f "$images" ] || { echo "no ResNet-20 or CIFAR-10 under ND_DATA" >&2; exit 77; }
cat >expected <<'END'
dwpw uniform 7 913 998
dwpw uniform 6 906 998
dwpw uniform 5 840 997
dwpw uniform 4 761 988
dwpw uniform 3 296 892
dwpw uniform 2 125 522
dwpw adaptive 7 918 996
dwpw adaptive 6 917 998
dwpw adaptive 5 902 994
dwpw adaptive 4 848 991
dwpw adaptive 3 674 972
dwpw adaptive 2 193 740
pwdw uniform 7 912 999
pwdw uniform 6 913 998
pwdw uniform 5 864 988
pwdw uniform 4 826 983
pwdw uniform 3 434 880
pwdw uniform 2 116 718
END
models=()
while read -r method ranks terms _; do
    file=$method-$ranks-$terms.onnx
    nd decouple "resnet20:$model" --method "$method" --ranks "$ranks" --rank "$terms" -o "$file" --threads 1 --json - -q >rows || exit 1
    models+=("$file")
done <expected
nd eval "${models[@]}" --data "cifar10:$images" --threads 1 --json counts -q >/dev/null || exit 1
count() { sed -n "s/.*\"model\":\"$1\".*\"$2\":\([0-9]*\).*/\1/p" counts; }
near() { d=$(($1 - $2)); [ "${d#-}" -le 4 ]; }
while read -r method ranks terms top1 top5; do
    file=$method-$ranks-$terms.onnx
    got1=$(count "$file" top1_correct) got5=$(count "$file" top5_correct)
    if near "${got1:--99}" "$top1" && near "${got5:--99}" "$top5"; then
        echo "$method $ranks T=$terms: within 4 images"
    else
        echo "$method $ranks T=$terms: $got1 / $got5, expected $top1 / $top5"
    fi
    echo "$method,$ranks,$terms,$got1,$got5" >>"${ND_KEEP:-/dev/null}"
done <expected
