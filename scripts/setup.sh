#!/bin/sh
# Makes a checkout ready to run: Debian packages, node modules, the bundle in dist/. Does only what is missing, so it
# can be run at any time; when nothing is missing it takes a fraction of a second.
set -eu

usage() {
  cat <<'TEXT'
Usage: scripts/setup.sh [--test]

Installs what skerryd needs (crun, runc, conmon, tini, nftables, iptables, iproute2, procps, xz-utils, bzip2, node
modules) and builds it.

  --test    also fetch what the tests use: openssl, strace, zstd, rdiff, e2fsprogs and xfsprogs are installed; docker-registry,
            the docker command line and a static busybox are only unpacked into .cache/tools, so that no service starts.
  --help    this text
TEXT
}

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

with_tests=
case ${1-} in
  '') ;;
  --test) with_tests=1 ;;
  -h | --help) usage; exit ;;
  *) usage >&2; exit 2 ;;
esac

root=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
cd -- "$root"
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps nft, ip and runc; not on every PATH of root
tools=.cache/tools

# Two at once (npm start beside npm test) take turns.
mkdir -p .cache
if have flock; then
  exec 9>.cache/setup.lock
  flock 9
fi

# apt_get VERB ARGUMENT...: tries with the package lists that are there, and only then with fresh ones.
apt_get() {
  have apt-get || fail "this is no Debian (there is no apt-get): cannot $*"
  log=$(mktemp)
  if DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 9>&-; then
    rm -f "$log"
    return
  fi
  rm -f "$log"
  if [ "$(id -u)" = 0 ]; then apt-get -q update >/dev/null 9>&- || fail 'apt-get update failed'; fi
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" 9>&- || fail "apt-get $* failed"
}

# install_packages PROGRAM:PACKAGE...: by program, as runc may come from containerd.io, and that is as good.
install_packages() {
  missing=
  for pair in "$@"; do
    have "${pair%%:*}" || missing="$missing ${pair##*:}"
  done
  [ -n "$missing" ] || return 0
  [ "$(id -u)" = 0 ] || fail "missing:$missing. Run this as root, or: sudo apt-get install --no-install-recommends$missing"
  say "installing$missing"
  # shellcheck disable=SC2086 # a list
  apt_get install --no-install-recommends --no-remove $missing
}

# unpack PACKAGE FILE NAME: one program out of a Debian package, without installing it.
unpack() {
  say "fetching $3 (from $1)"
  dir=$(mktemp -d)
  (
    cd -- "$dir"
    apt_get download "$1" >/dev/null
    dpkg-deb --fsys-tarfile ./*.deb | tar -xO "./$2" >program
    chmod 755 program
  )
  mkdir -p $tools
  mv -- "$dir/program" "$tools/$3"
  rm -rf -- "$dir"
}

fetch_test_tools() {
  have docker-registry || [ -x $tools/docker-registry ] || unpack docker-registry usr/bin/docker-registry docker-registry
  # From Debian 13 on the command line is a package of its own; before, it lies beside the daemon.
  if ! have docker && [ ! -x $tools/docker ]; then
    case $(apt-cache policy docker-cli 2>/dev/null) in
      *'Candidate: '[0-9]*) unpack docker-cli usr/bin/docker docker ;;
      *) unpack docker.io usr/bin/docker docker ;;
    esac
  fi
  # Debian's plain busybox is linked dynamically, and the two packages exclude each other.
  if [ "$(dpkg-query -W -f '${db:Status-Status}' busybox-static 2>/dev/null)" != installed ]; then
    [ -x $tools/busybox ] || unpack busybox-static bin/busybox busybox
  fi
}

node=node_modules/node/bin/node
node_is_right() { case $($node --version 2>/dev/null) in v24.*) ;; *) return 1 ;; esac }

install_modules() {
  stamp="$(sha256sum package-lock.json) $(uname -m)"
  [ "$(cat node_modules/.skerry-setup 2>/dev/null)" = "$stamp" ] && node_is_right && return
  have npm || fail 'npm is missing. On Debian: apt-get install nodejs npm'
  say 'installing node modules'
  # development ones too, whatever NODE_ENV says: esbuild is one
  npm ci --include=dev --no-audit --no-fund --loglevel=error 9>&-
  # the binary comes from a script of the package, and scripts may be switched off
  node_is_right || (cd node_modules/node && node installArchSpecificPackage.js >/dev/null 9>&-) || true
  node_is_right || fail "node_modules/node/bin/node does not run as Node 24 on this $(uname -m) machine"
  printf '%s\n' "$stamp" >node_modules/.skerry-setup
}

# Directories count as well: their time tells of a file that was removed.
build() {
  if [ -e dist/node-flags ] &&
    [ -z "$(find src boards scripts/build.ts package.json node_modules/.skerry-setup -newer dist/node-flags -print -quit)" ]; then
    return
  fi
  say building
  $node scripts/build.ts >/dev/null
  # found out here once, so that starting costs nothing: how much memory Node may use on this board
  $node dist/skerry.js board detect --node-flags >dist/node-flags
}

install_packages crun:crun runc:runc conmon:conmon tini-static:tini nft:nftables iptables:iptables ip:iproute2 ps:procps xz:xz-utils bzip2:bzip2
install_modules
build
if [ -n "$with_tests" ]; then
  install_packages openssl:openssl strace:strace zstd:zstd rdiff:rdiff mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs
  fetch_test_tools
fi
