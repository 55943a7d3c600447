import { closeSync, ftruncateSync, mkdirSync, openSync, statfsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../src/host/exec.ts';
import { unmount } from '../../src/host/kernel.ts';

/** An empty ext4 of a size of its own, mounted in a temporary directory: a disk to fill up. Needs root. */
export class SmallDisk implements AsyncDisposable {
  readonly path: string;
  readonly #directory: string;
  readonly #sizeBytes: number;

  private constructor(directory: string, sizeBytes: number) {
    this.#directory = directory;
    this.path = join(directory, 'disk');
    this.#sizeBytes = sizeBytes;
  }

  static async mount({ sizeBytes, inodes }: { sizeBytes: number; inodes: number }): Promise<SmallDisk> {
    const directory = await mkdtemp(join(tmpdir(), 'skt-disk-'));
    const disk = new SmallDisk(directory, sizeBytes);
    const image = join(directory, 'image');
    const file = openSync(image, 'wx');
    ftruncateSync(file, sizeBytes);
    closeSync(file);
    mkdirSync(disk.path);
    await expectOk('mkfs.ext4', ['-q', '-N', `${inodes}`, image]);
    const device = (await expectOk('losetup', ['--find', '--show', image])).trim();
    try {
      await expectOk('mount', [device, disk.path]);
    } finally {
      // in use it stays, and goes by itself with its mount, even if we are killed
      await expectOk('losetup', ['--detach', device]);
    }
    disk.assertSmall();
    return disk;
  }

  /** Call it before filling anything: the machine's own disk is no place for that. */
  assertSmall(): void {
    const { blocks, bsize } = statfsSync(this.path);
    if (blocks * bsize > this.#sizeBytes) throw new Error(`${this.path} is not the small disk`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    unmount(this.path, { isLazy: true });
    await rm(this.#directory, { recursive: true });
  }
}

async function expectOk(command: string, args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(command, args);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}
