import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { lstat, mkdir, readdir } from 'node:fs/promises';
import { type IncomingHttpHeaders, request } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { execa } from 'execa';
import { extract, type Header, pack } from 'tar-stream';
import { startBoxEngine } from '../support/box-engine.ts';
import type { TestEngine } from '../support/engine.ts';

/** Copies into containers and out of them, while hostile processes run in there. */
let engine: TestEngine;
/** On the host, and nothing of it in a container. */
let host: string;

before(async () => {
  engine = await startBoxEngine({ box: { Cmd: ['sleep', '1000'] } });
  host = join(engine.directory, 'host');
  await mkdir(host);
});

after(async () => assert.deepEqual(await engine.finish(), []));

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  bytes: Buffer;
  text: string;
}

async function ask(
  method: string,
  path: string,
  { body, headers = {} }: { body?: Buffer | Readable; headers?: Record<string, string> } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { socketPath: engine.socket, path, method, agent: false, headers },
      async (response) => {
        const bytes = await buffer(response).catch(reject);
        if (!bytes) return;
        const text = bytes.toString();
        resolve({ status: response.statusCode ?? 0, headers: response.headers, bytes, text });
      },
    );
    sent.on('error', reject);
    if (body instanceof Readable) body.pipe(sent);
    else sent.end(body);
  });
}

function archive(name: string, path: string, more = ''): string {
  return `/containers/${name}/archive?path=${encodeURIComponent(path)}${more}`;
}

/** What stands in the header of an answer. */
function factsOf({ headers }: Answer) {
  return JSON.parse(Buffer.from(String(headers['x-docker-container-path-stat']), 'base64').toString());
}

type Entry = Partial<Header> & { name: string; text?: string };

async function tarOf(entries: readonly Entry[]): Promise<Buffer> {
  const tar = pack();
  for (const { text, ...header } of entries) tar.entry(header, text ?? '');
  tar.finalize();
  return buffer(tar);
}

async function entriesOf(bytes: Buffer): Promise<(Header & { text: string })[]> {
  const tar = extract();
  const entries: (Header & { text: string })[] = [];
  tar.on('entry', (header, stream, next) => {
    const add = (content: Buffer) => entries.push({ ...header, text: content.toString() });
    buffer(stream)
      .then(add)
      .then(() => next(), next);
  });
  await new Promise<void>((resolve, reject) =>
    tar
      .on('finish', () => resolve())
      .on('error', reject)
      .end(bytes),
  );
  return entries;
}

async function namesOf(answer: Answer): Promise<string[]> {
  return (await entriesOf(answer.bytes)).map(({ name, type }) =>
    type === 'directory' ? `${name.replace(/\/$/, '')}/` : name,
  );
}

async function put(name: string, path: string, entries: readonly Entry[], more = ''): Promise<Answer> {
  return ask('PUT', archive(name, path, more), { body: await tarOf(entries) });
}

async function inside(name: string, ...command: string[]): Promise<string> {
  return engine.ok(['exec', name, ...command]);
}

