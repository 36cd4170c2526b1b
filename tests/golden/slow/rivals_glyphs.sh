# Two rows of the table of rivals again, curves and all. Another processor or number of threads adds in another order:
# ranks nearly as good as each other may change places, and images near a boundary with them. AVX-512 and AVX2 have given
# the same counts, one thread and two as well; three images are allowed for libraries not tried.
METHODS="dwpw spatial" RATIOS=3 "$ND_ROOT/results/rivals.sh" "$(dirname "$(command -v nd)")" glyphs >rows || exit
awk -F, -v images=3 -f "$ND_ROOT/results/recheck.awk" "$ND_ROOT/results/golden/rivals_glyphs.csv" rows
