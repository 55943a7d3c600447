/**
 * Images for tests, made in memory, and the way to get them (or an OCI layout on disk) into a registry.
 *
 *     const layer = makeLayer({ 'bin/hello': '#!/bin/sh\necho hello\n' }, { packing: 'zstd' });
 *     const image = makeImage({ layers: [layer], platform: { os: 'linux', architecture: 'arm64' } });
 *     await push(registry.host, 'app/hello', ['1'], image);
 *     await push(registry.host, 'app/hello', ['all'], makeIndex([image, otherImage]));
 *     await pushLayout(registry.host, 'debian', ['12'], '/somewhere/debian-sec/v1');
 */
import { randomBytes } from 'node:crypto';
import { openAsBlob } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { type Digest, digestOf, hexOf, parseDigest } from '../../src/lib/digest.ts';
import type { Platform } from '../../src/lib/platform.ts';

export type Packing = 'gzip' | 'zstd' | 'none';
/** Whose media types a manifest speaks. */
export type Dialect = 'docker' | 'oci';

export interface TestLayer {
  readonly tar: Buffer;
  readonly diffId: Digest;
  readonly blob: Buffer;
  readonly digest: Digest;
  readonly packing: Packing;
}

export interface TestManifest {
  readonly mediaType: string;
  readonly bytes: Buffer;
  readonly digest: Digest;
}

export interface TestImage extends TestManifest {
  readonly config: Buffer;
  readonly configDigest: Digest;
  readonly layers: readonly TestLayer[];
  readonly platform: Platform;
}

export interface TestIndex extends TestManifest {
  readonly images: readonly TestImage[];
}

export const mediaTypes = {
  docker: {
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    index: 'application/vnd.docker.distribution.manifest.list.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    layer: 'application/vnd.docker.image.rootfs.diff.tar',
    packings: { gzip: '.gzip', zstd: '.zstd', none: '' },
  },
  oci: {
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    index: 'application/vnd.oci.image.index.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    layer: 'application/vnd.oci.image.layer.v1.tar',
    packings: { gzip: '+gzip', zstd: '+zstd', none: '' },
  },
} as const;

/** A layer with these files, by path; directories on the way are made. */
export async function makeLayer(
  files: Record<string, string | Buffer>,
  { packing = 'gzip' }: { packing?: Packing } = {},
): Promise<TestLayer> {
  const archive = pack();
  const made = new Set<string>();
  const mtime = new Date('2026-01-01T00:00:00Z');
  for (const [path, content] of Object.entries(files)) {
    const parts = path.split('/');
    for (let depth = 1; depth < parts.length; depth++) {
      const name = parts.slice(0, depth).join('/');
      if (!made.has(name)) archive.entry({ name: `${name}/`, type: 'directory', mode: 0o755, mtime });
      made.add(name);
    }
    archive.entry({ name: path, mode: path.includes('bin/') ? 0o755 : 0o644, mtime }, content);
  }
  archive.finalize();
  return layerOf(await buffer(archive), packing);
}

/** A layer with one file of random bytes, which no packing makes smaller. */
export function makeBigLayer(
  bytes: number,
  o: { packing?: Packing; name?: string } = {},
): Promise<TestLayer> {
  return makeLayer({ [o.name ?? 'big']: randomBytes(bytes) }, o);
}

/** A layer from tar bytes as they are, however odd. */
export function layerOf(tar: Buffer, packing: Packing = 'gzip'): TestLayer {
  const blob =
    packing === 'gzip' ? gzipSync(tar, { level: 1 }) : packing === 'zstd' ? zstdCompressSync(tar) : tar;
  return { tar, diffId: digestOf(tar), blob, digest: digestOf(blob), packing };
}

/** An image of layers, lowest first. `config` is its run configuration; `manifest` overrides fields of the manifest. */
export function makeImage(o: {
  layers: readonly TestLayer[];
  platform?: Platform;
  dialect?: Dialect;
  config?: object;
  /** Replaces fields of the whole config file. */
  configFile?: object;
  manifest?: object;
}): TestImage {
  const types = mediaTypes[o.dialect ?? 'oci'];
  const platform = o.platform ?? { os: 'linux', architecture: 'amd64' };
  const config = jsonOf({
    created: '2026-01-01T00:00:00Z',
    ...platform,
    config: { Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['/bin/sh'], ...o.config },
    rootfs: { type: 'layers', diff_ids: o.layers.map(({ diffId }) => diffId) },
    history: o.layers.map(() => ({ created: '2026-01-01T00:00:00Z', created_by: 'test' })),
    ...o.configFile,
  });
  const bytes = jsonOf({
    schemaVersion: 2,
    mediaType: types.manifest,
    config: { mediaType: types.config, digest: digestOf(config), size: config.length },
    layers: o.layers.map(({ blob, digest, packing }) => ({
      mediaType: types.layer + types.packings[packing],
      digest,
      size: blob.length,
    })),
    ...o.manifest,
  });
  const digest = digestOf(bytes);
  return {
    mediaType: types.manifest,
    bytes,
    digest,
    config,
    configDigest: digestOf(config),
    layers: o.layers,
    platform,
  };
}

