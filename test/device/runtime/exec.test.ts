import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { signalProcess } from '../../../src/host/processes.ts';
import { startExitCode } from '../../../src/runtime/failure.ts';
import { hasControllers, listen, runtimeName, skip, until, World } from './world.ts';

test('output, exit code and nothing left of it', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  for (const exitCode of [0, 5, 200]) {
    const result = await world.exec(id, ['sh', '-c', `echo out; echo err >&2; exit ${exitCode}`]);
    assert.deepEqual(result, { stdout: 'out\n', stderr: 'err\n', exitCode });
  }
  assert.equal((await world.exec(id, ['sh', '-c', 'kill -9 $$'])).exitCode, 137);
  assert.deepEqual(readdirSync(join(world.execRoot, 'bundles', id, 'execs')), []);
});

test('every byte, also of short ones', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  for (let run = 0; run < 20; run++) {
    const { stdout, exitCode } = await world.exec(id, ['seq', '-w', '1000000', '1008191']);
    assert.deepEqual([stdout.length, exitCode], [65536, 0]);
  }
});

test('stdin and its end', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  assert.equal((await world.exec(id, ['cat'], { input: 'hi\n' })).stdout, 'hi\n');
  assert.equal((await world.exec(id, ['cat'])).stdout, '');
});

test('who it is, where, with what', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60'], {
    process: { rlimits: [{ name: 'nofile', soft: 50, hard: 50 }], oomScoreAdj: 300 },
  });
  const script =
    'id -u; id -g; pwd; echo $A; ulimit -Hn; cat /proc/self/oom_score_adj; grep -E "CapEff|CapBnd|Seccomp:|NoNew" /proc/self/status';
  const root = await world.exec(id, ['sh', '-c', script], { env: ['PATH=/bin', 'A=b'], cwd: '/tmp' });
  assert.deepEqual(root.stdout.split('\n').slice(0, 6), [
    ...['0', '0', '/tmp', 'b', '50'],
    runtimeName === 'crun' ? '0' : '300', // crun 1.8 leaves the score of an exec alone
  ]);
  assert.match(
    root.stdout,
    /CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2/,
  );
  const other = await world.exec(id, ['sh', '-c', script], {
    user: { uid: 7, gid: 8, additionalGids: [8, 9] },
    noNewPrivileges: true,
  });
  assert.match(other.stdout, /^7\n8\n\/\n/);
  assert.match(other.stdout, /CapEff:\t0{16}\n.*NoNewPrivs:\t1/s);
});

test('a terminal and its size', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const script = 'stty size; trap "stty size; exit 3" WINCH; echo ready; while :; do sleep 0.05; done';
  const running = await world.runtime.exec(
    world.execSpec(id, ['sh', '-c', script], { terminal: true, consoleSize: [33, 99], hasStdin: true }),
  );
  const heard = listen(running.attachment);
  await until(() => heard.text(1).includes('ready'));
  assert.equal(heard.text(1), '33 99\r\nready\r\n');
  running.resize({ rows: 40, columns: 120 });
  assert.equal(await running.exit, 3);
  await heard.ended;
  assert.match(heard.text(1), /\r\n40 120\r\n$/);
  running.resize({ rows: 1, columns: 1 });
});

test('what cannot be run is told in the words of dockerd', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const wording = 'OCI runtime exec failed: exec failed: unable to start container process: exec: ';
  for (const isDetached of [false, true]) {
    for (const terminal of [false, true]) {
      for (const [args, reason, exitCode] of [
        [['/nosuch'], '"/nosuch": stat /nosuch: no such file or directory', 127],
        [['nosuch'], '"nosuch": executable file not found in $PATH', 127],
        [['/etc'], '"/etc": permission denied', 126],
      ] as const) {
        await assert.rejects(
          world.runtime.exec(world.execSpec(id, args, { isDetached, terminal })),
          (failure: Error & { status?: number }) => {
            assert.equal(failure.message, `${wording}${reason}: unknown`);
            assert.deepEqual([failure.status, startExitCode(failure)], [400, exitCode]);
            return true;
          },
        );
      }
    }
  }
  assert.deepEqual(readdirSync(join(world.execRoot, 'bundles', id, 'execs')), []);
});

