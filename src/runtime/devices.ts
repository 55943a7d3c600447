import type { Stats } from 'node:fs';
import { lstat, readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf, fail, messageOf } from '../errors.ts';
import { deviceNumber } from '../host/device-nodes.ts';
import type { BundleDevice, BundleSpec, OciDevice } from './spec.ts';

/** Whatever of /dev is a file system of its own, or not the container's business. */
const skippedDirectories = new Set(['pts', 'shm', 'fd', 'mqueue', '.lxc', '.lxd-mounts', '.udev']);

/**
 * The devices that a container asked for, looked up on the host; all of them for a privileged one.
 * Throws 500 in dockerd's words for one that is not there.
 */
export async function devicesOf({ devices, nodes = [], isPrivileged }: BundleSpec): Promise<OciDevice[]> {
  const hosts = isPrivileged ? await devicesBelow('/dev', '/dev', 'rwm') : [];
  const asked: OciDevice[] = [];
  for (const device of devices) asked.push(...(await resolve(device)));
  // the last one at a path wins
  return [...new Map([...hosts, ...asked, ...nodes].map((device) => [device.path, device])).values()];
}

/** One device, or all in a directory. A link is followed, and keeps its name in the container. */
async function resolve(device: BundleDevice): Promise<OciDevice[]> {
  const { pathOnHost, pathInContainer, cgroupPermissions } = device;
  const path = pathInContainer === '' ? pathOnHost : pathInContainer;
  const permissions = cgroupPermissions === '' ? 'rwm' : cgroupPermissions;
  try {
    const target = await realpath(pathOnHost);
    const stats = await stat(target);
    if (stats.isDirectory()) return await devicesBelow(target, path, permissions);
    const found = ociDevice(stats, path, permissions);
    if (found !== undefined) return [found];
  } catch (cause) {
    throw fail.noSuchDevice(
      pathOnHost,
      codeOf(cause) === 'ENOENT' ? 'no such file or directory' : messageOf(cause),
    );
  }
  throw fail.noSuchDevice(pathOnHost, 'not a device node');
}

async function devicesBelow(directory: string, path: string, permissions: string): Promise<OciDevice[]> {
  const found: OciDevice[] = [];
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const inside = join(directory, entry.name);
    if (entry.isDirectory()) {
      if (!skippedDirectories.has(entry.name))
        found.push(...(await devicesBelow(inside, join(path, entry.name), permissions)));
    } else if (inside !== '/dev/console' && (entry.isCharacterDevice() || entry.isBlockDevice())) {
      const device = ociDevice(await lstat(inside), join(path, entry.name), permissions);
      if (device !== undefined) found.push(device);
    }
  }
  return found;
}

function ociDevice(stats: Stats, path: string, permissions: string): OciDevice | undefined {
  if (!stats.isCharacterDevice() && !stats.isBlockDevice()) return undefined;
  const { rdev, mode, uid, gid } = stats;
  return {
    path,
    type: stats.isBlockDevice() ? 'b' : 'c',
    ...deviceNumber(rdev),
    fileMode: mode & 0o777,
    uid,
    gid,
    permissions,
  };
}
