import { mkdir, stat } from 'node:fs/promises';
import { posix } from 'node:path';
import { fail } from '../errors.ts';
import type { ContainerConfig, HostConfig, MountPoint, MountRequest } from './model.ts';
import type { VolumeRecord, Volumes } from './volumes.ts';

/** A mount as the OCI runtime spec has it. */
export interface BundleMount {
  destination: string;
  type: string;
  source: string;
  options: string[];
}

const propagations = ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave'];
const bindModes = new Set([
  'ro',
  'rw',
  'z',
  'Z',
  'nocopy',
  'cached',
  'delegated',
  'consistent',
  ...propagations,
]);

/**
 * Settles where a new container's mount points come from: binds, volumes (made where missing), the volumes its
 * image declares. Throws in dockerd's words. Directories of binds are made at start, as their host may change.
 */
export async function mountPointsOf(
  config: ContainerConfig,
  hostConfig: HostConfig,
  volumes: Pick<Volumes, 'pathOf'> & { ensure(name: string | undefined): Promise<VolumeRecord> },
): Promise<MountPoint[]> {
  const points = new Map<string, MountPoint>();
  const checkFree = (destination: string) => {
    if (points.has(destination)) throw fail.badRequest(`Duplicate mount point: ${destination}`);
  };
  const add = (point: MountPoint) => {
    checkFree(point.destination);
    points.set(point.destination, point);
  };
  const volumeAt = async (name: string | undefined, destination: string, mode: string) => {
    checkFree(destination); // before it is made
    const volume = await volumes.ensure(name);
    const source = volumes.pathOf(volume.name);
    const common = { type: 'volume', name: volume.name, driver: 'local', propagation: '' } as const;
    add({ ...common, source, destination, mode, isWritable: isWritable(mode) });
  };
  if ((hostConfig.volumesFrom ?? []).length > 0) {
    throw fail.notImplemented('volumes from another container are not supported');
  }
  for (const text of hostConfig.binds ?? []) {
    const { source, destination, mode } = parseBind(text);
    if (source?.startsWith('/')) add(bindPoint(source, destination, mode));
    else await volumeAt(source, destination, mode || 'z');
  }
  for (const request of hostConfig.mounts ?? []) {
    const target = checkMount(request);
    if (request.type === 'volume')
      await volumeAt(request.source || undefined, target, request.readOnly ? 'ro' : 'z');
    else if (request.type === 'bind') {
      await checkBindSource(request.source ?? '');
      const propagation = String(request.bindOptions?.['propagation'] ?? '');
      if (propagation !== '' && !propagations.includes(propagation)) {
        throw fail.badRequest(
          `invalid mount config for type "bind": invalid propagation mode: ${propagation}`,
        );
      }
      add({
        ...bindPoint(request.source ?? '', target, request.readOnly ? 'ro' : ''),
        mode: '',
        propagation: propagation || 'rprivate',
      });
    } else {
      const common = { type: 'tmpfs', source: '', mode: '', propagation: '' } as const;
      add({ ...common, destination: target, isWritable: !request.readOnly });
    }
  }
  const declared = Object.keys(config.volumes ?? {}).map((path) => posix.normalize(path));
  const tmpfs = new Set(Object.keys(hostConfig.tmpfs ?? {}).map(cleanPath));
  for (const path of declared) if (!points.has(path) && !tmpfs.has(path)) await volumeAt(undefined, path, '');
  return [...points.values()];
}

/** The volumes that begin with what the image has at their mount points, if they are still empty. */
export function volumesToFill(points: readonly MountPoint[], { mounts }: HostConfig): MountPoint[] {
  const declined = (mounts ?? []).filter(({ volumeOptions }) => volumeOptions?.['noCopy'] === true);
  const targets = new Set(declined.map(({ target }) => cleanPath(target)));
  return points.filter(
    ({ type, mode, destination }) =>
      type === 'volume' && !mode.split(',').includes('nocopy') && !targets.has(destination),
  );
}

