import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecRequest } from '../../../src/engine/exec-records.ts';
import { fail } from '../../../src/errors.ts';
import { frame } from '../../../src/lib/frames.ts';
import { nowNanos } from '../../../src/lib/time.ts';
import { World } from '../../support/engine-world.ts';

const request: ExecRequest = {
  attachStdin: false,
  attachStdout: true,
  attachStderr: true,
  tty: false,
  detachKeys: '',
  env: null,
  cmd: ['ls', '-l'],
  privileged: false,
  user: '',
  workingDir: '',
};

async function withRunning() {
  const world = await World.open();
  world.registry.put('app:latest', ['base']);
  await world.pull('app');
  const id = await world.create('c1', { config: { env: ['A=1', 'B=1'], workingDir: '/app' } });
  await world.engine.containers.start('c1');
  const { execs, containers } = world.engine;
  const end = (exec: string, exitCode: number) => world.life.runtime.running.get(exec)?.end(exitCode);
  return { world, execs, containers, id, end };
}

function client(isFramed = true) {
  const [input, output] = [new PassThrough(), new PassThrough()];
  const chunks: Buffer[] = [];
  output.on('data', (chunk: Buffer) => chunks.push(chunk));
  return {
    io: { input, output, isFramed, signal: new AbortController().signal },
    seen: () => Buffer.concat(chunks),
  };
}

async function told(world: World): Promise<[string, string | undefined][]> {
  const seen: [string, string | undefined][] = [];
  const { signal } = new AbortController();
  const filters = new Map([['event', ['exec_create', 'exec_start', 'exec_die', 'exec_detach']]]);
  for await (const event of world.engine.events.subscribe({ since: 0n, until: nowNanos(), filters, signal }))
    seen.push([event.action, event.actor.attributes['exitCode']]);
  return seen;
}

test('an attached exec: its output, its exit code as soon as the stream ends, what is told', async () => {
  const { world, execs, id, end } = await withRunning();
  await using _ = world;
  const exec = await execs.create('c1', request);
  assert.deepEqual(execs.idsOf(id), [exec]);
  const { io, seen } = client();
  const session = await execs.start(exec, { isTty: false });
  assert.equal(execs.inspect(exec).isRunning, false); // it starts with the session's pump
  const pumped = session.pump(io);
  while (!execs.inspect(exec).isRunning) await sleep(5);
  const { isRunning, exitCode, pid } = execs.inspect(exec);
  assert.deepEqual([isRunning, exitCode], [true, undefined]);
  assert.ok(pid > 0);
  world.life.runtime.running.get(exec)?.output.say(2, 'err');
  world.life.runtime.running.get(exec)?.output.finish();
  setTimeout(() => end(exec, 3), 20); // the code comes later than the end of the output
  assert.equal(await pumped, 'ended');
  assert.deepEqual(seen(), frame(2, Buffer.from('err')));
  assert.deepEqual([execs.inspect(exec).isRunning, execs.inspect(exec).exitCode], [false, 3]);
  assert.deepEqual(execs.idsOf(id), []);
  assert.deepEqual(await told(world), [
    ['exec_create: ls -l', undefined],
    ['exec_start: ls -l', undefined],
    ['exec_die', '3'],
  ]);
});

test('a detached one returns once it runs, and runs once', async () => {
  const { world, execs, end } = await withRunning();
  await using _ = world;
  const exec = await execs.create('c1', request);
  await execs.startDetached(exec);
  assert.equal(execs.inspect(exec).isRunning, true);
  const again = { status: 409, message: `Error: Exec command ${exec} has already run` };
  await assert.rejects(execs.startDetached(exec), again);
  const { io, seen } = client();
  await (await execs.start(exec, { isTty: false })).pump(io);
  assert.deepEqual(seen(), frame(1, Buffer.from(`${again.message}\r\n`)));
  end(exec, 0);
  await sleep(1);
  assert.equal(execs.inspect(exec).exitCode, 0);
});

