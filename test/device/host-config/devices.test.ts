import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { makeNode } from '../../../src/host/kernel.ts';
import { type Options, OptionTable } from '../../support/option-table.ts';

/** Devices that containers are given: by path, by rule, and by files of the Container Device Interface. */
let table: OptionTable;
let directory: string;

const S_IFCHR = 0o20000;
const hasV1 = existsSync('/sys/fs/cgroup/devices/devices.list');

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'skt-devices-'));
  for (const place of ['nodes/deeper', 'cdi', 'cdi-run'])
    await mkdir(join(directory, place), { recursive: true });
  makeNode(join(directory, 'nodes/zero'), S_IFCHR | 0o600, { major: 1, minor: 5 });
  makeNode(join(directory, 'nodes/deeper/null'), S_IFCHR | 0o600, { major: 1, minor: 3 });
  await writeFile(join(directory, 'file'), 'mounted\n');
  await writeFile(join(directory, 'cdi/camera.json'), JSON.stringify(camera(directory)));
  await writeFile(join(directory, 'cdi/gpu.yaml'), gpus(directory));
  await writeFile(join(directory, 'cdi/broken.yaml'), 'cdiVersion: 0.5.0\nkind: *x\n');
  const flags = ['cdi', 'cdi-run'].flatMap((name) => ['--cdi-spec-dir', join(directory, name)]);
  table = await OptionTable.open({ flags });
});
after(async () => {
  await table[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

function camera(place: string): object {
  return {
    cdiVersion: '0.6.0',
    kind: 'acme.com/camera',
    containerEdits: { env: ['ACME=all'] },
    devices: [
      {
        name: 'front',
        containerEdits: {
          env: ['FRONT=1'],
          deviceNodes: [{ path: '/dev/camera0', hostPath: join(place, 'nodes/zero'), permissions: 'r' }],
          mounts: [{ hostPath: join(place, 'file'), containerPath: '/opt/acme', options: ['ro', 'bind'] }],
          hooks: [
            { hookName: 'createRuntime', path: '/bin/sh', args: ['sh', '-c', `touch ${place}/hooked`] },
          ],
          additionalGids: [4242],
        },
      },
      { name: 'gone', containerEdits: { deviceNodes: [{ path: '/dev/not-there' }] } },
    ],
  };
}

/** As nvidia-ctk writes them. */
function gpus(place: string): string {
  const device = (name: string) => `- containerEdits:
    deviceNodes:
    - hostPath: ${place}/nodes/zero
      path: /dev/nvidia${name}
  name: "${name}"
`;
  return `---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
devices:
${['0', '1', 'all'].map(device).join('')}`;
}

const device = (PathOnHost: string, PathInContainer: string, CgroupPermissions = 'rwm'): Options => ({
  hostConfig: { Devices: [{ PathOnHost, PathInContainer, CgroupPermissions }] },
});
const request = (fields: object): Options => ({
  hostConfig: { DeviceRequests: [{ Driver: '', Count: 0, ...fields }] },
});

test('Devices: a node, under another name', async () => {
  const look = 'stat -c "%t:%T %a" /dev/mine; head -c 2 /dev/mine | wc -c';
  assert.equal(await table.inside(look, device(join(directory, 'nodes/zero'), '/dev/mine')), '1:5 600\n2');
});

test('Devices: a directory, with all that is below it', async () => {
  const look = 'find /dev/many -type c | sort';
  const seen = await table.inside(look, device(join(directory, 'nodes'), '/dev/many'));
  assert.equal(seen, '/dev/many/deeper/null\n/dev/many/zero');
});

test('Devices: what is none', async () => {
  const failed = (path: string, why: string) =>
    `500 error gathering device information while adding custom device "${path}": ${why}`;
  assert.equal(
    await table.failure(device('/dev/nowhere', '/dev/x')),
    failed('/dev/nowhere', 'no such file or directory'),
  );
  const file = join(directory, 'file');
  assert.equal(await table.failure(device(file, '/dev/x')), failed(file, 'not a device node'));
});

test('Devices, DeviceCgroupRules: in the controller', {
  skip: hasV1 ? false : 'reads cgroup v1',
}, async () => {
  const { hostConfig } = device('/dev/loop0', '/dev/loop0', 'r');
  const [list = ''] = await table.cgroup(['devices/devices.list'], {
    hostConfig: {
      ...(existsSync('/dev/loop0') && hostConfig),
      DeviceCgroupRules: ['c 240:* rw', 'b 241:7 m'],
    },
  });
  const rules = list.split('\n');
  assert.ok(rules.includes('c 240:* rw') && rules.includes('b 241:7 m'), list);
  if (existsSync('/dev/loop0')) assert.ok(rules.includes('b 7:0 r'), list);
  assert.ok(!rules.includes('a *:* rwm'), list);
  const [all] = await table.cgroup(['devices/devices.list'], { hostConfig: { Privileged: true } });
  assert.equal(all, 'a *:* rwm');
  const told = await table.failure({ hostConfig: { DeviceCgroupRules: ['x 1:1 r'] } });
  assert.equal(told, "500 invalid device cgroup rule format: 'x 1:1 r'");
});

test('Privileged: every device of the host', async () => {
  const look = 'test -c /dev/kmsg && echo there';
  if (existsSync('/dev/kmsg'))
    assert.equal(await table.inside(look, { hostConfig: { Privileged: true } }), 'there');
  assert.equal(await table.inside('test -c /dev/kmsg || echo none', {}), 'none');
});

test('DeviceRequests: a device of a CDI file, with all that it brings', async () => {
  const look = 'stat -c %t:%T /dev/camera0; cat /opt/acme; echo $ACME $FRONT; id -G | grep -o 4242';
  const seen = await table.inside(look, request({ Driver: 'cdi', DeviceIDs: ['acme.com/camera=front'] }));
  assert.equal(seen, '1:5\nmounted\nall 1\n4242');
  assert.ok(existsSync(join(directory, 'hooked')));
});

test('DeviceRequests: processors of NVIDIA, of a file in YAML', async () => {
  const look = 'ls /dev | grep nvidia; echo $NVIDIA_VISIBLE_DEVICES';
  const gpu = [['gpu']];
  const cases: [object, string][] = [
    [{ Count: -1, Capabilities: gpu }, 'nvidiaall\nvoid'],
    [{ Count: 2, Capabilities: gpu }, 'nvidia0\nnvidia1\nvoid'],
    [{ DeviceIDs: ['1'], Capabilities: [['gpu', 'compute']] }, 'nvidia1\nvoid'],
    [{ Driver: 'nvidia', DeviceIDs: ['nvidia.com/gpu=0'] }, 'nvidia0\nvoid'],
  ];
  for (const [fields, expected] of cases) assert.equal(await table.inside(look, request(fields)), expected);
  const gpus = ['run', '--rm', '--net', 'none', '--gpus', 'all', table.image, 'ls', '/dev/nvidiaall'];
  assert.equal(await table.engine.ok(gpus), '/dev/nvidiaall');
});

test('DeviceRequests: what no driver can give', async () => {
  const cases: [object, string][] = [
    [{ Driver: 'nope' }, 'could not select device driver "nope" with capabilities: []'],
    [{ Capabilities: [['tpu']] }, 'could not select device driver "" with capabilities: [[tpu]]'],
    [
      { Driver: 'cdi', DeviceIDs: ['acme.com/camera=back', 'x'] },
      'CDI device injection failed: unresolvable CDI devices acme.com/camera=back, x',
    ],
    [{ Driver: 'cdi', Count: 1 }, 'unexpected count in CDI device request'],
    [{ Driver: 'cdi', Options: { a: 'b' } }, 'unexpected options in CDI device request'],
    [
      { Count: 1, DeviceIDs: ['0'], Capabilities: [['gpu']] },
      'cannot set both Count and DeviceIDs on device request',
    ],
    [
      { Driver: 'cdi', DeviceIDs: ['acme.com/camera=gone'] },
      'CDI device injection failed: failed to inject devices: failed to stat CDI host device "/dev/not-there": no such file or directory',
    ],
  ];
  for (const [fields, message] of cases) assert.equal(await table.failure(request(fields)), `500 ${message}`);
  assert.match(await table.engine.log(), /broken\.yaml: yaml: line 2: \* is not read/);
});

test('DeviceRequests: the later directory counts, and of two in one none', async () => {
  const other = {
    cdiVersion: '0.6.0',
    kind: 'acme.com/camera',
    devices: [{ name: 'front', containerEdits: { env: ['A=later'] } }],
  };
  const front = request({ Driver: 'cdi', DeviceIDs: ['acme.com/camera=front'] });
  await writeFile(join(directory, 'cdi-run/one.json'), JSON.stringify(other));
  assert.equal(await table.inside('echo $A$FRONT', front), 'later');
  await writeFile(join(directory, 'cdi-run/two.json'), JSON.stringify(other));
  assert.match(await table.failure(front), /unresolvable CDI devices acme\.com\/camera=front/);
  await Promise.all(['one', 'two'].map((name) => rm(join(directory, `cdi-run/${name}.json`))));
});
