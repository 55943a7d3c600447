/**
 * What deltas between two versions of images take, to make, to fetch and to apply, beside the tools of Debian. By hand:
 *
 *     node test/bench/delta.ts --help
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';

const usage = `Usage: node test/bench/delta.ts [--quality N] [--only PAIR] [--json] DIR

DIR holds pairs of images: DIR/PAIR/v1 and DIR/PAIR/v2, OCI image layouts with gzip layers. Prints, for each pair, the bytes
of the delta and what making and applying it takes: this build's, rdiff's with gzip, xdelta3's, and zstd's --patch-from.

Needs the Debian package time; rdiff, xdelta3 and zstd are left out where they are missing. Does not need root.

  --quality N   brotli's, for this build's deltas (default 11, as in pipelines)
  --only PAIR   one pair alone
  --json        print all numbers as JSON instead
  --help        this text
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quality: { type: 'string', default: '11' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

/** The tars of an image's layers, lowest first, and the bytes that a plain pull of each fetches. */
interface Version {
  readonly tars: string[];
  readonly blobBytes: number[];
}

interface Cost {
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
  readonly peakRssBytes: number;
}

interface Row {
  readonly pair: string;
  readonly tool: string;
  readonly bytes: number;
  readonly make?: Cost;
  readonly apply?: Cost;
}

/** What a tool does with one layer that changed, as lines for a shell. `$old`, `$new` and `$delta` are files. */
const rivals = [
  {
    tool: 'rdiff + gzip',
    needs: ['rdiff'],
    make: 'rdiff signature "$old" "$delta.sig" && rdiff delta "$delta.sig" "$new" - | gzip -9 >"$delta"',
    apply: 'gzip -dc "$delta" | rdiff patch "$old" - - >/dev/null',
  },
  {
    tool: 'xdelta3 -9, lzma',
    needs: ['xdelta3'],
    make: 'xdelta3 -9 -S lzma -B 536870912 -f -e -s "$old" "$new" "$delta"',
    apply: 'xdelta3 -B 536870912 -c -d -s "$old" "$delta" >/dev/null',
  },
  {
    tool: 'zstd -19 --patch-from',
    needs: ['zstd'],
    make: 'zstd -q -19 --long=30 -f --patch-from="$old" "$new" -o "$delta"',
    apply: 'zstd -q -d --long=30 --patch-from="$old" -c "$delta" >/dev/null',
  },
];

function unpack(layout: string, directory: string): Version {
  const blob = (digest: string) => readFileSync(join(layout, 'blobs/sha256', digest.slice('sha256:'.length)));
  const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'));
  const manifest = JSON.parse(blob(index.manifests[0].digest).toString());
  mkdirSync(directory, { recursive: true });
  const layers: { digest: string; size: number }[] = manifest.layers;
  const tars = layers.map(({ digest }, at) => {
    const path = join(directory, `${at}.tar`);
    writeFileSync(path, gunzipSync(blob(digest)));
    return path;
  });
  return { tars, blobBytes: layers.map(({ size }) => size) };
}

