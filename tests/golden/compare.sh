# nd compare on made-up rows: every verdict, every refusal, and the exit code of each.
exec 2>&1
# run FACTOR SPREAD [FIELD...]: a dense and a decoupled network timed in twenty sessions of two blocks; the decoupled one
# takes FACTOR of 400 us, and SPREAD of it is noise.
run() {
    awk -v factor="$1" -v spread="$2" -v extra="${3:-}" 'BEGIN {
        for (i = 0; i < 40; ++i) {
            load = 1 + 0.001 * (i * 37 % 11)
            dense = dense (i ? "," : "") 1e6 * load
            fused = fused (i ? "," : "") 4e5 * factor * load * (1 + spread * ((i * 53 + length(factor) * 7) % 19 - 9) / 9)
        }
        common = "\"schema\":1,\"verb\":\"bench\",\"model\":\"m\",\"backend\":\"cpu\",\"device\":\"a machine\"," \
            "\"dtype\":\"fp32\",\"batch\":1,\"threads\":1,\"cold\":false,\"sessions\":[2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2]," \
            "\"host_cpu\":\"a processor\"" extra
        printf "{%s,\"implementation\":\"dense\",\"method\":\"none\",\"ns_median\":1005000,\"ratio\":1,\"samples_ns\":[%s]}\n", common, dense
        printf "{%s,\"implementation\":\"fused\",\"method\":\"dwpw\",\"rank\":3,\"ns_median\":%d,\"ratio\":%.4f,\"samples_ns\":[%s]}\n",
            common, 402000 * factor, 2.5 / factor, fused
    }'
}
try() { echo "nd compare $*"; nd compare "$@"; echo "exit $?"; echo; }
run 1 0.002 >base.jsonl
run 1.001 0.002 >same.jsonl
run 1.05 0.002 >slower.jsonl
run 0.9 0.002 >faster.jsonl
run 1.04 0.9 >noisy.jsonl
try base.jsonl same.jsonl --verbose
try base.jsonl slower.jsonl
try base.jsonl slower.jsonl --margin 0.1
try base.jsonl slower.jsonl --absolute 30000
try base.jsonl slower.jsonl --confirm
try base.jsonl faster.jsonl
try base.jsonl noisy.jsonl
try base.jsonl noisy.jsonl --strict

echo "measured margins"
nd compare --aa 3 base.jsonl same.jsonl slower.jsonl -o margins.jsonl
echo "exit $?"
try base.jsonl slower.jsonl --margins margins.jsonl
try --aa 1 base.jsonl

echo "refusals"
sed 's/a machine/another/' same.jsonl >device.jsonl
sed 's/"threads":1/"threads":2/' same.jsonl >threads.jsonl
sed 's/a processor/another/' same.jsonl >host.jsonl
sed 's/"m"/"n"/' same.jsonl >model.jsonl
head -1 same.jsonl >half.jsonl
: >empty.jsonl
echo '{"verb":' >broken.jsonl
for other in device threads host model half empty broken absent; do try base.jsonl $other.jsonl; done
try base.jsonl
try base.jsonl same.jsonl --margin -1

sed 's/"sessions":[^]]*]/"sessions":[7,13,2]/' same.jsonl >torn.jsonl
try base.jsonl torn.jsonl
try base.jsonl same.jsonl --margins same.jsonl

echo "accuracy"
accuracy() { echo "{\"schema\":1,\"verb\":\"eval\",\"model\":\"m\",\"dataset_sha256\":\"$3\",\"n\":1000,\"top1\":$1,\"top5\":$2}"; }
accuracy 70 90 a >top.jsonl
accuracy 69.95 90 a >almost.jsonl
accuracy 71 89 a >worse.jsonl
accuracy 70 90 b >data.jsonl
for other in almost worse data; do try top.jsonl $other.jsonl; done

echo "detectors, rows that miss a measure, rows of counts"
detector() { echo "{\"schema\":1,\"verb\":\"eval\",\"model\":\"d\",\"n\":100,\"conv_macs\":$3,\"ap\":$1,\"ap50\":$2}"; }
detector 40 60 1000 >found.jsonl
detector 40 1 1000 >lost.jsonl
detector 40 null 1000 >gone.jsonl
detector 40 60 10000 >more.jsonl
for other in lost gone more; do try found.jsonl $other.jsonl; done
echo '{"schema":1,"verb":"inspect","model":"d","conv_macs":1000}' >counts.jsonl
try counts.jsonl counts.jsonl
cat found.jsonl counts.jsonl >both.jsonl
try both.jsonl both.jsonl --verbose
nd compare base.jsonl slower.jsonl --json - | grep -oE '"(verdict|margin|change)":[^,}]*'
