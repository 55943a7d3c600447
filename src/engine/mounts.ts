import { posix } from 'node:path';
import { fail } from '../errors.ts';
import type { ContainerConfig, HostConfig, MountPoint, MountRequest } from './model.ts';
import { isReadOnly } from './mount-modes.ts';
import { checkMount, cleanPath, type ParsedBind, parseBind } from './mount-requests.ts';
import type { FindContainer } from './namespaces.ts';
import { tmpfsOptions, tmpfsText } from './tmpfs-options.ts';
import { LOCAL_DRIVER } from './volume-options.ts';
import type { Volumes, VolumeWish } from './volumes.ts';
import { borrowedMounts } from './volumes-from.ts';

/** A mount as the OCI runtime spec has it. */
export interface BundleMount {
  destination: string;
  type: string;
  source: string;
  options: string[];
}

/** What mount points are made with. */
export interface MountPointParts {
  volumes: {
    ensure(name: string | undefined, wish?: VolumeWish): Promise<{ name: string }>;
    pathOf: Volumes['pathOf'];
  };
  find: FindContainer;
  /** The engine's own data: whoever mounts it must hear of what is mounted in it. */
  dataRoot: string;
  /** A read-only bind leaves what is mounted below it as it is. */
  hasFlatReadOnly?: boolean;
}

/**
 * Settles where a new container's mount points come from: other containers, binds, volumes (made where missing), the
 * volumes its image declares. Throws in dockerd's words. Directories of binds are made at start, as their host may
 * change.
 */
export async function mountPointsOf(
  config: ContainerConfig,
  hostConfig: HostConfig,
  parts: MountPointParts,
): Promise<MountPoint[]> {
  const { binds, mounts, volumesFrom, volumeDriver } = hostConfig;
  const { tmpfs = {} } = hostConfig;
  const points = new Map<string, MountPoint>();
  for (const point of borrowedMounts(volumesFrom ?? [], parts.find)) points.set(point.destination, point);
  const taken = new Set<string>();
  const take = (destination: string, target = destination) => {
    if (taken.has(destination)) throw fail.badRequest(`Duplicate mount point: ${target}`);
    taken.add(destination);
  };
  for (const text of binds ?? []) {
    const bind = parseBind(text, volumeDriver);
    const destination = cleanPath(bind.request.target);
    checkSource(bind.request, parts.dataRoot);
    if (Object.hasOwn(tmpfs, destination)) throw fail.badRequest(`Duplicate mount point: ${destination}`);
    take(destination); // before a volume is made
    points.set(destination, await pointOf(bind, destination, parts));
  }
  for (const request of mounts ?? []) {
    const destination = cleanPath(request.target);
    checkMount(request);
    checkSource(request, parts.dataRoot);
    take(destination, request.target);
    const point = await pointOf({ request, mode: '' }, destination, parts);
    const mustExist = request.type === 'bind' && request.bindOptions?.createMountpoint !== true;
    points.set(destination, { ...point, ...(mustExist && { mustExist }) });
  }
  for (const path of Object.keys(config.volumes ?? {}).map(cleanPath)) {
    if (points.has(path) || Object.hasOwn(tmpfs, path)) continue;
    points.set(path, { ...(await volumeAt(path, undefined, { driver: volumeDriver }, parts)), mode: '' });
  }
  return [...points.values()];
}

/** True for the volumes that the image declares, and nothing else is at their places. */
export function isDeclared({ type, request, isBorrowed }: MountPoint): boolean {
  return type === 'volume' && request === undefined && isBorrowed !== true;
}

/** The volumes that begin with what the image has at their mount points, if they are still empty. */
export function volumesToFill(points: readonly MountPoint[]): MountPoint[] {
  return points.filter(
    ({ type, request, isBorrowed }) =>
      type === 'volume' && isBorrowed !== true && request?.volumeOptions?.noCopy !== true,
  );
}

/** How a mount point is brought into a container. */
export interface PreparedMount {
  point: MountPoint;
  /** On the host; of a volume that is where its files are now. */
  source: string;
  /** Of a read-only one: it holds for what is mounted below, too. */
  isDeep: boolean;
}

