import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../src/host/exec.ts';
import { cacheDirectory } from './sandbox.ts';

/**
 * Debian's dockerd and containerd, fetched and unpacked into .cache and not installed: no service starts, nothing of
 * the machine's changes. Answers the directories of their programs, for PATH. Needs the network: call it outside.
 */
export async function unpackDebianDocker(): Promise<string[]> {
  const target = join(cacheDirectory, 'docker.io');
  const paths = [join(target, 'usr/sbin'), join(target, 'usr/bin')];
  if (existsSync(target)) return paths;
  const fresh = `${target}.new`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  // apt may fetch as a user of its own, who cannot write here: that is only a warning
  await expectOk('apt-get', ['download', 'docker.io', 'containerd'], fresh);
  for (const name of await readdir(fresh)) {
    if (!name.endsWith('.deb')) continue;
    await expectOk('dpkg-deb', ['--extract', name, fresh], fresh);
    await rm(join(fresh, name));
  }
  await rename(fresh, target);
  return paths;
}

async function expectOk(command: string, args: string[], cwd: string): Promise<void> {
  const { code, stderr } = await run(command, args, { cwd });
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
}
