#!/bin/sh
# Shows Skerry's main job in under two minutes, with an engine, a registry and a network of its own. Leaves nothing.
set -eu

usage() {
  cat <<'TEXT'
Usage: scripts/demo.sh [--fast]

Shows the main job with the docker command line: pull, run, a published port, the daemon's sudden death, an update.
The engine and the registry are private, in a temporary directory and in name spaces (network, mounts, processes) that
end with the demo, also after Ctrl-C. Needs root.

  --fast    without pauses for reading
  --help    this text
TEXT
}

case ${1-} in
  '' | --fast) ;;
  -h | --help) usage; exit ;;
  *) usage >&2; exit 2 ;;
esac
if [ "$(id -u)" != 0 ]; then
  echo 'demo: this needs root: containers do' >&2
  exit 1
fi

root=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
"$root/scripts/setup.sh" --test
export PATH="$root/.cache/tools:$PATH:/usr/sbin:/sbin"

directory=$(mktemp -d /tmp/skerry-demo-XXXXXX)
name=${directory#/tmp/}
sandbox=

# Killing the sandbox's init kills whatever was started in it, and the last process takes its mounts and network along.
# Only cgroups stay, and the directory.
clean_up() {
  trap '' INT TERM HUP
  if [ -n "$sandbox" ]; then
    kill -KILL "$sandbox" 2>/dev/null || true
    wait "$sandbox" 2>/dev/null || true
  fi
  for cgroup in "/sys/fs/cgroup/$name" /sys/fs/cgroup/*/"$name"; do
    tries=0
    while [ -d "$cgroup" ] && [ $tries -lt 50 ]; do
      find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
      tries=$((tries + 1))
    done
  done
  rm -rf -- "$directory"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'echo; exit 130' INT
trap 'exit 143' TERM

# In the background, because a shell that waits for a program in the foreground hears no signal. Inside, a shell is
# init: it reaps what a killed daemon leaves behind.
TMPDIR=$directory unshare --net --mount --propagation private --pid --mount-proc --fork --kill-child \
  sh -c 'ip link set lo up && "$@"; exit $?' sh \
  "$root/node_modules/node/bin/node" "$root/scripts/demo.ts" "$directory" "$name" ${1+"$1"} &
sandbox=$!
wait "$sandbox"
