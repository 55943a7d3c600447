import { createRequire } from 'node:module';
import { run } from '../../src/host/exec.ts';

const CLONE_NEWNET = 0x40000000;
let isOwn = false;

/**
 * Moves this test process, and every child it starts from now on, into a network namespace of its own with nothing
 * but a loopback. It goes with the last process in it. Needs root.
 */
export async function enterOwnNetwork(): Promise<void> {
  if (isOwn) return;
  const koffi = createRequire(import.meta.url)('koffi');
  const unshare = koffi.load(null).func('int unshare(int)');
  if (unshare(CLONE_NEWNET) !== 0) throw new Error('cannot make a network namespace: not root?');
  isOwn = true;
  const { code, stderr } = await run('ip', ['link', 'set', 'lo', 'up']);
  if (code !== 0) throw new Error(`cannot bring the loopback up: ${stderr}`);
}
