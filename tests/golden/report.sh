# nd report: the Markdown tables of given rows, the files it writes, what it refuses.
exec 2>&1
row() { echo "{\"schema\":1,\"verb\":\"sweep\",\"model\":\"m\",\"backend\":\"cpu\",\"device\":\"d\",\"dtype\":\"fp32\",\"batch\":8,\"dataset\":\"set\",\"dataset_sha256\":\"a\",\"n\":100,\"top5\":99,$1}"; }
{
    row '"method":"none","form":"none","ranks":"dense","conv_macs":1000,"total_macs":1100,"conv_macs_ratio":1,"top1":90'
    row '"method":"dwpw","form":"dwpw","ranks":"uniform","rank":2,"rule":"rank","target":2,"conv_macs":250,"total_macs":350,"conv_macs_ratio":4,"top1":80,"drop_top1":10,"drop_top1_lo":5,"drop_top1_hi":15,"ratio":2.5,"pareto":true'
    row '"method":"dwpw","form":"dwpw","ranks":"uniform","rank":4,"rule":"rank","target":4,"conv_macs":500,"total_macs":600,"conv_macs_ratio":2,"top1":89,"drop_top1":1,"drop_top1_lo":-1,"drop_top1_hi":3,"ratio":1.6,"pareto":true'
} >rows.jsonl
nd report rows.jsonl
echo "exit $?"
nd report rows.jsonl -o report.html --plots plots
echo "exit $?"
ls plots
grep -c '<svg' report.html
grep -oE '(src|href)="[^#"]*"' report.html
echo "no reference leads out of the file"
nd report rows.jsonl --csv - | cut -d, -f1-3
: >empty.jsonl
echo '{"rank":"three"}' >wrong.jsonl
try() { nd report "$@"; echo "exit $?"; }
try rows.jsonl -o report.pdf
try rows.jsonl -o nowhere/report.html
try empty.jsonl
try wrong.jsonl
try absent.jsonl
try
