import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/host/exec.ts';

const CLONE_NEWNS = 0x20000;
const program = '/lib/systemd/systemd-journald';
const socket = '/run/systemd/journal/socket';

/** Why systemd's journal cannot be had for a test, or false. */
export const journalMissing =
  existsSync(program) && existsSync('/usr/bin/journalctl') ? false : 'no systemd-journald here';

/**
 * The real systemd-journald, in a mount namespace into which this test process moves, with everything it starts from
 * then on: its files and sockets are on tmpfs there, and the machine's own journal is out of reach.
 */
export class TestJournal implements AsyncDisposable {
  #process: ChildProcess | undefined;

  static async start(): Promise<TestJournal> {
    const koffi = createRequire(import.meta.url)('koffi');
    // this thread alone is moved: that is where children come from, and where synchronous calls are made
    if (koffi.load(null).func('int unshare(int)')(CLONE_NEWNS) !== 0)
      throw new Error('cannot make a mount namespace: not root?');
    await mount('--make-rprivate', '/');
    for (const path of ['/run/systemd', '/run/log', '/var/log/journal'])
      if (existsSync(path)) await mount('-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', path);
    mkdirSync('/run/systemd/journal');
    const journal = new TestJournal();
    await journal.boot();
    return journal;
  }

  async boot(): Promise<void> {
    this.#process = spawn(program, { stdio: 'ignore' });
    for (const end = Date.now() + 10_000; !existsSync(socket); await sleep(10))
      if (Date.now() > end) throw new Error('systemd-journald does not start');
  }

  /** Its entries that match, oldest first. */
  async entries(...matches: string[]): Promise<Record<string, string>[]> {
    const { stdout } = await run('journalctl', ['--quiet', '--all', '--output=json', ...matches]);
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  }

  /** Nobody listens any more. */
  async stop(): Promise<void> {
    await this[Symbol.asyncDispose]();
    rmSync(socket, { force: true });
  }

  /** Stops it where it is, or has it go on: it takes nothing meanwhile. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#process?.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }
}

async function mount(...args: string[]): Promise<void> {
  const { code, stderr } = await run('mount', args);
  if (code !== 0) throw new Error(`mount ${args.join(' ')}: ${stderr}`);
}
