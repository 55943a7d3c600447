/** An engine, a registry and a few images between them: where things are done to images, and die half-way. */
import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { type Digest, digestOf, hexOf } from '../../src/lib/digest.ts';
import { boxLayer } from './box-image.ts';
import { deltaBetween, pushDelta } from './delta-files.ts';
import type { TestEngine } from './engine.ts';
import { type FaultyProxy, startFaultyProxy } from './faulty-proxy.ts';
import { rdiffImage } from './rdiff.ts';
import { startRegistry, type TestRegistry } from './registry.ts';
import { makeBigLayer, makeImage, makeLayer, push, type TestImage } from './registry-images.ts';

/** What each tag stands for: IDs of images by `repository:tag`. */
export type Names = ReadonlyMap<string, string>;

/** One request of a client. */
export interface ApiRequest {
  method: 'GET' | 'POST' | 'DELETE';
  path: string;
  headers?: Record<string, string>;
  body?: Buffer;
}

/** Images that share layers, as the versions of one application do. */
export interface Versions {
  /** What is there from the beginning. */
  v1: TestImage;
  /** Its update: the base is the same, two layers are new. */
  v2: TestImage;
  /** No registry has this one. */
  v3: TestImage;
  /** Nor this one: it is like v1. */
  v4: TestImage;
  /** Three of its layers are new, and a delta from v1 lies beside it. */
  v5: TestImage;
}

/** A registry with the images, and how to reach it. */
export interface ImageSource extends AsyncDisposable {
  readonly registry: TestRegistry;
  readonly proxy: FaultyProxy;
  readonly versions: Versions;
  /** `docker save` of v3 as `app:v3`. */
  readonly archive: Buffer;
  /** The file of the delta from v1 to v4 as `app:v4`. */
  readonly delta: Buffer;
  /** What leads balenaEngine from v1 to v5: `app:delta` in the registry, and as `docker save` writes it. */
  readonly deltaImage: TestImage;
  readonly deltaImageArchive: Buffer;
  /** The blob of the delta from v1 to v5, of as many bytes as one layer. */
  readonly update: { readonly digest: Digest; readonly sizeBytes: number };
  /** A name in the registry, as the engine asks for it: through the proxy, which counts. */
  name(repositoryAndTag: string): string;
  /** Lets a tag of `app` stand for another version, in the registry. */
  point(tag: string, version: TestImage): Promise<void>;
}

/** The parts that a verb acts on. */
export interface ImageWorld extends Omit<ImageSource, keyof AsyncDisposable> {
  readonly engine: TestEngine;
  /** How long the network takes for 16 KiB, where it is slow. */
  readonly dripMs: number;
  /** A container of v1 is there all the time. */
  readonly hasKeeper: boolean;
  /** Counts preparations, for names that nobody has used before. */
  turn: number;
}

/** Starts a registry that knows v1 and v2; `layerBytes` is the size of each layer but the base. */
export async function startImageSource({ layerBytes }: { layerBytes: number }): Promise<ImageSource> {
  const registry = await startRegistry();
  const proxy = await startFaultyProxy(registry.host);
  const box = await boxLayer();
  const version = async (n: number, below: TestImage['layers']) => {
    const layers = [...below, await makeLayer({ 'etc/version': `${n}\n` })];
    for (const part of ['a', 'b']) layers.push(await makeBigLayer(layerBytes, { name: `data/${part}${n}` }));
    return makeImage({ layers, config: { Env: [`VERSION=${n}`], Labels: { version: `${n}` } } });
  };
  const v1 = await version(1, [box]);
  const v2 = await version(2, v1.layers.slice(0, 3));
  const v3 = await version(3, [box]);
  const like = await makeLayer({ 'data/like': v1.layers[2]?.tar.subarray(layerBytes / 100) ?? '' });
  const v4 = makeImage({ layers: [box, like], config: { Labels: { version: '4' } } });
  const grown = [await makeLayer({ 'etc/version': '5\n' })];
  for (const { tar } of v1.layers.slice(-2))
    grown.push(await makeLayer({ 'data/grown': Buffer.concat([tar, randomBytes(layerBytes / 2)]) }));
  const v5 = makeImage({ layers: [box, ...grown], config: { Labels: { version: '5' } } });
  const update = await deltaBetween(v1, v5, { quality: 1 });
  await push(registry.host, 'app', ['v5'], v5);
  await pushDelta(registry.host, 'app', { base: v1, target: v5, delta: update });
  const deltaImage = rdiffImage(v1, v5);
  await push(registry.host, 'app', ['delta'], deltaImage);
  await push(registry.host, 'app', ['v1'], v1);
  await push(registry.host, 'app', ['v2'], v2);
  return {
    registry,
    proxy,
    versions: { v1, v2, v3, v4, v5 },
    archive: await archiveOf(v3, `${proxy.host}/app:v3`),
    deltaImage,
    deltaImageArchive: await archiveOf(deltaImage, `${proxy.host}/app:delta`),
    update: { digest: digestOf(update), sizeBytes: update.length },
    delta: await deltaBetween(v1, v4, { tags: [`${proxy.host}/app:v4`], quality: 1 }),
    name: (repositoryAndTag) => `${proxy.host}/${repositoryAndTag}`,
    point: (tag, image) => push(registry.host, 'app', [tag], image),
    [Symbol.asyncDispose]: async () => {
      await proxy[Symbol.asyncDispose]();
      await registry[Symbol.asyncDispose]();
    },
  };
}

