# Sourced by skerryd and skerry, which set $program: sets $root and $node, from wherever and through whatever links they
# were called.
root=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
node=$root/node_modules/node/bin/node
if [ ! -x "$node" ]; then
  node=$(command -v node) || {
    echo "$program: there is no Node: run $root/scripts/setup.sh" >&2
    exit 1
  }
  "$node" -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 11) ? 0 : 1)' || {
    echo "$program: $node is $("$node" --version), and 20.11 is the least: run $root/scripts/setup.sh" >&2
    exit 1
  }
fi
if [ ! -f "$root/dist/$program.js" ]; then
  echo "$program: not built yet: run $root/scripts/setup.sh" >&2
  exit 1
fi
