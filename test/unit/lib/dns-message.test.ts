import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import {
  isAnswerTo,
  nameBytes,
  type Query,
  RCODE,
  readName,
  readQuery,
  TYPE,
  withId,
  writeAnswer,
  writeFailure,
} from '../../../src/lib/dns-message.ts';
import { queryBytes } from '../../support/dns.ts';

function read(bytes: Buffer): Query {
  const query = readQuery(bytes);
  assert.ok(query !== undefined && 'name' in query);
  return query;
}

const label = fc.stringMatching(/^[A-Za-z0-9_-]{1,63}$/);
const name = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'));

test('a query is read as it was written', () => {
  fc.assert(
    fc.property(
      name,
      fc.integer({ min: 0, max: 65535 }),
      fc.option(fc.integer({ min: 1, max: 65535 })),
      (asked, id, edns) => {
        fc.pre(nameBytes(asked) !== undefined);
        const query = read(queryBytes(asked, { id, ...(edns !== null && { edns }) }));
        assert.deepEqual(
          { name: query.name, id: query.id, type: query.type, class: query.class, hasEdns: query.hasEdns },
          { name: asked, id, type: TYPE.A, class: 1, hasEdns: edns !== null },
        );
        assert.equal(query.udpBytes, Math.max(512, edns ?? 0));
      },
    ),
  );
});

test('whatever arrives: never a throw, and no answer to an answer', () => {
  const mangled = fc
    .tuple(name, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 }), fc.nat())
    .filter(([asked]) => nameBytes(asked) !== undefined)
    .map(([asked, changes, cut]) => {
      const bytes = queryBytes(asked, { edns: 1232 });
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      return bytes.subarray(0, cut % 7 === 0 ? cut % bytes.length : bytes.length);
    });
  const anything = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.oneof(mangled, anything), (bytes) => {
      const query = readQuery(bytes);
      if (bytes.length < 12 || (bytes[2] ?? 0) & 0x80) assert.equal(query, undefined);
      if (query !== undefined) assert.ok(writeFailure(query, RCODE.SERVER_FAILURE).length >= 12);
    }),
    { numRuns: 500 },
  );
});

test('names with pointers come to an end', () => {
  const bytes = Buffer.from('\x03web\xc0\x06\x00\x03net\x00\x01a\xc0\x07\xc0\x10\xc0\x0f', 'latin1');
  assert.equal(readName(bytes, 6)?.name, '');
  assert.deepEqual(readName(bytes, 12), { name: 'a.net', end: 16, isCompressed: true });
  assert.equal(readName(bytes, 16), undefined, 'a pointer to itself');
  assert.equal(readName(bytes, 18), undefined, 'a pointer that does not lead back before the name');
  assert.equal(readName(bytes, 0), undefined, 'a pointer forwards');
  assert.equal(readName(Buffer.from([63, ...Buffer.alloc(20)]), 0), undefined, 'cut short');
  const long = Buffer.concat([...Array.from({ length: 5 }, () => Buffer.alloc(60, 59)), Buffer.of(0)]);
  assert.equal(readName(long, 0), undefined, 'longer than a name can be');
});

test('a dot within a label is no border', () => {
  assert.equal(readName(Buffer.from('\x07web.net\x00', 'latin1'), 0)?.name, 'web\\.net');
});

test('what is not a question is told so', () => {
  const notify = readQuery(queryBytes('web', { flags: 0x2000 }));
  assert.deepEqual(notify, { id: 7, flags: 0x2000, rcode: RCODE.NOT_IMPLEMENTED });
  const two = queryBytes('web');
  two[5] = 2;
  assert.deepEqual(readQuery(two), { id: 7, flags: 0x0100, rcode: RCODE.FORMAT_ERROR });
});

test('an answer that does not fit loses records and says so', () => {
  const query = read(queryBytes('web'));
  const records = Array.from({ length: 100 }, (_, at) => ({
    type: TYPE.A,
    ttlSeconds: 600,
    bytes: Buffer.of(10, 0, 0, at),
  }));
  const whole = writeAnswer(query, records, 65535);
  assert.equal(whole.readUInt16BE(6), 100);
  assert.equal(whole.readUInt16BE(2), 0x8180);
  const cut = writeAnswer(query, records, 512);
  assert.ok(cut.length <= 512 && cut.length > 480);
  assert.equal(cut.readUInt16BE(2), 0x8380);
  assert.equal(cut.length, 12 + query.question.length + 16 * cut.readUInt16BE(6));
  const edns = writeAnswer(read(queryBytes('web', { edns: 1232 })), records, 1232);
  assert.ok(edns.length <= 1232);
  assert.equal(edns.readUInt16BE(10), 1);
});

test('only an answer to this very question is one', () => {
  const query = read(queryBytes('Web.example'));
  const answer = withId(writeAnswer(query, [], 512), 99);
  assert.ok(isAnswerTo(answer, query, 99));
  assert.ok(isAnswerTo(Buffer.from(answer.toString('latin1').toLowerCase(), 'latin1'), query, 99));
  assert.ok(!isAnswerTo(answer, query, 98), 'another ID');
  assert.ok(!isAnswerTo(queryBytes('Web.example', { id: 99 }), query, 99), 'a question');
  const other = withId(writeAnswer(read(queryBytes('Wab.example')), [], 512), 99);
  assert.ok(!isAnswerTo(other, query, 99), 'another name');
  const type = withId(writeAnswer(read(queryBytes('Web.example', { type: 28 })), [], 512), 99);
  assert.ok(!isAnswerTo(type, query, 99), 'another type');
  const bare = Buffer.from([0, 99, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
  assert.ok(isAnswerTo(bare, query, 99), 'a failure without the question');
  bare[3] = 0x80;
  assert.ok(!isAnswerTo(bare, query, 99), 'a success without the question');
});
