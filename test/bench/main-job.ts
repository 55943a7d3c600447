/**
 * Measures the built daemon next to Debian's dockerd 20.10 at the engine's main job: start, be idle, pull, run, exec,
 * list. Both run in name spaces of their own, on disks of their own, never at the same time. By hand, as root:
 *
 *     node test/bench/main-job.ts --help
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startRegistry } from '../support/registry.ts';
import { ensureImage, leastWrittenBytes } from './bench-image.ts';
import { type Contender, dockerd, skerry } from './contenders.ts';
import { Daemon } from './daemon.ts';
import { unpackDebianDocker } from './debian-docker.ts';
import { Disk } from './disk.ts';
import { measure } from './measures.ts';
import { type Findings, markdown, type Outcome } from './report.ts';
import { cacheDirectory, root, runInSandbox, sandbox } from './sandbox.ts';

const usage = `Usage: node test/bench/main-job.ts [--rounds N] [--only NAME] [--json]

Measures skerryd as it is built next to Debian's dockerd 20.10, and prints a table of medians. Root only; a round
takes about a minute and a half. Touches nothing of the machine: name spaces, disks and cgroups are its own.
What is costly to make is kept in .cache/bench.

  --rounds N    how often each engine does the whole job (default 3)
  --only NAME   measure skerry or dockerd alone
  --json        print all numbers of all rounds as JSON instead
  --help        this text
`;

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

const place = sandbox();
if (values.help) process.stdout.write(usage);
else if (place === undefined) process.exitCode = await prepare();
else process.stdout.write(report(await compare(place)));

/** Outside: what needs the network; then everything else inside. */
async function prepare(): Promise<number> {
  if (!process.env['NOSETUP'])
    execFileSync(join(root, 'scripts/setup.sh'), ['--test'], { stdio: ['ignore', 2, 2] });
  await unpackDebianDocker();
  return runInSandbox(fileURLToPath(import.meta.url), process.argv.slice(2));
}

async function compare({ directory, cgroup }: { directory: string; cgroup: string }): Promise<Findings> {
  const contenders = [skerry(), dockerd(await unpackDebianDocker())].filter(
    ({ name }) => values.only === undefined || values.only === name,
  );
  if (contenders.length === 0) throw new Error(`--only ${values.only}: it is skerry or dockerd`);
  const storage = join(cacheDirectory, 'registry');
  mkdirSync(storage, { recursive: true });
  await using registry = await startRegistry({ storage });
  const image = await ensureImage(registry.host, storage, say);
  const leastBytes = await onDisk(join(directory, 'least'), (disk) =>
    leastWrittenBytes(image, storage, disk),
  );
  const outcomes: Outcome[] = contenders.map(({ name }) => ({ name, version: '', rounds: [] }));
  const loadBefore = loadavg()[0] ?? 0;
  for (let round = 1; round <= Number(values.rounds); round++) {
    for (const [index, contender] of contenders.entries()) {
      say(`round ${round} of ${values.rounds}: ${contender.name}`);
      const outcome = outcomes[index];
      if (outcome === undefined) continue;
      const home = join(directory, `${contender.name}-${round}`);
      await oneRound(contender, outcome, { home, cgroup, registry: registry.host, image });
    }
  }
  const machine = `Linux ${release()}, ${cpus().length} × ${cpus()[0]?.model}, ${Math.round(totalmem() / 1e9)} GB`;
  const load: [number, number] = [loadBefore, loadavg()[0] ?? 0];
  return { takenAt: new Date().toISOString(), machine, load, image, leastWrittenBytes: leastBytes, outcomes };
}

async function onDisk<T>(directory: string, work: (disk: Disk) => Promise<T>): Promise<T> {
  await using disk = await Disk.open(directory);
  return await work(disk);
}

async function oneRound(
  contender: Contender,
  outcome: Outcome,
  o: { home: string; cgroup: string; registry: string; image: Findings['image'] },
): Promise<void> {
  await using daemon = await Daemon.open(contender, { directory: o.home, cgroup: o.cgroup });
  outcome.rounds.push(await measure(daemon, `${o.registry}/bench/service:1`, o.image));
  const { Version } = JSON.parse(await daemon.api('GET', '/version'));
  outcome.version = `${contender.name} ${Version}`;
}

function report(findings: Findings): string {
  return `${values.json ? JSON.stringify(findings, null, 2) : markdown(findings)}\n`;
}

/** Progress, aside from the result. */
function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}
