import { spawn } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { codeOf } from '../../src/errors.ts';
import { readCgroupLayout, removeCgroup } from '../../src/host/cgroup.ts';

/** The checkout. */
export const root = resolve(import.meta.dirname, '../..');
/** What is costly to make and may be kept between benches. */
export const cacheDirectory = join(root, '.cache/bench');

const MARK = 'SKERRY_BENCH_DIRECTORY';

/**
 * First of the two processes of a bench: runs the program again in network, mount and process name spaces of its own,
 * and clears up behind it. Whatever the inner one started ends with it, whatever it mounted goes with it; only its
 * directory and its cgroups are left to remove, and that happens here, also after Ctrl-C. Answers the inner exit code.
 */
export async function runInSandbox(program: string, args: readonly string[]): Promise<number> {
  if (process.getuid?.() !== 0)
    throw new Error('a bench needs root: it mounts, and makes network name spaces');
  const directory = await mkdtemp(join(tmpdir(), 'skt-bench-'));
  try {
    return await runInside(directory, program, args);
  } finally {
    const layout = await readCgroupLayout();
    await removeCgroup(layout, cgroupOf(directory));
    await rm(directory, { recursive: true, force: true });
  }
}

/** In the inner process: its directory, and the cgroup below which everything must be. Undefined in the outer one. */
export function sandbox(): { directory: string; cgroup: string } | undefined {
  const directory = process.env[MARK];
  return directory === undefined ? undefined : { directory, cgroup: cgroupOf(directory) };
}

function cgroupOf(directory: string): string {
  return `/skt-bench-${directory.split('-').at(-1)}`;
}

async function runInside(directory: string, program: string, args: readonly string[]): Promise<number> {
  await mkdir(cacheDirectory, { recursive: true });
  // A file of its own: pages of a Node that the daemon shared with the bench would be missing from the daemon's PSS.
  const node = join(cacheDirectory, 'node');
  await copyFile(join(root, 'node_modules/node/bin/node'), node).catch((cause: unknown) => {
    throw codeOf(cause) === 'ETXTBSY'
      ? new Error('another bench is running: two would spoil each other')
      : cause;
  });
  const child = spawn(
    'unshare',
    [
      ...['--net', '--mount', '--propagation', 'private', '--pid', '--mount-proc', '--fork', '--kill-child'],
      // A shell as init: it reaps what daemons leave behind. An empty /run hides other engines' sockets from dockerd.
      ...['sh', '-c', 'mount -t tmpfs run /run && ip link set lo up && "$@"; exit $?', 'sh'],
      ...[node, program, ...args],
    ],
    {
      stdio: 'inherit',
      env: {
        ...process.env,
        [MARK]: directory,
        TMPDIR: directory,
        PATH: `${join(root, '.cache/tools')}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
        DOCKER_CONFIG: join(directory, 'cli'),
        DOCKER_CLI_HINTS: 'false',
      },
    },
  );
  // with its init gone the whole sandbox is
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => child.kill('SIGKILL'));
  return new Promise((done, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => done(code ?? 1));
  });
}