/** Runs a command under time(1). */
function measured(command: string[], env: Record<string, string> = {}): Cost {
  const { status, stderr } = spawnSync('/usr/bin/time', ['-f', '%U %S %e %M', ...command], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (status !== 0) throw new Error(`${command.join(' ')}: ${stderr}`);
  const [user = 0, system = 0, wall = 0, kilobytes = 0] = (stderr.trim().split('\n').at(-1) ?? '')
    .split(' ')
    .map(Number);
  return { cpuSeconds: user + system, wallSeconds: wall, peakRssBytes: kilobytes * 1024 };
}

function sum(costs: readonly Cost[]): Cost {
  return {
    cpuSeconds: costs.reduce((all, { cpuSeconds }) => all + cpuSeconds, 0),
    wallSeconds: costs.reduce((all, { wallSeconds }) => all + wallSeconds, 0),
    peakRssBytes: Math.max(...costs.map(({ peakRssBytes }) => peakRssBytes)),
  };
}

/** The layers of the target that the base does not have, each with that of the base in its place. */
function changedLayers(base: Version, target: Version): { old: string; fresh: string; blobBytes: number }[] {
  const present = base.tars.map((path) => readFileSync(path));
  return target.tars.flatMap((fresh, at) => {
    const bytes = readFileSync(fresh);
    const isPresent = present.some((tar) => tar.equals(bytes));
    const old = base.tars[Math.min(at, base.tars.length - 1)] ?? '';
    return isPresent ? [] : [{ old, fresh, blobBytes: target.blobBytes[at] ?? 0 }];
  });
}

function ours(pair: string, base: Version, target: Version, scratch: string): Row {
  const delta = join(scratch, 'ours.delta');
  const codec = join(import.meta.dirname, 'delta-codec.ts');
  // as `skerry delta` runs it
  const node = [process.execPath, '--max-semi-space-size=1', codec];
  const env = { MALLOC_ARENA_MAX: '2' };
  const make = measured([...node, 'encode', values.quality, delta, ...base.tars, '--', ...target.tars], env);
  const apply = measured([...node, 'decode', delta, ...base.tars], env);
  return { pair, tool: 'this build', bytes: statSync(delta).size, make, apply };
}

function measurePair(pair: string, directory: string): Row[] {
  const scratch = mkdtempSync(join(tmpdir(), 'skerry-delta-'));
  try {
    const [base, target] = ['v1', 'v2'].map((version) =>
      unpack(join(directory, version), join(scratch, version)),
    );
    if (base === undefined || target === undefined) return [];
    const changed = changedLayers(base, target);
    const rows: Row[] = [
      { pair, tool: 'plain pull', bytes: changed.reduce((all, { blobBytes }) => all + blobBytes, 0) },
      ours(pair, base, target, scratch),
    ];
    for (const { tool, needs, make, apply } of rivals) {
      if (!needs.every((program) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0)) continue;
      const runs = changed.map(({ old, fresh }, at) => {
        const delta = join(scratch, `rival-${at}`);
        const env = { old, new: fresh, delta };
        const cost = { make: measured(['sh', '-c', make], env), apply: measured(['sh', '-c', apply], env) };
        return { ...cost, bytes: statSync(delta).size };
      });
      rows.push({
        pair,
        tool,
        bytes: runs.reduce((all, { bytes }) => all + bytes, 0),
        make: sum(runs.map((run) => run.make)),
        apply: sum(runs.map((run) => run.apply)),
      });
    }
    return rows;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function table(rows: readonly Row[]): string {
  const cells = (cost: Cost | undefined) =>
    cost === undefined
      ? ['', '', '']
      : [
          cost.cpuSeconds.toFixed(1),
          cost.wallSeconds.toFixed(1),
          String(Math.round(cost.peakRssBytes / 1e6)),
        ];
  const lines = rows.map(({ pair, tool, bytes, make, apply }) =>
    ['', pair, tool, bytes.toLocaleString('en'), ...cells(make), ...cells(apply), ''].join(' | ').trim(),
  );
  return [
    '| pair | | bytes | make: CPU s | wall s | peak MB | apply: CPU s | wall s | peak MB |',
    '| --- | --- | --: | --: | --: | --: | --: | --: | --: |',
    ...lines,
  ].join('\n');
}

const [directory] = positionals;
if (values.help || directory === undefined) {
  process.stdout.write(usage);
  process.exit(values.help ? 0 : 2);
}
execFileSync('/usr/bin/time', ['-f', '', 'true']); // says at once if it is missing
const pairs = readdirSync(directory).filter(
  (name) => existsSync(join(directory, name, 'v2/index.json')) && (values.only ?? name) === name,
);
const rows = pairs.flatMap((pair) => measurePair(pair, join(directory, pair)));
process.stdout.write(values.json ? `${JSON.stringify(rows, undefined, 2)}\n` : `${table(rows)}\n`);
