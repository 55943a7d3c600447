import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { findProgram } from '../../src/runtime/runtimes.ts';
import { boxImage } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { push } from '../support/registry-images.ts';

/** Checkpoints as far as a machine without a working CRIU lets us see them. */
let engine: TestEngine;
let registry: TestRegistry;
let id: string;

const disabled =
  'This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.';

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  await push(registry.host, 'box', ['1'], await boxImage());
  engine = await TestEngine.start();
  await engine.ok(['pull', '-q', `${registry.host}/box:1`]);
  id = await engine.ok([
    'run',
    '-d',
    '--name',
    'app',
    '--net',
    'none',
    `${registry.host}/box:1`,
    'sleep',
    '1000',
  ]);
});

after(async () => {
  await engine.clear();
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

async function ask(method: string, path: string, body?: object): Promise<string> {
  const { status, text } = await engine.get(`/containers/${path}`, { method, ...(body && { body }) });
  return `${status} ${text === '' ? '' : (JSON.parse(text).message ?? text.trim())}`;
}

test('without experimental mode there are none, of any container', async () => {
  assert.equal(await ask('GET', 'app/checkpoints'), `501 ${disabled}`);
  assert.equal(await ask('POST', 'nobody/checkpoints', { CheckpointID: 'one' }), `501 ${disabled}`);
  assert.equal(await ask('DELETE', 'app/checkpoints/one'), `501 ${disabled}`);
  const only = '400 checkpoint is only supported in experimental mode';
  assert.equal(await ask('POST', 'app/start?checkpoint=one'), only);
  assert.equal((await engine.json('/version')).Experimental, undefined);
});

test('in experimental mode the daemon says so; what makes no sense is refused in dockerd words', async () => {
  await engine.stop();
  await engine.boot(['--experimental']);
  const [version, info] = [await engine.json('/version'), await engine.json('/info')];
  assert.deepEqual([version.Experimental, info.ExperimentalBuild], [true, true]);
  assert.equal(await engine.ok(['version', '--format', '{{.Server.Experimental}}']), 'true');
  assert.equal(await ask('GET', 'nobody/checkpoints'), '404 No such container: nobody');
  assert.equal(await ask('GET', 'app/checkpoints'), '200 []');
  const bad = '500 Invalid checkpoint ID (../x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed';
  assert.equal(await ask('POST', 'app/checkpoints', { CheckpointID: '../x' }), bad);
  assert.equal(
    await ask('DELETE', 'app/checkpoints/one'),
    '500 checkpoint one does not exist for container app',
  );
  assert.match(await ask('DELETE', 'app/checkpoints/.two'), /^500 checkpoint \.two does not exist/);
  await engine.ok(['stop', '-t', '0', 'app']);
  assert.equal(
    await ask('POST', 'app/start?checkpoint=one'),
    '500 checkpoint one does not exist for container app',
  );
  assert.equal(
    await ask('POST', 'app/checkpoints', { CheckpointID: 'one' }),
    '500 Container app not running',
  );
});

test('checkpoints are listed and removed, here and under a directory of the client', async () => {
  const own = join(engine.dataRoot, 'containers', id, 'checkpoints');
  const elsewhere = join(engine.directory, 'elsewhere');
  for (const root of [own, join(elsewhere, id, 'checkpoints')]) {
    mkdirSync(join(root, 'one'), { recursive: true });
    mkdirSync(join(root, '.two')); // of a try that was cut off
  }
  assert.equal(await engine.ok(['checkpoint', 'ls', 'app']), 'CHECKPOINT NAME\none');
  await engine.ok(['checkpoint', 'rm', 'app', 'one']);
  assert.equal(await ask('GET', 'app/checkpoints'), '200 []');
  assert.equal(await ask('GET', `app/checkpoints?dir=${elsewhere}`), '200 [{"Name":"one"}]');
  await engine.ok(['checkpoint', 'rm', '--checkpoint-dir', elsewhere, 'app', 'one']);
  assert.equal(existsSync(join(elsewhere, id, 'checkpoints/one')), false);
});

test('without CRIU: an error that names it, nothing left, the container runs on', {
  skip: findProgram('criu') !== undefined && 'criu is installed',
}, async () => {
  await engine.ok(['start', 'app']);
  const { code, stderr } = await engine.docker(['checkpoint', 'create', 'app', 'one']);
  assert.notEqual(code, 0);
  assert.match(stderr, /Cannot checkpoint container app: .*criu/i);
  assert.deepEqual(readdirSync(join(engine.dataRoot, 'containers', id, 'checkpoints')), ['.two']);
  assert.equal((await engine.json('/containers/app/json')).State.Status, 'running');
});
