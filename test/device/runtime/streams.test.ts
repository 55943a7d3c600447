import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { withResolvers } from '../../../src/lib/promises.ts';
import { listen, skip, until, World } from './world.ts';

/** Short runs that must lose nothing; a soak makes it many. */
const RUNS = process.env['SKERRY_SOAK'] ? 1000 : 100;

/** 64 KiB in 8192 numbered lines of eight bytes. */
const numbered = Array.from({ length: 8192 }, (_, n) => `${String(n).padStart(7, '0')}\n`).join('');

test(`${RUNS} short runs: every byte by attach and in the log`, { skip }, async () => {
  await using world = await World.open();
  for (let begun = 0; begun < RUNS; begun += 2) {
    const runs = [1, 2].map(() => world.live(['seq', '-w', '1000000', '1008191']));
    for (const { stdout, log, exit } of await Promise.all(runs)) {
      assert.equal(exit.exitCode, 0);
      assert.equal(stdout.length, 65536);
      assert.equal(stdout, numbered.replaceAll(/^\d/gm, '1'));
      assert.equal(log, stdout);
    }
  }
});

test('the first byte is there, and the two streams are kept apart', { skip }, async () => {
  await using world = await World.open();
  const { stdout, stderr, log } = await world.live(['sh', '-c', 'printf out; printf err >&2; printf more']);
  assert.deepEqual([stdout, stderr], ['outmore', 'err']);
  assert.equal(log.length, 10);
});

test('stdin: what is written arrives, and its end too', { skip }, async () => {
  await using world = await World.open();
  assert.equal((await world.live(['cat'], { input: 'hi\n' })).stdout, 'hi\n');
  assert.equal((await world.live(['cat'], { input: '' })).stdout, '');
  const { stdout } = await world.live(['cat'], { input: numbered.repeat(8) });
  assert.equal(stdout, numbered.repeat(8));
});

test('what was written before the start arrives after it', { skip }, async () => {
  await using world = await World.open();
  const spec = world.spec(['sh', '-c', 'read line; echo "got $line"'], {
    process: { hasStdin: true, isStdinOnce: true },
  });
  await world.runtime.create(spec);
  const attachment = await world.runtime.attach(spec.id);
  await attachment.write(Buffer.from('early\n'));
  const heard = listen(attachment);
  await world.runtime.start(spec.id);
  await heard.ended;
  assert.equal(heard.text(1), 'got early\n');
});

test('stdin that stays open outlives clients; one that does not ends with the first', { skip }, async () => {
  await using world = await World.open();
  for (const isStdinOnce of [false, true]) {
    const id = await world.up(['cat'], { process: { hasStdin: true, isStdinOnce } });
    const first = await world.runtime.attach(id);
    const heard = listen(first);
    await first.write(Buffer.from('one\n'));
    await until(() => heard.text(1) === 'one\n');
    heard.leave();
    first.endStdin();
    if (isStdinOnce) {
      assert.equal((await world.exit(id)).exitCode, 0);
      continue;
    }
    const second = await world.runtime.attach(id);
    const heardToo = listen(second);
    await second.write(Buffer.from('two\n'));
    await until(() => heardToo.text(1) === 'two\n');
    assert.equal((await world.runtime.find(id))?.status, 'running');
  }
});

test('output goes on when a process ends with input that it has not read', { skip }, async () => {
  await using world = await World.open();
  for (let run = 0; run < 10; run++) {
    const { stdout, exit } = await world.live(['sh', '-c', 'head -c 1 > /dev/null; seq -w 1000000 1008191'], {
      input: 'x'.repeat(60_000),
    });
    assert.equal(exit.exitCode, 0);
    assert.equal(stdout.length, 65536);
  }
});

test('a terminal: one stream, CR LF, its size, changes of it', { skip }, async () => {
  await using world = await World.open();
  const script = 'tty; stty size; trap "stty size; exit" WINCH; echo ready; while :; do sleep 0.05; done';
  const spec = world.spec(['sh', '-c', script], {
    process: { terminal: true, consoleSize: [31, 97], hasStdin: true, isStdinOnce: true },
  });
  await world.runtime.create(spec);
  const attachment = await world.runtime.attach(spec.id);
  const heard = listen(attachment);
  await world.runtime.start(spec.id);
  await until(() => heard.text(1).includes('ready'));
  assert.equal(heard.text(1), '/dev/pts/0\r\n31 97\r\nready\r\n');
  attachment.endStdin(); // no end of a terminal: it can be attached to again
  await world.runtime.resize(spec.id, { rows: 40, columns: 120 });
  await heard.ended;
  assert.match(heard.text(1), /\r\n40 120\r\n$/);
  assert.equal(heard.text(2), '');
});

