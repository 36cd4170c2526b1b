# Wrong command lines: each names what is wrong and exits 2.
try() { nd "$@"; echo "exit $?"; }
exec 2>&1
try
try paint
try decouple
try decouple glyphs --paint
try decouple glyphs --rank
try decouple glyphs --rank 3 --rank 4
try inspect glyphs --conv-only
try eval glyphs --limit many --data glyphs
for verb in eval sweep 'decouple -o x.onnx --max-drop 1' 'quantize -o x.onnx --calib glyphs --quantize auto' \
    'reproduce paper-table1'; do
    # shellcheck disable=SC2086 # words
    try $verb glyphs --limit 0 --data glyphs
done
for verb in inspect 'decouple -o x.onnx --rank 2' 'quantize -o x.onnx --calib glyphs' 'eval --data glyphs' \
    'bench --no-layers' 'sweep --rank 2'; do
    # shellcheck disable=SC2086
    try $verb glyphs --input 48x64
done
try inspect glyphs --input 48x
try devices --quiet=yes
try decouple glyphs -o out.pt
