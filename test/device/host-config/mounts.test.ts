import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { MS, mount, unmount } from '../../../src/host/kernel.ts';
import { mountsUnder } from '../../../src/host/mounts.ts';
import { type Options, OptionTable } from '../../support/option-table.ts';

/** What containers have mounted: looked at from inside, or at the host's side of it. */
let table: OptionTable;
let home: string;

before(async () => {
  table = await OptionTable.open();
  home = await mkdtemp('/var/tmp/skt-mounts-'); // no part of its name is one of the data root's
  mount('none', home, { type: 'tmpfs' });
  mount('', home, { flags: MS.PRIVATE });
});
after(async () => {
  await table[Symbol.asyncDispose]();
  assert.deepEqual(await mountsUnder(home), [home]);
  unmount(home);
  await rm(home, { recursive: true, force: true });
});

/** A directory of the host, with a file in it. */
async function source(name: string): Promise<string> {
  const path = join(home, name);
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'file'), `in ${name}\n`);
  return path;
}

const inside = (script: string, hostConfig: Record<string, unknown>, more: Options = {}) =>
  table.inside(script, { ...more, hostConfig });
const write = (path: string) => `touch ${path} 2>&1 && echo writable`;

test('binds with words of each kind', async () => {
  const path = await source('words');
  for (const words of ['', 'rw', 'z', 'Z', 'cached', 'delegated', 'consistent', 'rprivate', 'rw,z,private']) {
    const bind = `${path}:/in${words && `:${words}`}`;
    assert.equal(await inside(`cat /in/file; ${write('/in/new')}`, { Binds: [bind] }), 'in words\nwritable');
  }
  assert.ok((await stat(join(path, 'new'))).isFile());
  const seen = await inside(`cat /in/file; ${write('/in/x')} || true`, { Binds: [`${path}:/in:ro`] });
  assert.equal(seen, 'in words\ntouch: /in/x: Read-only file system');
});

test('a bind makes a missing directory, one of Mounts only if it is told to', async () => {
  const path = join(home, 'missing');
  assert.equal(await inside(write('/in/x'), { Binds: [`${path}/a/b:/in`] }), 'writable');
  const at = (name: string, more: object) => ({
    Mounts: [{ Type: 'bind', Source: join(path, name), Target: '/in', ...more }],
  });
  assert.equal(
    await table.refusal({ hostConfig: at('none', {}) }),
    `400 invalid mount config for type "bind": bind source path does not exist: ${path}/none`,
  );
  const made = at('made', { BindOptions: { CreateMountpoint: true } });
  assert.equal(await inside(write('/in/x'), made), 'writable');
  assert.ok((await stat(join(path, 'made/x'))).isFile());
});

test('files, and places that the image does not have', async () => {
  const path = await source('files');
  const Binds = [`${path}/file:/www/index.html`, `${path}/file:/new/place/file:ro`, `${path}:/new/dir`];
  const look = 'cat /www/index.html /new/place/file /new/dir/file';
  assert.equal(await inside(look, { Binds }), 'in files\nin files\nin files');
});

test('propagation: private, from the host, and to the host', async () => {
  const path = await source('propagation');
  const told = `path ${path} is mounted on ${home} but it is not a shared`;
  for (const word of ['shared', 'rshared'])
    assert.equal(
      await table.failure({ hostConfig: { Binds: [`${path}:/in:${word}`] } }),
      `500 ${told} mount`,
    );
  for (const word of ['slave', 'rslave'])
    assert.equal(
      await table.failure({ hostConfig: { Binds: [`${path}:/in:${word}`] } }),
      `500 ${told} or slave mount`,
    );
  mount(path, path, { flags: MS.BIND });
  try {
    mount('', path, { flags: MS.SHARED });
    await mkdir(join(path, 'below'), { recursive: true });
    for (const [word, sees] of [
      ['rprivate', false],
      ['rslave', true],
      ['rshared', true],
    ] as const) {
      const id = await table.running({ hostConfig: { Binds: [`${path}:/in:${word}`] } });
      mount('none', join(path, 'below'), { type: 'tmpfs' });
      await writeFile(join(path, 'below/late'), '');
      const { code } = await table.engine.docker(['exec', id, 'test', '-e', '/in/below/late']);
      unmount(join(path, 'below'));
      await table.remove(id);
      assert.equal(code === 0, sees, word);
    }
    const script = 'mount -t tmpfs none /in/below && touch /in/below/theirs';
    const Mounts = [{ Type: 'bind', Source: path, Target: '/in', BindOptions: { Propagation: 'rshared' } }];
    const id = await table.running({ hostConfig: { Mounts, Privileged: true } });
    await table.engine.ok(['exec', id, 'sh', '-c', script]);
    assert.ok((await stat(join(path, 'below/theirs'))).isFile());
    unmount(join(path, 'below'));
    await table.remove(id);
  } finally {
    unmount(path, { isLazy: true });
  }
});

