/**
 * The story that demo.sh tells; it runs inside of the sandbox that demo.sh makes. Commands are shown as they are run,
 * with the real docker command line.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../src/host/exec.ts';
import { boxLayer } from '../test/support/box-image.ts';
import { startRegistry } from '../test/support/registry.ts';
import { makeBigLayer, makeImage, makeLayer, push, type TestImage } from '../test/support/registry-images.ts';

const [directory = '', cgroup = '', pace] = process.argv.slice(2);
const root = resolve(import.meta.dirname, '..');
const socket = join(directory, 'skerry.sock');
const logPath = join(directory, 'skerryd.log');
const configurationPath = join(directory, 'daemon.json');
const isPaced = pace !== '--fast' && process.stdout.isTTY;
Object.assign(process.env, {
  DOCKER_HOST: `unix://${socket}`,
  DOCKER_CONFIG: join(directory, 'cli'),
  DOCKER_CLI_HINTS: 'false',
});

/** What runs in the container: a page to look at, and a line five times a second. */
const appScript = `#!/bin/sh
httpd -p 80 -h /www
n=0
while :; do n=$((n + 1)); echo "reading $n"; usleep 200000; done
`;

try {
  await tell();
} catch (cause) {
  const log = readFileSync(logPath, { encoding: 'utf8', flag: 'a+' }).split('\n').slice(-20).join('\n');
  console.error(
    `\ndemo: ${cause instanceof Error ? cause.message : cause}\n\nThe end of skerryd's log:\n${log}`,
  );
  process.exit(1); // the daemon may still run; it ends with the sandbox
}

async function tell(): Promise<void> {
  console.log(`${bold('Skerry in one minute.')} Everything here is private: an engine, a registry and a network of their
own, in ${directory}, gone at the end or at Ctrl-C.`);
  await using registry = await startRegistry();
  const [first, second] = await makeVersions();
  const name = `${registry.host}/demo/sensor:latest`;
  await push(registry.host, 'demo/sensor', ['latest'], first);

  writeFileSync(configurationPath, '{}'); // the machine's own must not matter
  await chapter(
    'The engine',
    'One process that serves the Docker API. The docker command line works as it is.',
  );
  let daemon = await startDaemon();
  await show(
    'docker',
    'version',
    '--format',
    'docker {{.Client.Version}} talks to {{.Server.Platform.Name}} {{.Server.Version}}',
  );

  await chapter(
    'Pull',
    `Version 1 of an app: a system of 2 MB, a model of 16 MB, and the app itself on top. It becomes visible in one
synced step when all of it is on the disk; if the power goes before, there is nothing, and the next try goes on.`,
  );
  const whole = await downloaded(() => show('docker', 'pull', name));

  await chapter('Run', 'A real container, by runc or crun, with a published port.');
  await show('docker', 'run', '--detach', '--name', 'sensor', '--publish', '127.0.0.1:8080:80', name);
  await show('docker', 'run', '--detach', '--name', 'job', name, 'sh', '-c', 'sleep 2; exit 7');
  await lookAtPage();
  await show('docker', 'ps', '--format', 'table {{.Names}}\t{{.Status}}\t{{.Ports}}\t{{.Command}}');

  await chapter(
    'The daemon dies',
    'A crash, or an update of the engine itself. Containers do not notice; "job" even ends meanwhile, with code 7.',
  );
  await killDaemon(daemon);
  await lookAtPage();
  await sleep(2500);
  daemon = await startDaemon();
  await show('docker', 'ps', '--all', '--format', 'table {{.Names}}\t{{.Status}}\t{{.Ports}}');
  await show('docker', 'wait', 'job');
  await show('docker', 'logs', '--tail', '3', 'sensor');
  await checkLog();

  await chapter(
    'Update',
    'Version 2 is in the registry now: the app has changed, the system and the model have not.',
  );
  await push(registry.host, 'demo/sensor', ['latest'], second);
  const part = await downloaded(() => show('docker', 'pull', name));
  await show('docker', 'rm', '--force', 'sensor', 'job');
  await show('docker', 'run', '--detach', '--name', 'sensor', '--publish', '127.0.0.1:8080:80', name);
  await lookAtPage();

  await chapter('What was saved');
  console.log(`  the first pull fetched    ${kilobytes(whole)}
  the update fetched        ${kilobytes(part)}   (${(100 - (part / whole) * 100).toFixed(2)} % less)
  skerryd itself takes      ${kilobytes(rssBytes(daemon.pid ?? 0))} of memory`);
  await show('docker', 'rm', '--force', 'sensor');
  daemon.kill('SIGTERM');
  await new Promise((ended) => daemon.once('exit', ended));
  console.log(`\nNothing is left of all this. Now your own: ${bold('npm start')}, and see README.md.`);
}