test('a running container is seen as its processes see it, a stopped one with its volumes and binds', async () => {
  writeFileSync(join(host, 'bound'), 'from the host');
  const places = ['-v', 'vol:/vol', '-v', `${host}/bound:/bound:ro`, '--tmpfs', '/tmp'];
  const script = 'echo v > /vol/v; echo t > /tmp/t; ln -s vol/v link; exec sleep 1000';
  await engine.ok(['run', '-d', '--name', 'up', ...places, 'box', 'sh', '-c', script]);
  await engine.ok(['create', '--name', 'down', ...places, 'box']);
  await inside('up', 'sh', '-c', 'until [ -L /link ]; do sleep 0.05; done');
  for (const name of ['up', 'down']) {
    const volume = await ask('GET', archive(name, '/vol'));
    assert.equal(volume.headers['content-type'], 'application/x-tar');
    assert.deepEqual(await namesOf(volume), ['vol/', ...(name === 'up' ? [] : ['vol/by-up']), 'vol/v'], name);
    const bound = await entriesOf((await ask('GET', archive(name, '/bound'))).bytes);
    assert.deepEqual(
      bound.map(({ text }) => text),
      ['from the host'],
      name,
    );
    assert.equal((await put(name, '/vol', [{ name: `by-${name}`, text: name }])).status, 200);
  }
  assert.equal(await inside('up', 'cat', '/vol/by-up', '/vol/by-down'), 'updown');
  assert.equal((await ask('GET', archive('up', '/tmp/t'))).status, 200);
  assert.equal((await ask('GET', archive('down', '/tmp/t'))).status, 404);
  assert.equal((await put('up', '/tmp', [{ name: 'in-tmpfs', text: 'x' }])).status, 200);
  assert.equal(await inside('up', 'cat', '/tmp/in-tmpfs'), 'x');
  await engine.ok(['pause', 'up']);
  assert.equal((await ask('GET', archive('up', '/tmp/in-tmpfs'))).status, 200);
  await engine.ok(['unpause', 'up']);
  // nothing of the kernel's own file systems, some of which never end
  const names = await namesOf(await ask('GET', archive('up', '/')));
  assert.ok(names.includes('/proc/') && names.includes('/vol/v') && names.includes('/tmp/in-tmpfs'));
  assert.deepEqual(
    names.filter((one) => /^\/(proc|sys)\/./.test(one)),
    [],
  );
});

test('what is at a path: names, modes as Go has them, links and where they lead', async () => {
  await inside(
    'up',
    'sh',
    '-c',
    'mkdir -m 3751 /d; busybox mkfifo /d/p; ln -s ../vol /d/l; ln -s /none/../x/y /d/x; touch -d "2001-02-03 04:05:06" /d/f',
  );
  const look = async (path: string) => {
    const answer = await ask('HEAD', archive('up', path));
    return answer.status === 200 ? factsOf(answer) : answer.status;
  };
  const [directory, slash, dot] = [await look('/d'), await look('d/'), await look('/d/x/../.')];
  assert.deepEqual([directory.name, slash.name, dot.name], ['d', 'd', '.']);
  assert.equal(directory.mode, 2 ** 31 + 2 ** 22 + 2 ** 20 + 0o751);
  assert.deepEqual({ ...slash, name: '.' }, dot);
  assert.deepEqual(await look('/d/f'), {
    name: 'f',
    size: 0,
    mode: 0o644,
    mtime: '2001-02-03T04:05:06Z',
    linkTarget: '',
  });
  assert.equal((await look('/d/p')).mode, 2 ** 25 + 0o644);
  assert.equal((await look('/dev/null')).mode, 2 ** 26 + 2 ** 21 + 0o666);
  const link = await look('/d/l');
  assert.deepEqual([link.mode, link.linkTarget], [2 ** 27 + 0o777, '/vol']);
  assert.equal((await look('/d/x')).linkTarget, '/x/y');
  assert.equal((await look('/')).name, '/');
  assert.deepEqual([await look('/d/f/'), await look('/d/f/x'), await look('/nobody')], [404, 404, 404]);
  const names = async (path: string) => namesOf(await ask('GET', archive('up', path)));
  assert.deepEqual(await names('/d/l/.'), ['./', './by-down', './by-up', './v']);
  assert.deepEqual(await names('/d/l/'), ['l/', 'l/by-down', 'l/by-up', 'l/v']);
  assert.deepEqual(await names('/d/l'), ['l']);
});

