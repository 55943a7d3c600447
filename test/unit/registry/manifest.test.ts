import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../../src/errors.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import type { Platform } from '../../../src/lib/platform.ts';
import { parseReference } from '../../../src/lib/reference.ts';
import {
  chooseEntry,
  type ImageIndex,
  parseManifest,
  parsePulledConfig,
} from '../../../src/registry/manifest.ts';
import { mediaTypes } from '../../support/registry-images.ts';

const ref = parseReference('app/web:1');
const { oci, docker } = mediaTypes;
const some = { digest: digestOf('x'), size: 1 };
const config = { mediaType: oci.config, ...some };
const layer = { mediaType: `${oci.layer}+gzip`, ...some };

function parse(manifest: object, contentType?: string): ReturnType<typeof parseManifest> {
  return parseManifest(Buffer.from(JSON.stringify(manifest)), contentType, ref);
}

function image(more: object = {}): object {
  return { schemaVersion: 2, config, layers: [layer], ...more };
}

describe('what a manifest is', () => {
  test('it says so itself, or the server does, or its form', () => {
    assert.equal(parse(image({ mediaType: oci.manifest })).mediaType, oci.manifest);
    assert.equal(parse(image(), `${docker.manifest}; charset=utf-8`).mediaType, docker.manifest);
    assert.equal(parse(image(), 'application/json').mediaType, oci.manifest);
    assert.equal(parse({ schemaVersion: 2, manifests: [] }).mediaType, oci.index);
    assert.equal(parse({ schemaVersion: 2, manifests: [] }, docker.index).kind, 'index');
  });

  const contradictions: [string, object, string?][] = [
    ['two names', image({ mediaType: oci.manifest }), docker.manifest],
    ['an index by name, an image by form', image({ mediaType: oci.index })],
    ['an image by name, an index by form', { schemaVersion: 2, manifests: [] }, oci.manifest],
    ['both by form', image({ manifests: [] }), oci.index],
    ['both by form, without a name', image({ manifests: [] })],
  ];
  for (const [name, manifest, contentType] of contradictions) {
    test(`a contradiction is refused: ${name}`, () => {
      assert.throws(() => parse(manifest, contentType), /^Failure: invalid manifest of app\/web:1: it /);
    });
  }

  test('other kinds are refused by name', () => {
    const artifact = 'application/vnd.oci.artifact.manifest.v1+json';
    for (const thrown of [() => parse({ mediaType: artifact }), () => parse({}, artifact)]) {
      assert.throws(thrown, { code: 'UNSUPPORTED_IMAGE', message: `unsupported media type "${artifact}"` });
    }
    const signed = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
    for (const thrown of [() => parse({ schemaVersion: 1 }), () => parse({}, signed)]) {
      assert.throws(thrown, /schema 1 support has been removed. Suggest the author of app\/web:1 to upgrade/);
    }
    const chart = 'application/vnd.cncf.helm.config.v1+json';
    assert.throws(() => parse(image({ config: { ...config, mediaType: chart } })), {
      message: `Encountered remote "${chart}"(unknown) when fetching`,
    });
  });
});

describe('layers', () => {
  const packings: [string, string][] = [
    [docker.layer, 'none'],
    [`${docker.layer}.gzip`, 'gzip'],
    [`${docker.layer}.zstd`, 'zstd'],
    [oci.layer, 'none'],
    [`${oci.layer}+gzip`, 'gzip'],
    [`${oci.layer}+zstd`, 'zstd'],
    ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', 'gzip'],
    ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', 'gzip'],
  ];
  for (const [mediaType, compression] of packings) {
    test(`${mediaType} is ${compression}`, () => {
      const manifest = parse(image({ layers: [{ ...layer, mediaType }] }));
      assert.deepEqual(manifest.kind === 'image' && manifest.layers, [{ ...some, mediaType, compression }]);
    });
  }

  for (const mediaType of [
    'application/vnd.in-toto+json',
    `${oci.layer}+gzip+encrypted`,
    `${oci.layer}+xz`,
    '',
    'x',
  ]) {
    test(`${mediaType || 'no type'} is refused`, () => {
      assert.throws(() => parse(image({ layers: [{ ...layer, mediaType }] })), { code: 'UNSUPPORTED_IMAGE' });
    });
  }

  test('elsewhere is refused only where the registry is not meant to have it', () => {
    const urls = ['https://elsewhere.example/layer'];
    parse(image({ layers: [{ ...layer, urls }] }));
    const foreign = {
      ...layer,
      mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
      urls,
    };
    assert.throws(() => parse(image({ layers: [foreign] })), /with urls\): such layers are not supported/);
  });

  test('none, as null', () => {
    assert.deepEqual(parse(image({ layers: null })), {
      kind: 'image',
      mediaType: oci.manifest,
      config,
      layers: [],
    });
  });
});

