/**
 * Measures one thing closely: the pull of a large image, by the built daemon and by Debian's dockerd 20.10, in turns, each
 * on an empty disk. Against the limits of the project. By hand, as root:
 *
 *     node test/bench/pull.ts --help
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startRegistry } from '../support/registry.ts';
import { ensureImage, type ImageFacts, leastWrittenBytes } from './bench-image.ts';
import { type Contender, dockerd, skerry } from './contenders.ts';
import { Daemon } from './daemon.ts';
import { unpackDebianDocker } from './debian-docker.ts';
import { Disk } from './disk.ts';
import { measurePull, median, type PullMeasures } from './measures.ts';
import { cacheDirectory, root, runInSandbox, sandbox } from './sandbox.ts';

const usage = `Usage: node test/bench/pull.ts [--rounds N] [--only NAME] [--json]

Pulls an image of six layers, about 480 MB, from a registry on this machine. Root only; a round takes a quarter of a
minute. Touches nothing of the machine: name spaces, disks and cgroups are its own. What is costly to make is kept in
.cache/bench.

  --rounds N    how often each engine pulls (default 5)
  --only NAME   measure skerry or dockerd alone
  --json        print all numbers of all rounds as JSON instead
  --help        this text
`;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

interface Outcome {
  readonly name: string;
  readonly rounds: PullMeasures[];
}

interface Findings {
  readonly load: readonly [before: number, after: number];
  readonly image: ImageFacts;
  /** What GNU tar has written to the disk for the same layers. */
  readonly leastBytes: number;
  readonly outcomes: readonly Outcome[];
}

/** Outside: what needs the network; then everything else inside. */
async function prepare(): Promise<number> {
  if (!process.env['NOSETUP'])
    execFileSync(join(root, 'scripts/setup.sh'), ['--test'], { stdio: ['ignore', 2, 2] });
  if (values.only !== 'skerry') await unpackDebianDocker();
  return runInSandbox(fileURLToPath(import.meta.url), process.argv.slice(2));
}

async function contenders(): Promise<Contender[]> {
  if (values.only === 'skerry') return [skerry()];
  const other = dockerd(await unpackDebianDocker());
  if (values.only === 'dockerd') return [other];
  if (values.only !== undefined) throw new Error(`--only ${values.only}: it is skerry or dockerd`);
  return [skerry(), other];
}

async function compare({ directory, cgroup }: { directory: string; cgroup: string }): Promise<Findings> {
  const storage = join(cacheDirectory, 'registry');
  mkdirSync(storage, { recursive: true });
  await using registry = await startRegistry({ storage });
  const image = await ensureImage(registry.host, storage, say);
  const outcomes = (await contenders()).map((contender) => ({ contender, rounds: [] as PullMeasures[] }));
  const before = loadavg()[0] ?? 0;
  const leastBytes = await leastOn(join(directory, 'least'), image, storage);
  for (let round = 1; round <= Number(values.rounds); round++) {
    for (const { contender, rounds } of outcomes) {
      say(`round ${round} of ${values.rounds}: ${contender.name}`);
      await using daemon = await Daemon.open(contender, {
        directory: join(directory, `${contender.name}-${round}`),
        cgroup,
      });
      await daemon.start();
      rounds.push(await measurePull(daemon, `${registry.host}/bench/service:1`));
    }
  }
  return {
    load: [before, loadavg()[0] ?? 0],
    image,
    leastBytes,
    outcomes: outcomes.map(({ contender, rounds }) => ({ name: contender.name, rounds })),
  };
}

async function leastOn(directory: string, image: ImageFacts, storage: string): Promise<number> {
  await using disk = await Disk.open(directory);
  return await leastWrittenBytes(image, storage, disk);
}

interface Row {
  readonly label: string;
  readonly of: (measures: PullMeasures, image: ImageFacts) => number;
  readonly show: (value: number) => string;
  /** What our own figure, or its ratio to dockerd's, may be at most. */
  readonly most?: { readonly value?: number; readonly ratio?: number };
}

const seconds = (value: number) => `${value.toFixed(2)} s`;
const megabytes = (value: number) => `${(value / 1e6).toFixed(0)} MB`;
const times = (value: number) => `${value.toFixed(3)} ×`;

const rows: readonly Row[] = [
  { label: 'wall', of: (m) => m.pullSeconds, show: seconds, most: { ratio: 0.7 } },
  { label: 'CPU', of: (m) => m.pullCpuSeconds, show: seconds, most: { ratio: 0.7 } },
  { label: 'peak RSS', of: (m) => m.pullPeakRssBytes, show: megabytes, most: { value: 150e6 } },
  { label: 'peak PSS', of: (m) => m.pullPeakPssBytes, show: megabytes },
  { label: 'written to the device', of: (m) => m.pullWrittenBytes, show: megabytes },
  {
    label: 'written per byte of tar',
    of: (m, { tarBytes }) => m.pullWrittenBytes / tarBytes,
    show: times,
    most: { value: 1.03 },
  },
];

/** A Markdown table of medians, our limits and whether they hold. */
function report({ load, image, leastBytes, outcomes }: Findings): string {
  const names = outcomes.map(({ name }) => name);
  const lines = rows.map(({ label, of, show, most }) => {
    const [mine = 0, theirs] = outcomes.map(({ rounds }) => median(rounds.map((m) => of(m, image))));
    const shown = [mine, ...(theirs === undefined ? [] : [theirs])].map(show);
    const ratio = theirs === undefined ? '' : (mine / theirs).toFixed(2);
    return [label, ...shown, ...(theirs === undefined ? [] : [ratio]), limit(most, mine, theirs, show)];
  });
  const heads = ['', ...names, ...(names.length > 1 ? ['ratio'] : []), 'limit'];
  return [
    `Load average ${load.map((each) => each.toFixed(1)).join(' → ')}, medians of ${outcomes[0]?.rounds.length ?? 0}.`,
    `${image.blobs.length} layers, ${image.files} entries, ${megabytes(image.compressedBytes)} to download, ` +
      `${megabytes(image.tarBytes)} of tar. GNU tar has ${times(leastBytes / image.tarBytes)} of that written.`,
    '',
    ...[heads, heads.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`),
  ].join('\n');
}

function limit(
  most: Row['most'],
  mine: number,
  theirs: number | undefined,
  show: (value: number) => string,
): string {
  if (most?.value !== undefined) return `${show(most.value)} ${mine <= most.value ? 'holds' : 'is passed'}`;
  if (most?.ratio === undefined || theirs === undefined) return '';
  return `${most.ratio} ${mine / theirs <= most.ratio ? 'holds' : 'is passed'}`;
}

/** Progress, aside from the result. */
function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

const place = sandbox();
if (values.help) process.stdout.write(usage);
else if (place === undefined) process.exitCode = await prepare();
else {
  const findings = await compare(place);
  process.stdout.write(`${values.json ? JSON.stringify(findings, null, 2) : report(findings)}\n`);
}