/** An image as `docker save` writes it (image-spec v1.2 of moby). */
async function archiveOf(image: TestImage, tag: string): Promise<Buffer> {
  const archive = pack();
  const config = `${hexOf(image.configDigest)}.json`;
  const layers = image.layers.map(({ diffId }) => `${hexOf(diffId)}/layer.tar`);
  archive.entry(
    { name: 'manifest.json' },
    JSON.stringify([{ Config: config, RepoTags: [tag], Layers: layers }]),
  );
  archive.entry({ name: config }, image.config);
  for (const { diffId, tar } of image.layers) archive.entry({ name: `${hexOf(diffId)}/layer.tar` }, tar);
  archive.finalize();
  return buffer(archive);
}

/** What came of a request: undefined if the engine died over it. */
export interface Outcome {
  /** It was answered to the end, and the answer tells of success. */
  isDone: boolean;
  text: string;
}

/** Sends a request. Never throws: an engine that dies over it is what it is for. */
export function ask(engine: TestEngine, { method, path, headers, body }: ApiRequest): Promise<Outcome> {
  return new Promise((resolve) => {
    let text = '';
    const lost = (cause: Error) => resolve({ isDone: false, text: `${text}${cause.message}` });
    const options = { socketPath: engine.socket, method, path, headers, agent: false };
    const sent = request(options, (response) => {
      response.setEncoding('utf8');
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('error', lost);
      response.on('end', () => {
        const { statusCode = 0, complete } = response;
        // an error in mid-stream is the last line
        const isRefused = statusCode > 299 || /^\{.*"errorDetail"/m.test(text);
        resolve({ isDone: complete && !isRefused, text });
      });
    });
    sent.on('error', lost);
    sent.end(body);
  });
}

/** As {@link ask}, for what must succeed. */
export async function demand(engine: TestEngine, wanted: ApiRequest): Promise<string> {
  const { isDone, text } = await ask(engine, wanted);
  if (!isDone) throw new Error(`${wanted.method} ${wanted.path}: ${text}\n${await engine.log()}`);
  return text;
}

export function pullRequest(name: string, headers: Record<string, string> = {}): ApiRequest {
  return { method: 'POST', path: `/images/create?fromImage=${encodeURIComponent(name)}`, headers };
}

/** The tags that the engine lists, without the registry's name before them. */
export async function namesIn({ engine, name }: Pick<ImageWorld, 'engine' | 'name'>): Promise<Names> {
  const listed = await engine.json<{ Id: string; RepoTags: string[] | null }[]>('/images/json?all=1');
  const host = name('');
  const tags = listed.flatMap(({ Id, RepoTags }) =>
    (RepoTags ?? []).map((tag): [string, string] => [tag.replace(host, ''), Id]),
  );
  return new Map(tags.filter(([tag]) => tag !== '<none>:<none>'));
}

/** Removes all containers and all images. */
export async function clearAll(engine: TestEngine): Promise<void> {
  await engine.clear();
  for (let round = 0; ; round++) {
    const listed = await engine.json<{ Id: string }[]>('/images/json?all=1');
    if (listed.length === 0) return;
    if (round === 5) throw new Error(`images that resist: ${JSON.stringify(listed)}`);
    for (const { Id } of listed) await engine.get(`/images/${Id}?force=1`, { method: 'DELETE' });
  }
}

/** Diff IDs of the layers that the registry was asked for since the proxy was reset; also for what one is made of. */
export function layersAsked(o: Pick<ImageSource, 'proxy' | 'versions' | 'deltaImage'>): Set<string> {
  const { proxy, versions, deltaImage } = o;
  const layers: { digest: Digest; diffId: Digest }[] = Object.values(versions).flatMap(
    (version: TestImage) => version.layers,
  );
  for (const [at, { diffId }] of versions.v5.layers.entries()) {
    const { digest } = deltaImage.layers[at] ?? {};
    if (digest !== undefined) layers.push({ digest, diffId });
  }
  const asked = proxy.requests.filter(({ method }) => method === 'GET').map(({ path }) => path);
  const isAsked = (digest: string) => asked.some((path) => path.endsWith(`/blobs/${digest}`));
  return new Set(layers.filter(({ digest }) => isAsked(digest)).map(({ diffId }) => diffId));
}

/** Bytes that the registry gave of a blob since the proxy was reset. */
export function bytesOf({ proxy }: Pick<ImageSource, 'proxy'>, blob: Digest): number {
  return proxy.seen(new RegExp(`/blobs/${blob}`)).reduce((sum, { sentBytes }) => sum + sentBytes, 0);
}
