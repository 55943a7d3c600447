import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProgressLine } from '../../../src/cli/progress-line.ts';

function written(isTTY: boolean, steps: readonly number[]): string {
  let said = '';
  const write = (text: string) => {
    said += text;
  };
  {
    using progress = new ProgressLine({ write, isTTY }, 'encoding', 1000);
    for (const bytes of steps) progress.add(bytes);
  }
  return said;
}

test('in a log there is a line for each quarter, and no more', () => {
  assert.equal(written(false, [100, 100, 100, 100, 400, 1]), 'encoding: 25 %\nencoding: 75 %\n');
  assert.equal(written(false, [1000]), 'encoding: 100 %\n');
  assert.equal(written(false, []), '');
});

test('on a terminal there is a bar, which goes away', () => {
  const said = written(true, [500, 1]).replaceAll('\r\x1b[K', '<erased>');
  assert.match(said, /^<erased>encoding \[=+> +\] +500B\/1kB<erased>$/);
});
