import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { OptionTable } from '../../support/option-table.ts';

/** The files under /etc that the engine writes: as a container reads them. */
let table: OptionTable;
let home: string;

before(async () => {
  const dns = ['--dns', '10.1.1.1', '--dns-search', 'lan', '--dns-opt', 'ndots:2'];
  table = await OptionTable.open({ flags: [...dns, '--host-gateway-ip', '10.9.8.7'] });
  home = await mkdtemp(join(tmpdir(), 'skt-etc-'));
});
after(async () => {
  await table[Symbol.asyncDispose]();
  await rm(home, { recursive: true, force: true });
});

const inside = (script: string, hostConfig: Record<string, unknown>, config: Record<string, unknown> = {}) =>
  table.inside(script, { hostConfig, config });

const loopback = [
  '127.0.0.1\tlocalhost',
  '::1\tlocalhost ip6-localhost ip6-loopback',
  'fe00::0\tip6-localnet',
  'ff00::0\tip6-mcastprefix',
  'ff02::1\tip6-allnodes',
  'ff02::2\tip6-allrouters',
].join('\n');

test('hosts: names of its own, and those that it was given', async () => {
  assert.equal(await inside('cat /etc/hosts', {}), loopback);
  const names = { Hostname: 'box', Domainname: 'example.org' };
  const ExtraHosts = ['db:10.0.0.5', 'six:2001:db8::1', 'host.docker.internal:host-gateway'];
  const own = '172\\.\\d+\\.\\d+\\.\\d+\tbox\\.example\\.org box';
  const extra = '10.0.0.5\tdb\n2001:db8::1\tsix\n10.9.8.7\thost.docker.internal';
  const seen = await inside('cat /etc/hosts', { NetworkMode: 'bridge', ExtraHosts }, names);
  assert.match(seen, new RegExp(`^${loopback}\n${extra}\n${own}$`));
  assert.equal(await inside('cat /etc/hosts', { NetworkMode: 'host', ExtraHosts }), `${loopback}\n${extra}`);
  const hosts = await readFile('/etc/hosts', 'utf8');
  assert.equal(await inside('cat /etc/hosts', { NetworkMode: 'host' }), hosts.trimEnd());
});

test('resolv.conf: its own wishes, for the rest those of the engine', async () => {
  const look = 'cat /etc/resolv.conf';
  const cases: [Record<string, unknown>, string][] = [
    [{}, 'search lan\nnameserver 10.1.1.1\noptions ndots:2'],
    [
      { Dns: ['10.2.2.2', '2001:db8::2'] },
      'search lan\nnameserver 10.2.2.2\nnameserver 2001:db8::2\noptions ndots:2',
    ],
    [{ DnsSearch: ['a', 'b'] }, 'search a b\nnameserver 10.1.1.1\noptions ndots:2'],
    [{ DnsSearch: ['.'] }, 'nameserver 10.1.1.1\noptions ndots:2'],
    [{ DnsOptions: ['rotate', 'timeout:1'] }, 'search lan\nnameserver 10.1.1.1\noptions rotate timeout:1'],
  ];
  for (const [hostConfig, told] of cases) assert.equal(await inside(look, hostConfig), told);
});

test('a bind over one of them wins, and says whether it can be written to', async () => {
  const file = join(home, 'file');
  await writeFile(file, 'mine\n');
  for (const name of ['hosts', 'hostname', 'resolv.conf']) {
    const look = `cat /etc/${name}; (echo x >> /etc/${name}) 2> /dev/null && echo writable`;
    assert.equal(await inside(`${look} || true`, { Binds: [`${file}:/etc/${name}:ro`] }), 'mine');
    const open = await inside(look, { Binds: [`${file}:/etc/${name}`], ReadonlyRootfs: true });
    assert.equal(open, 'mine\nwritable');
    await writeFile(file, 'mine\n');
    const own = `(echo x >> /etc/${name}) 2> /dev/null && echo writable || echo closed`;
    assert.equal(await inside(own, {}), 'writable');
    assert.equal(await inside(own, { ReadonlyRootfs: true }), 'closed');
  }
});

test('they lie over a volume on /etc', async () => {
  const script = 'ls /etc | tr "\\n" " "; cat /etc/hostname';
  const seen = await inside(script, { Binds: ['etc:/etc'] }, { Hostname: 'box' });
  assert.match(seen, /group .*hostname hosts .*passwd resolv\.conf .*box$/);
  assert.equal(await inside('cat /etc/hostname', { Tmpfs: { '/etc': '' } }, { Hostname: 'box' }), 'box');
});

test('edits last for as long as it runs, whatever becomes of the daemon, and are gone when it is started anew', async () => {
  const id = await table.running({ config: { Hostname: 'box' } });
  await table.engine.ok([
    'exec',
    id,
    'sh',
    '-c',
    'echo "10.0.0.9 edited" >> /etc/hosts; echo edited > /etc/hostname',
  ]);
  const look = ['exec', id, 'sh', '-c', 'grep -c edited /etc/hosts; cat /etc/hostname'];
  await table.engine.kill();
  await table.engine.boot();
  assert.equal(await table.engine.ok(look), '1\nedited');
  await table.engine.ok(['restart', '-t', '0', id]);
  assert.equal((await table.engine.docker(look)).stdout.trim(), '0\nbox');
  type Paths = Record<'HostsPath' | 'HostnamePath' | 'ResolvConfPath', string>;
  const { HostsPath, HostnamePath, ResolvConfPath } = await table.engine.json<Paths>(
    `/containers/${id}/json`,
  );
  for (const path of [HostsPath, HostnamePath, ResolvConfPath])
    assert.ok(path.startsWith(`${table.engine.execRoot}/`), `${path} would wear the flash`);
  await table.remove(id);
});

test('/sys and the cgroups can be written to by a privileged container alone', async () => {
  const look = "grep -E ' (/sys|/sys/fs/cgroup) ' /proc/self/mountinfo | cut -d' ' -f5,6 | cut -d, -f1";
  const cases: [Record<string, unknown>, string][] = [
    [{}, 'ro'],
    [{ CgroupnsMode: 'private' }, 'ro'],
    [{ ReadonlyRootfs: true }, 'ro'],
    [{ Privileged: true }, 'rw'],
    [{ Privileged: true, ReadonlyRootfs: true }, 'rw'],
  ];
  for (const [hostConfig, access] of cases)
    assert.equal(
      (await inside(look, hostConfig)).split('\n')[0],
      `/sys ${access}`,
      JSON.stringify(hostConfig),
    );
});
