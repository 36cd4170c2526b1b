#!/usr/bin/env bash
# Outputs are whole or absent, and nothing that was there is lost before there is something better.
#   tests/hostile/outputs.sh BUILD
. "$(dirname "$0")/lib.sh"

same() { [ "$(cat "$1")" = "$2" ]; }
lines() { [ "$(wc -l <"$1")" = "$2" ]; }

# --- nothing is emptied before there is something to put there
echo old >old.jsonl
ends 3 'nosuch.onnx: No such file' nd eval nosuch.onnx --data glyphs --json old.jsonl
that "a failed eval leaves --json as it was" same old.jsonl old
ends 3 'nosuch.onnx: No such file' nd bench nosuch.onnx --csv old.jsonl
that "a failed bench leaves --csv as it was" same old.jsonl old
ends 3 'nosuch.onnx' nd bench nosuch.onnx --csv bare.csv
that "a failed bench leaves no bare header" test ! -e bare.csv
that "no draft is left" no_drafts

# --- a file that held nothing has rows as they come, one that held something is replaced as a whole
ends 0 '' nd inspect glyphs --json rows.jsonl
that "rows are there" test "$(wc -l <rows.jsonl)" -gt 3
n=$(wc -l <rows.jsonl)
ends 0 '' nd inspect glyphs --json rows.jsonl
that "a second run replaces them" lines rows.jsonl "$n"
: >empty.csv
ends 0 '' nd zoo --csv empty.csv
that "an empty file is filled" test "$(wc -l <empty.csv)" -gt 3

# A verb that fails after its first rows: they stay beside what was there, and the warning says where.
ND_PLUGINS="$build/broken/abi" nd bench resnet20 --rank 2 --no-layers --time-limit 0.01 --sessions 1 --backend ref,cuda \
    --impl best --json rows.jsonl >/dev/null 2>err
