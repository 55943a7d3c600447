import assert from 'node:assert/strict';
import test from 'node:test';
import { nameBytes, RCODE, rcodeOf, readName, TYPE } from '../../../src/lib/dns-message.ts';
import { type AskOthers, DnsAnswers, reversedAddress } from '../../../src/network/dns-answers.ts';
import { Names } from '../../../src/network/names.ts';
import { queryBytes } from '../../support/dns.ts';

function answers(o: { askOthers?: AskOthers; isNdotsSet?: boolean } = {}): DnsAnswers {
  const names = new Names();
  for (const [at, id] of ['c1', 'c2', 'c3'].entries())
    names.join({
      networkId: 'n',
      networkName: 'net',
      isInternal: false,
      containerId: id,
      ipAddress: `10.0.0.${at + 1}`,
      ipv6Address: id === 'c1' ? 'fd00::1' : '',
      names: [id, 'all'],
      links: {},
    });
  return new DnsAnswers({
    containerId: 'c1',
    names,
    isNdotsSet: o.isNdotsSet ?? false,
    askOthers: o.askOthers ?? (async () => undefined),
  });
}

/** The data of the records in an answer that has no name compressed but the question's. */
function recordsIn(answer: Buffer | undefined): Buffer[] {
  assert.ok(answer);
  let at = (readName(answer, 12)?.end ?? 0) + 4;
  return Array.from({ length: answer.readUInt16BE(6) }, () => {
    const end = at + 12 + answer.readUInt16BE(at + 10);
    const data = answer.subarray(at + 12, end);
    at = end;
    return data;
  });
}

test('addresses of both families, none where the name has none, mail as dockerd', async () => {
  const own = answers();
  const ask = async (name: string, type: number) => {
    const answer = await own.answer(queryBytes(name, { type }), 'udp');
    return [rcodeOf(answer ?? Buffer.alloc(4)), recordsIn(answer).map((data) => data.toString('hex'))];
  };
  assert.deepEqual(await ask('c2', TYPE.A), [RCODE.OK, ['0a000002']]);
  assert.deepEqual(await ask('c1.net', TYPE.AAAA), [RCODE.OK, ['fd000000000000000000000000000001']]);
  assert.deepEqual(await ask('c2', TYPE.AAAA), [RCODE.OK, []]);
  assert.deepEqual(await ask('c2', TYPE.MX), [RCODE.OK, []]);
  assert.deepEqual(await ask('c9', TYPE.A), [RCODE.SERVER_FAILURE, []]);
  const ptr = nameBytes('c2.net')?.toString('hex');
  assert.deepEqual(await ask('2.0.0.10.in-addr.arpa', TYPE.PTR), [RCODE.OK, [ptr]]);
});

test('the first of several is another one from time to time', async () => {
  const own = answers();
  const firsts = new Set<string>();
  for (let round = 0; round < 200 && firsts.size < 3; round++) {
    const records = recordsIn(await own.answer(queryBytes('all'), 'udp'));
    assert.equal(records.length, 3);
    firsts.add(records[0]?.toString('hex') ?? '');
  }
  assert.equal(firsts.size, 3);
});

test('others are asked for what is not ours, other types of our own names too', async () => {
  const asked: string[] = [];
  const own = answers({
    askOthers: async ({ query }) => {
      asked.push(`${query.name}/${query.type}`);
      return undefined;
    },
  });
  await own.answer(queryBytes('example.com'), 'udp');
  await own.answer(queryBytes('c2', { type: 16 }), 'udp');
  await own.answer(queryBytes('9.9.9.9.in-addr.arpa', { type: TYPE.PTR }), 'udp');
  await own.answer(queryBytes('c2'), 'udp');
  assert.deepEqual(asked, ['example.com/1', 'c2/16', '9.9.9.9.in-addr.arpa/12']);
});

test('with ndots of somebody’s wish, a name without a dot stays here', async () => {
  const own = answers({ isNdotsSet: true, askOthers: async () => assert.fail('asked') });
  const answer = await own.answer(queryBytes('nobody'), 'udp');
  assert.deepEqual([rcodeOf(answer ?? Buffer.alloc(4)), recordsIn(answer)], [RCODE.OK, []]);
});

test('so many questions to others at once and no more', async () => {
  const waiting: (() => void)[] = [];
  const own = answers({
    askOthers: () => new Promise((resolve) => waiting.push(() => resolve(undefined))),
  });
  const all = Array.from({ length: 200 }, () => own.answer(queryBytes('example.com'), 'udp'));
  const refused = await Promise.all(all.slice(128));
  assert.ok(refused.every((answer) => rcodeOf(answer ?? Buffer.alloc(4)) === RCODE.SERVER_FAILURE));
  assert.equal(waiting.length, 128);
  for (const finish of waiting) finish();
  await Promise.all(all);
});

test('addresses read from names', () => {
  assert.deepEqual(reversedAddress('4.3.2.1.IN-ADDR.ARPA'), Buffer.of(1, 2, 3, 4));
  const digits = '1'.padStart(32, '0').split('').reverse().join('.');
  assert.equal(reversedAddress(`${digits}.ip6.arpa`)?.toString('hex'), '1'.padStart(32, '0'));
  for (const name of ['3.2.1.in-addr.arpa', '256.3.2.1.in-addr.arpa', 'x.ip6.arpa', '1.2.3.4', 'arpa', ''])
    assert.equal(reversedAddress(name), undefined, name);
});
