import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { manifestOf, type PackedLayer } from '../../../src/engine/pushed-manifest.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import { parseReference } from '../../../src/lib/reference.ts';
import type { ImageRecord } from '../../../src/store/records.ts';
import { imageRecord } from '../../support/image-records.ts';
import { layerOf, makeImage, type TestImage } from '../../support/registry-images.ts';

const ref = parseReference('app:1');
const gzip: PackedLayer = { digest: digestOf('one'), size: 3, compression: 'gzip' };
const zstd: PackedLayer = { digest: digestOf('two'), size: 4, compression: 'zstd' };
const plain: PackedLayer = { digest: digestOf('three'), size: 5, compression: 'none' };

/** The record of an image that was pulled. */
function pulled(image: TestImage): ImageRecord {
  return {
    ...imageRecord(),
    id: image.configDigest,
    config: image.config.toString(),
    manifest: image.bytes.toString(),
    manifestDigest: image.digest,
    manifestMediaType: image.mediaType,
    diffIds: image.layers.map(({ diffId }) => diffId),
  };
}

function packed({ layers }: TestImage): PackedLayer[] {
  return layers.map(({ digest, blob, packing }) => ({ digest, size: blob.length, compression: packing }));
}

describe('a manifest of our own', () => {
  const config = '{"rootfs":{"type":"layers"}}';
  const { manifest: _none, ...bare } = imageRecord({ diffIds: [gzip.digest] });
  const made: ImageRecord = { ...bare, id: digestOf(config), config };

  test('is written as dockerd writes it', () => {
    const { bytes, digest, mediaType } = manifestOf(made, [gzip], ref);
    assert.equal(mediaType, 'application/vnd.docker.distribution.manifest.v2+json');
    assert.equal(digest, digestOf(bytes));
    assert.equal(
      bytes.toString(),
      `{
   "schemaVersion": 2,
   "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
   "config": {
      "mediaType": "application/vnd.docker.container.image.v1+json",
      "size": 28,
      "digest": "${digestOf(config)}"
   },
   "layers": [
      {
         "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
         "size": 3,
         "digest": "${gzip.digest}"
      }
   ]
}`,
    );
  });

  test('speaks OCI where a layer is packed in a way that Docker has no word for', () => {
    const { bytes, mediaType } = manifestOf(made, [gzip, zstd, plain], ref);
    assert.equal(mediaType, 'application/vnd.oci.image.manifest.v1+json');
    const types = JSON.parse(bytes.toString()).layers.map((layer: { mediaType: string }) => layer.mediaType);
    assert.deepEqual(types, [
      'application/vnd.oci.image.layer.v1.tar+gzip',
      'application/vnd.oci.image.layer.v1.tar+zstd',
      'application/vnd.oci.image.layer.v1.tar',
    ]);
  });
});

describe('the manifest with which an image came', () => {
  const layers = [layerOf(Buffer.from('tar one')), layerOf(Buffer.from('tar two'), 'zstd')];

  for (const dialect of ['docker', 'oci'] as const) {
    const image = makeImage({ dialect, layers, manifest: { annotations: { a: 'b' } } });

    test(`${dialect}: goes back as it came over the same blobs`, () => {
      const { bytes, digest, mediaType } = manifestOf(pulled(image), packed(image), ref);
      assert.ok(bytes.equals(image.bytes));
      assert.deepEqual([digest, mediaType], [image.digest, image.mediaType]);
    });

    test(`${dialect}: over other blobs it gives way to one of its kind`, () => {
      const { mediaType, bytes } = manifestOf(pulled(image), [gzip, gzip], ref);
      assert.equal(mediaType, image.mediaType);
      assert.equal(JSON.parse(bytes.toString()).layers[1].digest, gzip.digest);
    });
  }

  test('is not put where it cannot be read, or is of another config', () => {
    const image = makeImage({ layers });
    for (const wrong of [
      { manifest: '{"schemaVersion":2' },
      { id: digestOf('another') },
      { diffIds: [gzip.digest] },
    ]) {
      const { bytes } = manifestOf({ ...pulled(image), ...wrong }, packed(image), ref);
      assert.ok(!bytes.equals(image.bytes));
    }
  });
});
