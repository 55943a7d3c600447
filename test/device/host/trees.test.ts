import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isRoot } from '../../../src/host/facts.ts';
import { removeTree } from '../../../src/host/files.ts';
import { MS, mount, unmount } from '../../../src/host/kernel.ts';
import { mountsUnder } from '../../../src/host/mounts.ts';

const skip = isRoot() ? false : 'needs root';

test('mounts are found below a tree, newest first, and keep it from being removed', {
  skip,
}, async () => {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'skt-trees-')));
  const tree = join(directory, 'tree');
  // nested, stacked, and one that cannot be reached before the later one that covers it has gone
  const names = ['a b', 'a b/ünder\\neath', 'z', 'z', 'c/covered', 'c'];
  const mounts = names.map((name) => join(tree, name));
  const stack: string[] = [];
  try {
    for (const at of mounts) {
      mkdirSync(at, { recursive: true });
      // what is bound from the same disk is on no other file system, so that no remover can tell by that
      if (at.endsWith('z')) mount(directory, at, { flags: MS.BIND });
      else mount('skt', at, { type: 'tmpfs' });
      stack.push(at);
    }
    writeFileSync(join(directory, 'kept'), '');
    symlinkSync(tree, join(directory, 'link'));
    assert.deepEqual(await mountsUnder(tree), mounts.toReversed());
    assert.deepEqual(await mountsUnder(join(directory, 'link')), mounts.toReversed());
    assert.deepEqual(await mountsUnder(join(directory, 'tre')), []);

    await assert.rejects(removeTree(tree), { code: 'HOST', message: /is a mount point/ });
    await assert.rejects(removeTree(join(tree, 'z')), { code: 'HOST' });
    assert.equal(existsSync(join(directory, 'kept')), true);

    await removeTree(join(directory, 'link')); // only the link
    assert.equal(existsSync(tree), true);
    for (const at of await mountsUnder(tree)) {
      unmount(at);
      stack.pop();
    }
    assert.deepEqual(await mountsUnder(directory), []);
    await removeTree(tree);
    assert.equal(existsSync(tree), false);
    assert.equal(existsSync(join(directory, 'kept')), true);
  } finally {
    for (const at of stack.reverse()) unmount(at, { isLazy: true });
    rmSync(directory, { recursive: true });
  }
});
