import { fail } from '../errors.ts';
import { shortDigest } from '../lib/digest.ts';
import { parseReference, repositoryOf } from '../lib/reference.ts';
import type { ImageRecord } from '../store/records.ts';

// dockerd: daemon/images/image_delete.go

/** A container that is made from an image. */
export interface ImageUser {
  id: string;
  isRunning: boolean;
}

/** Everything that may stand on an image. */
export interface ImageHolders {
  names: readonly string[];
  users: readonly ImageUser[];
  /** Images that were made on top of it here. */
  hasChildren: boolean;
}

/** Throws where an image may not go with all its names. Force helps against stopped containers and many names alone. */
export function checkRemovalById(
  record: ImageRecord,
  { names, users, hasChildren }: ImageHolders,
  force: boolean,
): void {
  const refuse = (why: string, hint = 'cannot be forced') =>
    fail.imageConflict(`unable to delete ${shortDigest(record.id)} (${hint}) - ${why}`);
  if (hasChildren) throw refuse('image has dependent child images');
  const running = users.find(({ isRunning }) => isRunning);
  if (running !== undefined)
    throw refuse(`image is being used by running container ${running.id.slice(0, 12)}`);
  if (force) return;
  if (!isSingle(names)) throw refuse('image is referenced in multiple repositories', 'must be forced');
  const [stopped] = users;
  if (stopped !== undefined)
    throw refuse(`image is being used by stopped container ${stopped.id.slice(0, 12)}`, 'must be forced');
}

/** Throws where an image would lose its only name while containers stand on it. */
export function checkRemovalByName(name: string, record: ImageRecord, { names, users }: ImageHolders): void {
  const user = users.find(({ isRunning }) => isRunning) ?? users[0];
  if (user === undefined || !isSingle(names)) return;
  throw fail.imageConflict(
    `unable to remove repository reference "${name}" (must force) - container ${user.id.slice(0, 12)} is using its referenced image ${shortDigest(record.id)}`,
  );
}

/** Whether an image that has just lost its last name stays nevertheless. */
export function staysNameless({ users, hasChildren }: ImageHolders, force: boolean): boolean {
  return hasChildren || users.some(({ isRunning }) => isRunning || !force);
}

/** dockerd: one tag, or none, and digests of its repository alone. */
function isSingle(names: readonly string[]): boolean {
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
