import * as z from 'zod/mini';
import { Failure, fail } from '../errors.ts';
import { type Digest, digestOf, isDigest } from '../lib/digest.ts';
import { blobPath } from '../lib/image-archive.ts';
import { matchPlatform, type Platform } from '../lib/platform.ts';
import { canonicalString, parseReference, type Reference } from '../lib/reference.ts';
import { chooseEntry, type Descriptor, parseManifest } from '../registry/manifest.ts';
import type { ArchiveContents } from './archive-contents.ts';
import { type ArchivedImage, readConfig, readJson, readTag } from './archived-image.ts';

const MOST_ENTRIES = 1024;
/** Indexes in indexes; two are the most that anybody writes. */
const MOST_DEPTH = 4;

const index = z.object({
  manifests: z
    .array(
      z.object({
        mediaType: z._default(z.string(), ''),
        digest: z.string().check(z.refine(isDigest, 'not a sha256 digest')),
        size: z.int().check(z.nonnegative()),
        platform: z.optional(
          z.nullable(
            z.object({
              os: z._default(z.string(), ''),
              architecture: z._default(z.string(), ''),
              variant: z.optional(z.string()),
            }),
          ),
        ),
        annotations: z.optional(z.nullable(z.record(z.string(), z.string()))),
      }),
    )
    .check(z.maxLength(MOST_ENTRIES)),
});

type Entry = z.infer<typeof index>['manifests'][number];

/** What the messages about a manifest call an image without a name. */
const unnamed: Reference = { domain: 'docker.io', path: 'library/archive' };

/**
 * The images of an OCI layout (OCI image-spec v1.1, image-layout.md): one for each name, of several platforms the one
 * that serves this host best. Entries without a name are images of their own, unless each is for another platform.
 */
export function readOciLayout(contents: ArchiveContents, host: Platform): ArchivedImage[] {
  const { manifests } = readJson(contents.document('index.json'), index, 'index.json');
  const groups = new Map<string, { name?: Reference; entries: Entry[] }>();
  const images = manifests.filter(({ annotations }) => !annotations?.['vnd.docker.reference.type']);
  const arePlatforms = new Set(images.map(({ platform }) => platformKey(platform))).size === images.length;
  for (const entry of images) {
    const name = annotatedName(entry.annotations ?? {});
    const key = name === undefined ? (arePlatforms ? '' : entry.digest) : canonicalString(name);
    const group = groups.get(key) ?? { entries: [], ...(name && { name }) };
    group.entries.push(entry);
    groups.set(key, group);
  }
  return [...groups.values()].map(({ name, entries }) => {
    const image = readImage(contents, bestOf(entries, host), { name: name ?? unnamed, host });
    return { ...image, names: name === undefined ? [] : [name] };
  });
}

/** One alone is taken for whatever platform it is, as an archive of Docker's is. */
function bestOf(entries: readonly Entry[], host: Platform): Entry {
  const [first, ...others] = entries;
  if (first !== undefined && others.every(({ digest }) => digest === first.digest)) return first;
  const scored = entries.flatMap((entry) => {
    const score = entry.platform ? matchPlatform(host, platformOf(entry.platform)) : Number.MAX_VALUE;
    return score === undefined ? [] : [{ entry, score }];
  });
  const [best] = scored.sort((a, b) => a.score - b.score);
  if (best === undefined) throw fail.noMatchingManifest(`${host.os}/${host.architecture}`);
  return best.entry;
}

function readImage(
  contents: ArchiveContents,
  top: Pick<Entry, 'mediaType' | 'digest' | 'size'>,
  { name, host }: { name: Reference; host: Platform },
): Omit<ArchivedImage, 'names'> {
  let from: Pick<Descriptor, 'mediaType' | 'size'> & { digest: string } = top;
  for (let depth = 0; depth < MOST_DEPTH; depth++) {
    const bytes = readBlob(contents, from);
    const manifest = parseManifest(bytes, from.mediaType || undefined, name);
    if (manifest.kind === 'index') {
      from = chooseEntry(manifest, host);
      continue;
    }
    const config = readBlob(contents, manifest.config);
    const { id, platform, diffIds } = readConfig(config, host);
    if (diffIds.length !== manifest.layers.length)
      throw fail.invalidArchive("layers from manifest don't match image configuration");
    const layers = manifest.layers.map(({ digest, size }, at) => ({
      path: blobPath(digest),
      sizeBytes: size,
      diffId: diffIds[at] ?? id,
    }));
    const own = { digest: digestOf(bytes), mediaType: manifest.mediaType, text: bytes.toString('utf8') };
    return { id, platform, config: config.toString('utf8'), layers, manifest: own };
  }
  throw fail.invalidArchive('the indexes of the archive go too deep');
}

/** The text that a descriptor names. That it hashes to its name was seen when it was read. */
function readBlob(contents: ArchiveContents, { digest, size }: { digest: string; size: number }): Buffer {
  const bytes = contents.document(blobPath(digest as Digest));
  if (bytes.length !== size)
    throw fail.invalidArchive(`blob ${digest} has ${bytes.length} bytes, not ${size}`);
  return bytes;
}

/** containerd's annotation is a full name; the specification's may be one, or a bare tag, which names no repository. */
export function annotatedName(annotations: Readonly<Record<string, string>>): Reference | undefined {
  const full = annotations['io.containerd.image.name'];
  if (full !== undefined) return readTag(full);
  const name = annotations['org.opencontainers.image.ref.name'];
  if (name === undefined || !/[/:]/.test(name)) return undefined;
  try {
    const ref = parseReference(name);
    return ref.tag === undefined || ref.digest !== undefined ? undefined : ref;
  } catch (cause) {
    if (cause instanceof Failure) return undefined; // it may hold what a reference may not
    throw cause;
  }
}

function platformKey(platform: Entry['platform']): string {
  return platform ? JSON.stringify(platformOf(platform)) : '';
}

function platformOf({ os, architecture, variant }: NonNullable<Entry['platform']>): Platform {
  return { os, architecture, ...(variant && { variant }) };
}
