#!/usr/bin/env bash
# The two commands of the README on systems people have, each from a minimal chroot: `bootstrap demo` and `bootstrap test` in
# a clone of HEAD. Needs root, debootstrap, git and a mirror; takes a quarter of an hour a system, so CI does it weekly.
#   tests/systems/run.sh [SYSTEM...]      bookworm trixie noble (default: all)
# ND_MIRROR: another mirror than debootstrap's own choice; ND_SYSTEMS: a folder to keep the chroots in and use again.
# A system that cannot be had here is named and left out; exit code 77 when none could be, 1 when a command failed.
set -uo pipefail
root=$(realpath "$(dirname "$0")/../..")
skip() { echo "skipped: $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root, for chroot"
command -v debootstrap >/dev/null || skip "needs debootstrap"
[ $# -gt 0 ] || set -- bookworm trixie noble

work=$(mktemp -d)
folder=${ND_SYSTEMS:-$work}
leave() {
    local mount
    for mount in "$folder"/*/proc "$folder"/*/dev; do mountpoint -q "$mount" && umount -R -l "$mount"; done
    rm -rf --one-file-system "$work"
}
trap leave EXIT

# make SYSTEM: a minimal system in the folder, with what makes apt and bootstrap run.
make() {
    local chroot=$folder/$1 components=main
    [ "$1" = noble ] && components=main,universe
    [ -e "/usr/share/debootstrap/scripts/$1" ] || { echo "$1: left out: this debootstrap does not know it"; return 1; }
    if [ ! -x "$chroot/usr/bin/apt-get" ]; then
        debootstrap --variant=minbase --components=$components "$1" "$chroot" ${ND_MIRROR:+"$ND_MIRROR"} >"$work/log" 2>&1 ||
            { tail -3 "$work/log"; echo "$1: left out: no mirror within reach"; return 1; }
    fi
    [ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$chroot/etc/resolv.conf"
    mountpoint -q "$chroot/proc" || mount -t proc proc "$chroot/proc"
    mountpoint -q "$chroot/dev" || { mount --rbind /dev "$chroot/dev" && mount --make-rslave "$chroot/dev"; }
}

# try SYSTEM COMMAND: in a fresh clone, timed.
try() {
    local chroot=$folder/$1 start=$SECONDS verdict=ok
    rm -rf "$chroot/nd"
    git clone -q --no-hardlinks "$root" "$chroot/nd"
    chroot "$chroot" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        sh -c "cd /nd && ./bootstrap $2" >"$work/log" 2>&1 </dev/null || verdict=FAILED
    echo "$1: bootstrap $2: $verdict, $((SECONDS - start)) s"
    [ $verdict = ok ] && return
    tail -40 "$work/log" | sed 's/^/    /'
    failed=$((failed + 1))
}

failed=0 tried=0
for system in "$@"; do
    make "$system" || continue
    tried=$((tried + 1))
    for command in demo test; do try "$system" $command; done
done
echo "systems: $tried tried, $failed commands failed"
[ $tried -gt 0 ] || skip "no system could be had"
[ $failed = 0 ]
