import assert from 'node:assert/strict';
import { archive, type Member } from '../../support/tar-archive.ts';
import type { Sandbox } from './sandbox.ts';

/** Nothing is ever written outside the layer's directory, whatever the archive says. A case a test. */
export interface Case {
  what: string;
  members: (outside: string) => (Member | Buffer)[];
  /** What is there afterwards (a subset), or null for what must not be. */
  tree?: (inside: string) => Record<string, string | null>;
  /** The message of the refusal. */
  refused?: RegExp;
}

export const file = (name: string, content = 'x', more: Partial<Member> = {}): Member => ({
  name,
  content,
  ...more,
});
export const link = (name: string, linkName: string): Member => ({ name, type: '2', linkName });
export const hard = (name: string, linkName: string): Member => ({ name, type: '1', linkName });
export const dir = (name: string, more: Partial<Member> = {}): Member => ({ name, type: '5', ...more });

export const FILE = 'file 0644 0:0 "x"';
export const DIR = 'dir 0755 0:0';
export const WHITEOUT = 'char 0000 0:0 0,0';

/** Unpacks it, and holds what came of it against what the case says. */
export async function run(sandbox: Sandbox, one: Case): Promise<void> {
  const tar = archive(one.members(sandbox.outside));
  if (one.refused !== undefined) {
    await assert.rejects(sandbox.unpack(tar), { code: 'CORRUPT', message: one.refused });
    return;
  }
  await sandbox.unpack(tar);
  const tree = sandbox.tree();
  for (const [path, expected] of Object.entries(one.tree?.(sandbox.outside.slice(1)) ?? {}))
    assert.equal(tree[path] ?? null, expected?.replace('OUTSIDE', sandbox.outside) ?? null, path);
}