test('a terminal echoes, and keys make signals', { skip }, async () => {
  await using world = await World.open();
  const process = { terminal: true, hasStdin: true, isStdinOnce: false };
  const spec = world.spec(['sh', '-c', 'trap "echo caught; exit 5" INT; echo ready; cat'], { process });
  await world.runtime.create(spec);
  const attachment = await world.runtime.attach(spec.id);
  const heard = listen(attachment);
  await world.runtime.start(spec.id);
  await until(() => heard.text(1).includes('ready'));
  await attachment.write(Buffer.from('abc\r'));
  await until(() => heard.text(1).includes('abc\r\nabc\r\n'));
  await attachment.write(Buffer.from('\x03'));
  assert.equal((await world.exit(spec.id)).exitCode, 5);
  await heard.ended;
  assert.match(heard.text(1), /\^C(\r\n)?caught\r\n$/);
});

test('many subscribers hear the same; a late one nothing of the past', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sh', '-c', 'read line; seq -w 1000000 1008191'], {
    process: { hasStdin: true, isStdinOnce: true },
  });
  const attachment = await world.runtime.attach(id);
  assert.equal(await world.runtime.attach(id), attachment);
  const listeners = Array.from({ length: 30 }, () => listen(attachment));
  await attachment.write(Buffer.from('go\n'));
  await Promise.all(listeners.map(({ ended }) => ended));
  for (const { text } of listeners) assert.equal(text(1).length, 65536);
  const late = listen(attachment);
  await late.ended;
  assert.equal(late.text(1), '');
});

test('one that never takes is dropped at its bound, and the process runs on', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sh', '-c', 'read line; seq -w 1000000 1999999'], {
    process: { hasStdin: true, isStdinOnce: true },
  });
  const attachment = await world.runtime.attach(id);
  const { promise: dropped, resolve } = withResolvers<void>();
  const stuck = listen(attachment, { onOutput: () => new Promise<void>(() => {}), onDropped: resolve });
  const quick = listen(attachment);
  await attachment.write(Buffer.from('go\n'));
  await dropped;
  await quick.ended;
  assert.equal(quick.text(1).length, 8_000_000);
  assert.ok(stuck.text(1).length <= 8192);
  assert.equal((await world.exit(id)).exitCode, 0);
});

test('an attachment that nobody subscribes to does not stop the process', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sh', '-c', 'read line; seq -w 1000000 1999999'], {
    process: { hasStdin: true, isStdinOnce: true },
  });
  await (await world.runtime.attach(id)).write(Buffer.from('go\n'));
  assert.equal((await world.exit(id)).exitCode, 0);
});

test('the connection is given up when the last one leaves, and made anew', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sh', '-c', 'while :; do echo tick; sleep 0.05; done']);
  const first = await world.runtime.attach(id);
  const heard = listen(first);
  await until(() => heard.text(1).includes('tick'));
  heard.leave();
  await first.ended;
  assert.equal((await world.runtime.find(id))?.status, 'running');
  const second = await world.runtime.attach(id);
  assert.notEqual(second, first);
  const again = listen(second);
  await until(() => again.text(1).includes('tick'));
});

test('the log can be followed from the start to the end', { skip }, async () => {
  await using world = await World.open();
  const spec = world.spec([
    'sh',
    '-c',
    'for n in 1 2 3; do echo $n; sleep 0.1; done; printf last; echo err >&2',
  ]);
  await world.runtime.create(spec);
  const { promise: ended, resolve } = withResolvers<void>();
  const followed = world.log(spec.id, { ended, stderr: false });
  await world.runtime.start(spec.id);
  await world.exit(spec.id);
  resolve();
  assert.equal(await followed, '1\n2\n3\nlast');
  assert.equal(await world.log(spec.id, { tail: 1, stdout: false }), 'err\n');
});

test('deleting does not cut off what is still to be read', { skip }, async () => {
  await using world = await World.open();
  for (let run = 0; run < 10; run++) {
    const spec = world.spec(['seq', '-w', '1000000', '1008191']);
    await world.runtime.create(spec);
    const heard = listen(await world.runtime.attach(spec.id));
    await world.runtime.start(spec.id);
    await until(async () => (await world.runtime.find(spec.id))?.status === 'stopped');
    await world.runtime.delete(spec.id);
    await heard.ended;
    assert.equal(heard.text(1).length, 65536);
    await sleep(0);
  }
});
