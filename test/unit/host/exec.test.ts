import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../../src/host/exec.ts';
import { isAlive } from '../../../src/host/processes.ts';

const sh = (script: string, o?: Parameters<typeof run>[2]) => run('sh', ['-c', script], o);

test('any exit code is a result, with both outputs as they were', async () => {
  assert.deepEqual(await sh('printf "out\\n\\n"; printf err >&2; exit 3'), {
    code: 3,
    stdout: 'out\n\n',
    stderr: 'err',
  });
});

test('a program that a signal killed counts as 128 and the signal', async () => {
  assert.equal((await sh('kill -9 $$')).code, 137);
  assert.equal((await sh('kill -TERM $$')).code, 143);
});

test('input reaches the program, then ends; without any it sees the end at once', async () => {
  assert.equal((await run('cat', [], { input: 'é'.repeat(200_000) })).stdout, 'é'.repeat(200_000));
  assert.deepEqual(await run('od', ['-An', '-tx1'], { input: Uint8Array.of(0, 255) }), {
    code: 0,
    stdout: ' 00 ff\n',
    stderr: '',
  });
  assert.equal((await run('cat', [])).stdout, '');
});

test('a program need not read its input', async () => {
  assert.equal((await run('true', [], { input: 'x'.repeat(1 << 20) })).code, 0);
});

test('variables are added to our own, the language is English, the directory is the one asked for', async () => {
  const { stdout } = await sh('echo "$PATH|$LC_ALL|$SKT|$PWD"', { env: { SKT: 'a b' }, cwd: '/usr' });
  assert.equal(stdout, `${process.env['PATH']}|C|a b|/usr\n`);
});

test('a missing program names what to install', async () => {
  await assert.rejects(run('nft-absent', [], { env: { PATH: '/usr/bin:/bin' } }), {
    code: 'HOST',
    message: 'nft-absent not found: install nft-absent',
  });
  await assert.rejects(run('/nowhere/nft', []), {
    message: '/nowhere/nft not found: install nftables',
  });
  await assert.rejects(run('/etc/passwd', []), {
    code: 'HOST',
    message: /^cannot run \/etc\/passwd: .*EACCES/,
  });
});

test('arguments that no program can be given are a Failure too', async () => {
  await assert.rejects(run('true', ['a\0b']), { code: 'HOST', message: /^cannot run true: / });
  await assert.rejects(run('true', ['x'.repeat(200_000)]), {
    code: 'HOST',
    message: /^cannot run true: .*E2BIG/,
  });
});

test('too long: a Failure, and the program is gone', async () => {
  const started = Date.now();
  const failed = sh('echo $$ > /proc/self/fd/1; exec sleep 60', { timeoutMs: 100 });
  await assert.rejects(failed, { code: 'HOST', message: 'sh took longer than 100 ms' });
  assert.ok(Date.now() - started < 1900);
});

test('an abort throws its reason once the program is gone, even one that does not want to go', async (t) => {
  const aborting = new AbortController();
  const reason = new Error('no longer wanted');
  const directory = mkdtempSync(join(tmpdir(), 'skt-exec-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const script = "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done";
  const running = sh(script, { signal: aborting.signal, cwd: directory });
  while (!existsSync(join(directory, 'pid'))) await sleep(10);
  await sleep(20);
  aborting.abort(reason);
  await assert.rejects(running, (cause) => cause === reason);
  assert.equal(isAlive(Number(readFileSync(join(directory, 'pid'), 'utf8'))), false);
  await assert.rejects(sh('true', { signal: aborting.signal }), (cause) => cause === reason);
});

test('output that a process left behind holds open is not waited for', async () => {
  const started = Date.now();
  const { code, stdout } = await sh('sleep 30 & echo $!');
  const pid = Number(stdout);
  assert.equal(code, 0);
  assert.ok(Date.now() - started < 5000);
  assert.equal(isAlive(pid), true);
  process.kill(pid);
});

test('output beyond 8 MiB is read and thrown away', async () => {
  const { code, stdout } = await sh('head -c 9000000 /dev/zero | tr "\\0" x; echo end >&2');
  assert.equal(code, 0);
  assert.equal(stdout.length, 8 << 20);
});