/** A container's tmpfs of both kinds, and its prepared mounts: outer paths before inner ones. Throws 500. */
export function bundleMounts(
  prepared: readonly PreparedMount[],
  points: readonly MountPoint[],
  hostConfig: HostConfig,
): BundleMount[] {
  const mounts: BundleMount[] = prepared.map(({ point, source, isDeep }) => ({
    destination: point.destination,
    type: 'bind',
    source,
    options: [
      point.request?.bindOptions?.nonRecursive === true ? 'bind' : 'rbind',
      point.isWritable ? 'rw' : isDeep ? 'rro' : 'ro',
      point.propagation || 'rprivate',
    ],
  }));
  const texts = new Map<string, string>();
  for (const { type, destination, request } of points) {
    if (type !== 'tmpfs') continue;
    // records of older daemons have it in the request alone
    const wish = request ?? hostConfig.mounts?.find(({ target }) => cleanPath(target) === destination);
    texts.set(destination, wish === undefined ? '' : tmpfsText(wish));
  }
  for (const [target, text] of Object.entries(hostConfig.tmpfs ?? {})) texts.set(cleanPath(target), text);
  for (const [destination, text] of texts)
    mounts.push({ destination, type: 'tmpfs', source: 'tmpfs', options: tmpfsOptions(text) });
  return mounts.sort((a, b) => depthOf(a.destination) - depthOf(b.destination));
}

async function pointOf(
  { request, mode }: ParsedBind,
  destination: string,
  parts: MountPointParts,
): Promise<MountPoint> {
  const { type, source = '', readOnly, volumeOptions } = request;
  const isWritable = readOnly !== true && !isReadOnly(mode);
  if (type === 'volume') {
    const { driverConfig, labels } = volumeOptions ?? {};
    const wish = {
      driver: driverConfig?.name ?? '',
      ...(driverConfig?.options && { options: driverConfig.options }),
      ...(labels && { labels }),
    };
    const point = await volumeAt(destination, source || undefined, wish, parts);
    return { ...point, mode: mode || 'z', isWritable, request };
  }
  if (type === 'tmpfs')
    return { type, source: '', destination, mode: '', isWritable, propagation: '', request };
  return {
    type: 'bind',
    source: cleanPath(source),
    destination,
    mode,
    isWritable,
    propagation:
      request.bindOptions?.propagation || (isAround(source, parts.dataRoot) ? 'rslave' : 'rprivate'),
    request: withReadOnlyKind(request, parts),
  };
}

async function volumeAt(
  destination: string,
  wanted: string | undefined,
  wish: VolumeWish,
  { volumes }: MountPointParts,
): Promise<MountPoint> {
  const { name } = await volumes.ensure(wanted, wish);
  const source = volumes.pathOf(name);
  const common = { type: 'volume', driver: LOCAL_DRIVER, propagation: '', mode: '' } as const;
  return { ...common, name, source, destination, isWritable: true };
}

function withReadOnlyKind(request: MountRequest, { hasFlatReadOnly }: MountPointParts): MountRequest {
  if (request.readOnly !== true || hasFlatReadOnly !== true) return request;
  return { ...request, bindOptions: { ...request.bindOptions, readOnlyNonRecursive: true } };
}

/** The engine's data in a mount that hears of no changes would keep removed containers' file systems alive. */
function checkSource({ type, source = '', bindOptions }: MountRequest, dataRoot: string): void {
  const { propagation = '' } = bindOptions ?? {};
  if (type !== 'bind' || !isAround(source, dataRoot) || ['', 'rslave', 'rshared'].includes(propagation))
    return;
  throw fail.badRequest(
    `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: "${dataRoot}", bind mount source: "${source}", propagation: "${propagation}"`,
  );
}

/** It is in the data root, or the data root in it; by their first letters, as with dockerd. */
function isAround(source: string, dataRoot: string): boolean {
  return source.startsWith(dataRoot) || dataRoot.startsWith(source);
}

function depthOf(path: string): number {
  return posix.normalize(path).split('/').length;
}
