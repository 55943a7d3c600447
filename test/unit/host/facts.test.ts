import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  architecture,
  capabilities,
  capabilitiesIn,
  cpus,
  deviceTreeModel,
  hostname,
  isRoot,
  kernelVersion,
  memoryBytes,
  operatingSystem,
  osVersion,
  platform,
} from '../../../src/host/facts.ts';
import { normalize } from '../../../src/lib/platform.ts';

const shell = (script: string) => execFileSync('sh', ['-c', script], { encoding: 'utf8' }).trim();

test('facts are what the usual programs say', () => {
  assert.equal(hostname(), shell('uname -n'));
  assert.equal(kernelVersion(), shell('uname -r'));
  assert.equal(architecture(), shell('uname -m'));
  assert.equal(cpus(), Number(shell('nproc')));
  assert.equal(isRoot(), shell('id -u') === '0');
  assert.equal(operatingSystem(), shell('. /etc/os-release; echo "$PRETTY_NAME"'));
  assert.equal(osVersion(), shell('. /etc/os-release; echo "$VERSION_ID"'));
  const kilobytes = Number(/MemTotal:\s+(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]);
  assert.equal(memoryBytes(), kilobytes * 1024);
  assert.equal(
    deviceTreeModel(),
    shell('cat /proc/device-tree/model 2>/dev/null | tr -d "\\0"') || undefined,
  );
});

test('the platform is one that images name, in its usual spelling', () => {
  assert.deepEqual(normalize(platform()), platform());
  const debian: Record<string, string> = { amd64: 'amd64', arm64: 'arm64', armhf: 'arm', i386: '386' };
  assert.equal(platform().architecture, debian[shell('dpkg --print-architecture')]);
});

test('capabilities are named by their bits', () => {
  assert.deepEqual(capabilitiesIn(0n), []);
  assert.deepEqual(capabilitiesIn(1n | (1n << 21n) | (1n << 40n) | (1n << 60n)), [
    'CAP_CHOWN',
    'CAP_SYS_ADMIN',
    'CAP_CHECKPOINT_RESTORE',
  ]);
  assert.equal(capabilitiesIn((1n << 41n) - 1n).length, 41);
});

test('the bounding set agrees with the kernel, bit by bit', () => {
  const mask = BigInt(`0x${/CapBnd:\s+(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]}`);
  const bits = mask.toString(2).replaceAll('0', '').length;
  assert.equal(capabilities().length, Math.min(bits, 41));
});