test('what is mounted below a bind: left out, or read-only with it', async () => {
  const path = await source('deep');
  await mkdir(join(path, 'below'));
  mount('none', join(path, 'below'), { type: 'tmpfs' });
  try {
    await writeFile(join(path, 'below/f'), '');
    const bind = (more: object) => ({ Mounts: [{ Type: 'bind', Source: path, Target: '/in', ...more }] });
    const readOnly = (BindOptions: object) => bind({ ReadOnly: true, BindOptions });
    const look = `ls /in/below; ${write('/in/below/x')} || true; rm -f /in/below/x`;
    const refused = 'touch: /in/below/x: Read-only file system';
    assert.equal(await inside(look, bind({})), 'f\nwritable');
    assert.equal(await inside(look, bind({ BindOptions: { NonRecursive: true } })), 'writable');
    assert.match(await inside(`${look} 2>&1`, readOnly({})), new RegExp(`^f\n${refused}`));
    assert.match(await inside(`${look} 2>&1`, readOnly({ ReadOnlyForceRecursive: true })), /Read-only/);
    assert.equal(await inside(look, readOnly({ ReadOnlyNonRecursive: true })), 'f\nwritable');
    assert.match(await inside(`${look} 2>&1`, { Binds: [`${path}:/in:ro`] }), /Read-only/);
    // a client of API 1.43 does not know of it
    const old = await table.engine.json<{ Id: string }>('/v1.43/containers/create', {
      method: 'POST',
      body: { Image: table.image, Cmd: ['sh', '-c', look], HostConfig: { Binds: [`${path}:/in:ro`] } },
    });
    assert.equal(await table.engine.ok(['start', '-a', old.Id]), 'f\nwritable');
    await table.remove(old.Id);
    const conflicts: [object, string][] = [
      [
        bind({ BindOptions: { ReadOnlyNonRecursive: true } }),
        '!ReadOnly && BindOptions.ReadOnlyNonRecursive',
      ],
      [
        bind({ BindOptions: { ReadOnlyForceRecursive: true } }),
        '!ReadOnly && BindOptions.ReadOnlyForceRecursive',
      ],
      [
        readOnly({ ReadOnlyNonRecursive: true, ReadOnlyForceRecursive: true }),
        'ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive',
      ],
    ];
    for (const [hostConfig, what] of conflicts)
      assert.equal(
        await table.failure({ hostConfig: { ...hostConfig } }),
        `500 mount options conflict: ${what}`,
      );
  } finally {
    unmount(join(path, 'below'));
  }
});

test('mounts over and in each other, whatever their order', async () => {
  const [outer, inner] = [await source('outer'), await source('inner')];
  await mkdir(join(outer, 'in'));
  const Binds = [`${inner}:/a/in`, `${outer}:/a`];
  assert.equal(await inside('cat /a/file /a/in/file', { Binds }), 'in outer\nin inner');
  const Tmpfs = { '/a': 'size=64k' };
  assert.equal(await inside('ls /a; cat /a/in/file', { Binds: [`${inner}:/a/in`], Tmpfs }), 'in\nin inner');
  const closed = await inside(`${write('/x')} || ${write('/a/in/x')}`, {
    Binds: [`${inner}:/a/in`],
    ReadonlyRootfs: true,
  });
  assert.equal(closed, 'touch: /x: Read-only file system\nwritable');
});

