import assert from 'node:assert/strict';
import { cp, mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import type { Store } from '../../../src/store/store.ts';
import { openStore, RecordingLog, temporaryDirectory } from '../../unit/store/fixtures.ts';

interface Thing {
  id: string;
  version: number;
  text: string;
}

const tables = ['images', 'containers', 'refs'] as const;
const seeds = [1, 2, 3, 4];

/** Bytes as a power cut or tired flash leaves them. `random` gives 0 ≤ x < 1. */
const damages: Record<string, (path: string, random: () => number) => Promise<void>> = {
  'a flipped bit': (path, random) =>
    edit(path, (bytes) => {
      const at = Math.floor(random() * bytes.length);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(random() * 8));
    }),
  'a page of zeros': (path, random) =>
    edit(path, (bytes) => {
      const at = Math.floor((random() * bytes.length) / 512) * 512;
      bytes.fill(0, at, Math.min(at + 512, bytes.length));
    }),
  'a page of noise': (path, random) =>
    edit(path, (bytes) => {
      const at = Math.floor((random() * bytes.length) / 512) * 512;
      for (let i = at; i < Math.min(at + 512, bytes.length); i++) bytes[i] = Math.floor(random() * 256);
    }),
  'all zeros': (path) => edit(path, (bytes) => void bytes.fill(0)),
  'a lost tail': async (path, random) => truncate(path, Math.floor(random() * (await readFile(path)).length)),
  'an empty file': (path) => truncate(path, 0),
  'no file': (path) => rm(path),
};

async function edit(path: string, change: (bytes: Buffer) => void): Promise<void> {
  const bytes = await readFile(path);
  change(bytes);
  await writeFile(path, bytes);
}

/** mulberry32: a seed names a failure. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

const newest = 3;
const count = 120;
/** Things from this one on have their newest version in the log alone. */
const inLog = 100;

/** A database of several tables and a log that is not empty; every thing was written in two or three versions. */
async function makeDatabase(dataRoot: string): Promise<void> {
  for (const [version, from] of [
    [newest - 2, 0],
    [newest - 1, 0],
    [newest, inLog],
  ] as const) {
    await using store = await openStore(dataRoot);
    for (let n = from; n < count; n++) {
      const id = `thing-${n}`;
      await store.commit(
        tables.map((name) => store.table<Thing>(name).put(id, { id, version, text: textOf(id) })),
      );
    }
    await store.commit([store.endRebuild()]);
  }
}

function textOf(id: string): string {
  return `${id} `.repeat(20 + (Number(id.slice('thing-'.length)) % inLog));
}

async function filesOf(dir: string, kind: RegExp): Promise<string[]> {
  return (await readdir(dir)).filter((name) => kind.test(name)).sort();
}

type Outcome = 'whole' | 'older' | 'empty';

/** Reads everything: each thing must be one that was written there. */
async function checkThings(store: Store): Promise<Outcome> {
  let things = 0;
  let current = 0;
  for (const name of tables) {
    for await (const [key, thing] of store.table<Thing>(name).entries()) {
      assert.equal(thing.id, key);
      assert.equal(thing.text, textOf(key));
      assert.ok(thing.version >= 1 && thing.version <= newest);
      assert.deepEqual(await store.table<Thing>(name).get(key), thing);
      things++;
      if (thing.version === (Number(key.slice('thing-'.length)) < inLog ? newest - 1 : newest)) current++;
    }
  }
  if (things === 0) return 'empty';
  return current === count * tables.length ? 'whole' : 'older';
}

/** Opens a damaged copy and works with it; says what became of it. */
async function live(dataRoot: string): Promise<Outcome> {
  const log = new RecordingLog();
  let outcome: Outcome;
  {
    await using store = await openStore(dataRoot, { log });
    outcome = await checkThings(store);
    assert.equal(store.wasRebuilt, outcome === 'empty');
    assert.equal((await filesOf(dataRoot, /^db\.damaged-/)).length, store.wasRebuilt ? 1 : 0);
    if (store.wasRebuilt) {
      assert.ok(store.needsRebuild, 'whoever fills the gaps must be told');
      assert.ok(log.errors.length > 0, 'and an operator too');
    }
    await store.commit([store.table<Thing>('images').put('new', { id: 'new', version: 1, text: '' })]);
  }
  await using store = await openStore(dataRoot, { log });
  assert.equal(store.wasRebuilt, false, 'what opened once opens again');
  assert.ok(await store.table<Thing>('images').get('new'));
  return outcome;
}

