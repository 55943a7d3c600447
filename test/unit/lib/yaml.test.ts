import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseYaml, YamlError } from '../../../src/lib/yaml.ts';

test('what programs write', () => {
  const text = `---
# made by a tool
cdiVersion: 0.5.0
kind: "nvidia.com/gpu"
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void   # a list may stand under its key
  hooks:
    - args: [nvidia-ctk, hook, "--link", 'it''s']
      hookName: createContainer
      path: /usr/bin/nvidia-ctk
    -
      path: /x
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      fileMode: 438
      permissions: rw
  name: "0"
- name: all
  containerEdits: {}
empty:
url: http://example.org:80/#top
numbers: [0, -1, 1.5, 0x10, 0o17]
truths: {yes: true, no: false, none: ~}
`;
  assert.deepEqual(parseYaml(text), {
    cdiVersion: '0.5.0',
    kind: 'nvidia.com/gpu',
    containerEdits: {
      env: ['NVIDIA_VISIBLE_DEVICES=void'],
      hooks: [
        {
          args: ['nvidia-ctk', 'hook', '--link', "it's"],
          hookName: 'createContainer',
          path: '/usr/bin/nvidia-ctk',
        },
        { path: '/x' },
      ],
    },
    devices: [
      {
        containerEdits: { deviceNodes: [{ path: '/dev/nvidia0', fileMode: 438, permissions: 'rw' }] },
        name: '0',
      },
      { name: 'all', containerEdits: {} },
    ],
    empty: null,
    url: 'http://example.org:80/#top',
    numbers: [0, -1, 1.5, 16, 15],
    truths: { yes: true, no: false, none: null },
  });
  assert.equal(parseYaml(''), null);
  assert.equal(parseYaml('just text'), 'just text');
});

test('what is not read is refused, with its line', () => {
  const cases: [string, RegExp][] = [
    ['a: 1\nb: *x', /line 2: \* is not read/],
    ['a: |\n  text', /line 1: \| is not read/],
    ['a: 1\n--- \nb: 2', /line 2: more than one document/],
    ['a: 1\n  b: 2', /line 2: unexpected indentation/],
    ['a: 1\na: 2', /line 2: key "a" already set/],
    ['\ta: 1', /line 1: a tab begins the line/],
    ['a: "x', /line 1: a quoted text is not closed/],
    ['a: [1', /line 1: a /],
    ['a: b: c', /line 1: a mapping is not allowed here/],
    ['- a\nb: 1', /line 2: unexpected indentation/],
    [`${'- '.repeat(100)}a`, /nested too deeply/],
    [`a: ${'['.repeat(100)}`, /nested too deeply/],
  ];
  for (const [text, message] of cases) assert.throws(() => parseYaml(text), message, text);
});

test('any text is read or refused; nothing else happens', () => {
  const pieces = [
    'a',
    ': ',
    ':',
    '- ',
    '-',
    '\n',
    '  ',
    '#',
    '"',
    "'",
    '[',
    ']',
    '{',
    '}',
    ',',
    '1',
    '---',
    '\\',
    '\t',
  ];
  const texts = fc.array(fc.constantFrom(...pieces), { maxLength: 40 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(texts, (text) => {
      try {
        parseYaml(text);
      } catch (cause) {
        assert.ok(cause instanceof YamlError, String(cause));
      }
    }),
    { numRuns: 2000 },
  );
});

test('what is written plainly is read again', () => {
  const word = fc
    .stringMatching(/^[a-z][a-z0-9._/=-]{0,8}$/)
    .filter((text) => !/^(true|false|null)$/.test(text));
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof({ maxDepth: 3 }, word, fc.integer(), fc.boolean(), tie('list'), tie('map')),
    list: fc.array(tie('value'), { minLength: 1, maxLength: 4 }),
    map: fc.dictionary(word, tie('value'), { minKeys: 1, maxKeys: 4 }),
  }));
  const write = (node: unknown, indent: string): string => {
    const isNested = (inner: unknown) => typeof inner === 'object' && inner !== null;
    const below = (inner: unknown) => (isNested(inner) ? `\n${write(inner, `${indent}  `)}` : ` ${inner}\n`);
    if (Array.isArray(node)) return node.map((inner) => `${indent}-${below(inner)}`).join('');
    if (!isNested(node)) return `${indent}${node}\n`;
    return Object.entries(node as object)
      .map(([key, inner]) => `${indent}${key}:${below(inner)}`)
      .join('');
  };
  fc.assert(
    fc.property(value, (node) => assert.deepEqual(parseYaml(write(node, '')), structuredClone(node))),
  );
});
