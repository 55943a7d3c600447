/**
 * Power cuts on a real file system. The disk is an ext4 in a file, attached past the page cache; the file lies on an
 * XFS with reflinks, so one FICLONE of it is, at that instant and atomically, what the disk had been sent: all that a
 * machine finds when the power comes back.
 *
 *     await using disk = await CrashDisk.create();
 *     await using engine = await TestEngine.start({ dataRoot: disk.mountPoint });
 *     …                                  // something is under way
 *     const cut = await disk.cut();      // as often as you like; each costs a few ms
 *     await engine.powerOff();
 *     await disk.restore(cut);           // the journal is replayed
 *     await engine.boot();
 *
 * The kernel writes back by itself after half a minute or when memory is short, and anyone's sync(2) does so at once:
 * both hide faults. So every cut has a canary, a file that was written and not synced before it: it must be empty.
 */
import { constants, existsSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/host/exec.ts';

const PATIENCE_MS = 60_000;
const CANARY_BYTES = 4096;

/** What the disk held at one instant. */
export interface PowerCut {
  readonly path: string;
  /** The file that was not synced when the power went. */
  readonly canary: string;
}

/** Why no disk can lose its power here; undefined if it can. */
export function crashDiskObstacle(): string | undefined {
  const known = readFileSync('/proc/filesystems', 'utf8');
  for (const type of ['xfs', 'ext4']) if (!known.includes(`\t${type}\n`)) return `the kernel has no ${type}`;
  if (!existsSync('/dev/loop-control')) return 'the kernel has no loop devices';
  for (const program of ['mkfs.xfs', 'mkfs.ext4', 'losetup'])
    if (!['/usr/sbin', '/sbin'].some((place) => existsSync(join(place, program)))) return `no ${program}`;
  return undefined;
}

/** An ext4 with its default options whose state at any instant can be kept and returned to. */
export class CrashDisk implements AsyncDisposable {
  /** Where the ext4 is mounted. */
  readonly mountPoint: string;
  readonly #directory: string;
  #outer: string | undefined;
  #inner: string | undefined;
  #cuts = 0;
  #attached = 0;
  #canary = '';

  private constructor(directory: string) {
    this.#directory = directory;
    this.mountPoint = join(directory, 'disk');
  }

  static async create({ sizeMb = 512 }: { sizeMb?: number } = {}): Promise<CrashDisk> {
    const disk = new CrashDisk(await mkdtemp(join(tmpdir(), 'skt-disk-')));
    try {
      await disk.#make(sizeMb);
      return disk;
    } catch (cause) {
      await disk[Symbol.asyncDispose]();
      throw cause;
    }
  }

  /** Writes the canary of the cuts to come. The earlier before a cut, the more a lost one proves. */
  async sowCanary(): Promise<void> {
    this.#canary = `canary-${this.#cuts}`;
    await writeFile(join(this.mountPoint, this.#canary), Buffer.alloc(CANARY_BYTES, 1));
  }

  /** Keeps what the disk holds at this very instant. */
  async cut(): Promise<PowerCut> {
    if (this.#canary === '') await this.sowCanary();
    const path = join(this.#shelf, `cut-${++this.#cuts}`);
    await copyFile(this.#current, path, constants.COPYFILE_FICLONE_FORCE);
    return { path, canary: this.#canary };
  }

  /**
   * Mounts what the disk held then in the place of what it holds now, which is lost; the cut itself stays as it is.
   * Nobody may use the disk. False if what was not synced had reached it all the same: such a cut proves nothing.
   */
  async restore(cut: PowerCut): Promise<boolean> {
    await this.#takeOff();
    const before = this.#current;
    this.#attached++;
    await copyFile(cut.path, this.#current, constants.COPYFILE_FICLONE_FORCE);
    await this.#putOn();
    await rm(before);
    this.#canary = '';
    const canary = join(this.mountPoint, cut.canary);
    const { size } = await stat(canary).catch(() => ({ size: 0 }));
    await rm(canary, { force: true });
    return size === 0;
  }

  /** The cut is not needed any more. */
  async forget(cut: PowerCut): Promise<void> {
    await rm(cut.path, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#takeOff();
    if (this.#outer !== undefined) {
      await untilDone('umount', [this.#shelf]);
      await untilDone('losetup', ['--detach', this.#outer]);
      this.#outer = undefined;
    }
    await rm(this.#directory, { recursive: true, force: true });
  }

  get #shelf(): string {
    return join(this.#directory, 'shelf');
  }

  /**
   * The file that is the disk, each time another one: a mount name space that is just being made, any container's,
   * may hold the old file system for a moment longer, and then that still writes.
   */
  get #current(): string {
    return join(this.#shelf, `disk-${this.#attached}`);
  }

  async #make(sizeMb: number): Promise<void> {
    const file = join(this.#directory, 'shelf.xfs');
    await mkdir(this.#shelf);
    await mkdir(this.mountPoint);
    await writeFile(file, '');
    await truncate(file, 8 * sizeMb * 1e6); // it has holes: only what differs from cut to cut takes room
    await must('mkfs.xfs', ['-q', '-m', 'reflink=1', file]);
    this.#outer = (await must('losetup', ['--find', '--show', file])).trim();
    await must('mount', ['-t', 'xfs', this.#outer, this.#shelf]);
    await writeFile(this.#current, '');
    await truncate(this.#current, sizeMb * 1e6);
    // XFS takes direct I/O to a file with shared blocks in whole blocks only
    await must('mkfs.ext4', ['-q', '-b', '4096', this.#current]);
    await this.#putOn();
  }

  async #putOn(): Promise<void> {
    this.#inner = (await must('losetup', ['--find', '--show', '--direct-io=on', this.#current])).trim();
    await must('mount', ['-t', 'ext4', this.#inner, this.mountPoint]);
  }

  async #takeOff(): Promise<void> {
    if (this.#inner === undefined) return;
    await untilDone('umount', [this.mountPoint], 'not mounted');
    await untilDone('losetup', ['--detach', this.#inner], 'No such device');
    this.#inner = undefined;
  }
}

async function must(program: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(program, args);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** Again and again until nobody is in the way: the last user of a file system may just be ending. */
async function untilDone(program: string, args: readonly string[], orSays?: string): Promise<void> {
  for (const until = Date.now() + PATIENCE_MS; ; await sleep(50)) {
    const { code, stderr } = await run(program, args);
    if (code === 0 || (orSays !== undefined && stderr.includes(orSays))) return;
    if (Date.now() > until) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
  }
}
