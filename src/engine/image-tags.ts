import { fail } from '../errors.ts';
import { parseImageConfig } from '../lib/image-config.ts';
import { familiarString, isTag, parseReference, type Reference, withDefaultTag } from '../lib/reference.ts';
import type { ImageRecord } from '../store/records.ts';
import type { Events } from './events.ts';

/** The name of an image that is about to be made; none without a repository. Throws 400 in dockerd's words. */
export function newName({ repo, tag }: { repo: string; tag: string }): Reference | undefined {
  if (repo === '') return undefined;
  const ref = parseReference(repo);
  if (ref.digest !== undefined) throw fail.invalidReference('cannot import digest reference');
  if (tag === '') return withDefaultTag(ref);
  if (!isTag(tag)) throw fail.invalidReference('invalid tag format');
  return { ...ref, tag };
}

/** Tells that an image has got a name. */
export function tellTag(events: Events, { id, config }: ImageRecord, name: Reference): void {
  const labels = parseImageConfig(config).config?.Labels ?? {};
  events.emit('image', 'tag', id, { ...labels, name: familiarString(name) });
}