test('refusals', async () => {
  const [noPath, noFile] = [
    await ask('GET', '/containers/up/archive'),
    await ask('GET', archive('up', '/nope')),
  ];
  assert.deepEqual([noPath.status, noPath.text], [400, '{"message":"bad parameter: pathcannot be empty"}\n']);
  assert.equal(noFile.text, '{"message":"Could not find the file /nope in container up"}\n');
  assert.equal(noFile.headers['x-docker-container-path-stat'], undefined);
  assert.equal((await ask('GET', archive('nobody', '/'))).status, 404);
  assert.equal((await ask('HEAD', archive('up', '/nope'))).bytes.length, 0);
  const message = async (answer: Promise<Answer>) => {
    const { status, text } = await answer;
    return `${status} ${JSON.parse(text).message}`;
  };
  const file = [{ name: 'f', text: 'x' }];
  assert.equal(await message(put('up', '/nope', file)), '404 Could not find the file /nope in container up');
  assert.equal(await message(put('up', '/etc/passwd', file)), '400 extraction point is not a directory');
  await inside('up', 'mkdir', '/vol/rw');
  await engine.ok(['create', '--name', 'ro', '--read-only', '-v', 'vol:/vol:ro', '-v', 'vol:/vol/rw', 'box']);
  assert.equal(await message(put('ro', '/etc', file)), '400 container rootfs is marked read-only');
  assert.equal(await message(put('ro', '/vol', file)), '400 mounted volume is marked read-only');
  assert.equal((await put('ro', '/vol/rw', file)).status, 200);
  // one that leads from a volume into the file system that is not to be written
  assert.equal(
    (await put('ro', '/vol/rw', [{ name: 'out', type: 'symlink', linkname: '/etc' }])).status,
    200,
  );
  assert.match(
    await message(put('ro', '/vol/rw', [{ name: 'out/f', text: 'x' }])),
    /^500 .*read-only file system$/,
  );
  const kinds = (entries: Entry[]) => message(put('up', '/d', entries, '&noOverwriteDirNonDir=1'));
  await inside('up', 'mkdir', '/d/sub');
  assert.equal(
    await kinds([{ name: 'sub', text: 'x' }]),
    '500 cannot overwrite directory "/d/sub" with non-directory "/d"',
  );
  assert.equal(
    await kinds([{ name: 'f', type: 'directory' }]),
    '500 cannot overwrite non-directory "/d/f" with directory "/d"',
  );
  assert.match(
    await message(ask('PUT', archive('up', '/d'), { body: Buffer.alloc(2000, 'x') })),
    /^400 invalid tar/,
  );
  assert.equal((await ask('PUT', archive('up', '/d'))).status, 200);
});

test('an archive cannot lead out', async () => {
  writeFileSync(join(host, 'secret'), 'of the host');
  const climb = '../'.repeat(20);
  const refused: [Entry, RegExp][] = [
    [{ name: `${climb}out`, text: 'x' }, /is outside of/],
    [{ name: 'l', type: 'symlink', linkname: climb }, /invalid symlink "\/d\/l"/],
    [{ name: 'h', type: 'link', linkname: `${climb}${host}/secret` }, /invalid hardlink/],
    [{ name: 'h', type: 'link', linkname: `${host}/secret` }, /invalid hardlink/],
  ];
  for (const [entry, text] of refused) {
    const answer = await put('up', '/d', [entry]);
    assert.equal(answer.status, 500, entry.linkname);
    assert.match(JSON.parse(answer.text).message, text);
  }
  // absolute ones stay in the container, whoever made them
  await inside('up', 'ln', '-s', `${climb}${host}`, '/d/climber');
  const answer = await put('up', '/d', [
    { name: 'abs', type: 'symlink', linkname: host },
    { name: 'abs/through', text: 'x' },
    { name: 'climber/through', text: 'x' },
  ]);
  assert.equal(answer.status, 200, answer.text);
  assert.equal(await inside('up', 'ls', host), 'through');
  assert.deepEqual((await readdir(host)).toSorted(), ['bound', 'secret']);
  assert.equal((await ask('GET', archive('up', '/d/climber/secret'))).status, 404);
});

