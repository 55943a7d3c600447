/**
 * Measures `docker run`, `docker exec` and a container's whole life on the built daemon next to Debian's dockerd 20.10, both up at once, in turns, so that
 * whatever else the machine does weighs on both alike. By hand, as root:
 *
 *     node test/bench/commands.ts --help
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { boxLayer } from '../support/box-image.ts';
import { type Contender, dockerd, skerry } from './contenders.ts';
import { Daemon } from './daemon.ts';
import { unpackDebianDocker } from './debian-docker.ts';
import { median, timed } from './measures.ts';
import { root, runInSandbox, sandbox } from './sandbox.ts';

const usage = `Usage: node test/bench/commands.ts [--times N]

Measures \`docker run --rm --net none IMAGE true\`, \`docker exec C true\`, and create + start + remove by the API alone on
skerryd as it is built and on Debian's dockerd 20.10, in turns, and prints medians and their ratio. Root only; everything is in name spaces of its own.

  --times N     how often each is done (default 30)
  --help        this text
`;

const { values } = parseArgs({
  options: {
    times: { type: 'string', default: '30' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

const cli =
  (...words: string[]) =>
  (daemon: Daemon) =>
    daemon.docker(...words);

const commands: Readonly<Record<string, (daemon: Daemon) => Promise<unknown>>> = {
  'run --rm --net none': cli('run', '--rm', '--net', 'none', 'box', 'true'),
  exec: cli('exec', 'target', 'true'),
  'create + start + remove': liveOnce,
  'version (the CLI alone, with two short questions)': cli('version'),
};

const place = sandbox();
if (values.help) process.stdout.write(usage);
else if (place === undefined) process.exitCode = await prepare();
else process.stdout.write(await compare(place));

async function prepare(): Promise<number> {
  if (!process.env['NOSETUP'])
    execFileSync(join(root, 'scripts/setup.sh'), ['--test'], { stdio: ['ignore', 2, 2] });
  await unpackDebianDocker();
  return runInSandbox(fileURLToPath(import.meta.url), process.argv.slice(2));
}

async function compare({ directory, cgroup }: { directory: string; cgroup: string }): Promise<string> {
  const archive = join(directory, 'box.tar');
  writeFileSync(archive, (await boxLayer()).tar);
  await using parts = new AsyncDisposableStack();
  const daemons: Daemon[] = [];
  for (const contender of [skerry(), apart(dockerd(await unpackDebianDocker()))]) {
    const home = join(directory, contender.name);
    mkdirSync(home);
    const daemon = parts.use(await Daemon.open(contender, { directory: home, cgroup }));
    await daemon.start();
    await daemon.docker('import', archive, 'box');
    await daemon.docker('run', '--detach', '--net', 'none', '--name', 'target', 'box', 'sleep', '10000');
    daemons.push(daemon);
  }
  const lines = [`load ${loadavg()[0]?.toFixed(1)}, ${values.times} times in turns, milliseconds`];
  for (const [name, command] of Object.entries(commands)) {
    const all: number[][] = daemons.map(() => []);
    for (let done = 0; done < Number(values.times); done++)
      for (const [at, daemon] of daemons.entries()) all[at]?.push(await timed(() => command(daemon)));
    const [ours = 0, theirs = 0] = all.map((seconds) => median(seconds) * 1000);
    const [least = 0, theirLeast = 0] = all.map((seconds) => Math.min(...seconds) * 1000);
    lines.push(
      `${name}: median ${ours.toFixed(1)} / ${theirs.toFixed(1)} = ${(ours / theirs).toFixed(2)}, ` +
        `least ${least.toFixed(1)} / ${theirLeast.toFixed(1)}`,
    );
  }
  return `${lines.join('\n')}\n`;
}

/** A container from beginning to end; it is removed while it runs. */
async function liveOnce(daemon: Daemon): Promise<void> {
  const body = { Image: 'box', Cmd: ['sleep', '1000'], HostConfig: { NetworkMode: 'none' } };
  const { Id }: { Id: string } = JSON.parse(await daemon.api('POST', '/containers/create', body));
  await daemon.api('POST', `/containers/${Id}/start`);
  await daemon.api('DELETE', `/containers/${Id}?force=1`);
}

/** In a network name space of its own: two engines with one bridge's name in one would fight for it. */
function apart(contender: Contender): Contender {
  return { ...contender, command: (at) => ['unshare', '--net', ...contender.command(at)] };
}