/** An index over images, each with its platform. */
export function makeIndex(
  images: readonly TestImage[],
  { dialect = 'oci' }: { dialect?: Dialect } = {},
): TestIndex {
  const mediaType = mediaTypes[dialect].index;
  const bytes = jsonOf({
    schemaVersion: 2,
    mediaType,
    manifests: images.map(({ mediaType: type, digest, bytes: manifest, platform }) => ({
      mediaType: type,
      digest,
      size: manifest.length,
      platform,
    })),
  });
  return { mediaType, bytes, digest: digestOf(bytes), images };
}

/** Pushes an image, or an index with its images, under these tags; with no tag it can be had by digest alone. */
export async function push(
  host: string,
  repository: string,
  tags: readonly string[],
  what: TestImage | TestIndex,
): Promise<void> {
  if ('images' in what) {
    for (const image of what.images) await push(host, repository, [], image);
  } else {
    for (const { digest, blob } of what.layers)
      await pushBlob(host, repository, digest, new Blob([new Uint8Array(blob)]));
    await pushBlob(host, repository, what.configDigest, new Blob([new Uint8Array(what.config)]));
  }
  for (const target of [what.digest, ...tags]) await pushManifest(host, repository, target, what);
}

/** Pushes the one image or index of an OCI image layout (OCI image-spec v1.1, image-layout.md); returns its digest. */
export async function pushLayout(
  host: string,
  repository: string,
  tags: readonly string[],
  directory: string,
): Promise<Digest> {
  const blobPath = (digest: Digest) => join(directory, 'blobs/sha256', hexOf(digest));
  const { manifests } = JSON.parse(await readFile(join(directory, 'index.json'), 'utf8'));
  const pushNamed = async (descriptor: { digest: string; mediaType: string }, names: readonly string[]) => {
    const digest = parseDigest(descriptor.digest);
    const bytes = await readFile(blobPath(digest));
    const content = JSON.parse(bytes.toString('utf8'));
    for (const inner of content.manifests ?? []) await pushNamed(inner, []);
    for (const blob of content.layers === undefined ? [] : [...content.layers, content.config]) {
      const name = parseDigest(blob.digest);
      await pushBlob(host, repository, name, await openAsBlob(blobPath(name)));
    }
    const manifest = { mediaType: descriptor.mediaType, bytes, digest };
    for (const target of [digest, ...names]) await pushManifest(host, repository, target, manifest);
    return digest;
  };
  return pushNamed(manifests[0], tags);
}

/** Writes an image, or an index with its images, as an OCI image layout. */
export async function writeLayout(directory: string, what: TestImage | TestIndex): Promise<void> {
  const blobs = join(directory, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  const place = (digest: Digest, bytes: Buffer) => writeFile(join(blobs, hexOf(digest)), bytes);
  await place(what.digest, what.bytes);
  for (const image of 'images' in what ? what.images : [what]) {
    await place(image.digest, image.bytes);
    await place(image.configDigest, image.config);
    for (const { digest, blob } of image.layers) await place(digest, blob);
  }
  const top = { mediaType: what.mediaType, digest: what.digest, size: what.bytes.length };
  await writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [top] }));
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
}

/** Pushes one blob, unless it is there. */
export async function pushBlob(host: string, repository: string, digest: Digest, blob: Blob): Promise<void> {
  const base = `http://${host}/v2/${repository}/blobs`;
  const there = await fetch(`${base}/${digest}`, { method: 'HEAD' });
  if (there.ok) return;
  const begun = await expectOk(await fetch(`${base}/uploads/`, { method: 'POST' }));
  const location = new URL(begun.headers.get('location') ?? '', base);
  location.searchParams.set('digest', digest);
  const headers = { 'content-type': 'application/octet-stream' };
  await expectOk(await fetch(location, { method: 'PUT', body: blob, headers }));
}

/** Pushes manifest bytes as they are, under a tag or their digest. */
export async function pushManifest(
  host: string,
  repository: string,
  target: string,
  { bytes, mediaType }: Pick<TestManifest, 'bytes' | 'mediaType'>,
): Promise<void> {
  const url = `http://${host}/v2/${repository}/manifests/${target}`;
  const headers = { 'content-type': mediaType };
  await expectOk(await fetch(url, { method: 'PUT', body: new Uint8Array(bytes), headers }));
}

async function expectOk(response: Response): Promise<Response> {
  const body = await response.text();
  if (!response.ok) throw new Error(`${response.status} from ${response.url}: ${body}`);
  return response;
}

function jsonOf(value: object): Buffer {
  return Buffer.from(JSON.stringify(value, null, 2));
}
