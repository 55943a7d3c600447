import assert from 'node:assert/strict';
import test from 'node:test';
import { inspectWire, summaryWire } from '../../../src/api/container-view.ts';
import { Axes } from '../../../src/api/versions.ts';
import type { ContainerState } from '../../../src/engine/model.ts';
import { aContainer, aView, ID, IMAGE_ID } from '../../api/fake-engine.ts';

const nowMs = Date.parse('2026-01-02T04:04:06Z');
const axes = new Axes('1.45', '1.45');
const never = '0001-01-01T00:00:00Z';

test('states and their texts are those of docker ps', () => {
  for (const [state, status, text, isRunning] of [
    [{ status: 'created', startedAt: never }, 'created', 'Created', false],
    [{ status: 'starting', startedAt: never }, 'created', 'Created', false],
    [
      { status: 'starting', exitCode: 3, finishedAt: '2026-01-02T04:04:00Z' },
      'exited',
      'Exited (3) 6 seconds ago',
      false,
    ],
    [{ status: 'running' }, 'running', 'Up About an hour', true],
    [{ status: 'paused' }, 'paused', 'Up About an hour (Paused)', true],
    [
      { status: 'restarting', exitCode: 1, finishedAt: '2026-01-02T04:04:05Z' },
      'restarting',
      'Restarting (1) 1 second ago',
      true,
    ],
    [{ status: 'removing' }, 'removing', 'Removal In Progress', false],
    [
      { status: 'exited', exitCode: 137, finishedAt: '2026-01-02T04:00:00Z' },
      'exited',
      'Exited (137) 4 minutes ago',
      false,
    ],
    [{ status: 'dead' }, 'dead', 'Dead', false],
  ] as [Partial<ContainerState>, string, string, boolean][]) {
    const view = aView(aContainer({ state }));
    const summary = summaryWire(view, { nowMs, axes });
    assert.deepEqual([summary['State'], summary['Status']], [status, text]);
    const { State } = inspectWire(view, { axes, execIds: [] }) as { State: Record<string, unknown> };
    assert.deepEqual([State['Status'], State['Running']], [status, isRunning]);
  }
});

test('the command is entrypoint and words, those with blanks in quotes', () => {
  const record = aContainer({ config: { entrypoint: ['/bin/a b'], cmd: ['c', 'd e'] } });
  assert.equal(summaryWire(aView(record), { nowMs, axes })['Command'], "/bin/a b c 'd e'");
  const { Path, Args } = inspectWire(aView(record), { axes, execIds: [] });
  assert.deepEqual([Path, Args], ['/bin/a b', ['c', 'd e']]);
});

test('ports are there while it is up', () => {
  const ports = {
    '80/tcp': [
      { hostIp: '0.0.0.0', hostPort: '8080' },
      { hostIp: '::', hostPort: '8080' },
    ],
    '53/udp': null,
  };
  assert.deepEqual(summaryWire(aView(aContainer({ ports })), { nowMs, axes })['Ports'], [
    { IP: '0.0.0.0', PrivatePort: 80, PublicPort: 8080, Type: 'tcp' },
    { IP: '::', PrivatePort: 80, PublicPort: 8080, Type: 'tcp' },
    { PrivatePort: 53, Type: 'udp' },
  ]);
  const stopped = aContainer({ ports, state: { status: 'exited' } });
  assert.deepEqual(summaryWire(aView(stopped), { nowMs, axes })['Ports'], []);
});

test('a list has what dockerd lists, in its order', () => {
  const record = aContainer({
    mounts: [
      {
        type: 'volume',
        name: 'v',
        source: '/x/v/_data',
        destination: '/d',
        driver: 'local',
        mode: 'z',
        isWritable: true,
        propagation: '',
      },
      {
        type: 'bind',
        source: '/s',
        destination: '/t',
        mode: 'ro',
        isWritable: false,
        propagation: 'rprivate',
      },
    ],
  });
  const wire = summaryWire({ ...aView(record), sizes: { rwBytes: 0, rootBytes: 7 } }, { nowMs, axes });
  assert.deepEqual(Object.keys(wire), [
    'Id',
    'Names',
    'Image',
    'ImageID',
    'Command',
    'Created',
    'Ports',
    'SizeRootFs',
    'Labels',
    'State',
    'Status',
    'HostConfig',
    'NetworkSettings',
    'Mounts',
  ]);
  assert.deepEqual(wire['Mounts'], [
    {
      Type: 'volume',
      Name: 'v',
      Source: '/x/v/_data',
      Destination: '/d',
      Driver: 'local',
      Mode: 'z',
      RW: true,
      Propagation: '',
    },
    { Type: 'bind', Source: '/s', Destination: '/t', Mode: 'ro', RW: false, Propagation: 'rprivate' },
  ]);
  assert.equal(wire['Created'], 1767323045);
});

test('inspect shows where everything is', () => {
  const wire = inspectWire({ ...aView(), sizes: { rwBytes: 0, rootBytes: 7 } }, { axes, execIds: ['e1'] });
  const directory = `/var/lib/skerry/containers/${ID}`;
  assert.partialDeepStrictEqual(wire, {
    Id: ID,
    Created: '2026-01-02T03:04:05.123456789Z',
    Image: IMAGE_ID,
    Name: '/web',
    LogPath: `${directory}/log`,
    HostsPath: `${directory}/hosts`,
    ExecIDs: ['e1'],
    SizeRw: 0,
    SizeRootFs: 7,
    GraphDriver: {
      Data: {
        LowerDir: '/l/2/diff:/l/1/diff',
        MergedDir: `${directory}/merged`,
        UpperDir: `${directory}/upper`,
        WorkDir: `${directory}/work`,
      },
      Name: 'overlay2',
    },
  });
  assert.partialDeepStrictEqual(wire['NetworkSettings'] as object, {
    IPAddress: '172.17.0.2',
    IPPrefixLen: 16,
    SandboxKey: '/proc/4711/ns/net',
    Networks: { bridge: { IPAddress: '172.17.0.2' } },
  });
});
