import { realpathSync } from 'node:fs';
import { fail } from '../errors.ts';
import { type Mount, mounts } from '../host/mounts.ts';

/**
 * What is mounted under a shared or slave mount comes from, and goes to, the mount that its source is in: throws 500
 * in dockerd's words where that one does not take part.
 */
export function checkPropagation(propagation: string, source: string, all: () => Mount[] = mounts): void {
  const wantsShared = propagation === 'shared' || propagation === 'rshared';
  const wantsSlave = propagation === 'slave' || propagation === 'rslave';
  if (!wantsShared && !wantsSlave) return;
  const mount = mountOf(realpathSync(source), all());
  const { mountPoint = '/', propagation: own = [] } = mount ?? {};
  if (own.includes('shared') || (wantsSlave && own.includes('master'))) return;
  const kind = wantsShared ? 'a shared mount' : 'a shared or slave mount';
  throw fail.host(`path ${source} is mounted on ${mountPoint} but it is not ${kind}`);
}

/** The mount that a path without links is in: the innermost, and of several at one place the last. */
function mountOf(path: string, all: readonly Mount[]): Mount | undefined {
  let found: Mount | undefined;
  for (const mount of all) {
    const { mountPoint } = mount;
    const isAbove = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`);
    if (isAbove && mountPoint.length >= (found?.mountPoint.length ?? 0)) found = mount;
  }
  return found;
}
