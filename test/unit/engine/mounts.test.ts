import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { ContainerConfig, HostConfig } from '../../../src/engine/model.ts';
import { makeBindSource } from '../../../src/engine/mount-setup.ts';
import { bundleMounts, mountPointsOf, volumesToFill } from '../../../src/engine/mounts.ts';
import { fail } from '../../../src/errors.ts';
import { plainConfig, plainHostConfig } from '../../support/container-requests.ts';

/** Remembers which volumes were wanted. */
class FakeVolumes {
  readonly made: (string | undefined)[] = [];

  async ensure(name: string | undefined) {
    this.made.push(name);
    const known = name ?? `anonymous${this.made.length}`;
    return { name: known, createdAt: '', isAnonymous: name === undefined, labels: {}, options: {} };
  }

  pathOf(name: string): string {
    return `/volumes/${name}/_data`;
  }
}

const resolve = (
  hostConfig: Partial<HostConfig>,
  config: Partial<ContainerConfig> = {},
  volumes = new FakeVolumes(),
) => mountPointsOf({ ...plainConfig, ...config }, { ...plainHostConfig, ...hostConfig }, partsOf(volumes));

const partsOf = (volumes: FakeVolumes) => ({
  volumes,
  find: (ref: string) => {
    throw fail.noSuchContainer(ref);
  },
  dataRoot: '/var/lib/engine',
});

async function directory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'skerry-mounts-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

test('binds: directories of the host, named volumes, and a path alone', async () => {
  const points = await resolve({ binds: ['/host/:/in//side/', '/x:/ro:ro,rslave', 'data:/data', '/bare'] });
  const shown = points.map(({ type, name, source, destination, mode, isWritable, propagation }) =>
    [type, name, source, destination, mode, isWritable, propagation].join(' '),
  );
  assert.deepEqual(shown, [
    'bind  /host /in/side  true rprivate',
    'bind  /x /ro ro,rslave false rslave',
    'volume data /volumes/data/_data /data z true ',
    'volume anonymous2 /volumes/anonymous2/_data /bare z true ',
  ]);
});

test('mounts of each type', async (t) => {
  const source = await directory(t);
  const points = await resolve({
    mounts: [
      { type: 'bind', source, target: '/b', readOnly: true, bindOptions: { propagation: 'rshared' } },
      { type: 'volume', source: 'v', target: '/v' },
      { type: 'volume', target: '/a' },
      { type: 'tmpfs', target: '/t' },
    ],
  });
  assert.deepEqual(
    points.map(({ type, destination, isWritable, propagation }) => [
      type,
      destination,
      isWritable,
      propagation,
    ]),
    [
      ['bind', '/b', false, 'rshared'],
      ['volume', '/v', true, ''],
      ['volume', '/a', true, ''],
      ['tmpfs', '/t', true, ''],
    ],
  );
});

test('volumes that the image declares are made where nothing else is', async () => {
  const volumes = new FakeVolumes();
  const config = { volumes: { '/data': {}, '/cache/': {}, '/tmp': {} } };
  await resolve({ binds: ['/host:/data'], tmpfs: { '/tmp': '' } }, config, volumes);
  assert.deepEqual(volumes.made, [undefined]);
});

