import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startBoxEngine } from '../support/box-engine.ts';
import type { TestEngine } from '../support/engine.ts';

/** What is to be seen of a running container from outside: its statistics and its processes. */
let engine: TestEngine;

before(async () => {
  engine = await startBoxEngine({ box: { Cmd: ['sleep', '1000'] } });
});

after(async () => assert.deepEqual(await engine.finish(), []));

/** The first lines of a stream, and then the client leaves; or all of them, if it ends before. */
async function firstLines(
  path: string,
  count: number,
): Promise<{ lines: string[]; type: string | undefined }> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: engine.socket, path, agent: false }, async (response) => {
      const type = response.headers['content-type'];
      let text = '';
      response.setEncoding('utf8');
      try {
        for await (const chunk of response) {
          text += chunk;
          if (text.split('\n').length > count) break; // which destroys the response
        }
        resolve({ lines: text.split('\n').slice(0, count), type });
      } catch (cause) {
        reject(cause);
      }
    });
    sent.on('error', reject);
    sent.end();
  });
}

test('stats of a busy container: its CPU, memory, processes, disk and network', async () => {
  const script = 'dd if=/dev/zero of=/kept bs=1M count=8 conv=fsync; while true; do :; done';
  const run = [
    'run',
    '-d',
    '--name',
    'busy',
    '--memory',
    '64m',
    '--pids-limit',
    '20',
    'box',
    'sh',
    '-c',
    script,
  ];
  const id = await engine.ok(run);
  const began = await engine.json(`/containers/busy/stats?stream=0&one-shot=1`);
  assert.equal(began.preread, '0001-01-01T00:00:00Z');
  assert.equal(began.precpu_stats.cpu_usage.total_usage, 0);
  for (;;) {
    const { lines, type } = await firstLines('/containers/busy/stats', 2);
    assert.equal(type, undefined);
    const [first, second] = lines.map((line) => JSON.parse(line));
    assert.equal(first.preread, '0001-01-01T00:00:00Z');
    assert.equal(second.preread, first.read);
    assert.deepEqual(second.precpu_stats, first.cpu_stats);
    assert.equal(second.name, '/busy');
    assert.equal(second.id, id);
    assert.equal(second.memory_stats.limit, 64 << 20);
    assert.equal(second.pids_stats.limit, 20);
    const used = second.cpu_stats.cpu_usage.total_usage - first.cpu_stats.cpu_usage.total_usage;
    const system = second.cpu_stats.system_cpu_usage - first.cpu_stats.system_cpu_usage;
    const elapsed = (Date.parse(second.read) - Date.parse(first.read)) * 1e6;
    assert.ok(used <= elapsed * 1.2, `one process used ${used} ns in ${elapsed} ns`);
    assert.ok(Math.abs(system / second.cpu_stats.online_cpus / elapsed - 1) < 0.2, 'of all processors');
    if (used < elapsed * 0.1 || second.pids_stats.current !== 1) continue; // still at its file
    assert.ok(second.memory_stats.usage > 0 && second.memory_stats.usage <= 64 << 20);
    break;
  }
  const { eth0 } = (await engine.json('/containers/busy/stats?stream=0')).networks;
  assert.deepEqual(Object.keys(eth0).toSorted(), [
    ...['rx_bytes', 'rx_dropped', 'rx_errors', 'rx_packets'],
    ...['tx_bytes', 'tx_dropped', 'tx_errors', 'tx_packets'],
  ]);
  assert.match(await engine.ok(['stats', '--no-stream', 'busy']), /busy\s+\d+\.\d+%\s+\S+ \/ 64MiB/);
  await engine.ok(['rm', '-f', 'busy']);
});

test('network counters of stats go up with what is sent', async () => {
  await engine.ok(['run', '-d', '--name', 'talker', 'box']);
  const sent = async () =>
    (await engine.json('/containers/talker/stats?stream=0&one-shot=1')).networks.eth0.tx_packets;
  const before = await sent();
  await engine.docker(['exec', 'talker', 'ping', '-c', '3', '-i', '0.2', '-W', '1', '172.17.0.1']);
  assert.ok((await sent()) >= before + 3);
  await engine.ok(['rm', '-f', 'talker']);
});

test('a container without a network of its own has no network statistics', async () => {
  for (const network of ['host', 'none']) {
    await engine.ok(['run', '-d', '--name', 'alone', '--net', network, 'box']);
    const stats = await engine.json('/containers/alone/stats?stream=0&one-shot=1');
    assert.equal('networks' in stats, false, network);
    await engine.ok(['rm', '-f', 'alone']);
  }
});