test('everything that a tar can hold is unpacked as it says', async () => {
  const mtime = new Date('2011-12-13T14:15:16Z');
  const common = { mtime, uid: 12, gid: 34 };
  const entries: Entry[] = [
    { ...common, name: 't/', type: 'directory', mode: 0o2750 },
    { ...common, name: 't/implied/f', mode: 0o6755, text: 'x'.repeat(100_000) },
    { ...common, name: 't/empty', mode: 0o600 },
    { ...common, name: 't/hard', type: 'link', linkname: 't/implied/f' },
    { ...common, name: 't/soft', type: 'symlink', linkname: 'implied/f' },
    { ...common, name: 't/fifo', type: 'fifo', mode: 0o622 },
    { ...common, name: 't/null', type: 'character-device', mode: 0o666, devmajor: 1, devminor: 3 },
    { ...common, name: 't/naïve', text: 'ü' },
  ];
  await inside('up', 'sh', '-c', 'mkdir -p /d/t/empty/full/of; echo old > /d/t/hard');
  assert.equal((await put('up', '/d', entries)).status, 200);
  const lines = await inside(
    'up',
    'sh',
    '-c',
    'cd /d/t; stat -c "%n %A %u:%g %h %Y" . implied/f empty hard soft fifo null na*',
  );
  const time = mtime.getTime() / 1000;
  assert.deepEqual(lines.split('\n'), [
    `. drwxr-s--- 12:34 3 ${time}`,
    `implied/f -rwsr-sr-x 12:34 2 ${time}`,
    `empty -rw------- 12:34 1 ${time}`,
    `hard -rwsr-sr-x 12:34 2 ${time}`,
    `soft lrwxrwxrwx 12:34 1 ${time}`,
    `fifo prw--w--w- 12:34 1 ${time}`,
    `null crw-rw-rw- 12:34 1 ${time}`,
    `naïve -rw-r--r-- 12:34 1 ${time}`,
  ]);
  // and back
  const [back] = await Promise.all([ask('GET', archive('up', '/d/t'))]);
  const kept = (await entriesOf(back.bytes)).filter(({ name }) => name !== 't/implied/');
  assert.deepEqual(
    kept
      .map(({ name, type, uid, linkname }) => [name.replace(/\/$/, ''), type, uid, linkname ?? null])
      .toSorted(),
    [
      ['t', 'directory', 12, null],
      ['t/empty', 'file', 12, null],
      ['t/fifo', 'fifo', 12, null],
      ['t/hard', 'file', 12, null],
      ['t/implied/f', 'link', 12, 't/hard'],
      ['t/naïve', 'file', 12, null],
      ['t/null', 'character-device', 12, null],
      ['t/soft', 'symlink', 12, 'implied/f'],
    ],
  );
});

test('bodies may be packed in any usual way, and answers as the client likes', async () => {
  const tar = await tarOf([{ name: 'packed', text: 'it came' }]);
  const ways: Record<string, () => Promise<Buffer> | Buffer> = {
    gzip: () => gzipSync(tar),
    bzip2: async () => Buffer.from((await execa('bzip2', ['-c'], { input: tar, encoding: 'buffer' })).stdout),
    xz: async () => Buffer.from((await execa('xz', ['-c'], { input: tar, encoding: 'buffer' })).stdout),
    zstd: async () => Buffer.from((await execa('zstd', ['-c'], { input: tar, encoding: 'buffer' })).stdout),
  };
  for (const [way, bytes] of Object.entries(ways)) {
    await inside('up', 'rm', '-f', '/d/packed');
    const { status, text } = await ask('PUT', archive('up', '/d'), { body: await bytes() });
    assert.deepEqual([status, text], [200, ''], way);
    assert.equal(await inside('up', 'cat', '/d/packed'), 'it came', way);
  }
  const headers = { 'accept-encoding': 'gzip, identity;q=0.5' };
  const packed = await ask('GET', archive('up', '/d/packed'), { headers });
  assert.equal(packed.headers['content-encoding'], 'gzip');
  assert.equal((await entriesOf(gunzipSync(packed.bytes)))[0]?.text, 'it came');
  assert.equal((await ask('GET', archive('up', '/d/packed'))).headers['content-encoding'], undefined);
});