test('tmpfs: size, mode, options, and who wins', async () => {
  const look = (path: string) => `grep ' ${path} ' /proc/self/mountinfo | cut -d' ' -f6,9-`;
  assert.match(
    await inside(look('/t'), { Tmpfs: { '/t': '' } }),
    /^rw,nosuid,nodev,noexec,relatime tmpfs rw/,
  );
  const given = await inside(`${look('/t')}; stat -c %a /t`, { Tmpfs: { '/t': 'exec,size=1m,mode=0700' } });
  assert.match(given, /^rw,nosuid,nodev,relatime.*size=1024k,mode=700.*\n700$/);
  const mounts = (options: object) => ({ Mounts: [{ Type: 'tmpfs', Target: '/t', ...options }] });
  const sized = mounts({ TmpfsOptions: { SizeBytes: 1 << 20, Mode: 0o1777 } });
  assert.match(await inside(`${look('/t')}; stat -c %a /t`, sized), /size=1024k.*\n1777$/);
  assert.match(await inside(`${look('/t')}`, mounts({ ReadOnly: true })), /^ro,/);
  assert.equal(
    await table.failure({ hostConfig: { Tmpfs: { '/t': 'bogus' } } }),
    '500 invalid tmpfs option ["bogus"]',
  );
  assert.equal(
    await table.failure({ hostConfig: { Tmpfs: { '/t': 'huge=always' } } }),
    '500 invalid tmpfs option ["huge" "always"]',
  );
});

test('/proc is the kernel’s alone', async () => {
  const path = await source('proc');
  const told = await table.failure({ hostConfig: { Binds: [`${path}:/proc/sys`] } });
  assert.match(told, /^500 .*inside \/proc/);
});

test('volumes: read-only, filled once with owners and modes, and not at all', async () => {
  const look = 'ls -ln /www | grep index; stat -c "%a %u" /www';
  const fresh = await inside(look, { Binds: ['www:/www'] });
  assert.match(fresh, /^-rw-r--r-- .* index\.html\n755 0$/);
  assert.equal(await inside('stat -c "%a %u" /v', { Binds: ['alice:/home/alice', 'alice:/v'] }), '755 1000');
  assert.equal(await inside('ls /www', { Binds: ['bare:/www:nocopy'] }), '');
  const noCopy = [{ Type: 'volume', Source: 'bare2', Target: '/www', VolumeOptions: { NoCopy: true } }];
  assert.equal(await inside('ls /www', { Mounts: noCopy }), '');
  const Mounts = [{ Type: 'volume', Source: 'www', Target: '/www', ReadOnly: true }];
  assert.match(await inside(`${write('/www/x')} || true`, { Mounts }), /Read-only/);
  assert.match(
    await table.refusal({ hostConfig: { Binds: ['over:/www/index.html'] } }),
    /^500 source .*\/www\/index\.html is not directory$/,
  );
  assert.match(
    await table.refusal({ config: { Volumes: { '/www/index.html': {} } } }),
    /^500 cannot mount volume over existing file, file exists .*\/www\/index\.html$/,
  );
});

test('volumes whose files are elsewhere: mounted for as long as a container has them', async () => {
  const path = await source('elsewhere');
  const volume = (name: string, Options: object) => ({
    Mounts: [
      {
        Type: 'volume',
        Source: name,
        Target: '/v',
        VolumeOptions: { Labels: { a: 'b' }, DriverConfig: { Name: 'local', Options } },
      },
    ],
  });
  const bound = volume('bound', { type: 'none', o: 'bind,ro', device: path });
  const memory = volume('memory', { type: 'tmpfs', o: 'size=64k', device: 'tmpfs' });
  const look = "cat /v/file; grep ' /v ' /proc/self/mountinfo | grep -o 'size=[0-9]*k' || true";
  const places = async () =>
    (await mountsUnder(join(table.engine.dataRoot, 'volumes'))).map((place) => place.split('/').at(-2));
  assert.equal(
    await inside(`${look}; ${write('/v/x')} || true`, bound),
    'in elsewhere\ntouch: /v/x: Read-only file system',
  );
  const ids = [await table.running({ hostConfig: memory }), await table.running({ hostConfig: memory })];
  const [first = '', second = ''] = ids;
  await table.engine.ok(['exec', first, 'touch', '/v/shared']);
  assert.match(
    await table.engine.ok(['exec', second, 'sh', '-c', 'ls /v; grep " /v " /proc/self/mountinfo']),
    /^shared\n.*size=64k/,
  );
  await table.remove(first);
  assert.deepEqual(await places(), ['memory']);
  await table.engine.kill();
  await table.engine.boot();
  assert.deepEqual(await places(), ['memory']);
  await table.remove(second);
  assert.deepEqual(await places(), []);
  const nowhere = volume('nowhere', { type: 'none', o: 'bind', device: join(home, 'nope') });
  assert.match(
    await table.failure({ hostConfig: nowhere }),
    /^500 error while mounting volume '.*\/nowhere\/_data': failed to mount local volume: mount .*\/nope:.*\/nowhere\/_data, flags: 0x1000: no such file or directory$/,
  );
  await table.engine.json('/volumes/prune?filters={"all":["1"]}', { method: 'POST' });
  assert.equal(await readFile(join(path, 'file'), 'utf8'), 'in elsewhere\n');
});

