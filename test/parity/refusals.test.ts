import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { openPair, type Pair, type Side } from './pair.ts';
import { refusals } from './refusals.ts';

/** What goes wrong is told in dockerd's words, with its exit code; and lists look as dockerd's do. */
let pair: Pair | undefined;
let reason = '';

before(async () => {
  ({ pair, reason } = await openPair());
  await pair?.both(async (side) => {
    await side.docker(['run', '-d', '--name', 'running', '--network', 'none', 'box:1', 'sleep', '1000']);
    await side.docker(['run', '--name', 'stopped', '--network', 'none', 'box:1', 'sh', '-c', 'exit 3']);
  });
});

after(async () => {
  await pair?.engine.clear();
  await pair?.[Symbol.asyncDispose]();
});

/** Differences in words that are meant: in dockerd's, and in ours. */
const allowed: readonly { line: RegExp; dockerd: RegExp; skerry: RegExp; reason: string }[] = [
  {
    line: /--stop-signal 99/,
    dockerd: /^exit 0\n/,
    skerry: /^exit 1\nError response from daemon: the linux daemon does not support signal 99\n/,
    reason: 'such a container could not be stopped',
  },
  {
    line: /--log-driver syslog/,
    dockerd: /syslog-address should be in form/,
    skerry: /error looking up logging plugin syslog/,
    reason: 'there is no such log driver',
  },
];

describe('refused in the same words', { concurrency: 3 }, () => {
  for (const words of refusals) {
    const line = typeof words === 'string' ? words : words.join(' ');
    test(line, async (t) => {
      if (pair === undefined) return t.skip(reason);
      const seen = await pair.both((side) =>
        said(side, typeof words === 'string' ? words.split(' ') : words),
      );
      const rule = allowed.find((rule) => rule.line.test(line));
      if (rule === undefined) return assert.equal(seen.skerry, seen.dockerd);
      assert.match(seen.dockerd, rule.dockerd);
      assert.match(seen.skerry, rule.skerry);
    });
  }
});

test('docker ps looks the same', async (t) => {
  if (pair === undefined) return t.skip(reason);
  const seen = await pair.both(async (side) => {
    const make = (...words: string[]) => side.docker(words);
    await make('create', '--name', 'ps-created', '-l', 'ps=1', 'box:1', 'echo', 'a b', 'x'.repeat(40));
    await make(
      'run',
      '-d',
      '--name',
      'ps-paused',
      '-l',
      'ps=1',
      '--network',
      'none',
      'box:1',
      'sleep',
      '1000',
    );
    await make('pause', 'ps-paused');
    await make(
      'run',
      '--name',
      'ps-exited',
      '-l',
      'ps=1',
      '-l',
      'other=2',
      '-v',
      'ps-v:/www',
      'box:1',
      'false',
    );
    const ports = ['-p', '127.0.0.1:18090:80', '-p', '18091-18093:91-93', '--expose', '7/udp'];
    await make('run', '-d', '--name', 'ps-ports', '-l', 'ps=1', ...ports, 'box:1', 'sleep', '1000');
    const columns =
      '{{.Names}}|{{.Image}}|{{.Command}}|{{.Ports}}|{{.State}}|{{.Labels}}|{{.Mounts}}|{{.Networks}}|{{.LocalVolumes}}';
    const listed = [
      await said(side, ['ps', '--filter', 'label=ps', '--format', columns]),
      await said(side, ['ps', '-a', '--no-trunc', '--filter', 'label=ps', '--format', columns]),
      await said(side, ['ps', '-a', '--filter', 'label=ps', '--format', '{{.Names}} {{.Status}}']),
      await said(side, ['ps', '-aq', '--filter', 'status=paused']),
      await said(side, [
        'ps',
        '-a',
        '--filter',
        'exited=1',
        '--filter',
        'label=other=2',
        '--format',
        '{{.Names}}',
      ]),
      await said(side, [
        'ps',
        '-a',
        '--filter',
        'volume=ps-v',
        '--filter',
        'name=ps',
        '--format',
        '{{.Names}}',
      ]),
      await said(side, ['ps', '-n', '2', '--format', '{{.Names}}']),
      await said(side, ['port', 'ps-ports']),
    ];
    // dockerd publishes over IPv6 too, this engine does not yet
    const isOverIpv6 = /, (?:\[::\]|::):\d+->\d+\/tcp|\d+\/tcp -> (?:\[::\]|::):\d+\n/g;
    const published = listed.pop() ?? '';
    listed.push(published.replaceAll(isOverIpv6, '').split('\n').toSorted().join('\n')); // older CLIs give them in no order
    return listed.map((text) =>
      text.replaceAll(isOverIpv6, '').replaceAll(/\d+ seconds?|Less than a second|About a minute/g, '<time>'),
    );
  });
  assert.deepEqual(seen.skerry, seen.dockerd);
});

/** What older CLIs add of their own: which of it comes, and in what order, is chance or hangs on the step that failed. */
const remarks =
  /^(?:time="[^"]*" level=error msg="error waiting for container: .*"|See 'docker run --help'\.)\n/gm;

async function said(side: Side, words: readonly string[]): Promise<string> {
  const values: Record<string, string> = { running: 'running', stopped: 'stopped', places: side.places };
  const filled = words.map((word) => word.replaceAll(/\{(\w+)\}/g, (_, key) => values[key] ?? ''));
  const { code, stdout, stderr } = await side.docker(filled);
  return `exit ${code}\n${stdout}${stderr}`
    .replace(remarks, '')
    .replaceAll(side.places, '<dir>')
    .replaceAll(side.directory, '<dir>')
    .replace(/\b[0-9a-f]{64}\b/g, '<id>')
    .replace(/\b[0-9a-f]{12}\b/g, '<short>');
}