test('detached: it runs unheard, and its exit code is known', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const running = await world.runtime.exec(
    world.execSpec(id, ['sh', '-c', 'seq 1 100000; echo x > /tmp/done; exit 9'], { isDetached: true }),
  );
  assert.ok(running.pid > 0);
  assert.equal(await running.exit, 9);
  await running.attachment.ended;
  assert.ok(existsSync(join(world.rootfs, 'tmp/done')));
});

test('it ends with its container', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const running = await world.runtime.exec(world.execSpec(id, ['sleep', '61']));
  const heard = listen(running.attachment);
  await world.runtime.signal(id, 9);
  assert.equal(await running.exit, 137);
  await heard.ended;
});

test('deleting the container takes a running one with it', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const running = await world.runtime.exec(world.execSpec(id, ['sleep', '61']));
  listen(running.attachment);
  await world.runtime.delete(id);
  assert.equal(await running.exit, 137);
  assert.deepEqual(world.leftovers(), []);
});

test('a monitor that is killed: 137, once the process is gone', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const running = await world.runtime.exec(
    world.execSpec(id, ['sh', '-c', 'trap "" HUP; echo ready; sleep 61'], { terminal: true }),
  );
  const heard = listen(running.attachment);
  await until(() => heard.text(1).includes('ready')); // from here on its terminal may go
  let exitCode: number | undefined;
  void running.exit.then((code) => {
    exitCode = code;
  });
  const [exec] = readdirSync(join(world.execRoot, 'bundles', id, 'execs'));
  const monitor = readFileSync(
    join(world.execRoot, 'bundles', id, 'execs', exec ?? '', 'conmon.pid'),
    'utf8',
  );
  signalProcess(Number(monitor), 'SIGKILL');
  await heard.ended;
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(exitCode, undefined);
  signalProcess(running.pid, 'SIGKILL');
  await until(() => exitCode === 137);
});

test('its end is not put off by a process that it leaves behind with its output', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const began = performance.now();
  const { stdout, exitCode } = await world.exec(id, ['sh', '-c', 'sleep 50 & seq -w 1000000 1008191']);
  assert.deepEqual([stdout.length, exitCode], [65536, 0]);
  assert.ok(performance.now() - began < 20_000);
});

test('its streams are pipes, which it can open again by name, also as another user', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const script = 'echo a > /dev/stdout; echo b > /dev/stderr; cat /dev/stdin';
  const user = { uid: 7, gid: 8, additionalGids: [8] };
  const result = await world.exec(id, ['sh', '-c', script], { input: 'c\n', user });
  assert.deepEqual(result, { stdout: 'a\nc\n', stderr: 'b\n', exitCode: 0 });
});

test('one whose output nobody takes goes on', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const running = await world.runtime.exec(world.execSpec(id, ['seq', '1', '300000']));
  listen(running.attachment).leave();
  assert.equal(await running.exit, 0);
});

test('many at once', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const results = await Promise.all(
    Array.from({ length: 8 }, (_, n) => world.exec(id, ['sh', '-c', `echo ${n}; exit ${n}`])),
  );
  assert.deepEqual(
    results,
    results.map((_, n) => ({ stdout: `${n}\n`, stderr: '', exitCode: n })),
  );
});

test("its monitor is in the cgroup of the container's monitor", {
  skip: skip || !hasControllers,
}, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const running = await world.runtime.exec(world.execSpec(id, ['sleep', '61'], { terminal: true }));
  const [exec] = readdirSync(join(world.execRoot, 'bundles', id, 'execs'));
  const monitor = readFileSync(
    join(world.execRoot, 'bundles', id, 'execs', exec ?? '', 'conmon.pid'),
    'utf8',
  );
  assert.match(
    readFileSync(`/proc/${monitor}/cgroup`, 'utf8'),
    new RegExp(`^0::${world.cgroupParent}/conmon-${id}$`, 'm'),
  );
  assert.match(
    readFileSync(`/proc/${running.pid}/cgroup`, 'utf8'),
    new RegExp(`memory:${world.cgroupParent}/${id}$`, 'm'),
  );
});
