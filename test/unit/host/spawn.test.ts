import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { libc } from '../../../src/host/libc.ts';
import { spawnSealed } from '../../../src/host/spawn.ts';

const F_SETFD = 2;

/** Where a child's descriptors lead. */
async function descriptorsOf(child: ChildProcess): Promise<string> {
  assert.ok(child.stdout);
  return text(child.stdout);
}

test('a child gets what it is given, and nothing that this process holds open without O_CLOEXEC', async () => {
  const fd = openSync('/etc/hostname', 'r');
  libc().fcntl(fd, F_SETFD, 0);
  try {
    const list = ['-l', '/proc/self/fd'];
    const plain = await descriptorsOf(spawn('ls', list, { stdio: ['ignore', 'pipe', 'inherit'] }));
    assert.match(plain, /\/etc\/hostname/, 'it would be inherited');
    const given = openSync('/etc/passwd', 'r');
    const sealed = spawnSealed('ls', list, { stdio: ['ignore', 'pipe', 'inherit', given] });
    closeSync(given);
    const seen = await descriptorsOf(sealed);
    assert.doesNotMatch(seen, /\/etc\/hostname/);
    assert.match(seen, / 3 -> \/etc\/passwd/);
  } finally {
    closeSync(fd);
  }
});
