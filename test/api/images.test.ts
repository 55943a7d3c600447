import assert from 'node:assert/strict';
import test from 'node:test';
import type { EngineEvent } from '../../src/api/engine-views.ts';
import { fail } from '../../src/errors.ts';
import { aContainer, anImage, aView, IMAGE_ID } from './fake-engine.ts';
import { world } from './world.ts';

type Json = Record<string, unknown>;

const usage = {
  layersBytes: 1234,
  images: [anImage()],
  containers: [{ ...aView(aContainer()), sizes: { rwBytes: 5, rootBytes: 6 } }],
  volumes: [
    {
      record: { name: 'v', createdAt: '2026-01-01T00:00:00Z', labels: null, options: { o: 'x' } },
      path: '/v/_data',
      sizeBytes: 7,
      users: 1,
    },
  ],
};

test('G058, G061: disk usage by type, and its build cache', async (t) => {
  const asked: unknown[] = [];
  const engine = {
    usage: {
      measure: async (kinds: readonly string[], { isAlone }: { isAlone: boolean }) => {
        asked.push([kinds.join(), isAlone]);
        return Object.fromEntries(
          Object.entries(usage).filter(([kind]) => kinds.includes(kind === 'layersBytes' ? 'images' : kind)),
        );
      },
    },
  };
  const w = await world(t, { ceiling: '1.45', engine });
  const all = (await w.call('GET /v1.41/system/df?type=nonsense')).json as Json;
  assert.deepEqual(Object.keys(all), ['LayersSize', 'Images', 'Containers', 'Volumes', 'BuildCache']);
  assert.deepEqual([all['LayersSize'], all['BuildCache']], [1234, []]);
  const [image = {}] = all['Images'] as Json[];
  assert.deepEqual([image['Containers'], image['SharedSize'], image['VirtualSize']], [2, 99, 1234]);
  assert.deepEqual((all['Containers'] as Json[])[0]?.['SizeRw'], 5);
  assert.deepEqual(all['Volumes'], [
    {
      CreatedAt: '2026-01-01T00:00:00Z',
      Driver: 'local',
      Labels: null,
      Mountpoint: '/v/_data',
      Name: 'v',
      Options: { o: 'x' },
      Scope: 'local',
      UsageData: { RefCount: 1, Size: 7 },
    },
  ]);
  const one = (await w.call('GET /v1.45/system/df?type=volume&type=build-cache')).json as Json;
  const { Volumes, ...rest } = one;
  assert.deepEqual(rest, { LayersSize: 0, Images: null, Containers: null, BuildCache: [] });
  assert.equal((Volumes as Json[]).length, 1);
  const cache = (await w.call('GET /v1.43/system/df?type=build-cache')).json as Json;
  assert.deepEqual(cache, { LayersSize: 0, Images: null, Containers: null, Volumes: null, BuildCache: [] });
  const unknown = await w.call('GET /v1.45/system/df?type=nonsense');
  assert.deepEqual([unknown.status, unknown.json], [400, { message: 'unknown object type: nonsense' }]);
  const old = (await (await world(t, { ceiling: '1.41', engine })).call('GET /system/df')).json as Json;
  assert.deepEqual([old['BuildCache'], old['BuilderSize']], [null, 0]);
  assert.deepEqual(asked.at(0), ['images,containers,volumes', false]);
  assert.deepEqual(asked.at(-1), ['images,containers,volumes', true]);
});

