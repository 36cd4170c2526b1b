#!/usr/bin/env bash
# The Debian package installs on a bare Debian 12 and runs there: debootstrap makes the system in a folder, apt brings what
# the package names, and nd evaluates the bundled network. Needs root, debootstrap and a mirror, and takes minutes: run by
# hand and nightly. A CHROOT that is there already is used as it is, and kept.
#   deb_test.sh BUILD [CHROOT]
set -euo pipefail
build=$(realpath "${1:?build folder}")
chroot=${2:-}
skip() { echo "skipped: $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root, for chroot"
command -v debootstrap >/dev/null || skip "needs debootstrap"
command -v dpkg-shlibdeps >/dev/null || skip "needs dpkg-dev, by which the package finds its dependencies"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ -n "$chroot" ] || chroot=$work/root
if [ ! -x "$chroot/usr/bin/apt-get" ]; then
    debootstrap --variant=minbase bookworm "$chroot" >"$work/log" 2>&1 || { tail -5 "$work/log"; skip "debootstrap found no mirror"; }
fi
(cd "$build" && cpack -G DEB -B "$work" >"$work/log") || { cat "$work/log"; exit 1; }
package=$(echo "$work"/nd_*.deb)
dpkg-deb --info "$package" | grep -E ' (Package|Version|Depends|Installed-Size):'
cp "$package" "$chroot/tmp/nd.deb"
inside() { chroot "$chroot" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }
[ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$chroot/etc/resolv.conf"
{ inside apt-get update && inside apt-get install -y --no-install-recommends /tmp/nd.deb; } >"$work/log" 2>&1 ||
    { tail -20 "$work/log"; exit 1; }
cd /
inside nd --version
inside nd devices
inside nd eval glyphs --data glyphs
inside nd eval glyphs --data glyphs --json /tmp/rows --quiet
grep -q '"backend":"cpu"' "$chroot/tmp/rows" || { echo "FAIL: the cpu plugin did not run"; exit 1; }
