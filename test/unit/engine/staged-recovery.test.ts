import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { recoverStaged } from '../../../src/engine/staged-recovery.ts';
import { formatLayer } from '../../../src/layers/layer-records.ts';
import type { StagedLayer } from '../../../src/layers/layers.ts';
import { Staging } from '../../../src/layers/staging.ts';
import { type Digest, digestOf } from '../../../src/lib/digest.ts';
import { silentLog } from '../../../src/lib/log.ts';
import type { LeaseRecord } from '../../../src/store/records.ts';

const [wanted, spoilt, foreign, unfinished] = ['wanted', 'spoilt', 'foreign', 'unfinished'].map((name) =>
  digestOf(name),
) as [Digest, Digest, Digest, Digest];

/** Staging in which four layers lie, the last without its `layer.json`; `verify` is what the child says. */
async function open(t: TestContext, verify: (staged: StagedLayer) => Promise<boolean>) {
  const path = await mkdtemp(join(tmpdir(), 'skerry-staging-'));
  t.after(() => rm(path, { recursive: true }));
  const staging = new Staging(path, silentLog);
  for (const diffId of [wanted, spoilt, foreign, unfinished]) {
    const dirId = diffId.slice(7, 20);
    const directory = await staging.add('lease', dirId);
    await mkdir(join(directory, 'diff/etc'));
    await writeFile(join(directory, 'tar-split'), 'x');
    if (diffId !== unfinished)
      await writeFile(
        join(directory, 'layer.json'),
        formatLayer({ dirId, diffId, sizeBytes: 1, tarBytes: 1 }),
      );
  }
  const verified: Digest[] = [];
  const layers = {
    staged: () => staging.sealed(),
    verifyStaged: async (staged: StagedLayer) => {
      verified.push(staged.diffId);
      return verify(staged);
    },
    sweepStaging: (keep: ReadonlySet<string>) => staging.sweep(keep),
  };
  const lease = (diffIds: Digest[], expiresAt: string): [string, LeaseRecord] => [
    `${diffIds}`,
    { id: `${diffIds}`, expiresAt, diffIds, why: 'test' },
  ];
  const leases = {
    async *entries() {
      yield lease([wanted, spoilt, unfinished], '2999-01-01T00:00:00.000Z');
      yield lease([foreign], '2001-01-01T00:00:00.000Z');
    },
  };
  const settled: Digest[] = [];
  const settle = async ({ diffId, directory }: StagedLayer) => {
    settled.push(diffId);
    await rm(directory, { recursive: true });
  };
  await recoverStaged({ layers, leases, settle, log: silentLog });
  return { verified: new Set(verified), settled, left: await readdir(path) };
}

test('a layer that a living lease waits for is taken up if it is right; all else goes', async (t) => {
  const { verified, settled, left } = await open(t, async ({ diffId }) => diffId !== spoilt);
  assert.deepEqual(settled, [wanted]);
  assert.deepEqual(verified, new Set([wanted, spoilt]));
  assert.deepEqual(left, []);
});

test('a layer that cannot be verified does not keep the engine from starting', async (t) => {
  const { settled, left } = await open(t, async () => {
    throw new Error('no child can be started');
  });
  assert.deepEqual(settled, []);
  assert.deepEqual(left, []);
});
