import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { before, describe, test } from 'node:test';
import type { PushTarget } from '../../../src/engine/pushes.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import { makeImage, makeLayer } from '../../support/registry-images.ts';

/** A way to push to a registry: every one must lead to the same. */
export interface Way {
  target(repository: string): Promise<PushTarget>;
  /** A blob that a repository has, read by another way. */
  blob(repository: string, digest: string): Promise<Buffer | undefined>;
  manifest(repository: string, tag: string): Promise<{ bytes: Buffer; mediaType: string } | undefined>;
}

/** What holds for every {@link PushTarget}. */
export function pushSuite(name: string, open: () => Promise<Way>): void {
  describe(`push, ${name}`, () => {
    let way: Way;
    let turn = 0;
    const fresh = () => `suite/image-${turn++}`;
    const step = () => ({ signal: AbortSignal.timeout(20_000) });

    before(async () => {
      way = await open();
    });

    test('a blob of unknown length, of many pieces, of none', async () => {
      const repository = fresh();
      const target = await way.target(repository);
      for (const bytes of [randomBytes(700_000), randomBytes(10), Buffer.alloc(0)]) {
        const pieces = [bytes.subarray(0, 300_000), bytes.subarray(300_000)].filter(
          ({ length }) => length > 0,
        );
        const blob = await target.upload(() => Readable.from(pieces), step());
        assert.deepEqual(blob, { digest: digestOf(bytes), size: bytes.length });
        assert.ok((await way.blob(repository, blob.digest))?.equals(bytes));
        assert.equal(await target.has(blob, step()), true);
      }
    });

    test('what is not there, or is of another size', async () => {
      const target = await way.target(fresh());
      const [bytes, missing] = [randomBytes(100), randomBytes(100)];
      await target.put(bytes, step());
      assert.equal(await target.has({ digest: digestOf(bytes), size: 100 }, step()), true);
      assert.equal(await target.has({ digest: digestOf(bytes), size: 99 }, step()), false);
      assert.equal(await target.has({ digest: digestOf(missing), size: 100 }, step()), false);
    });

    test('a blob is taken over from another repository, if that has it', async () => {
      const [from, to] = [fresh(), fresh()];
      const bytes = randomBytes(5000);
      const { digest, size } = await (await way.target(from)).put(bytes, step());
      const target = await way.target(to);
      assert.equal(await target.mount(digest, from, step()), true);
      assert.equal(await target.has({ digest, size }, step()), true);
      assert.equal(await target.mount(digestOf('other'), from, step()), false);
    });

    test('a manifest over its blobs, byte for byte', async () => {
      const repository = fresh();
      const target = await way.target(repository);
      for (const dialect of ['docker', 'oci'] as const) {
        const image = makeImage({ dialect, layers: [await makeLayer({ dialect })] });
        for (const { blob } of image.layers) await target.upload(() => Readable.from([blob]), step());
        await target.put(image.config, step());
        await target.putManifest(dialect, image, step());
        const found = await way.manifest(repository, dialect);
        assert.deepEqual([found?.bytes.equals(image.bytes), found?.mediaType], [true, image.mediaType]);
      }
    });

    test('a stream that fails is thrown as it is, and nothing is there', async () => {
      const target = await way.target(fresh());
      const failure = new Error('the disk is gone');
      const broken = async function* () {
        yield randomBytes(200_000);
        throw failure;
      };
      await assert.rejects(
        target.upload(() => Readable.from(broken()), step()),
        (e) => e === failure,
      );
    });

    test('whoever leaves is let go', async () => {
      const target = await way.target(fresh());
      const abort = new AbortController();
      const endless = async function* () {
        for (;;) {
          yield randomBytes(1000);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      };
      setTimeout(() => abort.abort(new Error('left')), 50);
      const upload = target.upload(() => Readable.from(endless(), { signal: abort.signal }), {
        signal: abort.signal,
      });
      await assert.rejects(upload);
      await assert.rejects(
        target.upload(() => Readable.from(['x']), { signal: abort.signal }),
        /left/,
      );
    });
  });
}
