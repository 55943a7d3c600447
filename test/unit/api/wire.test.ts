import assert from 'node:assert/strict';
import test from 'node:test';
import {
  int64,
  list,
  map,
  nullable,
  pair,
  set,
  struct,
  text,
  trueOrFalse,
  uint16,
  WireError,
  words,
} from '../../../src/api/wire.ts';

interface Pet {
  name: string;
  legs: number;
  nicknames: string[] | null;
  isGood?: boolean;
  owner?: { name: string };
  motto: string;
}

const pet = struct<Pet>('Pet', 'zoo.Pet', {
  name: ['Name', text],
  legs: ['Legs', int64],
  nicknames: ['Nicknames', list(text)],
  isGood: ['Good', trueOrFalse, 'pointer'],
  owner: ['Owner', struct<{ name: string }>('Owner', 'zoo.Owner', { name: ['Name', text] }), 'pointer'],
  motto: ['Motto', text, 'omitempty'],
});

function complaint(work: () => unknown): string {
  try {
    work();
  } catch (cause) {
    if (cause instanceof WireError) return cause.message;
    throw cause;
  }
  return 'none';
}

test('what is absent or null is zero, and a pointer is absent', () => {
  const zero = { name: '', legs: 0, nicknames: null, motto: '' };
  assert.deepEqual(pet.zero(), zero);
  assert.deepEqual(pet.decode({}), zero);
  assert.deepEqual(pet.decode(null), zero);
  assert.deepEqual(pet.decode({ Name: null, Legs: null, Nicknames: null, Good: null, Owner: null }), zero);
});

test('keys match in any case, unknown ones are nothing, the last of several wins', () => {
  assert.equal(pet.decode({ NAME: 'a', name: 'b', constructor: 1, __proto__: 2 }).name, 'b');
  assert.equal(pet.isIn({ motto: null }), true);
  assert.equal(pet.isIn({ Unknown: 1 }), false);
  assert.equal(pet.isIn(null), false);
});

test('empty and null lists are kept apart; omitempty and pointers come out by their rules', () => {
  assert.deepEqual(pet.encode(pet.decode({ Nicknames: [] })), { Name: '', Legs: 0, Nicknames: [] });
  assert.deepEqual(pet.encode(pet.decode({ Good: false, Owner: {}, Motto: 'x' })), {
    Name: '',
    Legs: 0,
    Nicknames: null,
    Good: false,
    Owner: { Name: '' },
    Motto: 'x',
  });
});

test('wrong types are complained of as Go does, with the way to them', () => {
  for (const [json, expected] of [
    [5, 'json: cannot unmarshal number into Go value of type zoo.Pet'],
    [[], 'json: cannot unmarshal array into Go value of type zoo.Pet'],
    [{ name: 5 }, 'json: cannot unmarshal number into Go struct field Pet.Name of type string'],
    [{ Legs: '4' }, 'json: cannot unmarshal string into Go struct field Pet.Legs of type int64'],
    [{ Legs: 1.5 }, 'json: cannot unmarshal number 1.5 into Go struct field Pet.Legs of type int64'],
    [{ Legs: true }, 'json: cannot unmarshal bool into Go struct field Pet.Legs of type int64'],
    [{ Nicknames: 'a' }, 'json: cannot unmarshal string into Go struct field Pet.Nicknames of type []string'],
    [{ Nicknames: [{}] }, 'json: cannot unmarshal object into Go struct field Pet.Nicknames of type string'],
    [
      { Owner: { Name: 1 } },
      'json: cannot unmarshal number into Go struct field Owner.Owner.Name of type string',
    ],
    [{ Owner: 1 }, 'json: cannot unmarshal number into Go struct field Pet.Owner of type zoo.Owner'],
  ] as const) {
    assert.equal(
      complaint(() => pet.decode(json)),
      expected,
    );
  }
  assert.equal(
    complaint(() => uint16.decode(-1)),
    'json: cannot unmarshal number -1 into Go value of type uint16',
  );
});

test('a command is a list of words or one word', () => {
  assert.deepEqual(words.decode('a b'), ['a b']);
  assert.deepEqual(words.decode(['a', null]), ['a', '']);
  assert.equal(words.decode(null), null);
  for (const [json, kind] of [
    [1, 'number'],
    [[1], 'array'],
    [{}, 'object'],
  ] as const) {
    assert.equal(
      complaint(() => words.decode(json)),
      `json: cannot unmarshal ${kind} into Go value of type string`,
    );
  }
});

test('maps keep every key, also one that means something to JavaScript', () => {
  const labels = map(text).decode(JSON.parse('{"__proto__":"a","constructor":"b"}'));
  assert.deepEqual(Object.entries(labels ?? {}), [
    ['__proto__', 'a'],
    ['constructor', 'b'],
  ]);
  assert.equal(JSON.stringify(map(text).encode(labels)), '{"__proto__":"a","constructor":"b"}');
  assert.equal(({} as Record<string, unknown>)['a'], undefined);
});

test('sets, pairs and nullable values', () => {
  assert.deepEqual(set('nat.PortSet').decode({ '80/tcp': {}, '53/udp': { x: 1 } }), {
    '80/tcp': {},
    '53/udp': {},
  });
  assert.equal(
    complaint(() => set('nat.PortSet').decode({ a: 1 })),
    'json: cannot unmarshal number into Go value of type struct {}',
  );
  assert.deepEqual(pair.decode([1]), [1, 0]);
  assert.deepEqual(pair.decode([1, 2, 3]), [1, 2]);
  assert.equal(nullable(int64).decode(null), null);
  assert.equal(nullable(int64).encode(0), 0);
});
