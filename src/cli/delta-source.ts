import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { codeOf, fail } from '../errors.ts';
import { type DeltaFacts, parseDeltaManifest } from '../lib/delta-artifact.ts';
import { familiarString, parseReference, type Reference, withDefaultTag } from '../lib/reference.ts';
import type { SourceContext } from './source-image.ts';

/** A delta that has been found; nothing of it is checked yet. */
export interface DeltaSource {
  readonly name: string;
  readonly bytes: number;
  /** What its registry says of it, if it lies in one. */
  readonly facts?: DeltaFacts;
  open(): AsyncIterable<Buffer>;
}

/** Opens a delta by the path of its file or, where there is no such file, by its name in a registry. */
export async function openDelta(name: string, context: SourceContext): Promise<DeltaSource> {
  const bytes = await fileBytes(name);
  if (bytes !== undefined) return { name, bytes, open: () => createReadStream(name) };
  if (/^[./]/.test(name)) throw fail.config(`${name}: there is no such file`);
  return openRemote(withDefaultTag(parseReference(name)), context);
}

async function openRemote(ref: Reference, { access, signal }: SourceContext): Promise<DeltaSource> {
  const name = familiarString(ref);
  const asking = await access.asking(ref, signal);
  const document = await access.registry.manifest(ref, asking);
  if (document === undefined) throw fail.config(`${name}: there is no such file, and no delta of this name`);
  const { blob, facts } = parseDeltaManifest(document.bytes);
  return { name, bytes: blob.size, facts, open: () => access.registry.blob(ref, blob, asking) };
}

async function fileBytes(path: string): Promise<number | undefined> {
  try {
    const found = await stat(path);
    return found.isFile() ? found.size : undefined;
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT' || codeOf(cause) === 'ENOTDIR') return undefined;
    throw cause;
  }
}