test('docker cp: both ways, links, archives and owners', async () => {
  const here = join(engine.directory, 'cp');
  mkdirSync(join(here, 'tree/deep'), { recursive: true });
  writeFileSync(join(here, 'tree/deep/file'), 'deep');
  symlinkSync('deep/file', join(here, 'tree/link'));
  await engine.ok(['run', '-d', '--name', 'alice', '-u', 'alice', 'box']);
  for (const name of ['up', 'down']) {
    await engine.ok(['cp', `${here}/tree`, `${name}:/home`]);
    await engine.ok(['cp', `${here}/tree`, `${name}:/home/renamed`]);
    await engine.ok(['cp', `${here}/tree/.`, `${name}:/home/alice`]);
    const back = join(here, `back-${name}`);
    await engine.ok(['cp', `${name}:/home`, back]);
    for (const place of ['tree', 'renamed', 'alice']) {
      assert.equal(readFileSync(join(back, place, 'deep/file'), 'utf8'), 'deep');
      assert.equal(readlinkSync(join(back, place, 'link')), 'deep/file');
    }
    await engine.ok(['cp', '-L', `${name}:/home/tree/link`, join(here, `followed-${name}`)]);
    assert.equal(readFileSync(join(here, `followed-${name}`), 'utf8'), 'deep');
    await engine.ok(['cp', '-L', `${here}/tree/link`, `${name}:/home/followed`]);
    await engine.ok(['cp', `${name}:/home/followed`, `${here}/again`]);
    assert.ok((await lstat(`${here}/again`)).isFile());
  }
  await engine.ok(['cp', '-a', `${here}/tree`, 'alice:/tmp/owned']);
  await engine.ok(['cp', `${here}/tree`, 'alice:/tmp/not-owned']);
  const owners = await inside(
    'alice',
    'stat',
    '-c',
    '%u:%g',
    '/tmp/owned/deep/file',
    '/tmp/not-owned/deep/file',
  );
  assert.equal(owners, '1000:1000\n0:0');
  const events = await engine.ok([
    'events',
    '--since',
    '0',
    '--until',
    String(Math.floor(Date.now() / 1000) + 1),
    '--filter',
    'container=alice',
    '--format',
    '{{.Action}}',
  ]);
  assert.equal(events.split('\n').filter((action) => action === 'extract-to-dir').length, 2);
  assert.match((await engine.docker(['cp', 'up:/etc/hosts', '-'])).stdout, /localhost/);
});

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return ''; // it has just ended
  }
}

test('nothing outside is read or written while directories turn into links and back', async (t) => {
  mkdirSync(join(host, 'flip'), { recursive: true });
  writeFileSync(join(host, 'flip/which'), 'outside');
  await inside(
    'up',
    'sh',
    '-c',
    'mkdir -p /w/a /w/b; echo -n inside > /w/a/which; echo -n inside > /w/b/which',
  );
  const { State } = await engine.json('/containers/up/json');
  const target = join(host, 'flip');
  // as a process in there could, only faster
  const script = `
    const { renameSync, symlinkSync, rmSync } = require('node:fs');
    process.chdir(process.argv[1]);
    const targets = [process.argv[2], '../../../../../../../../..' + process.argv[2]];
    for (let at = 0; ; at++) for (const path of ['a', 'b']) {
      renameSync(path, 'aside-' + path);
      // the engine makes a directory where it misses one
      const insist = (work) => {
        for (;;) try { return work(); } catch { try { rmSync(path, { recursive: true, force: true }); } catch {} }
      };
      insist(() => symlinkSync(targets[at % 2], path));
      insist(() => renameSync('aside-' + path, path));
    }`;
  const flipper = spawn(process.execPath, ['-e', script, `/proc/${State.Pid}/root/w`, target], {
    stdio: 'ignore',
  });
  t.after(() => flipper.kill('SIGKILL'));
  const many = await tarOf(
    Array.from({ length: 600 }, (_, at) => ({ name: `${at % 2 ? 'a' : 'b'}/put-${at % 50}`, text: 'x' })),
  );
  for (let round = 0; round < 5; round++) {
    assert.equal(flipper.exitCode, null);
    const [read, tree, written] = await Promise.all([
      ask('GET', archive('up', '/w/a/which')),
      ask('GET', archive('up', '/w')).catch(() => undefined),
      ask('PUT', archive('up', '/w'), { body: many }),
    ]);
    assert.ok([200, 400, 500].includes(written.status), `${written.status}`);
    const texts = [
      read.status === 200 ? await entriesOf(read.bytes) : [],
      tree ? await entriesOf(tree.bytes) : [],
    ];
    for (const { name, text } of texts.flat()) if (name.endsWith('which')) assert.equal(text, 'inside');
    assert.deepEqual(await readdir(target), ['which']);
  }
  flipper.kill('SIGKILL');
  await once(flipper, 'exit');
  // an entry that met a link ended its archive: those before it are where they belong
  assert.match(await inside('up', 'sh', '-c', 'ls -R /w'), /put-/);
  assert.equal(readFileSync(join(target, 'which'), 'utf8'), 'outside');
});

