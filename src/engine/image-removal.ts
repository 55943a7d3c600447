import { fail } from '../errors.ts';
import { chainIds } from '../lib/chain-id.ts';
import { shortDigest } from '../lib/digest.ts';
import { parseReference, repositoryOf } from '../lib/reference.ts';
import type { ImageRecord, LayerRecord } from '../store/records.ts';

// dockerd: daemon/images/image_delete.go

/** A container that is made from an image. */
export interface ImageUser {
  id: string;
  isRunning: boolean;
}

/** One step of a removal, in the order in which it was done. */
export type Removal = { untagged: string } | { deleted: string };

/** Throws where an image may not go with all its names: by force too while a container runs from it. */
export function checkRemovalById(
  record: ImageRecord,
  names: readonly string[],
  users: readonly ImageUser[],
  force: boolean,
): void {
  const short = shortDigest(record.id);
  const running = users.find(({ isRunning }) => isRunning);
  if (running !== undefined) {
    throw fail.imageConflict(
      `unable to delete ${short} (cannot be forced) - image is being used by running container ${running.id.slice(0, 12)}`,
    );
  }
  if (force) return;
  if (!isSingle(names)) {
    throw fail.imageConflict(
      `unable to delete ${short} (must be forced) - image is referenced in multiple repositories`,
    );
  }
  const [stopped] = users;
  if (stopped !== undefined) {
    throw fail.imageConflict(
      `unable to delete ${short} (must be forced) - image is being used by stopped container ${stopped.id.slice(0, 12)}`,
    );
  }
}

/** Throws where an image would lose its only name while containers stand on it. */
export function checkRemovalByName(name: string, record: ImageRecord, users: readonly ImageUser[]): void {
  const user = users.find(({ isRunning }) => isRunning) ?? users[0];
  if (user === undefined) return;
  throw fail.imageConflict(
    `unable to remove repository reference "${name}" (must force) - container ${user.id.slice(0, 12)} is using its referenced image ${shortDigest(record.id)}`,
  );
}

/** dockerd: one tag, or none, and digests of its repository alone. */
export function isSingle(names: readonly string[]): boolean {
  const tags = names.filter((key) => !key.includes('@'));
  return tags.length <= 1 && new Set(names.map((key) => repositoryOf(parseReference(key)))).size <= 1;
}

/** A tag takes its repository's digests with it once no other tag of that repository is left. */
export function namesGoingWith(ref: string, names: readonly string[]): string[] {
  if (ref.includes('@')) return [ref];
  const repository = repositoryOf(parseReference(ref));
  const siblings = names.filter((key) => repositoryOf(parseReference(key)) === repository);
  const hasOtherTag = siblings.some((key) => key !== ref && !key.includes('@'));
  return hasOtherTag ? [ref] : [ref, ...siblings.filter((key) => key.includes('@'))];
}

/** `Deleted` lines name layers by chain ID, topmost first, as dockerd's do. */
export function deletedChains(record: ImageRecord, freed: readonly LayerRecord[]): Removal[] {
  const gone = new Set<string>(freed.map(({ diffId }) => diffId));
  return chainIds(record.diffIds)
    .filter((_, at) => gone.has(record.diffIds[at] ?? ''))
    .reverse()
    .map((deleted) => ({ deleted }));
}
