# One row of the table of rivals again, as in rivals_glyphs.
METHODS=dwpw RATIOS=3 "$ND_ROOT/results/rivals.sh" "$(dirname "$(command -v nd)")" resnet20 >rows || exit
awk -F, -v images=3 -f "$ND_ROOT/results/recheck.awk" "$ND_ROOT/results/golden/rivals_resnet20.csv" rows
