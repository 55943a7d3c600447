/**
 * What a pull by a delta takes on a device, next to a plain pull of the same image by the same engine, in turns, each on an
 * empty disk that has the older version. By hand, as root:
 *
 *     node test/bench/delta-pull.ts --help
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { run } from '../../src/host/exec.ts';
import { startRegistry } from '../support/registry.ts';
import { pushLayout } from '../support/registry-images.ts';
import { skerry } from './contenders.ts';
import { Daemon } from './daemon.ts';
import { measurePull, median, type PullMeasures } from './measures.ts';
import { root, runInSandbox, sandbox } from './sandbox.ts';

const usage = `Usage: node test/bench/delta-pull.ts [--rounds N] [--quality N] [--only PAIR] DIR

DIR holds pairs of images: DIR/PAIR/v1 and DIR/PAIR/v2, OCI image layouts with gzip layers. Pulls each v2 onto its v1, plain
and by a delta, from a registry on this machine, and prints a table of medians. Root only.

  --rounds N    how often each is pulled (default 3)
  --quality N   brotli's, for the deltas (default 11, as in pipelines)
  --only PAIR   one pair alone
  --help        this text
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    quality: { type: 'string', default: '11' },
    only: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

const kinds = ['plain', 'delta'] as const;

async function measurePair(
  pair: string,
  o: { layouts: string; host: string; directory: string; cgroup: string },
): Promise<string[]> {
  for (const kind of kinds)
    for (const version of ['v1', 'v2'])
      await pushLayout(o.host, `${kind}/${pair}`, [version], join(o.layouts, version));
  const names = ['v1', 'v2'].map((version) => `${o.host}/delta/${pair}:${version}`);
  const args = ['delta', 'create', '--push', '--quality', values.quality, ...names];
  const made = await run(join(root, 'scripts/skerry'), args);
  if (made.code !== 0) throw new Error(`no delta for ${pair}: ${made.stderr}`);
  const rounds = { plain: [] as PullMeasures[], delta: [] as PullMeasures[] };
  for (let round = 1; round <= Number(values.rounds); round++) {
    for (const kind of kinds) {
      process.stderr.write(`bench: ${pair}, round ${round} of ${values.rounds}: ${kind}\n`);
      const directory = join(o.directory, `${pair}-${kind}-${round}`);
      await using daemon = await Daemon.open(skerry(), { directory, cgroup: o.cgroup });
      await daemon.start();
      await daemon.docker('pull', `${o.host}/${kind}/${pair}:v1`);
      rounds[kind].push(await measurePull(daemon, `${o.host}/${kind}/${pair}:v2`));
    }
  }
  return kinds.map((kind) => `| ${[pair, kind, ...cells(rounds[kind])].join(' | ')} |`);
}

function cells(rounds: readonly PullMeasures[]): string[] {
  const of = (measure: (one: PullMeasures) => number) => median(rounds.map(measure));
  return [
    of((one) => one.pullCpuSeconds).toFixed(2),
    of((one) => one.pullSeconds).toFixed(2),
    (of((one) => one.pullPeakRssBytes) / 1e6).toFixed(0),
    (of((one) => one.pullWrittenBytes) / 1e6).toFixed(1),
  ];
}

async function compare(layouts: string, place: { directory: string; cgroup: string }): Promise<string> {
  await using registry = await startRegistry();
  const before = loadavg()[0] ?? 0;
  const rows: string[] = [];
  for (const pair of readdirSync(layouts)) {
    if ((values.only ?? pair) !== pair || !existsSync(join(layouts, pair, 'v2/index.json'))) continue;
    const o = { layouts: join(layouts, pair), host: registry.host, ...place };
    rows.push(...(await measurePair(pair, o)));
  }
  return [
    `Load average ${before.toFixed(1)} → ${(loadavg()[0] ?? 0).toFixed(1)}, medians of ${values.rounds}.`,
    '',
    '| pair | | CPU s | wall s | peak RSS, MB | written, MB |',
    '| --- | --- | --: | --: | --: | --: |',
    ...rows,
  ].join('\n');
}

const [layouts] = positionals;
const place = sandbox();
if (values.help || layouts === undefined) {
  process.stdout.write(usage);
  process.exitCode = values.help ? 0 : 2;
} else if (place === undefined) {
  if (!process.env['NOSETUP'])
    execFileSync(join(root, 'scripts/setup.sh'), ['--test'], { stdio: ['ignore', 2, 2] });
  process.exitCode = await runInSandbox(fileURLToPath(import.meta.url), process.argv.slice(2));
} else process.stdout.write(`${await compare(resolve(layouts), place)}\n`);
