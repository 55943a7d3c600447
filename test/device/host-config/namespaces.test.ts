import assert from 'node:assert/strict';
import { existsSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { after, before, test } from 'node:test';
import { type Options, OptionTable } from '../../support/option-table.ts';

/** Whose namespaces a container is in, by the links in its /proc and by what it can see. */
let table: OptionTable;

before(async () => {
  table = await OptionTable.open();
});
after(() => table[Symbol.asyncDispose]());

/** Linux names a namespace by its kind and a number: `net:[4026531840]`. */
const host = (kind: string) => readlinkSync(`/proc/self/ns/${kind}`);
const isHosts = async (kind: string, options: Options) =>
  (await table.inside(`readlink /proc/self/ns/${kind}`, options)) === host(kind);

test('namespaces are of its own, or the host’s', async () => {
  const all = 'for kind in pid ipc uts net cgroup; do readlink /proc/self/ns/$kind; done';
  const look = async (hostConfig: Record<string, unknown>) => {
    const links = (await table.inside(all, { hostConfig })).split('\n');
    return links.flatMap((link) => (link === host(link.split(':')[0] ?? '') ? link.split(':')[0] : []));
  };
  const isV1 = existsSync('/sys/fs/cgroup/memory');
  assert.deepEqual(await look({}), isV1 ? ['cgroup'] : []);
  assert.deepEqual(await look({ CgroupnsMode: 'private' }), []);
  const modes = { PidMode: 'host', IpcMode: 'host', UTSMode: 'host', NetworkMode: 'host' };
  assert.deepEqual(await look({ ...modes, CgroupnsMode: 'host' }), ['pid', 'ipc', 'uts', 'net', 'cgroup']);
});

test('a private cgroup namespace begins at the container', async () => {
  const look = "cut -d: -f3 /proc/self/cgroup | sort -u | grep -v '^/$' | head -1";
  assert.equal(await table.inside(look, { hostConfig: { CgroupnsMode: 'private' } }), '');
  const seen = await table.inside(look, { hostConfig: { CgroupnsMode: 'host' } });
  assert.ok(seen.startsWith(`${table.engine.cgroupParent}/`), seen);
});

test('names of the host', async () => {
  const config = { Hostname: 'box', Domainname: 'example.org' };
  const look = 'hostname; cat /etc/hostname /proc/sys/kernel/domainname; grep box /etc/hosts || true';
  assert.match(await table.inside(look, { config }), /^box\nbox\nexample\.org/);
  assert.equal(await table.inside('hostname', { hostConfig: { UTSMode: 'host' } }), hostname());
  const told = await table.refusal({ config: { Hostname: 'x' }, hostConfig: { UTSMode: 'host' } });
  assert.equal(told, '400 conflicting options: hostname and the UTS mode');
});

test('shared memory: its size, none of it, that of another', async () => {
  const look = "grep ' /dev/shm ' /proc/self/mountinfo | grep -o 'size=[0-9]*k' || true";
  assert.equal(await table.inside(look, {}), 'size=65536k');
  assert.equal(await table.inside(look, { hostConfig: { ShmSize: 1 << 20 } }), 'size=1024k');
  assert.equal(await table.inside(look, { hostConfig: { IpcMode: 'none' } }), '');
  assert.equal(
    await table.inside(look, { hostConfig: { IpcMode: 'shareable', ShmSize: 2 << 20 } }),
    'size=2048k',
  );
});

test('a container in the IPC namespace of another', async () => {
  const donor = await table.running({ hostConfig: { IpcMode: 'shareable' } }, 'donor');
  const hostConfig = { IpcMode: 'container:donor' };
  await table.engine.ok(['exec', donor, 'sh', '-c', 'echo shared > /dev/shm/f']);
  const theirs = await table.engine.ok(['exec', donor, 'readlink', '/proc/self/ns/ipc']);
  const look = 'readlink /proc/self/ns/ipc; cat /dev/shm/f';
  assert.equal(await table.inside(look, { hostConfig }), `${theirs}\nshared`);
  await table.remove(donor);

  const closed = await table.running({}, 'closed');

  assert.equal(
    await table.failure({ hostConfig: { IpcMode: 'container:closed' } }),
    `400 failed to join IPC namespace: container ${closed}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`,
  );
  await table.remove(closed);
  assert.equal(
    await table.refusal({ hostConfig: { IpcMode: 'container:nope' } }),
    '400 No such container: nope',
  );
  assert.equal(await table.refusal({ hostConfig: { IpcMode: 'bogus' } }), '400 invalid IPC mode: bogus');
});

test('a container in the PID namespace of another', async () => {
  const donor = await table.running({}, 'donor');
  const seen = await table.inside('ps -o args', { hostConfig: { PidMode: 'container:donor' } });
  assert.match(seen, /sleep 1000/);
  const { id } = await table.create('true', { hostConfig: { PidMode: 'container:donor' } });
  await table.engine.ok(['stop', '-t', '0', donor]);
  const { status, text } = await table.engine.get(`/containers/${id}/start`, { method: 'POST' });
  assert.deepEqual(
    [status, JSON.parse(text).message],
    [500, `failed to join PID namespace: container ${donor} is not running`],
  );
  await Promise.all([table.remove(id), table.remove(donor)]);
  assert.equal(
    await table.refusal({ hostConfig: { PidMode: 'container:nope' } }),
    '400 No such container: nope',
  );
});

test('a container on the network of another', async () => {
  const donor = await table.running(
    { config: { Hostname: 'box' }, hostConfig: { NetworkMode: 'bridge' } },
    'donor',
  );
  const look =
    'readlink /proc/self/ns/net; hostname; cat /etc/hosts /etc/resolv.conf; ip -o -4 addr show eth0';
  const theirs = await table.engine.ok(['exec', donor, 'sh', '-c', look]);
  const hostConfig = { NetworkMode: 'container:donor' };
  assert.equal(await table.inside(look, { hostConfig }), theirs);
  const joined = await table.running({ hostConfig });
  await table.remove(joined); // and the donor's network is still there
  assert.equal(await table.engine.ok(['exec', donor, 'sh', '-c', look]), theirs);
  await table.engine.ok(['stop', '-t', '0', donor]);
  assert.equal(
    await table.failure({ hostConfig }),
    `409 cannot join network of a non running container: ${donor}`,
  );
  await table.remove(donor);
  assert.equal(await table.failure({ hostConfig }), '404 No such container: donor');
  const conflicts: [Options, string][] = [
    [{ config: { Hostname: 'x' } }, 'hostname and the network mode'],
    [{ config: { ExposedPorts: { '80/tcp': {} } } }, 'port exposing and the container type network mode'],
    [{ hostConfig: { PublishAllPorts: true } }, 'port publishing and the container type network mode'],
    [{ hostConfig: { Dns: ['1.1.1.1'] } }, 'dns and the network mode'],
    [{ hostConfig: { ExtraHosts: ['a:1.1.1.1'] } }, 'custom host-to-IP mapping and the network mode'],
  ];
  for (const [{ config, hostConfig: more }, what] of conflicts) {
    const told = await table.refusal({ ...(config && { config }), hostConfig: { ...hostConfig, ...more } });
    assert.equal(told, `400 conflicting options: ${what}`);
  }
});

test('sysctls: in its own namespaces, not in those of the host', async () => {
  const own = { 'net.ipv4.ip_forward': '0', 'kernel.msgmax': '4000' };
  const look = 'cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax';
  assert.equal(await table.inside(look, { hostConfig: { Sysctls: own } }), '0\n4000');
  const onHost = await table.failure({
    hostConfig: { NetworkMode: 'host', Sysctls: { 'net.ipv4.ip_forward': '0' } },
  });
  assert.match(onHost, /sysctl "net\.ipv4\.ip_forward" not allowed in host network namespace/);
  const unknown = await table.failure({ hostConfig: { Sysctls: { 'vm.swappiness': '0' } } });
  assert.match(unknown, /sysctl "vm\.swappiness" is not in a separate kernel namespace/);
});

test('the user namespace is the host’s, whatever is asked for', async () => {
  assert.equal(await isHosts('user', { hostConfig: { UsernsMode: 'host' } }), true);
});
