import assert from 'node:assert/strict';
import { test } from 'node:test';
import { commands } from '../../../src/cli/commands.ts';
import { runSkerry } from '../../../src/cli/skerry.ts';

async function skerry(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const said = { stdout: '', stderr: '' };
  const into = (stream: 'stdout' | 'stderr') => ({ write: (text: string) => (said[stream] += text) });
  const code = await runSkerry(argv, { stdout: into('stdout'), stderr: into('stderr'), env: {} });
  return { code, ...said };
}

test('every command stands in the help and has one of its own', async () => {
  const { stdout, code } = await skerry();
  assert.equal(code, 0);
  for (const { words, about } of commands) {
    const unwrapped = stdout.replace(/\n {9,}/g, ' ');
    assert.match(unwrapped, new RegExp(`${words.join(' ')} +${about}`));
    const own = await skerry(...words, '--help');
    assert.equal(own.code, 0);
    assert.match(own.stdout, new RegExp(`^Usage: skerry ${words.join(' ')} \\[OPTIONS\\]`));
  }
});

test('a group of commands has a help that lists no others', async () => {
  const { stdout } = await skerry('board');
  assert.match(stdout, /board list/);
  assert.doesNotMatch(stdout, /version/);
});

test('board list names every profile', async () => {
  const { stdout } = await skerry('board', 'list');
  assert.match(stdout, /^NAME +ARCH +MEMORY/);
  assert.match(stdout, /^raspberrypi5 +arm64 +2G +sd +1 +Raspberry Pi 5$/m);
  const { stdout: json } = await skerry('board', 'list', '--json');
  assert.equal(JSON.parse(json).length, stdout.trim().split('\n').length - 1);
});

test('board show gives figures, reasons, JSON or flags', async () => {
  const { stdout } = await skerry('board', 'show', 'jetson-nano');
  assert.match(stdout, /^Pull: 3 downloads, 2 extractions at once\n {2}\S/m);
  assert.equal(
    JSON.parse((await skerry('board', 'show', '--json', 'jetson-nano')).stdout).name,
    'jetson-nano',
  );
  assert.match(
    (await skerry('board', 'show', 'jetson-nano', '--node-flags')).stdout,
    /^--max-old-space-size=192 /,
  );
});

test('board detect answers on any machine that tests run on', async () => {
  const { stdout, code } = await skerry('board', 'detect');
  assert.equal(code, 0);
  assert.match(stdout, /^[a-z0-9-]+ \(.+\)\n$/);
});

test('version', async () => {
  assert.match((await skerry('version')).stdout, /^skerry version \d+\.\d+\.\d+, build \w+, Node v\d+/);
  assert.equal((await skerry('--version')).stdout, (await skerry('version')).stdout);
});

test('mistakes go to stderr with exit code 1', async () => {
  for (const [argv, message] of [
    [['nope'], "skerry: unknown command: nope. See 'skerry --help'.\n"],
    [['board', 'show'], 'skerry: "skerry board show" takes BOARD\n'],
    [['board', 'list', 'x'], 'skerry: "skerry board list" takes no arguments\n'],
    [['board', 'show', 'x'], 'skerry: there is no board profile "x": see skerry board list\n'],
    [['version', '--nope'], 'skerry: unknown flag: --nope\n'],
    [['rollback'], 'skerry: "skerry rollback" takes REF\n'],
    [
      ['images', '-H', 'tcp://x'],
      'skerry: cannot talk to the daemon at "tcp://x": give unix:///PATH or tcp://HOST:PORT\n',
    ],
  ] as const) {
    assert.deepEqual(await skerry(...argv), { code: 1, stdout: '', stderr: message });
  }
});
