import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

const module = join(import.meta.dirname, '../../../src/lib/discarded.ts');

/** Bytes that buffers hold on average while 64 MB of them are made and let go. V8 frees them in a thread of its own, when it can. */
function held(flags: readonly string[]): number {
  const program = `
    import { Discarded } from ${JSON.stringify(module)};
    const discarded = new Discarded({ everyBytes: 1 << 20 });
    let sum = 0;
    for (let i = 0; i < 1000; i++) {
      discarded.add(Buffer.alloc(64 << 10).length);
      sum += process.memoryUsage().arrayBuffers;
    }
    console.log(sum / 1000);`;
  const { stdout, stderr } = spawnSync(process.execPath, [...flags, '--input-type=module', '-e', program]);
  assert.equal(stderr.toString(), '');
  return Number(stdout);
}

test('buffers that are done with go soon where the collector is at hand', () => {
  assert.ok(held(['--expose-gc']) < 8 << 20);
  assert.ok(held([]) > 8 << 20, 'and later where it is not');
});
