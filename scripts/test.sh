#!/bin/sh
# Sets up, checks (biome, tsc) and runs the tests. Unit tests run side by side; all others share the kernel's mounts,
# cgroups and name spaces with each other, so they take turns.
set -eu

usage() {
  cat <<'TEXT'
Usage: scripts/test.sh [FILE...]

Runs all checks and tests, or only the given test files. test/bench is not a test and is not run.
SKERRY_SOAK=1 (npm run soak) lets the tests that repeat something repeat it much longer, without a time limit.
TEXT
}
case ${1-} in -h | --help) usage; exit ;; esac

root=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
"$root/scripts/setup.sh" --test
cd -- "$root"
# tools first, for the static busybox; then the right Node for whatever a test starts
export PATH="$root/.cache/tools:$root/node_modules/node/bin:$root/node_modules/.bin:$PATH:/usr/sbin:/sbin"

began=$(date +%s)
failed=

# run WIDTH FILE...
run() {
  width=$1
  shift
  [ $# -gt 0 ] || return 0
  limit=1200000 # ms for a file; a test that hangs must not hang the whole
  [ "${SKERRY_SOAK-0}" = 0 ] || limit=
  node --test --test-reporter=spec --test-concurrency="$width" ${limit:+--test-timeout=$limit} "$@"
}

if [ $# -gt 0 ]; then
  run 1 "$@" || failed=tests
else
  npm run --silent check || failed=check
  # shellcheck disable=SC2046 # file names of our own, without blanks
  run "$(nproc)" $(find test/unit -name '*.test.ts' | sort) || failed="$failed unit"
  # shellcheck disable=SC2046
  run 1 $(find test -name '*.test.ts' -not -path 'test/unit/*' -not -path 'test/bench/*' | sort) || failed="$failed real"
fi

took=$(($(date +%s) - began))
if [ -n "$failed" ]; then
  printf '\nFAILED: %s (%s s)\n' "${failed# }" "$took"
  exit 1
fi
printf '\nAll passed (%s s).\n' "$took"