test('what cannot be run is told by an error or in the stream, and shows 126', async () => {
  const { world, execs } = await withRunning();
  await using _ = world;
  const failure = () => fail.startFailed('OCI runtime exec failed: no', { status: 400, exitCode: 127 });
  const detached = await execs.create('c1', request);
  world.life.runtime.failures.set('exec', failure());
  await assert.rejects(execs.startDetached(detached), { status: 400 });
  assert.equal(execs.inspect(detached).exitCode, 126);
  const attached = await execs.create('c1', request);
  world.life.runtime.failures.set('exec', failure());
  const { io, seen } = client(false);
  await (await execs.start(attached, { isTty: true })).pump(io);
  assert.equal(seen().toString(), 'OCI runtime exec failed: no\r\n');
});

test('the process gets what the container has and what was asked for', async () => {
  const { world, execs } = await withRunning();
  await using _ = world;
  const exec = await execs.create('c1', {
    ...request,
    tty: true,
    env: ['B=2', 'A'],
    user: '7',
    consoleSize: [24, 80],
  });
  await execs.startDetached(exec);
  const [spec] = world.life.runtime.execs;
  assert.deepEqual(
    spec?.env.filter((text) => /^(A|B|TERM)\b/.test(text)),
    ['TERM=xterm', 'B=2'],
  );
  assert.deepEqual(
    [spec?.cwd, spec?.user.uid, spec?.terminal, spec?.consoleSize],
    ['/app', 7, true, [24, 80]],
  );
});

test('what is refused', async () => {
  const { world, execs, containers, id } = await withRunning();
  await using _ = world;
  await assert.rejects(execs.create('nope', { ...request, cmd: [] }), {
    status: 400,
    message: 'No exec command specified',
  });
  await assert.rejects(execs.create('nope', request), { status: 404 });
  await assert.rejects(execs.create('c1', { ...request, detachKeys: 'zzz' }), {
    status: 500,
    message: 'Invalid escape keys (zzz) provided',
  });
  assert.throws(() => execs.inspect('nope'), { status: 404, message: 'No such exec instance: nope' });
  const exec = await execs.create('c1', request);
  await containers.pause('c1');
  const paused = { status: 409, message: 'Container c1 is paused, unpause the container before exec' };
  await assert.rejects(execs.create('c1', request), paused);
  await assert.rejects(execs.start(exec, { isTty: false }), { status: 409 });
  await containers.unpause('c1');
  await containers.stop('c1', { timeoutSeconds: 1 });
  const stopped = { status: 409, message: `container ${id} is not running` };
  await assert.rejects(execs.create('c1', request), stopped);
  await assert.rejects(execs.startDetached(exec), stopped);
});

test('a resize waits for the start, and no longer than there is something to resize', async () => {
  const { world, execs, containers, end } = await withRunning();
  await using _ = world;
  const [exec, never] = [await execs.create('c1', request), await execs.create('c1', request)];
  const size = { rows: 11, columns: 22 };
  const resized = execs.resize(exec, size);
  await execs.startDetached(exec);
  await resized;
  assert.deepEqual(world.life.runtime.running.get(exec)?.size, size);
  const gone = new AbortController();
  const forNobody = execs.resize(never, size, { signal: gone.signal });
  gone.abort();
  await assert.rejects(forNobody, { name: 'AbortError' });
  const forNothing = execs.resize(never, size);
  world.life.runtime.failures.set('exec', fail.startFailed('no', { status: 400, exitCode: 127 }));
  await assert.rejects(execs.startDetached(never), { status: 400 });
  await assert.rejects(forNothing, { status: 404, message: 'no such exec' });
  await containers.pause('c1');
  await assert.rejects(execs.resize(exec, size), { status: 409 });
  await containers.unpause('c1');
  end(exec, 0);
  await sleep(1);
  await assert.rejects(execs.resize(exec, size), { status: 404, message: 'no such exec' });
});
