import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isRoot } from '../../../src/host/facts.ts';
import { connectPackets } from '../../../src/host/packets.ts';
import { isAlive } from '../../../src/host/processes.ts';

const missing = ['conmon', 'runc', 'busybox'].filter((name) => spawnSync('which', [name]).status !== 0);
const skip = !isRoot() ? 'needs root' : missing.length > 0 ? `needs ${missing.join(', ')}` : false;

const runc = (...args: string[]) => execFileSync('runc', args, { stdio: ['ignore', 'pipe', 'pipe'] });

/** A directory that runc can run from, with busybox in it. */
function makeBundle(t: TestContext, script: string): string {
  const bundle = mkdtempSync(join(tmpdir(), 'skt-attach-'));
  t.after(() => rmSync(bundle, { recursive: true }));
  mkdirSync(join(bundle, 'rootfs/bin'), { recursive: true });
  copyFileSync(
    execFileSync('which', ['busybox'], { encoding: 'utf8' }).trim(),
    join(bundle, 'rootfs/bin/busybox'),
  );
  execFileSync('runc', ['spec'], { cwd: bundle });
  const spec = JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8'));
  spec.process = { ...spec.process, terminal: false, args: ['/bin/busybox', 'sh', '-c', script] };
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));
  return bundle;
}

/** One life of a container under conmon: made, attached to, started, heard to its end, gone. */
async function live(bundle: string, id: string, input?: Buffer): Promise<Buffer[]> {
  const pidFile = join(bundle, 'conmon.pid');
  const conmon = spawn(
    'conmon',
    [
      '--api-version',
      '1',
      '--cid',
      id,
      '--cuuid',
      id,
      '--name',
      id,
      '-r',
      '/usr/sbin/runc',
      '-b',
      bundle,
      '--full-attach',
    ]
      .concat([
        '-p',
        join(bundle, 'pid'),
        '-P',
        pidFile,
        '--exit-dir',
        bundle,
        '-l',
        `k8s-file:${bundle}/log`,
      ])
      .concat(input === undefined ? [] : ['-i']),
    {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
      env: { ...process.env, _OCI_SYNCPIPE: '3', _OCI_STARTPIPE: '4' },
    },
  );
  try {
    const [, , , sync, go] = conmon.stdio;
    (go as Writable).end('\0');
    const [line] = (await once(sync as Readable, 'data')) as [Buffer];
    const answer: { data: number } = JSON.parse(String(line));
    assert.ok(answer.data > 0, JSON.stringify(answer));
    await using socket = await connectPackets(join(bundle, 'attach'));
    runc('start', id);
    if (input !== undefined) {
      await socket.write(input);
      socket.end();
    }
    const packets: Buffer[] = [];
    for await (const packet of socket.packets()) packets.push(packet);
    return packets;
  } finally {
    if (conmon.exitCode === null) await once(conmon, 'exit');
    const pid = Number(readFileSync(pidFile, 'utf8'));
    for (let tries = 0; isAlive(pid) && tries < 500; tries++) await sleep(10);
    runc('delete', '--force', id);
  }
}

test('25 short lives: every one is heard to its last word', { skip }, async (t) => {
  const bundle = makeBundle(t, 'i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); done; echo last >&2');
  for (let run = 0; run < 25; run++) {
    const packets = await live(bundle, `skt-attach-${process.pid}-${run}`);
    const heard = (stream: number) =>
      Buffer.concat(
        packets.filter((packet) => packet[0] === stream).map((packet) => packet.subarray(1)),
      ).toString();
    assert.equal(heard(2), Array.from({ length: 40 }, (_, n) => `line ${n}\n`).join(''), `run ${run}`);
    assert.equal(heard(3), 'last\n', `run ${run}`);
  }
});

test('what goes in comes out, and its end ends it', { skip }, async (t) => {
  const bundle = makeBundle(t, 'cat');
  const input = Buffer.from(Array.from({ length: 300_000 }, (_, n) => n % 251));
  const packets = await live(bundle, `skt-attach-${process.pid}`, input);
  assert.ok(packets.every((packet) => packet[0] === 2 && packet.length <= 8193));
  assert.deepEqual(Buffer.concat(packets.map((packet) => packet.subarray(1))), input);
});
