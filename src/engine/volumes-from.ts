import { Failure, fail } from '../errors.ts';
import type { MountPoint } from './model.ts';
import { declinesCopy, isMode, isReadOnly, propagationOf } from './mount-modes.ts';
import type { FindContainer } from './namespaces.ts';

/**
 * The mount points that a container takes over from others, `NAME[:ro]` each: later ones replace earlier ones at the
 * same place. Throws 400 in dockerd's words for a container that is not there.
 */
export function borrowedMounts(specs: readonly string[], find: FindContainer): MountPoint[] {
  const points = new Map<string, MountPoint>();
  for (const spec of specs) {
    const { ref, mode } = parseVolumesFrom(spec);
    for (const point of mountsOf(ref, find)) {
      // dockerd looks for the volume of everything without a source, and finds none for a tmpfs
      if (point.type === 'tmpfs') throw fail.noSuchVolume('');
      points.set(point.destination, {
        ...point,
        mode: '',
        isWritable: point.isWritable && !isReadOnly(mode),
        mustExist: false,
        isBorrowed: true,
      });
    }
  }
  return [...points.values()];
}

function parseVolumesFrom(spec: string): { ref: string; mode: string } {
  if (spec === '') throw fail.badRequest('volumes-from specification cannot be an empty string');
  const [ref = '', ...rest] = spec.split(':');
  const mode = rest.join(':');
  // how the other container has them mounted is not changed here
  if (!isMode(mode) || propagationOf(mode) !== undefined || declinesCopy(mode))
    throw fail.badRequest(`invalid mode: ${mode}`);
  return { ref, mode };
}

function mountsOf(ref: string, find: FindContainer): readonly MountPoint[] {
  try {
    return find(ref).mounts;
  } catch (cause) {
    throw cause instanceof Failure ? fail.badRequest(cause.message) : cause;
  }
}
