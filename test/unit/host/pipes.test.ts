import assert from 'node:assert/strict';
import { once } from 'node:events';
import test from 'node:test';
import { exitOfOrphan } from '../../../src/host/orphans.ts';
import { ProcessPipes } from '../../../src/host/pipes.ts';
import { spawnSealed } from '../../../src/host/spawn.ts';

/** A shell with pipes of ours; its words by stream, once they have ended. */
function shell(script: string, { hasStdin = false } = {}) {
  const pipes = new ProcessPipes({ hasStdin });
  const child = spawnSealed('sh', ['-c', script], { stdio: [...pipes.childEnds] });
  pipes.releaseChildEnds();
  const heard = async () => {
    const words = { 2: '', 3: '' };
    for await (const packet of pipes.packets()) words[packet[0] as 2 | 3] += packet.toString('latin1', 1);
    return { stdout: words[2], stderr: words[3] };
  };
  return { pipes, child, heard: heard() };
}

test('both streams, every byte, to the end', async () => {
  const { heard } = shell('seq 1 50000; echo err >&2');
  const { stdout, stderr } = await heard;
  assert.equal(stdout, Array.from({ length: 50_000 }, (_, n) => `${n + 1}\n`).join(''));
  assert.equal(stderr, 'err\n');
});

test('stdin: more than a pipe holds, and its end', async () => {
  const { pipes, heard } = shell('cat', { hasStdin: true });
  await pipes.write(Buffer.alloc(300_000, 'x'));
  pipes.end();
  assert.equal((await heard).stdout.length, 300_000);
  await assert.rejects(pipes.write(Buffer.from('more')), { code: 'EPIPE' });
});

test('a reader of stdin that is gone is an EPIPE, not our end', async () => {
  const { pipes, child, heard } = shell('exec <&-; echo gone', { hasStdin: true });
  await once(child, 'exit');
  await heard;
  await assert.rejects(pipes.write(Buffer.alloc(200_000)), { code: 'EPIPE' });
  pipes.close();
});

test('finish: what is there is given, though somebody holds the pipe open', async () => {
  const { pipes, child, heard } = shell('sleep 30 & echo $!; echo last');
  await once(child, 'exit');
  pipes.finish();
  const [left = '', last] = (await heard).stdout.split('\n');
  assert.equal(last, 'last');
  process.kill(Number(left));
  pipes.close();
});

test('a process whose pipes are let go of gets no SIGPIPE', async () => {
  const pipes = new ProcessPipes({ hasStdin: false });
  const child = spawnSealed('sh', ['-c', 'sleep 0.1; echo one; echo two; exit 7'], {
    stdio: [...pipes.childEnds],
  });
  pipes.releaseChildEnds();
  pipes.close();
  assert.deepEqual(await once(child, 'exit'), [7, null]);
});

test("an orphan's exit code is told, whether asked for early or late; Node's own children are Node's", async () => {
  for (const waitMs of [0, 300]) {
    void exitOfOrphan(0); // from here on they are ours
    const { child, heard } = shell('(exec 2>&-; sleep 0.1; exit 9) & echo $!; exit 4');
    assert.deepEqual(await once(child, 'exit'), [4, null]);
    const pid = Number.parseInt((await heard).stdout, 10);
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    assert.equal(await exitOfOrphan(pid), 9);
  }
});
