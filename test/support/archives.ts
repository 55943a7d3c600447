import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Digest, hexOf } from '../../src/lib/digest.ts';
import { readTar } from '../../src/lib/tar-reader.ts';
import type { TestImage } from './registry-images.ts';
import { archive, type Member } from './tar-archive.ts';

/** A member of an archive as a test looks at it: its digest, and its text unless that is long. */
export interface SeenMember {
  type: string;
  digest: string;
  size: number;
  mtime: number;
  text: string;
}

/** Everything in an archive, by name, in its order. */
export async function membersOf(pieces: AsyncIterable<Buffer>): Promise<Map<string, SeenMember>> {
  const members = new Map<string, SeenMember>();
  for await (const { entry, content } of readTar(pieces)) {
    const hash = createHash('sha256');
    let text = '';
    for await (const bytes of content) {
      hash.update(bytes);
      if (text.length < 100_000) text += bytes.toString('latin1');
    }
    members.set(entry.name, {
      type: entry.type,
      digest: `sha256:${hash.digest('hex')}`,
      size: entry.size,
      mtime: entry.modifiedAt.seconds,
      text,
    });
  }
  return members;
}

/** Asks for a stream; resolves with its headers. */
export async function openStream(socket: string, path: string): Promise<IncomingMessage> {
  const sent = request({ socketPath: socket, path, agent: false });
  sent.end();
  const [response] = await once(sent, 'response');
  return response as IncomingMessage;
}

/** Sends an archive to be loaded, and answers what was said: the lines of the stream. */
export async function load(
  socket: string,
  body: Readable | Buffer,
  { query = '', headers = {} }: { query?: string; headers?: Record<string, string> } = {},
): Promise<{
  status: number;
  type: string;
  lines: Record<string, unknown>[];
  said: string[];
  error?: string;
}> {
  const sent = request({
    socketPath: socket,
    path: `/images/load${query}`,
    method: 'POST',
    agent: false,
    headers: { 'content-type': 'application/x-tar', ...headers },
  });
  const answered = once(sent, 'response');
  answered.catch(() => {});
  sent.on('error', () => {}); // Node tells of a broken pipe once the answer has come and the connection is gone
  if (Buffer.isBuffer(body)) sent.end(body);
  else await pipeline(body, sent).catch(() => {}); // it may answer before it has read everything
  const [response] = (await answered) as [IncomingMessage];
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  const lines = text
    .split('\r\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
  const failed = lines.find(({ error }) => error !== undefined);
  return {
    status: response.statusCode ?? 0,
    type: response.headers['content-type'] ?? '',
    lines,
    said: lines.flatMap(({ stream }) => stream ?? []),
    ...(failed && { error: failed['error'] as string }),
  };
}

const text = (value: unknown) => JSON.stringify(value);
const blob = (digest: Digest) => `blobs/sha256/${hexOf(digest)}`;

/** How Docker 20.10 lays an image out, without the files that only Docker before 1.10 reads. */
export function dockerMembers(image: TestImage, tags: readonly string[] | null): Member[] {
  const layers = image.layers.map((layer, at) => ({ dir: `${at}`.padStart(64, 'ab'), layer }));
  const config = `${hexOf(image.configDigest)}.json`;
  return [
    ...layers.flatMap(({ dir, layer }) => [
      { name: `${dir}/`, type: '5' },
      { name: `${dir}/VERSION`, content: '1.0' },
      { name: `${dir}/layer.tar`, content: layer.blob },
    ]),
    { name: config, content: image.config },
    {
      name: 'manifest.json',
      content: text([
        { Config: config, RepoTags: tags, Layers: layers.map(({ dir }) => `${dir}/layer.tar`) },
      ]),
    },
  ];
}

/** An OCI layout of images; each may have a name. */
export function layoutMembers(
  images: readonly { image: TestImage; annotations?: Record<string, string>; platform?: object }[],
): Member[] {
  const files = new Map<string, Buffer>();
  for (const { image } of images) {
    files.set(blob(image.digest), image.bytes);
    files.set(blob(image.configDigest), image.config);
    for (const layer of image.layers) files.set(blob(layer.digest), layer.blob);
  }
  const manifests = images.map(({ image, annotations, platform }) => ({
    mediaType: image.mediaType,
    digest: image.digest,
    size: image.bytes.length,
    ...(annotations && { annotations }),
    ...(platform && { platform }),
  }));
  return [
    { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
    { name: 'index.json', content: text({ schemaVersion: 2, manifests }) },
    ...[...files].map(([name, content]) => ({ name, content })),
  ];
}

/** How Docker before 1.10 laid out an image of these layers: names of its own, and a config for each. */
export function legacyMembers(image: TestImage, names: Record<string, Record<string, number>>): Member[] {
  const ids = image.layers.map((_, at) => `${at + 1}`.padStart(64, 'c'));
  const config = JSON.parse(image.config.toString());
  const repositories = Object.fromEntries(
    Object.entries(names).map(([name, tags]) => [
      name,
      Object.fromEntries(Object.entries(tags).map(([tag, at]) => [tag, ids[at]])),
    ]),
  );
  return [
    ...image.layers.flatMap(({ blob }, at) => [
      { name: `${ids[at]}/`, type: '5' },
      { name: `${ids[at]}/VERSION`, content: '1.0' },
      {
        name: `${ids[at]}/json`,
        content: text({
          id: ids[at],
          ...(at > 0 && { parent: ids[at - 1] }),
          created: '2015-10-31T22:22:56.015925234Z',
          container_config: { Cmd: ['/bin/sh', '-c', `step ${at} <&>`] },
          config: config.config,
          docker_version: '1.9.1',
          architecture: 'amd64',
          os: 'linux',
          Size: 1234,
        }),
      },
      { name: `${ids[at]}/layer.tar`, content: blob },
    ]),
    { name: 'repositories', content: text(repositories) },
  ];
}

export { archive };
