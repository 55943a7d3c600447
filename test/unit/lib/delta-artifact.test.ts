import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ARTIFACT_MANIFEST_TYPE,
  addReferrer,
  DELTA_TYPE,
  type DeltaArtifact,
  type DeltaReferrer,
  deltaTag,
  formatDeltaManifest,
  isArtifactTag,
  parseDeltaManifest,
  parseReferrers,
  referrersTag,
} from '../../../src/lib/delta-artifact.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import { isTag } from '../../../src/lib/reference.ts';

const target = digestOf('target manifest');
const artifact: DeltaArtifact = {
  facts: {
    baseId: digestOf('base config'),
    baseManifest: digestOf('base manifest'),
    targetId: digestOf('target config'),
    targetManifest: target,
    fullBytes: 48_391_660,
  },
  subject: { mediaType: ARTIFACT_MANIFEST_TYPE, digest: target, size: 1234 },
  blob: { mediaType: DELTA_TYPE, digest: digestOf('delta'), size: 255_860 },
};

function referrerOf(base: string, n = 0): DeltaReferrer {
  const digest = digestOf(`${base} ${n}`);
  const descriptor = { mediaType: ARTIFACT_MANIFEST_TYPE, digest, size: 900 };
  return { descriptor, facts: { ...artifact.facts, baseId: digestOf(base) } };
}

test('an artifact is read as it was written, and is what the specification wants', () => {
  const bytes = formatDeltaManifest(artifact);
  assert.deepEqual(parseDeltaManifest(bytes), artifact);
  assert.deepEqual(formatDeltaManifest(artifact), bytes);
  const json = JSON.parse(bytes.toString());
  assert.equal(json.artifactType, DELTA_TYPE);
  assert.equal(json.config.digest, digestOf('{}'));
  assert.equal(json.subject.digest, target);
  assert.equal(json.annotations['io.skerry.delta.full.bytes'], '48391660');
  assert.equal('org.opencontainers.image.created' in json.annotations, false);
  const dated = { ...artifact, facts: { ...artifact.facts, createdAt: '2026-01-01T00:00:00Z' } };
  assert.deepEqual(parseDeltaManifest(formatDeltaManifest(dated)), dated);
});

test('what is no delta, or contradicts itself, is refused', () => {
  const good = JSON.parse(formatDeltaManifest(artifact).toString());
  const bad: [string, unknown][] = [
    ['no JSON', undefined],
    ['an image', { ...good, artifactType: undefined }],
    ['two blobs', { ...good, layers: [...good.layers, ...good.layers] }],
    ['no blob', { ...good, layers: [] }],
    ['a blob of another kind', { ...good, layers: [{ ...good.layers[0], mediaType: 'text/plain' }] }],
    ['a negative size', { ...good, layers: [{ ...good.layers[0], size: -1 }] }],
    ['no subject', { ...good, subject: undefined }],
    ['another subject', { ...good, subject: { ...good.subject, digest: digestOf('other') } }],
    ['no digest', { ...good, annotations: { ...good.annotations, 'io.skerry.delta.base.id': 'sha256:1' } }],
    ['no number', { ...good, annotations: { ...good.annotations, 'io.skerry.delta.full.bytes': '1e9' } }],
  ];
  for (const [what, value] of bad) {
    const bytes = Buffer.from(value === undefined ? '{' : JSON.stringify(value));
    assert.throws(() => parseDeltaManifest(bytes), { code: 'CORRUPT' }, what);
  }
});

test('tags name a delta and a list, and are told from those of images', () => {
  const tag = deltaTag(target, artifact.facts.baseId);
  assert.match(tag, /^delta-[0-9a-f]{32}-[0-9a-f]{32}$/);
  assert.notEqual(tag, deltaTag(artifact.facts.baseId, target));
  assert.equal(referrersTag(target), target.replace(':', '-'));
  for (const each of [tag, referrersTag(target)]) assert.ok(isTag(each) && isArtifactTag(each));
  for (const each of ['latest', 'delta-1', '1.2.3']) assert.equal(isArtifactTag(each), false);
});

test('a list of referrers keeps what it has, and one delta for each base', () => {
  const stranger = {
    mediaType: ARTIFACT_MANIFEST_TYPE,
    digest: digestOf('sbom'),
    size: 5,
    artifactType: 'x/y',
  };
  const before = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [stranger] }));
  const one = addReferrer(before, referrerOf('v1'));
  const two = addReferrer(one, referrerOf('v2'));
  const three = addReferrer(two, referrerOf('v1', 1));
  assert.deepEqual(parseReferrers(three), [referrerOf('v2'), referrerOf('v1', 1)]);
  assert.deepEqual(JSON.parse(three.toString()).manifests[0], stranger);
  assert.deepEqual(addReferrer(three, referrerOf('v1', 1)), three);
  assert.deepEqual(parseReferrers(addReferrer(undefined, referrerOf('v1'))), [referrerOf('v1')]);
  assert.deepEqual(parseReferrers(Buffer.from('no list')), []);
});