test('prunes tell what went, null for nothing; volumes by version', async (t) => {
  const asked: unknown[] = [];
  const engine = {
    images: {
      prune: async () => ({ removals: [{ untagged: 'a:1' }, { deleted: IMAGE_ID }], freedBytes: 9 }),
    },
    prunes: {
      containers: async () => ({ removed: [], freedBytes: 0 }),
      volumes: async ({ filters }: { filters: ReadonlyMap<string, readonly string[]> }) => {
        asked.push(filters.get('all')?.join());
        return { removed: ['v'], freedBytes: 3 };
      },
    },
  };
  const w = await world(t, { engine });
  const prune = async (path: string) => (await w.call(`POST ${path}/prune`)).json;
  assert.deepEqual(await prune('/images'), {
    ImagesDeleted: [{ Untagged: 'a:1' }, { Deleted: IMAGE_ID }],
    SpaceReclaimed: 9,
  });
  assert.deepEqual(await prune('/containers'), { ContainersDeleted: null, SpaceReclaimed: 0 });
  assert.deepEqual(await prune('/v1.42/volumes'), { VolumesDeleted: ['v'], SpaceReclaimed: 3 });
  await prune('/v1.41/volumes');
  const none = encodeURIComponent('{"all":["0"]}');
  await prune(`/v1.45/volumes`);
  await w.call(`POST /v1.41/volumes/prune?filters=${none}`);
  assert.deepEqual(asked, [undefined, 'true', undefined, '0,true']);
  assert.deepEqual(await prune('/build'), { CachesDeleted: null, SpaceReclaimed: 0 });
  const all = encodeURIComponent('{"all":["1"]}');
  const old = await (await world(t, { ceiling: '1.41', engine })).call(`POST /volumes/prune?filters=${all}`);
  assert.deepEqual([old.status, old.json], [400, { message: "Invalid filter 'all'" }]);
});

test('G031: prunes are events from ceiling 1.41 on', async (t) => {
  const event = (action: string): EngineEvent => ({
    type: 'image',
    action,
    actor: { id: '', attributes: { reclaimed: '1' } },
    timeNanos: 1n,
    scope: 'local',
  });
  const engine = {
    events: {
      subscribe: async function* () {
        yield event('prune');
        yield event('tag');
      },
    },
  };
  for (const [ceiling, actions] of [
    ['1.40', ['tag']],
    ['1.41', ['prune', 'tag']],
  ] as const) {
    const { text } = await (await world(t, { ceiling, engine })).call('GET /events');
    const told = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).Action);
    assert.deepEqual(told, actions, ceiling);
  }
});

test('a rollback and the list of generations', async (t) => {
  const asked: unknown[] = [];
  const since = '2026-01-01T00:00:00Z';
  const engine = {
    images: {
      rollBack: async (name: string, { to }: { to?: string }) => {
        asked.push([name, to]);
        if (name === 'none')
          throw fail.noGeneration('cannot roll none:latest back: no earlier image of it is kept');
        return { name: 'team/app:1', from: 'a', to: 'b', replacedAt: since };
      },
      generations: async () => [
        {
          name: 'app:1',
          imageId: 'b',
          since,
          generations: [{ imageId: 'a', digest: 'd', until: since, sizeBytes: 3, isWhole: true }],
        },
      ],
    },
  };
  const w = await world(t, { engine });
  const { json } = await w.call('POST /v1.41/images/team/app:1/rollback?to=ab');
  assert.deepEqual(json, { Name: 'team/app:1', From: 'a', To: 'b', ReplacedAt: since });
  const refused = await w.call('POST /images/none/rollback');
  assert.deepEqual(
    [refused.status, refused.json],
    [409, { message: 'cannot roll none:latest back: no earlier image of it is kept' }],
  );
  assert.deepEqual(asked, [
    ['team/app:1', 'ab'],
    ['none', undefined],
  ]);
  assert.deepEqual((await w.call('GET /images/generations')).json, [
    {
      Name: 'app:1',
      Id: 'b',
      Since: since,
      Generations: [{ Id: 'a', Digest: 'd', Until: since, Size: 3, Whole: true }],
    },
  ]);
});

test('what an image was made on, and where its layers lie', async (t) => {
  const view = anImage({ layerDirs: ['/l/2/diff', '/l/1/diff', '/l/0/diff'] });
  const made = { ...view, record: { ...view.record, parent: 'sha256:p' } };
  const w = await world(t, { engine: { images: { inspect: async () => made, list: async () => [made] } } });
  const image = (await w.call('GET /images/x/json')).json as Json;
  assert.equal(image['Parent'], 'sha256:p');
  assert.deepEqual(image['GraphDriver'], {
    Data: {
      LowerDir: '/l/1/diff:/l/0/diff',
      MergedDir: '/l/2/merged',
      UpperDir: '/l/2/diff',
      WorkDir: '/l/2/work',
    },
    Name: 'overlay2',
  });
  const [listed = {}] = (await w.call('GET /images/json')).json as Json[];
  assert.equal(listed['ParentId'], 'sha256:p');
});
