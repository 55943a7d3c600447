import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { run } from '../../src/host/exec.ts';
import { type Both, openPair, type Pair, type Side } from './pair.ts';

/** Containers are called the same as under dockerd 20.10, and told of others by links in the same words. */
let pair: Pair | undefined;
let reason = '';

before(async () => {
  ({ pair, reason } = await openPair());
  await run('ip', ['link', 'add', 'names0', 'type', 'bridge']);
  await run('ip', ['link', 'set', 'names0', 'up']);
});

after(async () => {
  await pair?.engine.clear();
  await pair?.[Symbol.asyncDispose]();
});

/** Without what no two containers have in common: IDs. */
async function said(side: Side, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await side.docker(args);
  return `exit ${code}\n${stdout}${stderr}`
    .replace(/\b[0-9a-f]{64}\b/g, '<id>')
    .replace(/\b[0-9a-f]{12}\b/g, '<short>');
}

test('names on a network that a user made', async (t) => {
  if (pair === undefined) return t.skip(reason);
  await pair.both(async (side) => {
    const driver = side.name === 'skerry' ? ['-d', 'macvlan', '-o', 'parent=names0'] : [];
    const pool = ['--subnet', '10.77.0.0/24', '--gateway', '10.77.0.1'];
    assert.match(await said(side, 'network', 'create', ...driver, ...pool, 'front'), /^exit 0/);
    for (const [name, ...options] of [
      ['web', '--ip', '10.77.0.10', '--network-alias', 'www', '--network-alias', 'all'],
      ['db', '--ip', '10.77.0.11', '--network-alias', 'all'],
      ['app', '--ip', '10.77.0.12', '--link', 'web:home', '--dns-opt', 'timeout:1'],
    ] as const)
      assert.match(
        await said(side, 'run', '-d', '--name', name, '--net', 'front', ...options, 'box:1', 'sleep', '999'),
        /^exit 0/,
      );
  });
  const questions: string[][] = [
    ['cat', '/etc/resolv.conf'],
    ['cat', '/etc/hosts'],
    ...['web', 'WEB', 'www', 'web.front', 'www.front', 'home', 'home.front', 'app'].map((name) => [
      'nslookup',
      '-type=a',
      name,
    ]),
    ...['10.77.0.10', '10.77.0.12'].map((name) => ['nslookup', name]),
    ['nslookup', '-type=mx', 'web'],
    ['nslookup', '-type=aaaa', 'web'],
    ['sh', '-c', 'nslookup -type=a all | sort'],
  ];
  for (const question of questions) {
    const seen: Both<string> = await pair.both((side) => said(side, 'exec', 'app', ...question));
    assert.equal(seen.skerry, seen.dockerd, question.join(' '));
  }
});

test('links on the default bridge', async (t) => {
  if (pair === undefined) return t.skip(reason);
  await pair.both(async (side) => {
    const web = [
      '-h',
      'w1',
      '--expose',
      '80',
      '--expose',
      '81-83',
      '--expose',
      '53/udp',
      '-e',
      'A=1',
      'box:1',
    ];
    assert.match(await said(side, 'run', '-d', '--name', 'lweb', ...web, 'sleep', '999'), /^exit 0/);
    const app = ['--link', 'lweb:my-home', '--link', 'lweb', 'box:1'];
    assert.match(await said(side, 'run', '-d', '--name', 'lapp', ...app, 'sleep', '999'), /^exit 0/);
  });
  const inside = (command: string) => (side: Side) => said(side, 'exec', 'lapp', 'sh', '-c', command);
  const shown = (format: string, name: string) => (side: Side) => said(side, 'inspect', '-f', format, name);
  // dockerd puts several links in any order
  for (const [what, look] of [
    ['hosts', inside('sort /etc/hosts')],
    ['environment', inside('env | grep -v HOSTNAME | sort')],
    [
      'inspect',
      shown('{{range .HostConfig.Links}}{{if eq . "/lweb:/lapp/lweb"}}{{.}}{{end}}{{end}}', 'lapp'),
    ],
    ['found by its link', shown('{{.Name}}', 'lapp/my-home')],
    [
      'names',
      (side: Side) => said(side, 'ps', '--no-trunc', '--format', '{{.Names}}', '--filter', 'name=lweb'),
    ],
    ['no such', (side: Side) => said(side, 'run', '--rm', '--link', 'nope:x', 'box:1', 'true')],
    ['malformed', (side: Side) => said(side, 'run', '--rm', '--link', 'a:b:c', 'box:1', 'true')],
    ['not the default link', (side: Side) => said(side, 'rm', '--link', 'lweb')],
    ['no such parent', (side: Side) => said(side, 'rm', '--link', 'nobody/lweb')],
    ['removed', (side: Side) => said(side, 'rm', '--link', 'lapp/lweb')],
    ['afterwards', shown('{{.HostConfig.Links}}', 'lapp')],
  ] as const) {
    const seen: Both<string> = await pair.both(look);
    assert.equal(seen.skerry, seen.dockerd, what);
  }
});

test('a link to one that does not run', async (t) => {
  if (pair === undefined) return t.skip(reason);
  const seen = await pair.both(async (side) => {
    await said(side, 'create', '--name', 'idle', 'box:1', 'true');
    return said(side, 'run', '--rm', '--name', 'wisher', '--link', 'idle', 'box:1', 'true');
  });
  assert.equal(seen.skerry, seen.dockerd);
});
