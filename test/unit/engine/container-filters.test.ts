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
    hostConfig: { portBindings: { '80/tcp': [{ hostIp: '', hostPort: '8080' }] } },
  }),
  made('db', 2, 'exited', {
    state: { exitCode: 3 },
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
    [{ label: ['tier=front'] }, ['web']],
    [{ before: ['loop'] }, ['db', 'web']],
    [{ since: ['loop'] }, ['held', 'coming', 'new']],
    [{ volume: ['pgdata'] }, ['db']],
    [{ volume: ['/var/lib/pg'] }, ['db']],
    [{ network: ['bridge'] }, ['web']],
    [{ network: ['f0'] }, ['web']],
    [{ network: [''] }, []],
    [{ expose: ['53/udp'] }, ['web']],
    [{ expose: ['70-90'] }, ['web']],
    [{ expose: ['50-60'] }, []],
    [{ publish: ['80-81/tcp'] }, ['web']],
    [{ id: ['^77'] }, ['web']],
    [{ publish: ['80'] }, ['web']],
    [{ publish: ['53/udp'] }, []],
    [{ health: ['none'], name: ['web'] }, ['web']],
    [{ health: ['healthy'] }, ['held']],
    [{ 'is-task': ['true'] }, []],
  ];
  for (const [filters, expected] of cases)
    assert.deepEqual(select(filters, { isAll: true }), expected, JSON.stringify(filters));
});

test('an ancestor is an image, by whatever name it goes', () => {
  assert.deepEqual(select({ ancestor: ['nginx'] }, { ancestors: ['sha256:aaaa'] }), ['web']);
  assert.deepEqual(select({ ancestor: ['unknown'] }), []);
});

test('filters that make no sense', () => {
  const cases: [Record<string, string[]>, string, number][] = [
    [{ bogus: [] }, "invalid filter 'bogus'", 400],
    [{ status: ['bogus'] }, "invalid filter 'status=bogus'", 400],
    [{ health: ['bogus'] }, "invalid filter 'health=bogus'", 400],
    [{ exited: ['x'] }, `invalid filter 'exited=x': strconv.Atoi: parsing "x": invalid syntax`, 400],
    [{ before: ['nope'] }, 'No such container: nope', 404],
    [{ since: ['nope'] }, 'No such container: nope', 404],
  ];
  for (const [filters, message, status] of cases)
    assert.throws(() => select(filters), { message, status }, JSON.stringify(filters));
});
