import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import type { VolumeView } from '../../src/api/volume-wire.ts';
import { fail } from '../../src/errors.ts';
import { world } from './world.ts';

const aVolume = (record: Partial<VolumeView['record']> = {}): VolumeView => ({
  record: {
    name: 'v1',
    createdAt: '2026-01-02T03:04:05.123456789Z',
    isAnonymous: false,
    labels: { a: 'b' },
    options: null,
    ...record,
  },
  path: '/var/lib/skerry/volumes/v1/_data',
});

const wire = {
  CreatedAt: '2026-01-02T03:04:05Z',
  Driver: 'local',
  Labels: { a: 'b' },
  Mountpoint: '/var/lib/skerry/volumes/v1/_data',
  Name: 'v1',
  Options: null,
  Scope: 'local',
};

const noSwarm =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';

type Versions = readonly [ceiling: string, version?: string];

/** A daemon with one volume, and what its engine was asked to make. */
async function withVolumes(t: TestContext, [ceiling, version = ceiling]: Versions, view = aVolume()) {
  const made: unknown[] = [];
  const engine = {
    volumes: {
      list: async () => [view],
      inspect: async (name: string) => {
        if (name !== 'v1') throw fail.noSuchVolume(name);
        return view;
      },
      create: async (name: string, wish: object) => {
        made.push([name, wish]);
        return view;
      },
      remove: async (name: string, { force }: { force: boolean }) => {
        if (name === 'used') throw fail.volumeInUse(name, ['c1', 'c2']);
        if (name !== 'v1' && !force) throw fail.noSuchVolume(name);
      },
    },
  };
  const w = await world(t, { ceiling, floor: '1.24', engine });
  const ask = async (target: string, body?: string) => {
    const [method, path] = target.split(' ');
    const { status, json, text } = await w.call(
      `${method} /v${version}${path}`,
      body === undefined ? {} : { body },
    );
    return [status, json ?? text] as const;
  };
  return { made, ask };
}

test('volumes are listed, made, looked at and removed', async (t) => {
  for (const ceiling of ['1.39', '1.41', '1.45']) {
    const { made, ask } = await withVolumes(t, [ceiling]);
    assert.deepEqual(await ask('GET /volumes'), [200, { Volumes: [wire], Warnings: null }]);
    assert.deepEqual(await ask('GET /volumes/v1'), [200, wire]);
    assert.deepEqual(await ask('GET /volumes/'), [404, { message: 'get: no such volume' }]);
    assert.deepEqual(await ask('GET /volumes/a%2Fb'), [404, { message: 'get a/b: no such volume' }]);
    const body = '{"Name":"v1","driver":"local","DriverOpts":{"o":"x"},"Labels":{},"ClusterVolumeSpec":null}';
    assert.deepEqual(await ask('POST /volumes/create', body), [201, wire]);
    await ask('POST /volumes/create', '{}');
    assert.deepEqual(made, [
      ['v1', { driver: 'local', labels: {}, options: { o: 'x' } }],
      ['', { driver: '', labels: null, options: null }],
    ]);
    assert.deepEqual(await ask('DELETE /volumes/v1'), [204, '']);
    assert.deepEqual(await ask('DELETE /volumes/nope'), [404, { message: 'get nope: no such volume' }]);
    assert.deepEqual(await ask('DELETE /volumes/nope?force=1'), [204, '']);
    const inUse = 'remove used: volume is in use - [c1, c2]';
    assert.deepEqual(await ask('DELETE /volumes/used?force=1'), [409, { message: inUse }]);
  }
});

test('G064: a volume without a name is marked from ceiling 1.42 on, for every request', async (t) => {
  const mark = { 'com.docker.volume.anonymous': '' };
  const labelsOf = async (versions: Versions, labels: Record<string, string>, isAnonymous: boolean) => {
    const { ask } = await withVolumes(t, versions, aVolume({ isAnonymous, labels }));
    return ((await ask('GET /volumes/v1'))[1] as { Labels: unknown }).Labels;
  };
  assert.deepEqual(await labelsOf(['1.42', '1.24'], mark, true), mark);
  assert.deepEqual(await labelsOf(['1.41'], mark, true), null);
  assert.deepEqual(await labelsOf(['1.41'], { ...mark, a: 'b' }, true), { a: 'b' });
  assert.deepEqual(await labelsOf(['1.41'], mark, false), mark); // the client's own
});

test('G065: only daemons from ceiling 1.42 on have a route to change a volume, and no use for it', async (t) => {
  const change = async (versions: Versions) =>
    (await withVolumes(t, versions)).ask('PUT /volumes/v1?version=1', '{}');
  assert.deepEqual(await change(['1.41']), [404, { message: 'page not found' }]);
  const message = 'volume update only valid for cluster volumes, but swarm is unavailable';
  assert.deepEqual(await change(['1.42', '1.24']), [503, { message }]);
  assert.deepEqual(await change(['1.45']), [503, { message }]);
});

test('G066: volumes of a swarm need one; requests of old do not ask for them', async (t) => {
  const body = '{"Name":"c1","ClusterVolumeSpec":{"Group":"g"}}';
  const make = async (versions: Versions) =>
    (await (await withVolumes(t, versions)).ask('POST /volumes/create', body))[0];
  assert.deepEqual(await make(['1.45', '1.41']), 201);
  assert.deepEqual(await make(['1.41']), 201);
  const { ask } = await withVolumes(t, ['1.45', '1.42']);
  assert.deepEqual(await ask('POST /volumes/create', body), [503, { message: noSwarm }]);
});

test('G070 to G073: bodies that are none', async (t) => {
  const say = async (ceiling: string, body: string) =>
    (await withVolumes(t, [ceiling])).ask('POST /volumes/create', body);
  const told = (message: string) => [400, { message }];
  assert.deepEqual(await say('1.41', ''), told('got EOF while reading request body'));
  assert.equal((await say('1.42', ''))[0], 201);
  assert.deepEqual(await say('1.41', '{"Name"'), told('unexpected EOF'));
  assert.deepEqual(await say('1.42', '{"Name"'), told('invalid JSON: unexpected EOF'));
  const number = 'json: cannot unmarshal number into Go struct field ';
  assert.deepEqual(await say('1.41', '{"Name":1}'), told(`${number}VolumeCreateBody.Name of type string`));
  assert.deepEqual(
    await say('1.42', '{"DriverOpts":{"o":1}}'),
    told(`invalid JSON: ${number}CreateOptions.DriverOpts of type string`),
  );
  assert.equal((await say('1.41', '{}x'))[0], 201);
  assert.deepEqual(await say('1.42', '{}x'), told('unexpected content after JSON'));
});

test('G075: filters that are no JSON are always the client’s fault, with a word of what they are for', async (t) => {
  const say = async (ceiling: string) => (await withVolumes(t, [ceiling])).ask('GET /volumes?filters=zz');
  const told = (detail: string) => [400, { message: `error reading volume filters: ${detail}` }];
  const reason = "invalid character 'z' looking for beginning of value";
  assert.deepEqual(await say('1.41'), told(reason));
  assert.deepEqual(await say('1.42'), told(`invalid filter: ${reason}`));
  assert.deepEqual(await say('1.43'), told('invalid filter'));
});
