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
try devices --quiet=yes
try decouple glyphs -o out.pt
