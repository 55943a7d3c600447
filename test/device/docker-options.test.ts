import assert from 'node:assert/strict';
import { mkdir, readdir } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MS, mount, unmount } from '../../src/host/kernel.ts';
import { mountsUnder } from '../../src/host/mounts.ts';
import { boxImage } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { push } from '../support/registry-images.ts';

/** Options of `docker run` that are rarer, and those that the engine does not have. */
let engine: TestEngine;
let registry: TestRegistry;
let box: string;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  await push(registry.host, 'box', ['1'], await boxImage());
  engine = await TestEngine.start();
  box = `${registry.host}/box:1`;
});

after(async () => {
  await engine.clear();
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

/** Runs a container to its end; everything the CLI gave. */
const run = (args: string[], o: { input?: string } = {}) => engine.docker(['run', '--rm', ...args], o);

test('what the engine cannot give is refused, or told', async () => {
  const gpu = await run(['--gpus', 'all', box, 'true']);
  assert.equal(gpu.code, 125);
  assert.match(gpu.stderr, /could not select device driver "" with capabilities: \[\[gpu\]\]/);
  const logged = await run(['--log-driver', 'syslog', box, 'true']);
  assert.match(logged.stderr, /error looking up logging plugin syslog: plugin "syslog" not found/);
});

test('a container can tell that it is one; its size is that of its own files', async () => {
  assert.equal((await run([box, 'ls', '/.dockerenv'])).stdout, '/.dockerenv\n');
  const id = await engine.ok(['run', '-d', box, 'sh', '-c', 'mkdir /d; echo hello > /d/f; sleep 1000']);
  await until(async () =>
    (await engine.ok(['ps', '-s', '--format', '{{.Size}}'])).startsWith('6B (virtual '),
  );
  await engine.ok(['rm', '-f', id]);
});

test('a mount made in the container arrives at the host where the bind is shared', async () => {
  const place = `${engine.directory}/passed-on`;
  await mkdir(place);
  mount('none', place, { type: 'tmpfs' });
  try {
    mount('none', place, { flags: MS.SHARED });
    const inside = 'mkdir /p/m && mount -t tmpfs none /p/m && touch /p/m/f && echo made && sleep 1000';
    const args = ['--cap-add', 'SYS_ADMIN', '-v', `${place}:/p:rshared`, box, 'sh', '-c', inside];
    const id = await engine.ok(['run', '-d', ...args]);
    await until(async () => (await engine.ok(['logs', id])) === 'made');
    assert.deepEqual(await readdir(`${place}/m`), ['f']);
    assert.equal((await run(['-v', `${place}:/p:rslave`, box, 'ls', '/p/m'])).stdout, 'f\n');
    await engine.ok(['rm', '-f', id]);
  } finally {
    for (const path of await mountsUnder(place)) unmount(path, { isLazy: true });
  }
});

async function until(isTrue: () => Promise<boolean>, ms = 10_000): Promise<void> {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(50)) if (await isTrue()) return;
  throw new Error(`still not so after ${ms} ms`);
}