test('drivers and options that are none', async () => {
  const volume = (DriverConfig: object) => ({
    Mounts: [{ Type: 'volume', Source: 'odd', Target: '/v', VolumeOptions: { DriverConfig } }],
  });
  const lost = '404 create odd: error looking up volume plugin nope: plugin "nope" not found';
  const cases: [Record<string, unknown>, string][] = [
    [{ Binds: ['odd:/v'], VolumeDriver: 'nope' }, lost],
    [volume({ Name: 'nope' }), lost],
    [volume({ Options: { bogus: '1' } }), '400 create odd: invalid option: "bogus"'],
    [volume({ Options: { device: '/x' } }), '400 create odd: missing required option: "type"'],
    [volume({ Options: { type: 'tmpfs' } }), '400 create odd: missing required option: "device"'],
    [volume({ Options: { size: 'x' } }), "400 create odd: invalid size: 'x'"],
    [volume({ Options: { size: '1m' } }), '400 create odd: quota size requested but no quota support'],
    [
      { Mounts: [{ Type: 'npipe', Source: '/x', Target: '/v' }] },
      '400 invalid mount config for type "npipe": mount type unknown',
    ],
    [
      { Mounts: [{ Type: 'cluster', Source: 'x', Target: '/v' }] },
      '400 invalid mount config for type "cluster": mount type unknown',
    ],
  ];
  for (const [hostConfig, told] of cases) assert.equal(await table.refusal({ hostConfig }), told);
  const path = await source('driver');
  assert.equal(await inside('cat /v/file', { Binds: [`${path}:/v`], VolumeDriver: 'nope' }), 'in driver');
});

test('a place within a volume, never one outside of it', async () => {
  await inside(
    'mkdir -p /v/a/b; echo deep > /v/a/b/f; ln -s a /v/link; ln -s /etc /v/out; ln -s ../../.. /v/up',
    {
      Binds: ['sub:/v'],
    },
  );
  const at = (Subpath: string) => ({
    Mounts: [{ Type: 'volume', Source: 'sub', Target: '/in', VolumeOptions: { Subpath } }],
  });
  assert.equal(await inside(`cat /in/f; ${write('/in/x')}`, at('a/b')), 'deep\nwritable');
  assert.equal(await inside('cat /in', at('a/b/f')), 'deep');
  assert.equal(await inside('cat /in/b/f', at('link')), 'deep');
  for (const outside of ['out', 'up', 'out/passwd'])
    assert.match(
      await table.failure({ hostConfig: at(outside) }),
      /^400 path concatenation escapes the base directory, base: .*\/sub\/_data, subpath: /,
    );
  assert.match(
    await table.failure({ hostConfig: at('nope') }),
    /^404 cannot access path .*\/sub\/_data\/nope: .*no such file or directory$/,
  );
  assert.deepEqual(await mountsUnder(join(table.engine.execRoot, 'subpaths')), []);
});