that "the failure is told" grep -q 'plugin interface' err
that "rows.jsonl is as it was" lines rows.jsonl "$n"
part=$(sed -n 's/.*the rows written before this are in //p' err)
that "the rows measured are kept and named" test -s "${part:-/nowhere}"
that "they can be read" nd report "${part:-/nowhere}" --json - -q >/dev/null
rm -f ./*.part

# --- a sweep goes on with rows of nd that it knows all of, and nobody reads rows of a newer nd as if they were its own
for line in '{"a":1}' '{"schema":1,"later":2}' '{"schema":2,"rank":1}' '{"notes":['; do
    printf '{"schema":1,"verb":"eval","top1":50}\n%s' "$line" >notes.jsonl
    cp notes.jsonl before.jsonl
    ends 3 'notes.jsonl:2: .*; the file is left as it is' nd sweep glyphs --rank 3 --limit 5 --json notes.jsonl
    that "$line is there" cmp -s notes.jsonl before.jsonl
done
printf '{"schema":1,"verb":"eval","top1":50}\n{"schema":2,"verb":"eval","top1":50}\n' >newer.jsonl
printf 'schema,verb\n1,eval\n2,eval\n' >newer.csv
for newer in newer.jsonl:2 newer.csv:3; do
    file=${newer%:*}
    ends 3 "$newer: field schema is 2" nd report "$file"
    ends 3 "$newer: field schema is 2" nd compare rows.jsonl "$file"
    ends 3 "$newer: field schema is 2" nd compare rows.jsonl rows.jsonl --margins "$file"
done

# --- inputs are not outputs, and an output is written by one writer
cp "$glyphs" m.onnx
for option in --json --csv --md --sql; do
    ends 2 'm.onnx: that file is read' nd inspect m.onnx $option ./m.onnx
done
ends 2 'that file is read' nd decouple m.onnx --rank 3 -o m.onnx
ln m.onnx hard.onnx
ln -s m.onnx soft.onnx
ends 2 'that file is read' nd decouple m.onnx --rank 3 -o hard.onnx
ends 2 'that file is read' nd decouple m.onnx --rank 3 -o soft.onnx
ends 2 'that file is read' nd eval soft.onnx --original m.onnx --data glyphs --json hard.onnx
ends 2 'that file is read' nd report rows.jsonl --json ../work/rows.jsonl
ends 2 'that file is read' nd compare rows.jsonl rows.jsonl --json rows.jsonl
echo "m.png 1" >set.txt
ends 2 'that file is read' nd eval m.onnx --data list:set.txt --csv set.txt
ends 2 'that file is read' nd eval m.onnx --data glyphs --classes set.txt --csv set.txt
mkdir -p pictures/a
cp "$root/tests/fuzz/corpus/image/rgb8.png" pictures/a/1.png
ends 2 'that file is read' nd eval m.onnx --data imagefolder:pictures --json pictures/a/1.png
echo "pictures/a/1.png 1" >list.txt
ends 2 'that file is a picture' nd eval m.onnx --data list:list.txt --json pictures/a/1.png
ends 2 'that file is a picture' nd decouple m.onnx --rank 3 -o pictures/a/1.png
ends 0 '' nd eval m.onnx --data imagefolder:pictures --preprocess resize=32x32 --json pictures/rows.jsonl
ends 0 '' nd eval m.onnx --data imagefolder:pictures --preprocess resize=32x32 --json pictures/rows.jsonl
that "the picture is untouched" cmp -s "$root/tests/fuzz/corpus/image/rgb8.png" pictures/a/1.png
that "the model is untouched" cmp -s "$glyphs" m.onnx
ends 2 '--json is written there' nd zoo --json x --csv ./x
ends 2 'is written there' nd decouple m.onnx --rank 3 -o new.onnx --json new.onnx
that "and neither is made" test ! -e x -a ! -e new.onnx

# --- the draft: its name cannot be planted, links are not followed, and it is unique
for digits in 0 1; do ln -s /nowhere "z.jsonl.$digits.tmp"; done
ends 0 '' strace -f -e trace=openat -o trace nd zoo --json z.jsonl 2>/dev/null || true
if command -v strace >/dev/null; then
    that "O_EXCL and O_NOFOLLOW" grep -Eq 'z.jsonl.[0-9a-f]{16}.part", O_WRONLY\|O_CREAT\|O_EXCL\|O_NOFOLLOW' trace
else
    skip "no strace: the flags of the draft are not looked at"
fi
that "a link of one's own is written through" bash -c 'ln -s real.jsonl link.jsonl; : >real.jsonl;
    nd zoo --json link.jsonl >/dev/null && [ -L link.jsonl ] && [ -s real.jsonl ]'
chmod 640 real.jsonl
nd zoo --json real.jsonl >/dev/null
that "the mode of what is replaced stays" test "$(stat -c %a real.jsonl)" = 640

# --- what is no regular file is written directly
that "a FIFO" bash -c 'mkfifo f; wc -l <f >count & nd zoo --json f >/dev/null; wait; [ "$(cat count)" -gt 10 ] && [ -p f ]'
that "/dev/null stays a device" bash -c 'nd zoo --json /dev/null >/dev/null && [ -c /dev/null ]'
that "/dev/stdout" test "$(nd zoo --json /dev/stdout -q | grep -c '"zoo"')" -gt 10
ends 3 '/dev/full: cannot write rows: No space left' nd zoo --json /dev/full
ends 3 'nosuch/a.jsonl: No such file' nd zoo --json nosuch/a.jsonl
ends 3 'nosuch/m.onnx: No such file' nd decouple glyphs --rank 3 -o nosuch/m.onnx
ends 3 ': is a folder' nd zoo --json .

# --- removed on any signal that can be caught
for signal in HUP INT QUIT TERM PIPE ALRM XCPU XFSZ USR1 USR2 ABRT SEGV BUS FPE ILL SYS TRAP; do
    # The verb waits in a FIFO for its rows, its drafts open.
    rm -f wait
    mkfifo wait
    ( trap - INT QUIT; ulimit -c 0; exec nd inspect glyphs --json rows.jsonl --csv wait >/dev/null 2>said ) &
    child=$!
    for _ in $(seq 2000); do
        ls rows.jsonl.*.part >/dev/null 2>&1 && break
        sleep 0.01
    done
    ls rows.jsonl.*.part >/dev/null 2>&1 || kill -KILL $child
    kill -$signal $child 2>/dev/null
    sleep 0.02
    exec 9<>wait
    wait $child 2>/dev/null
    code=$?
    exec 9>&-
    that "SIG$signal ends it ($code)" test $code -gt 128
    that "SIG$signal leaves no draft" no_drafts
    case $signal in
    ABRT | SEGV | BUS | FPE | ILL | SYS | TRAP) that "SIG$signal is told with the calls it came in" grep -q 'nd(+0x' said ;;
    *) that "SIG$signal is no defect" test ! -s said ;;
    esac
    rm -f ./*.part
done
that "rows.jsonl is as it was" lines rows.jsonl "$n"

# --- a full or unusable cache never ends a run
run() {
    nd decouple glyphs --method dwpw --macs-ratio 1.1 --calib glyphs --calib-images 2 --skip 'features.1*' --skip features.3 \
        -o c.onnx
}
export -f run
ends 0 '' run
cp c.onnx expected.onnx
mv "$ND_CACHE" kept
for cache in file fifos full; do
    rm -rf "$ND_CACHE"
    case $cache in
    file) echo "not a folder" >"$ND_CACHE" ;;
    fifos)
        cp -r kept "$ND_CACHE"
        find "$ND_CACHE" -type f | while read -r path; do rm "$path"; mkfifo "$path"; done
        ;;
    full)
        mkdir "$ND_CACHE"
        mount -t tmpfs -o size=4k none "$ND_CACHE" 2>/dev/null || { skip "no tmpfs: a full cache"; continue; }
        ;;
    esac
    ends 0 '' timeout 120 bash -c run
    that "the result is the same (cache: $cache)" cmp -s c.onnx expected.onnx
    mountpoint -q "$ND_CACHE" && umount "$ND_CACHE"
done
rm -rf "$ND_CACHE"

# --- plots are whole: what is written is renamed into place
nd sweep glyphs --rank 2,4 --limit 20 --json s.jsonl >/dev/null 2>&1
ends 0 '' nd report s.jsonl -o r.html --plots plots
if command -v strace >/dev/null; then
    strace -f -e trace=openat,renameat,rename -o trace nd report s.jsonl -o r.html --plots plots 2>/dev/null
    that "no plot or page is opened under its own name" bash -c '! grep -E "openat.*\.(png|svg|html)\", O_(WRONLY|RDWR)" trace'
    that "every PNG is renamed" grep -q 'renameat.*\.part", [0-9]*, "[^"]*\.png"' trace
fi
that "no draft is left" no_drafts
finish