test('stats of a container that does not run are zeros, and end with it', async () => {
  await engine.ok(['create', '--name', 'idle', 'box']);
  const once = await engine.json('/containers/idle/stats?stream=0');
  assert.equal(once.read, '0001-01-01T00:00:00Z');
  assert.equal(once.name, '/idle');
  assert.equal(once.blkio_stats.io_service_bytes_recursive, null);
  assert.deepEqual(once.memory_stats, {});
  assert.deepEqual(once.cpu_stats.cpu_usage, {
    total_usage: 0,
    usage_in_kernelmode: 0,
    usage_in_usermode: 0,
  });
  const whole = firstLines('/containers/idle/stats', 1000);
  await sleep(1200); // so that the stream is under way
  await engine.ok(['rm', 'idle']);
  const { lines } = await whole; // it ends, or the test does not
  assert.ok(lines.length >= 3);
});

test('stats refuse what cannot be', async () => {
  assert.equal((await engine.get('/containers/nobody/stats')).status, 404);
  await engine.ok(['create', '--name', 'idle', 'box']);
  const refused = await engine.get('/containers/idle/stats?one-shot=1');
  assert.equal(refused.status, 400);
  assert.match(refused.text, /"cannot have stream=true and one-shot=true"/);
  // G030: older clients do not know the parameter
  const { lines } = await firstLines('/v1.40/containers/idle/stats?one-shot=1', 1);
  assert.equal(JSON.parse(lines[0] ?? '').name, '/idle');
  await engine.ok(['rm', 'idle']);
});

test('top lists the processes of the container and no others', async () => {
  await engine.ok(['run', '-d', '--name', 'some', 'box', 'sh', '-c', 'sleep 1111 & sleep 2222 & wait']);
  await engine.ok(['exec', '-d', 'some', 'sleep', '3333']);
  for (const wanted = 4; ; await sleep(20)) {
    const { Titles, Processes } = await engine.json('/containers/some/top');
    assert.deepEqual(Titles, ['UID', 'PID', 'PPID', 'C', 'STIME', 'TTY', 'TIME', 'CMD']);
    if (Processes.length < wanted) continue; // they are just beginning
    const commands = Processes.map((row: string[]) => row.at(-1)).toSorted();
    assert.deepEqual(commands, [
      'sh -c sleep 1111 & sleep 2222 & wait',
      ...['sleep 1111', 'sleep 2222', 'sleep 3333'],
    ]);
    for (const [, pid] of Processes)
      assert.match(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), new RegExp(engine.cgroupParent));
    break;
  }
  assert.match(await engine.ok(['top', 'some', '-o', 'pid,args']), /PID +COMMAND\n\d+ +sh -c/);
  // `f` does not go with a choice of processes, and draws a tree into the last column
  assert.match(await engine.ok(['top', 'some', 'axf']), /\\_ sleep 1111/);
  assert.equal((await engine.ok(['top', 'some', '-eLf'])).split('\n').length, 5);
  await engine.ok(['rm', '-f', 'some']);
});

test("top refuses with ps' words, and with dockerd's", async () => {
  await engine.ok(['run', '-d', '--name', 'one', 'box']);
  const refusal = async (args: string) => {
    const { status, text } = await engine.get(`/containers/one/top?ps_args=${encodeURIComponent(args)}`);
    return [status, JSON.parse(text).message];
  };
  assert.deepEqual(await refusal('-%'), [500, 'ps: error: garbage option']);
  assert.deepEqual(await refusal('-o comm'), [500, "Couldn't find PID field in ps output"]);
  assert.deepEqual(await refusal('-o ppid=PID'), [500, 'specifying "ppid=PID" is not allowed']);
  await engine.ok(['stop', '-t', '0', 'one']);
  const { Id } = await engine.json('/containers/one/json');
  assert.deepEqual(await refusal(''), [409, `container ${Id} is not running`]);
  await engine.ok(['rm', 'one']);
});

test('a terminal has the size that its exec was asked for with, or is started with', async () => {
  await engine.ok(['run', '-d', '--name', 'sized', 'box']);
  // a program may look before crun has set the size, and is told when it has
  const Cmd = [
    'sh',
    '-c',
    'trap "stty size; exit" WINCH; stty size 2>/dev/null && exit; while :; do sleep 0.1; done',
  ];
  const sizeOf = async (version: string, create: object, start: object) => {
    const body = { Cmd, Tty: true, AttachStdout: true, ...create };
    const { Id } = await engine.json(`/${version}/containers/sized/exec`, { method: 'POST', body });
    const started = { method: 'POST', body: { Tty: true, ...start } };
    return (await engine.get(`/${version}/exec/${Id}/start`, started)).text.trim();
  };
  assert.equal(await sizeOf('v1.42', { ConsoleSize: [33, 44] }, {}), '33 44');
  assert.equal(await sizeOf('v1.42', { ConsoleSize: [33, 44] }, { ConsoleSize: [55, 66] }), '55 66');
  await engine.ok(['rm', '-f', 'sized']);
});