/** The runtime's mounts for a container: its mount points and its tmpfs, outer paths before inner ones. */
export function bundleMounts(points: readonly MountPoint[], hostConfig: HostConfig): BundleMount[] {
  const mounts: BundleMount[] = points
    .filter(({ type }) => type !== 'tmpfs') // those come with their options from the request
    .map((point) => ({
      destination: point.destination,
      type: 'bind',
      source: point.source,
      options: ['rbind', point.isWritable ? 'rw' : 'ro', point.propagation || 'rprivate'],
    }));
  for (const [target, options] of Object.entries(hostConfig.tmpfs ?? {})) {
    const given = options.split(',').filter((option) => option !== '');
    mounts.push(tmpfsMount(posix.normalize(target), given));
  }
  for (const { type, target, tmpfsOptions, readOnly } of hostConfig.mounts ?? []) {
    if (type !== 'tmpfs') continue;
    const size = tmpfsOptions?.sizeBytes ? [`size=${tmpfsOptions.sizeBytes}`] : [];
    const mode = tmpfsOptions?.mode ? [`mode=${tmpfsOptions.mode.toString(8)}`] : [];
    mounts.push(tmpfsMount(posix.normalize(target), [...size, ...mode, ...(readOnly ? ['ro'] : [])]));
  }
  return mounts.sort((a, b) => depthOf(a.destination) - depthOf(b.destination));
}

/** Makes the directories of binds that are missing, as dockerd does for `-v /host:/path`. */
export async function makeBindSources(points: readonly MountPoint[]): Promise<void> {
  for (const { type, source } of points) {
    if (type !== 'bind') continue;
    const isThere = await stat(source).then(
      () => true,
      () => false,
    );
    if (!isThere) await mkdir(source, { recursive: true });
  }
}

/** `source:destination[:mode]`; a path alone is that of a new anonymous volume. */
function parseBind(text: string): { source?: string; destination: string; mode: string } {
  const parts = text.split(':');
  if (parts.length === 1 && text.startsWith('/') && cleanPath(text) !== '/')
    return { destination: cleanPath(text), mode: '' };
  const [first = '', second, mode = ''] = parts;
  if (parts.length > 3 || first === '') throw invalidVolume(text);
  if (second === undefined || second === '') throw invalidVolume(text);
  if (!second.startsWith('/')) {
    throw invalidVolume(
      text,
      `invalid mount config for type "${first.startsWith('/') ? 'bind' : 'volume'}": invalid mount path: '${second}' mount path must be absolute`,
    );
  }
  const destination = cleanPath(second);
  if (destination === '/') throw invalidVolume(text, "invalid specification: destination can't be '/'");
  for (const word of mode === '' ? [] : mode.split(',')) {
    if (!bindModes.has(word)) throw fail.host(`invalid mode: ${mode}`);
  }
  return { source: first.startsWith('/') ? cleanPath(first) : first, destination, mode };
}

function invalidVolume(text: string, why?: string) {
  return fail.host(`invalid volume specification: '${text}'${why === undefined ? '' : `: ${why}`}`);
}

function bindPoint(source: string, destination: string, mode: string): MountPoint {
  const propagation = mode.split(',').find((word) => propagations.includes(word)) ?? 'rprivate';
  return {
    type: 'bind',
    source: cleanPath(source),
    destination,
    mode,
    isWritable: isWritable(mode),
    propagation,
  };
}

function checkMount({ type, source, target }: MountRequest): string {
  const invalid = (why: string) => fail.badRequest(`invalid mount config for type "${type}": ${why}`);
  if (type !== 'bind' && type !== 'volume' && type !== 'tmpfs') throw invalid('mount type unknown');
  if (target === '') throw invalid('field Target must not be empty');
  if (!target.startsWith('/')) throw invalid(`invalid mount path: '${target}' mount path must be absolute`);
  if (cleanPath(target) === '/') throw invalid("invalid specification: destination can't be '/'");
  if (type === 'tmpfs' && source) throw invalid('field Source must not be specified');
  if (type === 'bind' && !source) throw invalid('field Source must not be empty');
  if (type === 'bind' && !source?.startsWith('/')) {
    throw invalid(`invalid mount path: '${source}' mount path must be absolute`);
  }
  return cleanPath(target);
}

async function checkBindSource(source: string): Promise<void> {
  try {
    await stat(source);
  } catch {
    throw fail.badRequest(`invalid mount config for type "bind": bind source path does not exist: ${source}`);
  }
}

function tmpfsMount(destination: string, given: readonly string[]): BundleMount {
  // dockerd's defaults; what the client says comes later and wins
  return { destination, type: 'tmpfs', source: 'tmpfs', options: ['noexec', 'nosuid', 'nodev', ...given] };
}

function isWritable(mode: string): boolean {
  return !mode.split(',').includes('ro');
}

function cleanPath(path: string): string {
  const clean = posix.normalize(path);
  return clean.length > 1 ? clean.replace(/\/$/, '') : clean;
}

function depthOf(path: string): number {
  return path.split('/').length;
}