test('volumes of another container', async () => {
  const path = await source('donor');
  const donor = await table.create('echo mine > /data/f', {
    config: { Volumes: { '/data': {} } },
    hostConfig: { Binds: [`${path}:/bound`, 'named:/named', `${path}:/ro:ro`] },
  });
  await table.engine.ok(['start', '-a', donor.id]);
  const look = `cat /data/f /bound/file; ${write('/named/x')} || true; ${write('/ro/x')} || true`;
  const seen = await inside(look, { VolumesFrom: [donor.id] });
  assert.equal(seen, 'mine\nin donor\nwritable\ntouch: /ro/x: Read-only file system');
  const closed = await inside(look, { VolumesFrom: [`${donor.id}:ro`] });
  assert.match(closed, /^mine\nin donor\ntouch: \/named\/x: Read-only/);
  const over = await inside('ls /data; cat /bound/file', { VolumesFrom: [donor.id], Tmpfs: { '/data': '' } });
  assert.equal(over, 'in donor');
  const own = await source('own');
  assert.equal(
    await inside('cat /bound/file', { VolumesFrom: [donor.id], Binds: [`${own}:/bound`] }),
    'in own',
  );
  const heir = await table.create('cat /data/f', { hostConfig: { VolumesFrom: [donor.id] } });
  await table.remove(donor.id);
  assert.equal(await table.engine.ok(['start', '-a', heir.id]), 'mine');
  await table.remove(heir.id);
  assert.equal(await table.refusal({ hostConfig: { VolumesFrom: ['nope'] } }), '400 No such container: nope');
  assert.equal(await table.refusal({ hostConfig: { VolumesFrom: ['x:zz'] } }), '400 invalid mode: zz');
});

test('events tell when a volume is mounted, and when no more', async () => {
  const { id } = await table.create('true', { hostConfig: { Binds: ['evented:/v:ro'] } });
  await table.engine.ok(['start', '-a', id]);
  await table.remove(id);
  const until = Math.floor(Date.now() / 1000) + 1;
  const filters = encodeURIComponent(JSON.stringify({ volume: ['evented'] }));
  const { text } = await table.engine.get(`/events?since=1&until=${until}&filters=${filters}`);
  const told = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .map(({ Action, Actor }) => [Action, Actor.Attributes]);
  const driver = 'local';
  assert.deepEqual(told, [
    ['create', { driver }],
    ['mount', { container: id, driver, destination: '/v', 'read/write': 'false', propagation: '' }],
    ['unmount', { container: id, driver }],
  ]);
});

test('inspect tells of mounts in dockerd’s words', async () => {
  const path = await source('told');
  const { id } = await table.create('true', {
    config: { Volumes: { '/declared': {} } },
    hostConfig: {
      Binds: [`${path}:/b:ro,z`, 'told:/v', 'told2:/v2:ro'],
      Mounts: [
        { Type: 'bind', Source: path, Target: '/mb', ReadOnly: true },
        { Type: 'volume', Source: 'told', Target: '/mv', ReadOnly: true },
        { Type: 'tmpfs', Target: '/t' },
      ],
    },
  });
  type Told = { Destination: string; Source?: string; Name?: string };
  const { Mounts } = await table.engine.json<{ Mounts: Told[] }>(`/containers/${id}/json`);
  const shown = Mounts.map(({ Source: _, ...told }) => ({
    ...told,
    ...(told.Name !== undefined && { Name: told.Name.length === 64 ? 'ID' : told.Name }),
  })).sort((a, b) => (a.Destination < b.Destination ? -1 : 1));
  const volume = { Type: 'volume', Driver: 'local', Propagation: '' };
  assert.deepEqual(shown, [
    { Type: 'bind', Destination: '/b', Mode: 'ro,z', RW: false, Propagation: 'rprivate' },
    { ...volume, Name: 'ID', Destination: '/declared', Mode: '', RW: true },
    { Type: 'bind', Destination: '/mb', Mode: '', RW: false, Propagation: 'rprivate' },
    { ...volume, Name: 'told', Destination: '/mv', Mode: 'z', RW: false },
    { Type: 'tmpfs', Destination: '/t', Mode: '', RW: true, Propagation: '' },
    { ...volume, Name: 'told', Destination: '/v', Mode: 'z', RW: true },
    { ...volume, Name: 'told2', Destination: '/v2', Mode: 'ro', RW: false },
  ]);
  await table.remove(id);
});
