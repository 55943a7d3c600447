import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import test from 'node:test';
import fc from 'fast-check';
import { type Gate, gates, lostRoutes, routeGates } from '../../../src/api/gates.ts';
import { Axes, compareVersions, Versions } from '../../../src/api/versions.ts';

test('versions are ordered dot by dot', () => {
  for (const [a, b, sign] of [
    ['1.41', '1.41', 0],
    ['1.9', '1.10', -1],
    ['1.041', '1.41', 0],
    ['1.41.0', '1.41', 0],
    ['1.41.2', '1.41', 1],
    ['1.', '1.0', 0],
    ['', '0', 0],
    ['2', '1.99', 1],
    ['1..5', '1.0.5', 0],
  ] as const) {
    assert.equal(Math.sign(compareVersions(a, b)), sign, `${a} ${b}`);
  }
});

test('the order is one: whatever is compared, one is older or both are the same', () => {
  const version = fc.array(fc.nat(50), { maxLength: 4 }).map((parts) => parts.join('.'));
  fc.assert(
    fc.property(version, version, version, (a, b, c) => {
      assert.equal(Math.sign(compareVersions(a, b)) + Math.sign(compareVersions(b, a)), 0);
      if (compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0) assert.ok(compareVersions(a, c) <= 0);
    }),
  );
});

test('the two axes: request, ceiling, and gates of both', () => {
  const sides = (request: string, ceiling: string) => {
    const axes = new Axes(request, ceiling);
    return [axes.has('G042'), axes.has('G055'), axes.has('G040'), axes.knows('G040')];
  };
  assert.deepEqual(sides('1.41', '1.41'), [false, false, false, false]);
  assert.deepEqual(sides('1.41', '1.42'), [false, true, false, true]);
  assert.deepEqual(sides('1.42', '1.42'), [true, true, true, true]);
});

test('strangers’ versions do not fill the memory', () => {
  const versions = new Versions({ ceiling: '1.45', floor: '1.24' });
  const first = versions.axesOf('1.44');
  assert.equal(versions.axesOf('1.44'), first);
  for (let at = 0; at < 1000; at++) versions.axesOf(`1.30.${at}`);
  assert.notEqual(versions.axesOf('1.44'), first, 'what was kept was dropped');
});

test('every gate in the table is used, and none that is not there', () => {
  const directory = new URL('../../../src/api/', import.meta.url);
  const source = readdirSync(directory)
    .filter((file) => file.endsWith('.ts') && file !== 'gates.ts')
    .map((file) => readFileSync(new URL(file, directory), 'utf8'))
    .join('\n');
  const routed = [...routeGates.values(), ...lostRoutes.values()]; // by the tables of routes, beside the gates
  for (const gate of Object.keys(gates)) {
    assert.ok(routed.includes(gate as Gate) || source.includes(`'${gate}'`), `${gate} is used nowhere`);
  }
});
