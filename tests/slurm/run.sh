#!/bin/sh
# Runs bench/gate/slurm.sbatch on a one-node Slurm of its own on loopback and merges the shares.
#   tests/slurm/run.sh ND
# Exit 77, saying why, where such a Slurm cannot be started.
set -u
nd=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
dir=$(mktemp -d)
munged= ctld= slurmd=

skip() { echo "skipped: $1"; exit 77; }
stop() {
    for pid in $slurmd $ctld $munged; do kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    rm -rf "$dir"
}
trap stop EXIT

for tool in slurmctld slurmd sbatch squeue sinfo munged; do
    PATH=$PATH:/usr/sbin command -v $tool >/dev/null || skip "$tool is not installed"
done
PATH=$PATH:/usr/sbin
[ "$(id -u)" = 0 ] || skip "slurmd wants to be root"

host=$(hostname -s)
mkdir "$dir/state" "$dir/spool" "$dir/munge"
chmod 755 "$dir"
dd if=/dev/urandom of="$dir/munge/key" bs=128 count=1 2>/dev/null
chmod 700 "$dir/munge"
chmod 600 "$dir/munge/key"
munged --force --foreground --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
    --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" >"$dir/munge/out" 2>&1 &
munged=$!
cat >"$dir/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/ctld.pid
SlurmdPidFile=$dir/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SchedulerParameters=sched_interval=1
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$dir/slurm.conf"
slurmctld -D -c >"$dir/ctld.log" 2>&1 &
ctld=$!
slurmd -D -N "$host" >"$dir/slurmd.log" 2>&1 &
slurmd=$!

tries=0
until sinfo -h -o %T 2>/dev/null | grep -q idle; do
    tries=$((tries + 1))
    kill -0 $ctld 2>/dev/null || skip "slurmctld ended: $(tail -n 1 "$dir/ctld.log")"
    kill -0 $slurmd 2>/dev/null || skip "slurmd ended: $(tail -n 1 "$dir/slurmd.log")"
    [ $tries -lt 60 ] || skip "the node did not come up: $(tail -n 1 "$dir/slurmd.log")"
    sleep 1
done

cd "$dir" || exit 1
job=$(ND="$nd" ND_ROWS="$dir" sbatch --parsable --wait --array=1-3 "$here/../../bench/gate/slurm.sbatch" \
    resnet20 --backend ref --rank 1..4 --method dwpw,pwdw) || { cat nd-sweep-*.log; echo "the job array failed"; exit 1; }
echo "job $job"
"$nd" report sweep-1.jsonl sweep-2.jsonl sweep-3.jsonl --json all.jsonl || exit 1
rows=$(wc -l <all.jsonl)
[ "$rows" = 9 ] || { echo "$rows rows where 8 points and the original make 9"; exit 1; }
[ "$(grep -c '"rank":' all.jsonl)" = 8 ] || { echo "a point is missing"; exit 1; }
echo "3 shares, 9 rows"
