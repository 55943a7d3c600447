import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'skerry-scripts-'));
after(() => rmSync(dir, { recursive: true }));

test('two builds of one commit are the same byte for byte', () => {
  const builds = ['a', 'b'].map((name) => {
    const outdir = join(dir, name);
    execFileSync(process.execPath, [join(root, 'scripts/build.ts'), '--outdir', outdir], { stdio: 'pipe' });
    return new Map(readdirSync(outdir).map((file) => [file, readFileSync(join(outdir, file), 'utf8')]));
  });
  assert.deepEqual(builds[0], builds[1]);
  assert.deepEqual([...(builds[0]?.keys() ?? [])].toSorted(), [
    'apply-delta.js',
    'apply-patch.js',
    'container-files.js',
    'extract-layer.js',
    'make-delta.js',
    'pack-tree.js',
    'package.json',
    'skerry.js',
    'skerryd.js',
    'verify-layer.js',
  ]);
});

/** An installation: scripts, bundles and a Node that tells how it was called. */
function install(): string {
  const home = mkdtempSync(join(dir, 'home '));
  cpSync(join(root, 'scripts'), join(home, 'scripts'), { recursive: true });
  mkdirSync(join(home, 'dist'));
  for (const program of ['skerryd', 'skerry']) writeFileSync(join(home, `dist/${program}.js`), '');
  fakeNode(join(home, 'node_modules/node/bin'), 'echo "$MALLOC_ARENA_MAX|$*"');
  return home;
}

function fakeNode(bin: string, script: string): void {
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, 'node'), `#!/bin/sh\n${script}\n`);
  chmodSync(join(bin, 'node'), 0o755);
}

function run(program: string, args: string[], env: Record<string, string> = {}) {
  return spawnSync(program, args, { cwd: '/', encoding: 'utf8', env: { PATH: '/usr/bin:/bin', ...env } });
}

test('the programs start from any directory, through links, with their arguments as they are', () => {
  const home = install();
  symlinkSync(join(home, 'scripts/skerry'), join(home, 'one'));
  symlinkSync('one', join(home, 'two'));
  assert.equal(run(join(home, 'two'), ['board', 'a b']).stdout, `|${home}/dist/skerry.js board a b\n`);
});

test('what makes deltas gets less memory than Node and glibc would take', () => {
  const home = install();
  const { stdout } = run(join(home, 'scripts/skerry'), ['delta', 'create', 'a b']);
  assert.equal(stdout, `2|--max-semi-space-size=1 ${home}/dist/skerry.js delta create a b\n`);
});

test("the daemon gets little memory, or what the board's profile says", () => {
  const home = install();
  const skerryd = join(home, 'scripts/skerryd');
  assert.equal(
    run(skerryd, ['--debug']).stdout,
    `1|--max-semi-space-size=1 --optimize-for-size --expose-gc --no-node-snapshot ${home}/dist/skerryd.js --debug\n`,
  );
  writeFileSync(join(home, 'dist/node-flags'), '--max-old-space-size=96 --x\n');
  assert.equal(run(skerryd, []).stdout, `1|--max-old-space-size=96 --x ${home}/dist/skerryd.js\n`);
});

test("without a Node of its own it takes the machine's, unless that is too old", () => {
  const home = install();
  rmSync(join(home, 'node_modules'), { recursive: true });
  const bin = join(dir, 'bin');
  fakeNode(bin, `exec ${process.execPath} "$@"`);
  writeFileSync(join(home, 'dist/skerry.js'), 'console.log("ran")');
  const env = { PATH: `${bin}:/usr/bin:/bin` };
  assert.equal(run(join(home, 'scripts/skerry'), [], env).stdout, 'ran\n');
  fakeNode(bin, 'if [ "$1" = --version ]; then echo v18.20.4; else exit 1; fi');
  const { status, stderr } = run(join(home, 'scripts/skerry'), [], env);
  assert.equal(status, 1);
  assert.match(stderr, /is v18\.20\.4, and 20\.11 is the least: run .*setup\.sh/);
});

test('what was not built yet says so', () => {
  const home = install();
  rmSync(join(home, 'dist'), { recursive: true });
  const { status, stderr } = run(join(home, 'scripts/skerryd'), []);
  assert.equal(status, 1);
  assert.equal(stderr, `skerryd: not built yet: run ${home}/scripts/setup.sh\n`);
});
