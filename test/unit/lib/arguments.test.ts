import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { describeOptions, type Option, parseArguments } from '../../../src/lib/arguments.ts';

const options: Option[] = [
  { name: 'host', short: 'H', takes: 'values', argument: 'ADDRESS', about: 'Where to listen' },
  { name: 'level', short: 'l', takes: 'value', argument: 'LEVEL', about: 'How much to say' },
  { name: 'debug', short: 'D', takes: 'switch', about: 'Say everything' },
  { name: 'quiet', short: 'q', takes: 'switch', about: 'Say nothing' },
];

function valuesOf(...argv: string[]): object {
  return Object.fromEntries(parseArguments(argv, options).values);
}

test('each way to write an option means the same', () => {
  for (const argv of [['--level', 'x'], ['--level=x'], ['-l', 'x'], ['-lx'], ['-l=x']]) {
    assert.deepEqual(valuesOf(...argv), { level: 'x' }, argv.join(' '));
  }
});

test('values add up, of single ones the last wins', () => {
  assert.deepEqual(valuesOf('-H', 'a', '--host=b', '-Hc'), { host: ['a', 'b', 'c'] });
  assert.deepEqual(valuesOf('-l', 'a', '-l', 'b'), { level: 'b' });
});

test('switches stand alone, in a row, or with a value', () => {
  assert.deepEqual(valuesOf('--debug'), { debug: true });
  assert.deepEqual(valuesOf('-Dq'), { debug: true, quiet: true });
  assert.deepEqual(valuesOf('-Dlx'), { debug: true, level: 'x' });
  assert.deepEqual(valuesOf('--debug=false', '-q=0'), { debug: false, quiet: false });
});

test('a value may look like an option, be empty, or hold an equals sign', () => {
  assert.deepEqual(valuesOf('--level', '--debug'), { level: '--debug' });
  assert.deepEqual(valuesOf('--level='), { level: '' });
  assert.deepEqual(valuesOf('--level=a=b'), { level: 'a=b' });
});

test('what is no option is kept in order, and two dashes end the options', () => {
  assert.deepEqual(parseArguments(['a', '-D', '-', '--', '--debug', 'b'], options).rest, [
    'a',
    '-',
    '--debug',
    'b',
  ]);
});

test('mistakes are named', () => {
  assert.throws(() => valuesOf('--nope=1'), { message: 'unknown flag: --nope' });
  assert.throws(() => valuesOf('-Dz'), { message: "unknown shorthand flag: 'z' in -Dz" });
  assert.throws(() => valuesOf('--level'), { message: 'flag needs an argument: --level' });
  assert.throws(() => valuesOf('--debug=maybe'), /invalid argument "maybe" for "--debug" flag/);
});

test('any command line is either read or refused by name', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.string(), fc.constantFrom('--host', '-H', '-D', '--', '--level=')), {
        maxLength: 8,
      }),
      (argv) => {
        try {
          const { values, rest } = parseArguments(argv, options);
          assert.ok(values.size + rest.length <= argv.join('').length + argv.length);
        } catch (cause) {
          assert.equal((cause as { code?: string }).code, 'CONFIG');
        }
      },
    ),
  );
});

test('the help is aligned and wrapped', () => {
  const text = describeOptions(
    [
      { name: 'a', takes: 'switch', about: 'short' },
      { name: 'bee', short: 'b', takes: 'value', argument: 'X', about: 'word '.repeat(12).trim() },
    ],
    { width: 50 },
  );
  assert.equal(
    text,
    [
      '      --a      short',
      '  -b, --bee X  word word word word word word word',
      '               word word word word word',
      '',
    ].join('\n'),
  );
});
