import { createReadStream, createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import * as z from 'zod/mini';
import { readJson, readTag } from '../engine/archived-image.ts';
import { annotatedName } from '../engine/oci-layout.ts';
import { fail } from '../errors.ts';
import { platform as hostPlatform } from '../host/facts.ts';
import { compressionOf, decompressInto } from '../layers/decompression.ts';
import { type Digest, digestOf } from '../lib/digest.ts';
import { blobPath, imageDocuments } from '../lib/image-archive.ts';
import { type Platform, parsePlatform } from '../lib/platform.ts';
import { familiarString, parseReference, type Reference, withDefaultTag } from '../lib/reference.ts';
import { chooseEntry, type LayerDescriptor, parseManifest, parsePulledConfig } from '../registry/manifest.ts';
import { archiveFiles, directoryFiles, type ImageFiles, readDocument } from './image-files.ts';
import type { RegistryAccess } from './registry-access.ts';
import type { SourceLayer, Workspace } from './workspace.ts';

/** An image, checked but for its layers; none of those has been read. */
export interface SourceImage {
  /** As the user wrote it. */
  readonly name: string;
  /** If it lies in a registry. */
  readonly ref?: Reference;
  /** Names by which it goes where it lies, each with a tag. */
  readonly tags: readonly Reference[];
  readonly id: Digest;
  readonly manifest: { readonly digest: Digest; readonly mediaType: string; readonly bytes: Buffer };
  readonly config: Buffer;
  readonly platform: Platform;
  /** Lowest first. */
  readonly layers: readonly SourceLayer[];
}

/** What sources of images are opened with. */
export interface SourceContext {
  readonly access: RegistryAccess;
  readonly workspace: Workspace;
  /** What `--platform` says. */
  readonly platform: string | undefined;
  readonly signal: AbortSignal;
}

interface Wish {
  readonly name: string;
  readonly tag?: string | undefined;
  readonly platform: Platform;
  readonly isPlatformStrict: boolean;
}

/** Opens `REF`, `oci:DIR[:TAG]` or `docker-archive:FILE`. */
export async function openImage(name: string, context: SourceContext): Promise<SourceImage> {
  const host = hostPlatform();
  const platform = context.platform === undefined ? host : parsePlatform(context.platform, host);
  const wish = { name, platform, isPlatformStrict: context.platform !== undefined };
  const [, directory, tag] = /^oci:(.+?)(?::([\w][\w.-]*))?$/.exec(name) ?? [];
  if (directory !== undefined) return readLayout(directoryFiles(directory), { ...wish, tag });
  const file = /^docker-archive:(.+)$/.exec(name)?.[1];
  if (file === undefined) return readRemote(withDefaultTag(parseReference(name)), wish, context);
  const files = await archiveFiles(await plainTar(file, context.workspace));
  const isLayout = (await files.bytesOf('index.json')) !== undefined;
  return isLayout ? readLayout(files, wish) : readDockerArchive(files, wish);
}

async function readRemote(
  ref: Reference,
  wish: Wish,
  { access, signal }: SourceContext,
): Promise<SourceImage> {
  const asking = await access.asking(ref, signal);
  const image = await access.registry.resolve(ref, { ...asking, ...wish });
  const layers = image.layers.map((layer) =>
    sourceLayer(layer, (o) => access.registry.blob(ref, layer, { ...asking, ...o })),
  );
  return {
    name: familiarString(ref),
    ref,
    tags: ref.tag === undefined || ref.digest !== undefined ? [] : [ref],
    id: image.configDigest,
    manifest: { digest: image.manifestDigest, mediaType: image.mediaType, bytes: image.manifest },
    config: image.config,
    platform: image.platform,
    layers,
  };
}

const annotated = z.object({
  manifests: z.array(z.object({ annotations: z.optional(z.nullable(z.record(z.string(), z.string()))) })),
});
/** What the messages about a manifest call an image that lies in files. */
const unnamed: Reference = { domain: 'docker.io', path: 'library/image' };

/** OCI image-spec v1.1, image-layout.md. */
async function readLayout(files: ImageFiles, wish: Wish): Promise<SourceImage> {
  const { name, platform } = wish;
  const bytes = await readDocument(files, 'index.json');
  const top = parseManifest(bytes, undefined, unnamed);
  const marks = readJson(bytes, annotated, 'index.json');
  if (top.kind !== 'index') throw fail.invalidArchive(`${name}: index.json is malformed`);
  const entries = top.entries.filter((_, at) => isMeant(marks.manifests[at]?.annotations, wish.tag));
  const distinct = [...new Map(entries.map((entry) => [entry.digest, entry])).values()];
  if (distinct.length === 0) throw fail.config(`${name}: there is no such image`);
  const platforms = new Set(distinct.map((entry) => JSON.stringify(entry.platform)));
  if (platforms.size < distinct.length)
    throw fail.config(`${name}: there are ${distinct.length} images: name one by its tag`);
  const only = distinct.length === 1 ? distinct[0] : undefined;
  let entry = only ?? chooseEntry({ ...top, entries: distinct }, platform);
  const tags = namesOf(
    top.entries.flatMap(({ digest }, at) => (digest === entry.digest ? [marks.manifests[at]] : [])),
  );
  let document = await readBlob(files, entry);
  let manifest = parseManifest(document, entry.mediaType || undefined, unnamed);
  if (manifest.kind === 'index') {
    entry = chooseEntry(manifest, platform);
    document = await readBlob(files, entry);
    manifest = parseManifest(document, entry.mediaType || undefined, unnamed);
  }
  if (manifest.kind === 'index') throw fail.unsupportedImage('an index inside an index is not supported');
  const config = await readBlob(files, manifest.config);
  const pulled = parsePulledConfig(config, manifest, { ref: unnamed, ...wish });
  return {
    name,
    tags,
    id: manifest.config.digest,
    manifest: { digest: entry.digest, mediaType: manifest.mediaType, bytes: document },
    config,
    platform: pulled.platform,
    layers: pulled.layers.map((layer) => sourceLayer(layer, () => files.open(blobPath(layer.digest)))),
  };
}

function namesOf(
  entries: readonly (z.infer<typeof annotated>['manifests'][number] | undefined)[],
): Reference[] {
  return entries.flatMap((entry) => annotatedName(entry?.annotations ?? {}) ?? []);
}

function isMeant(annotations: Record<string, string> | null | undefined, tag: string | undefined): boolean {
  if (annotations?.['vnd.docker.reference.type'] !== undefined) return false;
  const name = annotations?.['org.opencontainers.image.ref.name'];
  return tag === undefined || name === tag || name?.endsWith(`:${tag}`) === true;
}

async function readBlob(files: ImageFiles, { digest }: { digest: Digest }): Promise<Buffer> {
  const bytes = await readDocument(files, blobPath(digest));
  if (digestOf(bytes) !== digest) throw fail.invalidArchive(`blob ${digest} is not what its name says`);
  return bytes;
}

const archiveIndex = z.array(
  z.object({
    Config: z.string(),
    RepoTags: z.optional(z.nullable(z.array(z.string()))),
    Layers: z.nullable(z.array(z.string()).check(z.maxLength(127))),
  }),
);

/** An archive as `docker save` wrote it before it wrote layouts. It has no manifest of a registry's kind: one is made. */
async function readDockerArchive(files: ImageFiles, wish: Wish): Promise<SourceImage> {
  const items = readJson(await readDocument(files, 'manifest.json'), archiveIndex, 'manifest.json');
  const [item, ...others] = items;
  if (item === undefined || others.length > 0)
    throw fail.config(`${wish.name}: there are ${items.length} images: it is to hold one`);
  const config = await readDocument(files, item.Config);
  const paths = item.Layers ?? [];
  const packed = await Promise.all(paths.map((path) => files.bytesOf(path)));
  const id = digestOf(config);
  // the digests are those of no blobs: nobody but the check of the config looks at them
  const layers = packed.map((size = 0) => ({
    digest: id,
    size,
    mediaType: '',
    compression: 'none' as const,
  }));
  const described = { digest: id, size: config.length, mediaType: '' };
  const pulled = parsePulledConfig(
    config,
    { kind: 'image', mediaType: '', config: described, layers },
    { ref: unnamed, ...wish },
  );
  const image = {
    id,
    config: config.toString(),
    platform: pulled.platform,
    layers: pulled.layers.map(({ diffId, size }) => ({ diffId, tarBytes: size })),
    tags: [],
  };
  const [document] = imageDocuments(image);
  if (document === undefined) throw new Error('an image without a manifest');
  const { bytes } = document;
  return {
    name: wish.name,
    tags: (item.RepoTags ?? []).map(readTag),
    id,
    manifest: { digest: digestOf(bytes), mediaType: 'application/vnd.oci.image.manifest.v1+json', bytes },
    config,
    platform: pulled.platform,
    layers: pulled.layers.map(({ diffId, size }, at) => ({
      diffId,
      packedBytes: size,
      compression: 'auto',
      open: () => files.open(paths[at] ?? ''),
    })),
  };
}

function sourceLayer(
  { diffId, size, compression }: LayerDescriptor,
  openBlob: SourceLayer['open'],
): SourceLayer {
  return { diffId, packedBytes: size, compression, open: openBlob };
}

/** An archive may be packed as a whole, and its files are read where they lie: then it is unpacked first. */
async function plainTar(file: string, workspace: Workspace): Promise<string> {
  const handle = await open(file).catch((cause: unknown) => {
    throw fail.invalidArchive(`cannot read ${file}`, cause);
  });
  const { buffer: head, bytesRead } = await handle
    .read(Buffer.alloc(16), 0, 16, 0)
    .finally(() => handle.close());
  const compression = compressionOf(head.subarray(0, bytesRead));
  if (compression === 'none') return file;
  const plain = workspace.newPath();
  await decompressInto(createReadStream(file), compression, (pieces) =>
    pipeline(pieces, createWriteStream(plain)),
  );
  return plain;
}
