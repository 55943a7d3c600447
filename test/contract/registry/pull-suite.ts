import assert from 'node:assert/strict';
import { buffer } from 'node:stream/consumers';
import { before, describe, test } from 'node:test';
import { silentLog } from '../../../src/lib/log.ts';
import { parseReference } from '../../../src/lib/reference.ts';
import { Registry, type RegistryAuth, type RemoteImage } from '../../../src/registry/registry.ts';
import {
  makeBigLayer,
  makeImage,
  makeIndex,
  makeLayer,
  push,
  type TestImage,
  type TestIndex,
} from '../../support/registry-images.ts';

export const amd64 = { os: 'linux', architecture: 'amd64' };
export const armv7 = { os: 'linux', architecture: 'arm', variant: 'v7' };

/** A client for tests: the settings of the daemon, and the patience of a test. */
export function testClient(o: Partial<ConstructorParameters<typeof Registry>[0]> = {}): Registry {
  const defaults = { mirrors: [], insecure: [], maxAttempts: 4, userAgent: 'skerry-tests', log: silentLog };
  return new Registry({ ...defaults, stallMs: 1500, backoffMs: 2, ...o });
}

/** The images that the suite pulls. */
export interface Shelf {
  readonly docker: TestImage;
  readonly oci: TestImage;
  readonly empty: TestImage;
  readonly index: TestIndex;
  readonly list: TestIndex;
}

/** Makes them and pushes them to a registry with an open door. */
export async function fillShelf(host: string): Promise<Shelf> {
  const small = await makeLayer({ 'etc/motd': 'hi', 'bin/sh': '#!/nothing\n' });
  const big = await makeBigLayer(600_000);
  const plain = await makeLayer({ plain: 'x'.repeat(5000) }, { packing: 'none' });
  const zstd = await makeLayer({ zstd: 'y'.repeat(5000) }, { packing: 'zstd' });
  const shelf = {
    docker: makeImage({ layers: [small, big], dialect: 'docker' }),
    oci: makeImage({ layers: [small, zstd, plain] }),
    empty: makeImage({ layers: [] }),
    index: makeIndex([
      makeImage({ layers: [small], platform: { os: 'linux', architecture: 'arm', variant: 'v6' } }),
      makeImage({ layers: [zstd], platform: amd64 }),
      makeImage({ layers: [small, plain], platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } }),
    ]),
    list: makeIndex([makeImage({ layers: [big], dialect: 'docker' })], { dialect: 'docker' }),
  };
  await push(host, 'shelf/image', ['docker'], shelf.docker);
  await push(host, 'shelf/image', ['oci'], shelf.oci);
  await push(host, 'shelf/image', ['empty'], shelf.empty);
  await push(host, 'shelf/image', ['index'], shelf.index);
  await push(host, 'shelf/image', ['list'], shelf.list);
  return shelf;
}

/** A way on which a registry is reached; whatever lies on it, whole images must arrive. */
export interface Way {
  readonly host: string;
  readonly auth?: RegistryAuth;
  readonly shelf: Shelf;
}

/** What holds of every way to a registry. `find` is called once, before the first test. */
export function pullSuite(name: string, find: () => Promise<Way>): void {
  describe(`pull, ${name}`, () => {
    let way: Way;
    before(async () => {
      way = await find();
    });

    const pull = async (tail: string, want: TestImage, platform = amd64): Promise<RemoteImage> => {
      await using client = testClient();
      const { signal } = new AbortController();
      const auth = way.auth && { auth: way.auth };
      const ref = parseReference(`${way.host}/shelf/image${tail}`);
      const got = await client.resolve(ref, { ...auth, platform, signal });
      assert.equal(got.manifestDigest, want.digest);
      assert.equal(got.mediaType, want.mediaType);
      assert.ok(got.manifest.equals(want.bytes));
      assert.ok(got.config.equals(want.config));
      assert.equal(got.configDigest, want.configDigest);
      const blobs = got.layers.map((layer) => buffer(client.blob(ref, layer, { ...auth, signal })));
      for (const [at, layer] of want.layers.entries()) {
        assert.equal(got.layers[at]?.diffId, layer.diffId);
        assert.equal(got.layers[at]?.compression, layer.packing);
        assert.ok((await blobs[at])?.equals(layer.blob), `layer ${at}`);
      }
      return got;
    };

    test('an image in Docker form, by tag', async () => {
      const got = await pull(':docker', way.shelf.docker);
      assert.equal(got.digest, way.shelf.docker.digest);
    });

    test('an image in OCI form with a layer of each packing', () =>
      pull(':oci', way.shelf.oci).then(() => {}));

    test('an image without layers', () => pull(':empty', way.shelf.empty).then(() => {}));

    test('by digest, and by tag and digest, where the tag does not count', async () => {
      await pull(`@${way.shelf.oci.digest}`, way.shelf.oci);
      await pull(`:docker@${way.shelf.oci.digest}`, way.shelf.oci);
    });

    test('from an index and from a manifest list, the digest of which is what people see', async () => {
      const { index, list } = way.shelf;
      const [v6, x64, arm64] = index.images;
      assert.ok(v6 && x64 && arm64 && list.images[0]);
      assert.equal((await pull(':index', x64)).digest, index.digest);
      await pull(':index', arm64, { os: 'linux', architecture: 'arm64' });
      await pull(':index', v6, armv7);
      assert.equal((await pull(':list', list.images[0])).digest, list.digest);
    });

    test('a tag that is not there', async () => {
      const ref = `${way.host}/shelf/image:nope`;
      await assert.rejects(pull(':nope', way.shelf.oci), {
        code: 'MANIFEST_NOT_FOUND',
        status: 404,
        message: `manifest for ${ref} not found: manifest unknown: manifest unknown`,
      });
    });

    test('no image for this platform', async () => {
      await assert.rejects(pull(':index', way.shelf.oci, { os: 'linux', architecture: 'riscv64' }), {
        status: 404,
        message: 'no matching manifest for linux/riscv64 in the manifest list entries',
      });
    });
  });
}
