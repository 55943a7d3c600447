import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { run } from '../../src/host/exec.ts';
import { syncFileSystem, unmount } from '../../src/host/kernel.ts';

const SIZE_BYTES = 4 * 1024 ** 3;
const SECTOR_BYTES = 512;

/** An empty ext4 of its own in a file, on which every byte that reaches the device is counted. */
export class Disk implements AsyncDisposable {
  readonly path: string;
  readonly #file: string;
  readonly #device: string;

  private constructor(path: string, file: string, device: string) {
    this.path = path;
    this.#file = file;
    this.#device = device;
  }

  static async open(directory: string): Promise<Disk> {
    mkdirSync(directory, { recursive: true });
    const [path, file] = [join(directory, 'disk'), join(directory, 'disk.img')];
    const handle = openSync(file, 'w');
    ftruncateSync(handle, SIZE_BYTES);
    closeSync(handle);
    // lazily, the kernel would write the inode tables while we count
    await expectOk('mkfs.ext4', ['-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0', file]);
    const device = (await expectOk('losetup', ['--find', '--show', '--direct-io=on', file])).trim();
    try {
      mkdirSync(path, { recursive: true });
      await expectOk('mount', ['-o', 'noatime', device, path]);
    } finally {
      // in use it stays, and goes by itself with its mount, even if we are killed
      await expectOk('losetup', ['--detach', device]);
    }
    return new Disk(path, file, device);
  }

  /** What the device was given so far, once nothing is pending any more. */
  async writtenBytes(): Promise<number> {
    await syncFileSystem(this.path);
    // Documentation/block/stat.rst: the seventh field counts sectors written
    const fields = readFileSync(`/sys/block/${basename(this.#device)}/stat`, 'utf8')
      .trim()
      .split(/\s+/);
    return Number(fields[6]) * SECTOR_BYTES;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    unmount(this.path);
    await rm(this.#file, { force: true });
  }
}

async function expectOk(command: string, args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(command, args);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  return stdout;
}
