#!/usr/bin/env bash
# All tests on a Python of another Debian: `make test-debian SUITE=sid WITH=python3.14`. Needs root, and debootstrap.
#
# The root is made anew each time, in a temporary folder, and removed at the end: what a machine has by hand must not help. The
# last commit is tested, as a clone has it. All mounts are in a namespace of their own, and end with it.
set -euo pipefail
suite=${1:?which Debian: sid, trixie, …} python=${2:?which Python: python3.14, …} target=${3:-test}
[ "$(id -u)" = 0 ] || { echo "tests/debian/run.sh: only root may make a root of its own" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "tests/debian/run.sh: install the package debootstrap" >&2; exit 1; }
here=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root" "$root.log"' EXIT
chmod 755 "$root" # apt and the tests have other users, too

debootstrap --variant=minbase --include=ca-certificates,git,make,gcc,procps "$suite" "$root" >"$root.log" \
  || { tail -n 20 "$root.log" >&2; exit 1; }
cp /etc/resolv.conf /etc/hosts "$root/etc/"
# A machine that reaches its packages in a way of its own says so here, and in the environment, which is handed down.
for file in pip.conf ssl/certs/ca-certificates.crt; do
  if [ -f "/etc/$file" ]; then cp -L "/etc/$file" "$root/etc/$file"; fi
done
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no package starts a service
chmod +x "$root/usr/sbin/policy-rc.d"
echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/99mirror" # one that lags behind is as good
git clone --quiet "$here" "$root/srv/unicornd"

# pivot_root(8), not chroot(8): in /proc, and for whoever makes a mount namespace, it has to be the root.
unshare --mount --propagation private /bin/sh -ec '
  mount --bind "$0" "$0" && cd "$0"
  mount --rbind /dev dev && mount --rbind /sys sys && mount -t proc proc proc
  mkdir old && pivot_root . old && umount -l /old && rmdir /old
  export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "$1" "$1-venv" "$1-dev" >/dev/null
  cd /srv/unicornd
  "$1" -VV
  make "$2" PYTHON="$1"
' "$root" "$python" "$target"