describe('bounds', () => {
  const bad: [string, object][] = [
    ['more layers than overlayfs takes', { layers: Array(128).fill(layer) }],
    ['a negative size', { layers: [{ ...layer, size: -1 }] }],
    ['a size beyond what numbers hold', { layers: [{ ...layer, size: 2 ** 60 }] }],
    ['half a byte', { layers: [{ ...layer, size: 0.5 }] }],
    ['a digest of another kind', { layers: [{ ...layer, digest: `sha512:${'a'.repeat(128)}` }] }],
    ['a digest that is a path', { layers: [{ ...layer, digest: 'sha256:../../etc/passwd' }] }],
    ['no config', { config: undefined }],
    ['another schema', { schemaVersion: 3 }],
    ['an endless media type', { layers: [{ ...layer, mediaType: 'x'.repeat(300) }] }],
  ];
  for (const [name, change] of bad) {
    test(name, () => {
      assert.throws(() => parse(image(change)), {
        code: 'REGISTRY',
        message: /^invalid manifest of app\/web:1: /,
      });
    });
  }

  test('the most that is allowed', () => {
    const most = parse(image({ layers: Array(127).fill(layer) }));
    assert.equal(most.kind === 'image' && most.layers.length, 127);
  });

  test('junk is a failure, never a crash', () => {
    const keys = fc.constantFrom(
      'schemaVersion',
      'mediaType',
      'config',
      'layers',
      'manifests',
      'digest',
      'size',
    );
    const junk = fc.oneof(fc.jsonValue(), fc.dictionary(keys, fc.jsonValue()));
    const types = fc.constantFrom(
      undefined,
      oci.manifest,
      oci.index,
      docker.manifest,
      docker.index,
      'text/html',
    );
    fc.assert(
      fc.property(junk, types, (value, contentType) => {
        try {
          parseManifest(Buffer.from(JSON.stringify(value)), contentType, ref);
        } catch (cause) {
          assert.ok(cause instanceof Failure, String(cause));
        }
      }),
    );
  });
});

describe('the choice of a platform', () => {
  const entry = (text: string, mediaType: string = oci.manifest) => {
    const [os = '', architecture = '', variant] = text.split('/');
    const platform: Platform = { os, architecture, ...(variant && { variant }) };
    return { digest: digestOf(text), size: 1, mediaType, ...(text && { platform }) };
  };
  const choose = (wanted: Platform, ...entries: ImageIndex['entries']) =>
    chooseEntry({ kind: 'index', mediaType: oci.index, entries }, wanted).digest;
  const v7 = { os: 'linux', architecture: 'arm', variant: 'v7' };
  const arm64 = { os: 'linux', architecture: 'arm64' };
  const [v5, v6, v8, x64] = ['linux/arm/v5', 'linux/arm/v6', 'linux/arm64/v8', 'linux/amd64'].map((text) =>
    entry(text),
  );
  assert.ok(v5 && v6 && v8 && x64);

  test('the newest that the board runs', () => {
    assert.equal(choose(v7, x64, v5, v6, v8), v6.digest);
    assert.equal(choose(arm64, v6, x64, v8), v8.digest);
    assert.equal(
      choose(arm64, v5, x64, v6),
      v6.digest,
      'a 64-bit board runs 32-bit images where there is nothing better',
    );
  });

  test('one without a platform serves any, but last', () => {
    assert.equal(choose(v7, entry(''), v5), v5.digest);
    assert.equal(choose(v7, entry(''), x64), digestOf(''));
  });

  test('attestations, artifacts and other indexes are not looked at', () => {
    const others = [
      entry('unknown/unknown'),
      entry('linux/arm64', oci.index),
      entry('linux/arm64', 'text/plain'),
    ];
    assert.throws(() => choose(arm64, ...others), {
      status: 404,
      message: 'no matching manifest for linux/arm64/v8 in the manifest list entries',
    });
    assert.throws(() => choose(v7), /for linux\/arm\/v7 in/);
  });
});

describe('the config', () => {
  const manifest = parse(image());
  const pulled = (file: object, o: { platform?: Platform; isPlatformStrict?: boolean } = {}) => {
    assert.equal(manifest.kind, 'image');
    const platform = o.platform ?? { os: 'linux', architecture: 'amd64' };
    return parsePulledConfig(Buffer.from(JSON.stringify(file)), manifest, {
      ref,
      platform,
      isPlatformStrict: o.isPlatformStrict ?? false,
    });
  };
  const rootfs = { type: 'layers', diff_ids: [digestOf('diff')] };

  test('gives each layer what it must unpack to', () => {
    const { layers, platform } = pulled({ os: 'linux', architecture: 'aarch64', rootfs });
    assert.deepEqual(layers, [
      { ...some, mediaType: layer.mediaType, compression: 'gzip', diffId: digestOf('diff') },
    ]);
    assert.deepEqual(platform, { os: 'linux', architecture: 'arm64' });
  });

  test('of an old builder, without a platform, is for this one', () => {
    assert.deepEqual(pulled({ rootfs }).platform, { os: 'linux', architecture: 'amd64' });
  });

  const bad: [string, object, RegExp][] = [
    [
      'too few layers',
      { rootfs: { type: 'layers', diff_ids: null } },
      /^layers from manifest don't match image configuration$/,
    ],
    ['too many', { rootfs: { type: 'layers', diff_ids: [digestOf('a'), digestOf('b')] } }, /don't match/],
    ['no layers at all', {}, /^invalid image config of app\/web:1: rootfs/],
    [
      'layers of another kind',
      { rootfs: { ...rootfs, type: 'squashfs' } },
      /^invalid image config of app\/web:1: rootfs.type/,
    ],
    [
      'another system',
      { os: 'windows', rootfs },
      /^image operating system "windows" cannot be used on this platform$/,
    ],
  ];
  for (const [name, file, message] of bad) test(name, () => assert.throws(() => pulled(file), { message }));

  test('of another architecture, where this one was asked for', () => {
    const file = { os: 'linux', architecture: 's390x', rootfs };
    assert.equal(pulled(file).platform.architecture, 's390x');
    assert.throws(() => pulled(file, { isPlatformStrict: true }), { code: 'PLATFORM_MISMATCH', status: 404 });
  });
});
