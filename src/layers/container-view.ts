import { constants, fstatSync, mkdirSync, openSync, statSync, writeFileSync } from 'node:fs';
import { codeOf, fail, messageOf } from '../errors.ts';
import { nameIn, openInside, type Place } from '../host/inside.ts';
import { MS, mount, O_PATH } from '../host/kernel.ts';
import { leaveForOwnMounts, rootOfMountNamespace } from '../host/mount-namespace.ts';
import { nameOf } from '../lib/byte-names.ts';

/** Something of the host that is mounted in a container. */
export interface ViewMount {
  readonly source: string;
  /** In the container. */
  readonly destination: string;
  readonly isReadonly: boolean;
  readonly isRecursive: boolean;
}

/** How a child comes to see a container's files as the container does. */
export type View =
  /** Its mount namespace is the child's descriptor 4. */
  | { readonly kind: 'inside' }
  /** No process has it open: the root file system is mounted on the host, the rest is still to be mounted. */
  | {
      readonly kind: 'outside';
      readonly rootfs: string;
      /** Device and inode of its root: a mount that has gone meanwhile leaves an empty directory behind. */
      readonly identity: string;
      readonly isReadonly: boolean;
      readonly mounts: readonly ViewMount[];
    };

const NAMESPACE = 4;

/** The root of a container's files, as a descriptor. For the one job of a child: it is never closed, and mounts stay. */
export function openView(view: View): number {
  if (view.kind === 'inside') return rootOfMountNamespace(NAMESPACE);
  leaveForOwnMounts();
  const root = openSync(view.rootfs, O_PATH | constants.O_DIRECTORY);
  if (identityOf(fstatSync(root, { bigint: true })) !== view.identity)
    throw fail.host('the container was taken down meanwhile');
  for (const one of view.mounts) {
    try {
      mountInside(root, one);
    } catch (cause) {
      throw fail.host(`cannot mount ${one.source} at ${one.destination}: ${messageOf(cause)}`, cause);
    }
  }
  if (view.isReadonly) mount('none', `/proc/self/fd/${root}`, { flags: MS.REMOUNT | MS.BIND | MS.RDONLY });
  return root;
}

/** What tells a directory from any other. */
export function identityOf({ dev, ino }: { dev: bigint; ino: bigint }): string {
  return `${dev}:${ino}`;
}

/** Others may be at work in a volume that this one's place is in. */
function mountInside(root: number, { source, destination, isReadonly, isRecursive }: ViewMount): void {
  const found = statSync(source, { throwIfNoEntry: false, bigint: true });
  if (found === undefined) return; // it is made, or missed, when the container starts
  using target = placeFor(root, destination, found.isDirectory());
  mount(source, `/proc/self/fd/${target.fd}`, { flags: MS.BIND | (isRecursive ? MS.REC : 0) });
  if (!isReadonly) return;
  using mounted = openInside(root, target.path, { followsLast: false });
  const now = mounted === undefined ? undefined : fstatSync(mounted.fd, { bigint: true });
  if (mounted === undefined || now?.dev !== found.dev || now.ino !== found.ino)
    throw new Error('another process moved it away');
  mount('none', `/proc/self/fd/${mounted.fd}`, { flags: MS.REMOUNT | MS.BIND | MS.RDONLY });
}

/** As at a start, what is mounted makes its place where there is none. */
function placeFor(root: number, destination: string, isDirectory: boolean): Place {
  const path = nameOf(destination);
  const found = openInside(root, path, { followsLast: true });
  if (found !== undefined) return found;
  const slash = path.lastIndexOf('/');
  using parent = openInside(root, path.slice(0, slash), { followsLast: true, makesDirectories: 0o755 });
  if (parent === undefined) throw new Error('there is no such place');
  makePlace(nameIn(parent.fd, path.slice(slash + 1)), isDirectory);
  const made = openInside(root, path, { followsLast: true });
  if (made === undefined) throw new Error('another process moved it away');
  return made;
}

function makePlace(at: string | Buffer, isDirectory: boolean): void {
  try {
    if (isDirectory) mkdirSync(at, 0o755);
    else writeFileSync(at, '', { flag: 'wx', mode: 0o644 });
  } catch (cause) {
    if (codeOf(cause) !== 'EEXIST') throw cause;
  }
}
