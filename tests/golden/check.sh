# nd check names its cases, compares them, and fails when it compared nothing; nd devices knows the reference.
exec 2>&1
nd check --backend ref --list --op fill
nd check --backend ref --list --op 'svd/*x9'
nd check --backend ref --op 'gather/one/*' --json - |
    sed -E 's/.*("operation".*),"worst".*/\1/'
nd check --backend ref --op 'nothing*'
echo "exit $?"
nd check --backend ref --dtype tf32 --op gather
echo "exit $?"
nd check --dtype fp8
echo "exit $?"
nd check --backend tpu
echo "exit $?"
nd devices --backend ref | sed '/^$/d; s/^[0-9.]* \(CPU threads\{0,1\}\|GiB\) by default: .*/N \1 by default: .../; s/threads by/thread by/'