test("faults in dockerd's words, and no volume is made for what is refused", async () => {
  const bind = (why: string) => `invalid mount config for type "bind": ${why}`;
  const volume = (why: string) => `invalid mount config for type "volume": ${why}`;
  const mount = (more: object) => ({ mounts: [{ type: 'bind', source: '/', target: '/a', ...more }] });
  const cases: [Partial<HostConfig>, string, number][] = [
    [{ binds: ['a:b:c:d'] }, "invalid volume specification: 'a:b:c:d'", 500],
    [{ binds: [''] }, "invalid volume specification: ''", 500],
    [{ binds: ['/x:ro'] }, "invalid volume specification: '/x:ro'", 500],
    [
      { binds: ['x'] },
      `invalid volume specification: 'x': ${volume("invalid mount path: 'x' mount path must be absolute")}`,
      500,
    ],
    [
      { binds: ['v::ro'] },
      `invalid volume specification: 'v::ro': ${volume('field Target must not be empty')}`,
      500,
    ],
    [
      { binds: ['v:/x:rshared'] },
      `invalid volume specification: 'v:/x:rshared': ${volume('field BindOptions must not be specified')}`,
      500,
    ],
    [
      { binds: ['/v:/x:nocopy'] },
      `invalid volume specification: '/v:/x:nocopy': ${bind('field VolumeOptions must not be specified')}`,
      500,
    ],
    [{ binds: [':/x'] }, "invalid volume specification: ':/x'", 500],
    [
      { binds: ['/x:rel'] },
      `invalid volume specification: '/x:rel': ${bind("invalid mount path: 'rel' mount path must be absolute")}`,
      500,
    ],
    [
      { binds: ['/x:/'] },
      `invalid volume specification: '/x:/': ${bind("invalid specification: destination can't be '/'")}`,
      500,
    ],
    [{ binds: ['/x:/y:zzz'] }, 'invalid mode: zzz', 500],
    [{ binds: ['/x:/y:ro,rw'] }, 'invalid mode: ro,rw', 500],
    [{ binds: ['/x:/y:rslave,shared'] }, 'invalid mode: rslave,shared', 500],
    [{ binds: ['/x:/a'], tmpfs: { '/a': '' } }, 'Duplicate mount point: /a', 400],
    [{ binds: ['/x:/a', 'v:/a/'] }, 'Duplicate mount point: /a', 400],
    [mount({ type: 'bogus' }), 'invalid mount config for type "bogus": mount type unknown', 400],
    [mount({ source: '' }), bind('field Source must not be empty'), 400],
    [mount({ target: '' }), bind('field Target must not be empty'), 400],
    [mount({ source: 'rel' }), bind("invalid mount path: 'rel' mount path must be absolute"), 400],
    [mount({ target: 'rel' }), bind("invalid mount path: 'rel' mount path must be absolute"), 400],
    [mount({ target: '/.' }), bind("invalid specification: destination can't be '/'"), 400],
    [mount({ bindOptions: { propagation: 'zz' } }), bind('invalid propagation mode: zz'), 400],
    [
      mount({ type: 'tmpfs' }),
      'invalid mount config for type "tmpfs": field Source must not be specified',
      400,
    ],
    [
      { mounts: [{ type: 'volume', target: '/a', readOnly: true }] },
      volume('must not set ReadOnly mode when using anonymous volumes'),
      400,
    ],
    [
      { mounts: [{ type: 'volume', target: '/a', volumeOptions: { subpath: 'x' } }] },
      volume('must not set Subpath when using anonymous volumes'),
      400,
    ],
    [
      { mounts: [{ type: 'volume', source: 'v', target: '/a', volumeOptions: { subpath: 'x/../../y' } }] },
      volume('subpath must be a relative path within the volume'),
      400,
    ],
    [{ volumesFrom: ['x'] }, 'No such container: x', 400],
    [{ volumesFrom: [''] }, 'volumes-from specification cannot be an empty string', 400],
    [{ volumesFrom: ['x:nocopy'] }, 'invalid mode: nocopy', 400],
    [{ volumesFrom: ['x:rslave'] }, 'invalid mode: rslave', 400],
    [
      { binds: ['/var/lib/engine/db:/x:private'] },
      'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: "/var/lib/engine", bind mount source: "/var/lib/engine/db", propagation: "private"',
      400,
    ],
  ];
  for (const [hostConfig, message, status] of cases) {
    const volumes = new FakeVolumes();
    await assert.rejects(resolve(hostConfig, {}, volumes), { message, status }, message);
    assert.deepEqual(volumes.made, []);
  }
});

test('outer mounts come before inner ones, tmpfs with defaults that the client may override', async () => {
  const hostConfig = {
    ...plainHostConfig,
    binds: ['/h:/a/b', '/h:/a'],
    tmpfs: { '/run': 'size=1m,exec' },
    mounts: [{ type: 'tmpfs', target: '/a/b/c', tmpfsOptions: { sizeBytes: 4096, mode: 0o1777 } }],
  };
  const points = await mountPointsOf(plainConfig, hostConfig, partsOf(new FakeVolumes()));
  const prepared = points.flatMap((point) =>
    point.type === 'tmpfs' ? [] : { point, source: point.source, isDeep: false },
  );
  const mounts = bundleMounts(prepared, points, hostConfig);
  const older = points.map(({ request: _, ...point }) => point);
  assert.deepEqual(bundleMounts(prepared, older, hostConfig), mounts);
  assert.deepEqual(
    mounts.map(({ destination }) => destination),
    ['/a', '/run', '/a/b', '/a/b/c'],
  );
  assert.deepEqual(mounts[1]?.options, ['nosuid', 'nodev', 'rprivate', 'size=1m', 'exec']);
  assert.deepEqual(mounts[3]?.options, ['noexec', 'nosuid', 'nodev', 'rprivate', 'mode=1777', 'size=4096']);
});

test('missing sources of binds are made as directories, what is there is left alone', async (t) => {
  const root = await directory(t);
  await makeBindSource(join(root, 'a/b'));
  await makeBindSource(join(root, 'a/b'));
  assert.ok((await stat(join(root, 'a/b'))).isDirectory());
});

test('volumes are filled from the image unless the client declines', async () => {
  const hostConfig = {
    ...plainHostConfig,
    binds: ['one:/one', 'two:/two:nocopy', '/h:/h'],
    mounts: [{ type: 'volume', source: 'three', target: '/three/', volumeOptions: { noCopy: true } }],
  };
  const points = await mountPointsOf(plainConfig, hostConfig, partsOf(new FakeVolumes()));
  assert.deepEqual(
    volumesToFill(points).map(({ name }) => name),
    ['one'],
  );
});
