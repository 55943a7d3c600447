import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startBoxEngine } from '../support/box-engine.ts';
import type { TestEngine } from '../support/engine.ts';

/** Links on the default bridge through the docker CLI and the real daemon. */
let engine: TestEngine;
const box = 'box';

before(async () => {
  engine = await startBoxEngine({ box: {} });
});

after(async () => assert.deepEqual(await engine.finish(), []));

/** The line of its /etc/hosts by which `app` finds `web`, with the address that `web` has now. */
async function linkLine(): Promise<RegExp> {
  const { IPAddress } = (await engine.json('/containers/web/json')).NetworkSettings.Networks.bridge;
  return new RegExp(`^${IPAddress.replaceAll('.', '\\.')}\thome \\w{12} web$`, 'm');
}

const hosts = () => engine.ok(['exec', 'app', 'cat', '/etc/hosts']);

test('a link is a word in /etc/hosts and the environment, and follows the other to a new address', async () => {
  await engine.ok([
    'run',
    '-d',
    '--name',
    'web',
    '--restart',
    'always',
    '--expose',
    '80',
    box,
    'sleep',
    '600',
  ]);
  await engine.ok([
    'run',
    '-d',
    '--name',
    'app',
    '--restart',
    'always',
    '--link',
    'web:home',
    box,
    'sleep',
    '600',
  ]);
  assert.match(await hosts(), await linkLine());
  for (const how of [
    ['run', '--rm', '--link', 'web:home', box],
    ['exec', 'app'],
  ])
    assert.match(await engine.ok([...how, 'env']), /^HOME_PORT_80_TCP=tcp:\/\/172\.17\.0\.2:80$/m);
  const { HostConfig } = await engine.json('/containers/app/json');
  assert.deepEqual(HostConfig.Links, ['/web:/app/home']);
  const list = await engine.json('/containers/json');
  assert.deepEqual(list.find(({ Names }: { Names: string[] }) => Names.includes('/web')).Names, [
    '/app/home',
    '/web',
  ]);
  assert.equal((await engine.json('/containers/app/home/json').catch(() => ({ Name: '/web' }))).Name, '/web');
  await engine.ok(['stop', '-t', '0', 'web']);
  await engine.ok(['run', '-d', '--name', 'squatter', box, 'sleep', '600']);
  await engine.ok(['start', 'web']);
  assert.match(String(await linkLine()), /172\\.17\\.0\\.4/, 'it has moved');
  assert.match(await hosts(), await linkLine());
});

test('after a power cut, those that are linked to start first', async () => {
  await engine.powerOff();
  await engine.boot();
  for (const until = Date.now() + 10_000; Date.now() < until; await sleep(50))
    if ((await engine.json('/containers/app/json')).State.Running) break;
  assert.match(await hosts(), await linkLine());
});

test('what cannot be linked to', async () => {
  const none = await engine.docker(['run', '--rm', '--link', 'nope:x', box, 'true']);
  assert.match(none.stderr, /could not get container for nope: No such container: nope/);
  await engine.ok(['create', '--name', 'idle', box, 'true']);
  const idle = await engine.docker(['run', '--rm', '--name', 'wisher', '--link', 'idle', box, 'true']);
  assert.match(idle.stderr, /Cannot link to a non running container: \/idle AS \/wisher\/idle/);
});

test('a link is removed, and not who it leads to', async () => {
  await engine.ok(['rm', '--link', 'app/home']);
  const { HostConfig } = await engine.json('/containers/app/json');
  assert.equal(HostConfig.Links, null);
  assert.equal((await engine.json('/containers/web/json')).State.Running, true);
});
