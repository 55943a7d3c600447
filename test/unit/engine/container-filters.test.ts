import assert from 'node:assert/strict';
import { test } from 'node:test';
import { emptyEndpoint } from '../../../src/engine/container-creation.ts';
import { selectContainers } from '../../../src/engine/container-filters.ts';
import type { ContainerStatus } from '../../../src/engine/model.ts';
import { containerRecord } from '../../support/container-records.ts';

const made = (
  name: string,
  day: number,
  status: ContainerStatus,
  more: Parameters<typeof containerRecord>[0] = {},
) =>
  containerRecord({
    id: name.charCodeAt(0).toString(16).padEnd(64, String(day)),
    name,
    createdAt: `2026-01-0${day}T00:00:00.000000001Z`,
    ...more,
    state: { status, ...more.state },
  });

const all = [
  made('web', 1, 'running', {
    imageId: 'sha256:aaaa',
    config: { labels: { tier: 'front' }, exposedPorts: { '80/tcp': {}, '53/udp': {} } },
    endpoints: { bridge: { ...emptyEndpoint(), networkId: 'f00d' } },
    mounts: [
      { type: 'bind', source: '/srv', destination: '/s', mode: '', isWritable: true, propagation: '' },
    ],
    ports: { '80/tcp': [{ hostIp: '', hostPort: '8080' }], '53/udp': null },
  }),
  made('db', 2, 'exited', {
    state: { exitCode: 3, startedAt: '2026-01-02T00:00:01Z' },
    hostConfig: { portBindings: { '90/tcp': [{ hostIp: '', hostPort: '9090' }] } },
    mounts: [
      {
        type: 'volume',
        name: 'pgdata',
        source: '/v',
        destination: '/var/lib/pg',
        mode: 'z',
        isWritable: true,
        propagation: '',
      },
    ],
  }),
  made('loop', 3, 'restarting'),
  made('new', 4, 'created'),
  made('coming', 5, 'starting'),
  made('held', 6, 'paused'),
];

const select = (
  filters: Record<string, string[]>,
  o: { isAll?: boolean; limit?: number; ancestors?: string[] } = {},
) =>
  selectContainers(all, {
    isAll: o.isAll ?? false,
    limit: o.limit ?? 0,
    filters: new Map(Object.entries(filters)),
    ancestors: new Set(o.ancestors),
    healthOf: (id) => (all.find((record) => record.id === id)?.name === 'held' ? 'healthy' : 'none'),
  }).map(({ name }) => name);

test('what has a process or is about to have one again is shown, newest first; with all or a limit the rest too', () => {
  assert.deepEqual(select({}), ['held', 'loop', 'web']);
  assert.deepEqual(select({}, { isAll: true }), ['held', 'coming', 'new', 'loop', 'db', 'web']);
  assert.deepEqual(select({}, { limit: 2 }), ['held', 'coming']);
});

test('each filter', () => {
  const cases: [Record<string, string[]>, string[]][] = [
    [{ status: ['exited', 'running'] }, ['db', 'web']],
    [{ status: ['created'] }, ['coming', 'new']],
    [{ exited: ['3'] }, ['db']],
    [{ exited: ['+3'] }, ['db']],
    [{ exited: ['0'] }, []],
    [{ name: ['^/we'] }, ['web']],
    [{ name: ['^e'] }, []],
    [{ name: ['e'] }, ['held', 'new', 'web']],
    [{ name: ['(w'] }, []],
    [{ id: ['771111'] }, ['web']],
    [{ id: ['1'] }, []],
    [{ id: ['61'] }, []], // two begin so
    [{ id: [''] }, []],
    [{ label: ['tier=front'] }, ['web']],
    [{ before: ['loop'] }, ['db', 'web']],
    [{ since: ['loop'] }, ['held', 'coming', 'new']],
    [{ volume: ['pgdata'] }, ['db']],
    [{ volume: ['/var/lib/pg'] }, ['db']],
    [{ volume: ['/v'] }, []],
    [{ volume: ['/srv'] }, ['web']],
    [{ network: ['bridge'] }, ['web']],
    [{ network: ['f0'] }, ['web']],
    [{ network: [''] }, ['web']],
    [{ expose: ['53/udp'] }, ['web']],
    [{ expose: ['70-90'] }, ['web']],
    [{ expose: ['50-60'] }, []],
    [{ publish: ['8080-8081/tcp'] }, ['web']],
    [{ publish: ['80'] }, []],
    [{ publish: ['0/udp'] }, ['web']],
    [{ publish: ['9090'] }, []], // it does not run
    [{ publish: ['1'], expose: ['80/'] }, ['web']],
    [{ health: ['none'], name: ['web'] }, ['web']],
    [{ health: ['healthy'] }, ['held']],
    [{ 'is-task': ['true'] }, []],
  ];
  for (const [filters, expected] of cases)
    assert.deepEqual(select(filters, { isAll: true }), expected, JSON.stringify(filters));
});

test('one that is starting still is what it was', () => {
  const before = { startedAt: '2026-01-01T00:00:00Z', exitCode: 4 };
  const starting = [
    made('first', 1, 'starting'),
    made('again', 2, 'starting', { state: before }),
    made('by its policy', 3, 'starting', { state: before, restartCount: 2 }),
  ];
  const names = (isAll: boolean, filters: Record<string, string[]>) =>
    selectContainers(starting, {
      ...{ isAll, limit: 0, ancestors: new Set<string>(), healthOf: () => 'none' },
      filters: new Map(Object.entries(filters)),
    }).map(({ name }) => name);
  assert.deepEqual(names(false, {}), ['by its policy']);
  assert.deepEqual(names(true, { status: ['created'] }), ['first']);
  assert.deepEqual(names(true, { status: ['exited'] }), ['again']);
  assert.deepEqual(names(true, { status: ['restarting'] }), ['by its policy']);
  assert.deepEqual(names(true, { exited: ['4'] }), ['again']);
});

test('an ancestor is an image, by whatever name it goes', () => {
  assert.deepEqual(select({ ancestor: ['nginx'] }, { ancestors: ['sha256:aaaa'] }), ['web']);
  assert.deepEqual(select({ ancestor: ['unknown'] }), []);
});

test('filters that make no sense', () => {
  const cases: [Record<string, string[]>, string, number][] = [
    [{ bogus: [] }, "invalid filter 'bogus'", 400],
    [{ status: ['bogus'] }, "invalid filter 'status=bogus'", 400],
    [{ health: ['bogus'] }, 'Unrecognised filter value for health: bogus', 400],
    [{ exited: ['x'] }, `invalid filter 'exited=x': strconv.Atoi: parsing "x": invalid syntax`, 400],
    [{ before: ['nope'] }, 'No such container: nope', 404],
    [{ since: ['nope'] }, 'No such container: nope', 404],
    [{ since: [''] }, 'No such container: ', 404],
    [{ before: ['77'] }, 'No such container: 77', 404], // IDs in full
    [{ expose: ['80:81'] }, "filter for 'expose' should not contain ':': 80:81", 400],
    [{ publish: ['/tcp'] }, 'error while looking up for publish /tcp: empty string specified for ports', 400],
    [
      { publish: ['9-8'] },
      'error while looking up for publish 9-8: invalid range specified for port: 9-8',
      400,
    ],
    [
      { expose: ['99999'] },
      'error while looking up for expose 99999: strconv.ParseUint: parsing "99999": value out of range',
      400,
    ],
  ];
  for (const [filters, message, status] of cases)
    assert.throws(() => select(filters), { message, status }, JSON.stringify(filters));
});