async function damageEach(t: TestContext, kind: RegExp, allowed: readonly Outcome[]): Promise<void> {
  const dataRoot = await temporaryDirectory(t);
  const healthy = join(dataRoot, 'healthy');
  await makeDatabase(healthy);
  const outcomes = new Map<string, number>();
  for (const [name, damage] of Object.entries(damages)) {
    for (const seed of seeds) {
      const patient = join(dataRoot, 'patient');
      await cp(healthy, patient, { recursive: true });
      const random = randomOf(seed);
      const files = await filesOf(join(patient, 'db'), kind);
      const file = files[Math.floor(random() * files.length)];
      assert.ok(file, `no file matches ${kind}`);
      await damage(join(patient, 'db', file), random);
      try {
        const outcome = await live(patient);
        assert.ok(allowed.includes(outcome), `it is ${outcome}`);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      } catch (cause) {
        throw new Error(`${name} in ${file}, seed ${seed}`, { cause });
      }
      await rm(patient, { recursive: true });
    }
  }
  t.diagnostic(JSON.stringify(Object.fromEntries(outcomes)));
}

for (const [kind, allowed] of [
  [/\.ldb$/, ['whole', 'empty']],
  [/\.log$/, ['whole', 'older']],
  [/^CURRENT$/, ['empty']],
  [/^MANIFEST-/, ['whole', 'empty']],
] as const) {
  test(`damage in ${kind.source}: the store opens, ${allowed.join(' or ')}, and gives nothing that was not written`, (t) =>
    damageEach(t, kind, allowed));
}

test('commits that LevelDB cannot read back are said aloud, and asked for until they are filled in', async (t) => {
  const dataRoot = await temporaryDirectory(t);
  await makeDatabase(dataRoot);
  const [file = ''] = await filesOf(join(dataRoot, 'db'), /\.log$/);
  await edit(join(dataRoot, 'db', file), (bytes) => void bytes.fill(0xff, 100, 110));
  const log = new RecordingLog();
  {
    await using store = await openStore(dataRoot, { log });
    assert.deepEqual(
      [await checkThings(store), store.wasRebuilt, store.needsRebuild],
      ['older', false, true],
    );
    assert.match(JSON.stringify(log.errors), /dropping \d+ bytes/);
  }
  {
    await using store = await openStore(dataRoot);
    assert.equal(store.needsRebuild, true);
    await store.commit([store.endRebuild()]);
  }
  await using store = await openStore(dataRoot);
  assert.equal(store.needsRebuild, false);
});

test('a database without CURRENT is set aside, not begun anew over its tables', async (t) => {
  const dataRoot = await temporaryDirectory(t);
  await makeDatabase(dataRoot);
  const tablesBefore = await filesOf(join(dataRoot, 'db'), /\.ldb$/);
  await rm(join(dataRoot, 'db/CURRENT'));
  await using store = await openStore(dataRoot);
  assert.equal(store.wasRebuilt, true);
  const [aside = ''] = await filesOf(dataRoot, /^db\.damaged-/);
  assert.deepEqual(await filesOf(join(dataRoot, aside), /\.ldb$/), tablesBefore);
});

test('a table that the disk cannot give back is damage', async (t) => {
  const dataRoot = await temporaryDirectory(t);
  await makeDatabase(dataRoot);
  const [table = ''] = await filesOf(join(dataRoot, 'db'), /\.ldb$/);
  await rm(join(dataRoot, 'db', table));
  await mkdir(join(dataRoot, 'db', table));
  await using store = await openStore(dataRoot);
  assert.equal(store.wasRebuilt, true);
});

test('only a few damaged databases are kept', async (t) => {
  const dataRoot = await temporaryDirectory(t);
  for (let round = 0; round < 5; round++) {
    {
      await using store = await openStore(dataRoot);
      assert.equal(store.wasRebuilt, round > 0);
    }
    await writeFile(join(dataRoot, 'db/CURRENT'), 'MANIFEST-999999\n');
  }
  assert.equal((await filesOf(dataRoot, /^db\.damaged-/)).length, 3);
});
