#!/usr/bin/env bash
# All tests on a Python of another Debian: `make test-debian SUITE=sid WITH=python3.14`. Needs root, and debootstrap.
#
# The root is made anew each time, in a temporary folder, and removed at the end: what a machine has by hand must not help. The
# last commit is tested, as a clone has it. KEEP=1 leaves the root there.
set -euo pipefail
suite=${1:?which Debian: sid, trixie, …} python=${2:?which Python: python3.14, …} target=${3:-test}
[ "$(id -u)" = 0 ] || { echo "tests/debian/run.sh: only root may make a root of its own" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "tests/debian/run.sh: install the package debootstrap" >&2; exit 1; }
here=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
root=$(mktemp -d) && chmod 755 "$root" # apt drops root

leave() {
  for mounted in proc sys dev/pts dev/shm dev ""; do umount -Rl "$root/$mounted" 2>/dev/null || true; done
  if [ "${KEEP:-0}" = 1 ]; then
    echo "the root is left at $root"
  else
    ! mountpoint -q "$root/dev" && rm -rf --one-file-system "$root"
  fi
}
trap leave EXIT

debootstrap --variant=minbase --include=ca-certificates,git,make,gcc,procps "$suite" "$root" >"$root.log" \
  || { tail -n 20 "$root.log" >&2; exit 1; }
rm "$root.log"
mount --bind "$root" "$root" && mount --make-private "$root" # unshare(1) wants a root that is a mount
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys" && mount --make-rslave "$root/sys" # what is unmounted there stays here
mount --bind /dev "$root/dev"
mount --bind /dev/pts "$root/dev/pts"
mount --bind /dev/shm "$root/dev/shm"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
# A machine that reaches its packages in a way of its own says so here, and in the environment, which is handed down.
for file in pip.conf ssl/certs/ca-certificates.crt; do
  if [ -f "/etc/$file" ]; then cp -L "/etc/$file" "$root/etc/$file"; fi
done
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no package starts a service
chmod +x "$root/usr/sbin/policy-rc.d"
echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/99mirror" # one that lags behind is as good

git clone --quiet "$here" "$root/srv/unicornd"
chroot "$root" /bin/sh -ec "
  export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends $python $python-venv $python-dev >/dev/null
  cd /srv/unicornd
  $python -VV
  make $target PYTHON=$python"