test('a client that leaves, and a container that is removed, end a copy', async () => {
  await inside('up', 'sh', '-c', 'dd if=/dev/zero of=/large bs=1M count=64 2>/dev/null');
  await engine.ok(['run', '-d', '--name', 'gone', 'box']);
  await inside('gone', 'sh', '-c', 'dd if=/dev/zero of=/large bs=1M count=64 2>/dev/null');
  const begin = async (name: string) =>
    new Promise<{ leave: () => void; rest: () => void; ended: Promise<unknown> }>((resolve, reject) => {
      const sent = request(
        { socketPath: engine.socket, path: archive(name, '/large'), agent: false },
        (answer) => {
          const ended = new Promise((settle) => answer.once('close', () => settle(answer.complete)));
          answer.on('error', () => {});
          answer.once('readable', () =>
            resolve({ leave: () => answer.destroy(), rest: () => answer.resume(), ended }),
          );
        },
      );
      sent.on('error', reject);
      sent.end();
    });
  const [left, removed] = [await begin('up'), await begin('gone')];
  left.leave();
  await engine.ok(['rm', '-f', 'gone']);
  removed.rest();
  assert.equal(await removed.ended, false, 'it was cut');
  // monitors are its children too
  const copying = () =>
    readFileSync(`/proc/${engine.pid}/task/${engine.pid}/children`, 'utf8')
      .split(' ')
      .filter((pid) => pid !== '' && commandLine(pid).includes('container-files'));
  for (const until = Date.now() + 5000; copying().length > 0 && Date.now() < until; ) await sleep(50);
  assert.deepEqual(copying(), []);
  assert.ok(!existsSync(join(engine.dataRoot, 'containers', 'gone')));
});

test('changes: what was added, modified and deleted, without what the engine made', async () => {
  await engine.ok(['create', '--name', 'same', 'box']);
  assert.equal((await ask('GET', '/containers/same/changes')).text, 'null\n');
  await engine.ok(['start', 'same']);
  assert.equal((await ask('GET', '/containers/same/changes')).text, 'null\n');
  const script =
    'echo x >> /etc/passwd; rm /bin/wc; rm -rf /www; mkdir /www; echo n > /www/new; mkdir -p /new/deep; ' +
    'chmod 700 /var; rm -r /home; ln -s tmp /home; rm /etc/os-release; echo y > /etc/os-release';
  await inside('same', 'sh', '-c', script);
  const changes = await engine.json('/containers/same/changes');
  assert.deepEqual(
    changes.map(({ Kind, Path }: { Kind: number; Path: string }) => `${'CAD'[Kind]} ${Path}`),
    [
      ...['C /bin', 'D /bin/wc', 'C /etc', 'C /etc/os-release', 'C /etc/passwd', 'C /home'],
      ...['A /new', 'A /new/deep', 'C /var', 'C /www', 'D /www/index.html', 'A /www/new'],
    ],
  );
  assert.equal((await ask('GET', '/containers/nobody/changes')).status, 404);
});