async function makeVersions(): Promise<[TestImage, TestImage]> {
  const shared = [await boxLayer(), await makeBigLayer(16_000_000, { name: 'model/weights' })];
  const version = async (number: number) =>
    makeImage({
      layers: [
        ...shared,
        await makeLayer({ 'app/bin/sensor': appScript, 'www/index.html': `This is version ${number}.\n` }),
      ],
      config: { Cmd: ['/app/bin/sensor'] },
    });
  return [await version(1), await version(2)];
}

/** Starts skerryd and waits until it answers. */
async function startDaemon(): Promise<ChildProcess> {
  const flags = [
    ...['--host', `unix://${socket}`, '--data-root', join(directory, 'data')],
    ...['--exec-root', join(directory, 'exec'), '--cgroup-parent', `/${cgroup}`],
    ...['--config-file', configurationPath],
  ];
  prompt(`skerryd ${flags.slice(0, 4).join(' ')} … &`);
  const log = openSync(logPath, 'a');
  const began = performance.now();
  const daemon = spawn(join(root, 'scripts/skerryd'), flags, { stdio: ['ignore', log, log] });
  closeSync(log);
  while (daemon.exitCode === null && performance.now() - began < 20_000) {
    if ((await run('docker', ['version'])).code === 0) {
      console.log(`ready within ${Math.round(performance.now() - began)} ms`);
      return daemon;
    }
    await sleep(20);
  }
  throw new Error('skerryd does not answer');
}

async function killDaemon(daemon: ChildProcess): Promise<void> {
  prompt(`kill -9 ${daemon.pid}   # skerryd`);
  const ended = new Promise((done) => daemon.once('exit', done));
  daemon.kill('SIGKILL');
  await ended;
}

async function lookAtPage(): Promise<void> {
  await show('busybox', 'wget', '-q', '-O', '-', 'http://127.0.0.1:8080/');
}

/** Every reading must be there, also those of the time without a daemon. */
async function checkLog(): Promise<void> {
  const lines = (await run('docker', ['logs', 'sensor'])).stdout.trimEnd().split('\n');
  const hole = lines.findIndex((line, index) => line !== `reading ${index + 1}`);
  if (hole >= 0) throw new Error(`the log has a hole after line ${hole}`);
  console.log(`Readings 1 to ${lines.length}, none missing.`);
}

/** Bytes that came in over the network meanwhile. */
async function downloaded(work: () => Promise<void>): Promise<number> {
  const received = () => Number(/lo: *(\d+)/.exec(readFileSync('/proc/net/dev', 'utf8'))?.[1] ?? 0);
  const before = received();
  await work();
  return received() - before;
}

/** Runs a command in front of the reader. */
async function show(command: string, ...args: string[]): Promise<void> {
  prompt(
    [command, ...args.map((arg) => (/[\s;{}]/.test(arg) ? `'${arg.replaceAll('\t', '\\t')}'` : arg))].join(
      ' ',
    ),
  );
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  const code = await new Promise((done, reject) => child.once('error', reject).once('exit', done));
  if (code !== 0) throw new Error(`${command} ended with ${code}`);
  if (isPaced) await sleep(700);
}

async function chapter(title: string, text = ''): Promise<void> {
  if (isPaced) await sleep(1500);
  console.log(`\n${bold(`── ${title} ──`)}${text === '' ? '' : `\n${text}`}`);
  if (isPaced) await sleep(2000);
}

function prompt(text: string): void {
  console.log(process.stdout.isTTY ? `\x1b[36m$ ${text}\x1b[0m` : `$ ${text}`);
}

function bold(text: string): string {
  return process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text;
}

function rssBytes(pid: number): number {
  return 1024 * Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
}

function kilobytes(bytes: number): string {
  return `${Math.round(bytes / 1000).toLocaleString('en')} kB`.padStart(10);
}
