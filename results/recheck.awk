# Rows of results/rivals.sh against those kept: awk -F, -v images=N -f recheck.awk results/golden/rivals_NET.csv NEW
# A row is as recorded when its ratio of MACs is within 1 % and as many of as many test images are right, up to `images`.
function off(a, b) { return a > b ? a - b : b - a }
{ key = $1 "," $2 "," $3 "," $4 }
FNR == 1 { next }
FNR == NR { ratio[key] = $5; n[key] = $6; right[key] = $7; next }
!(key in n) { print key ": not recorded"; next }
off($5, ratio[key]) <= .01 * ratio[key] && $6 == n[key] && $7 != "" && off($7, right[key]) <= images { print key ": as recorded"; next }
{ print key ": " $7 " of " $6 " right at " $5 "x, recorded " right[key] " of " n[key] " at " ratio[key] "x" }
