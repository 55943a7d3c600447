import { libc, succeed } from './libc.ts';
import { isOwnChild } from './spawn.ts';

const PR_SET_CHILD_SUBREAPER = 36;
const P_ALL = 0;
const P_PID = 1;
const WNOHANG = 1;
const WEXITED = 4;
const WNOWAIT = 0x0100_0000;
const CLD_EXITED = 1;
/** `siginfo_t`: signo, errno and code, then on 64-bit machines a gap, then pid, uid and status. */
const SIGINFO_BYTES = 128;
const PID_AT = process.arch === 'arm' || process.arch === 'ia32' ? 12 : 16;
const STATUS_AT = PID_AT + 8;

/** Ends that nobody has asked for: of monitors and of processes that ended sooner than one could ask. The oldest go first. */
const MAX_UNCLAIMED = 256;
/** Node takes its own children's ends in its own time, and only then can those behind them be seen. */
const NODE_MS = 2;

/**
 * Takes in processes whose parents have gone, and learns how they end. An OCI runtime leaves the process of an exec behind,
 * which thereby becomes our child: no monitor has to stay for the sake of its exit code. After the daemon's end they are
 * the init process's, as ever.
 */
class Orphans {
  readonly #claims = new Map<number, (exitCode: number) => void>();
  readonly #unclaimed = new Map<number, number>();

  constructor() {
    succeed('prctl', undefined, (c) => c.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    process.on('SIGCHLD', () => setImmediate(() => this.#reap()));
  }

  async exitOf(pid: number): Promise<number> {
    const exitCode = this.#unclaimed.get(pid);
    this.#unclaimed.delete(pid);
    if (exitCode !== undefined) return exitCode;
    return new Promise((resolve) => this.#claims.set(pid, resolve));
  }

  forget(pid: number): void {
    this.#claims.delete(pid);
  }

  #reap(): void {
    for (;;) {
      const ended = look(P_ALL, 0, WEXITED | WNOHANG | WNOWAIT);
      if (ended === undefined) return;
      if (isOwnChild(ended.pid)) {
        setTimeout(() => this.#reap(), NODE_MS);
        return;
      }
      look(P_PID, ended.pid, WEXITED | WNOHANG);
      this.#tell(ended);
    }
  }

  #tell({ pid, exitCode }: { pid: number; exitCode: number }): void {
    const claim = this.#claims.get(pid);
    this.#claims.delete(pid);
    if (claim !== undefined) {
      claim(exitCode);
      return;
    }
    this.#unclaimed.set(pid, exitCode);
    const [oldest] = this.#unclaimed.keys();
    if (this.#unclaimed.size > MAX_UNCLAIMED && oldest !== undefined) this.#unclaimed.delete(oldest);
  }
}

let orphans: Orphans | undefined;

/** From here on this process takes in what its children leave behind. It is the whole process's affair, so it is there once. */
export function adoptOrphans(): void {
  orphans ??= new Orphans();
}

/** The exit code of a process that was left to us, 128 + n for one that signal n killed. Never resolves for any other. */
export async function exitOfOrphan(pid: number): Promise<number> {
  adoptOrphans();
  return (orphans as Orphans).exitOf(pid);
}

/** Nobody waits for it any longer. */
export function forgetOrphan(pid: number): void {
  orphans?.forget(pid);
}

/** A child that has ended, if there is one. */
function look(kind: number, id: number, options: number): { pid: number; exitCode: number } | undefined {
  const info = Buffer.alloc(SIGINFO_BYTES);
  if (libc().waitid(kind, id, info, options) !== 0) return undefined; // no children at all
  const words = new Int32Array(info.buffer, info.byteOffset, SIGINFO_BYTES / 4);
  const [pid = 0, status = 0] = [words[PID_AT / 4], words[STATUS_AT / 4]];
  if (pid === 0) return undefined;
  return { pid, exitCode: words[2] === CLD_EXITED ? status : 128 + status };
}
