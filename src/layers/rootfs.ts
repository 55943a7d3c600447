import { existsSync } from 'node:fs';
import { chmod, chown, mkdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { codeOf, fail, messageOf } from '../errors.ts';
import { MS, mount, unmount } from '../host/kernel.ts';
import { mounts, mountsUnder } from '../host/mounts.ts';

/** Features that a kernel may turn on by itself, and that would leave traces in a layer which other engines do not know. */
const unwanted = ['index', 'redirect_dir', 'metacopy'] as const;

/**
 * Mounts the layers, lowest first, under a container's own writable directory, and returns the place. `containerDir`
 * gets `upper`, `work` and `merged`; mounted already is fine.
 */
export async function mountRootfs(o: {
  layersDir: string;
  dirIds: readonly string[];
  containerDir: string;
}): Promise<string> {
  const merged = join(o.containerDir, 'merged');
  for (const name of ['upper', 'work', 'merged']) await makeDirectory(join(o.containerDir, name));
  if ((await mountsUnder(merged)).length > 0) return merged;
  try {
    if (o.dirIds.length === 0) mount(join(o.containerDir, 'upper'), merged, { flags: MS.BIND });
    else mount('overlay', merged, { type: 'overlay', data: overlayOptions(o), cwd: o.layersDir });
    // a container whose root is shared with the host's would else leave its own mounts under this one
    mount('none', merged, { flags: MS.PRIVATE });
  } catch (cause) {
    if (codeOf(cause) === 'E2BIG') throw fail.host(`too many layers to mount: ${o.dirIds.length}`, cause);
    throw fail.host(`cannot mount the root file system: ${messageOf(cause)}`, cause);
  }
  return merged;
}

/** Undoes {@link mountRootfs}; absent is fine. What is in use is hidden now and let go of by its last user. */
export async function unmountRootfs(containerDir: string): Promise<void> {
  for (const place of await mountsUnder(join(containerDir, 'merged'))) {
    try {
      unmountOnce(place);
    } catch (cause) {
      throw fail.host(`cannot unmount ${place}: ${messageOf(cause)}`, cause);
    }
  }
}

/** Directory IDs of layers that an overlay of this host is made of, its own or another engine's: they are random. */
export function mountedLayers(): Set<string> {
  const dirIds = new Set<string>();
  for (const { type, superOptions } of mounts()) {
    if (type !== 'overlay') continue;
    for (const option of superOptions) {
      const lower = /^lowerdir\+?=(.*)$/.exec(option)?.[1] ?? '';
      for (const path of lower.split(':')) {
        const dirId = /(?:^|\/)([^/]+)\/diff$/.exec(path)?.[1];
        if (dirId !== undefined) dirIds.add(dirId);
      }
    }
  }
  return dirIds;
}

function unmountOnce(place: string): void {
  try {
    unmount(place);
  } catch (cause) {
    const code = codeOf(cause);
    if (code === 'EBUSY') unmount(place, { isLazy: true });
    else if (code !== 'EINVAL' && code !== 'ENOENT') throw cause;
  }
}

/** `upper` lends its owner and mode to the container's `/`: they must not depend on the daemon's umask. */
async function makeDirectory(path: string): Promise<void> {
  try {
    if ((await mkdir(path, { recursive: true })) === undefined) return;
    await chown(path, 0, 0);
    await chmod(path, 0o755);
  } catch (cause) {
    throw fail.host(`cannot create ${path}: ${messageOf(cause)}`, cause);
  }
}

/**
 * Paths are relative to the layers' directory, where the caller stands during the call: 128 lower directories would
 * not fit mount(2)'s one page otherwise. A layer that an image lists twice counts once, at its topmost place (all
 * that the lower one says is said again there), because overlayfs refuses the same directory twice.
 */
function overlayOptions(o: { layersDir: string; dirIds: readonly string[]; containerDir: string }): string {
  const topFirst = [...new Set([...o.dirIds].reverse())];
  const container = escaped(relative(o.layersDir, o.containerDir));
  // an older kernel does not know them all, and refuses what it does not know
  const known = unwanted.filter((name) => existsSync(`/sys/module/overlay/parameters/${name}`));
  return [
    `lowerdir=${topFirst.map((dirId) => `${dirId}/diff`).join(':')}`,
    `upperdir=${container}/upper`,
    `workdir=${container}/work`,
    ...known.map((name) => `${name}=off`),
  ].join(',');
}

/** overlayfs takes these apart at commas and colons. */
function escaped(path: string): string {
  return path.replace(/[\\,:]/g, '\\$&');
}
