import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { Failure, fail } from '../../../src/errors.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import { type BlobPart, type BlobRequest, blobStream } from '../../../src/registry/blob-stream.ts';
import { flowing } from '../../../src/registry/flow.ts';
import { Setback } from '../../../src/registry/setback.ts';

const content = randomBytes(200_000);

function request(open: BlobRequest['open'], o: Partial<BlobRequest> = {}): BlobRequest {
  return {
    digest: digestOf(content),
    size: content.length,
    open,
    sourceCount: 1,
    firstSource: 0,
    maxAttempts: 3,
    backoffMs: 1,
    stallMs: 1000,
    onMismatch: () => fail.verification('filesystem layer', digestOf(content)),
    signal: new AbortController().signal,
    ...o,
  };
}

function part(bytes: Buffer, startsAt: number, chunkBytes = 16_384): BlobPart {
  const chunks = [];
  for (let at = 0; at < bytes.length; at += chunkBytes) chunks.push(bytes.subarray(at, at + chunkBytes));
  return { body: Readable.from(chunks), startsAt };
}

const passing = () => new Setback(fail.registry('busy'), { isPassing: true });

test('whatever the server does at each try, all bytes arrive in order or it fails', async () => {
  const turn = fc.record({
    act: fc.constantFrom('setback', 'part', 'part', 'part'),
    bytes: fc.nat(90_000),
    isDeaf: fc.boolean(),
    chunkBytes: fc.integer({ min: 1000, max: 70_000 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(turn, { maxLength: 12 }), async (turns) => {
      let at = 0;
      const open: BlobRequest['open'] = async (offset) => {
        const { act, bytes, isDeaf, chunkBytes } = turns[at++] ?? {
          act: 'part',
          bytes: content.length,
          isDeaf: true,
          chunkBytes: 5000,
        };
        if (act === 'setback') throw passing();
        const startsAt = isDeaf ? 0 : offset;
        return part(content.subarray(startsAt, offset + bytes), startsAt, chunkBytes);
      };
      try {
        assert.ok((await buffer(blobStream(request(open)))).equals(content));
      } catch (cause) {
        assert.ok(cause instanceof Failure && /^(busy|unexpected EOF)$/.test(cause.message), String(cause));
      }
    }),
    { numRuns: 60 },
  );
});

test('a connection that brings enough counts as a success: the tries begin anew', async () => {
  let tries = 0;
  const open: BlobRequest['open'] = async (offset) => {
    tries++;
    if (tries % 2 === 0) throw passing();
    return part(content.subarray(offset, offset + 65_536), offset);
  };
  assert.ok((await buffer(blobStream(request(open, { maxAttempts: 2 })))).equals(content));
  assert.equal(tries, 7);
});

test('what cannot pass is not tried again', async () => {
  let tries = 0;
  const open: BlobRequest['open'] = async () => {
    tries++;
    throw new Setback(fail.registry('unknown blob'));
  };
  await assert.rejects(buffer(blobStream(request(open))), { message: 'unknown blob' });
  assert.equal(tries, 1);
});

test('a wait that the server asks for is kept, unless it is too long to be taken seriously', async () => {
  const began = performance.now();
  let tries = 0;
  const busy = (waitMs: number) =>
    new Setback(fail.registry('toomanyrequests: x'), { isPassing: true, waitMs });
  const open: BlobRequest['open'] = async (offset) => {
    if (tries++ === 0) throw busy(100);
    return part(content.subarray(offset), offset);
  };
  assert.ok((await buffer(blobStream(request(open)))).equals(content));
  assert.ok(performance.now() - began >= 95);
  const refuse: BlobRequest['open'] = async () => {
    throw busy(3_600_000);
  };
  await assert.rejects(buffer(blobStream(request(refuse))), { message: 'toomanyrequests: x' });
});

test('with several sources, one that brings nothing is left for the next, without a pause', async () => {
  const asked: number[] = [];
  const open: BlobRequest['open'] = async (offset, source) => {
    asked.push(source);
    if (source !== 1) throw new Setback(fail.registry('not here'));
    return part(content.subarray(offset), offset);
  };
  const o = { sourceCount: 3, firstSource: 2, backoffMs: 10_000 };
  assert.ok((await buffer(blobStream(request(open, o)))).equals(content));
  assert.deepEqual(asked, [2, 0, 1]);
});

test('wrong bytes never end cleanly; more bytes than wanted are not given', async () => {
  const wrong = Buffer.from(content);
  wrong[100] = (wrong[100] ?? 0) ^ 1;
  const open =
    (bytes: Buffer): BlobRequest['open'] =>
    async (offset) =>
      part(bytes.subarray(offset), offset);
  await assert.rejects(buffer(blobStream(request(open(wrong)))), { code: 'CORRUPT' });
  const longer = Buffer.concat([content, Buffer.from('and more')]);
  assert.ok((await buffer(blobStream(request(open(longer))))).equals(content));
});

test('an empty blob needs nobody; a wrong digest of nothing is wrong', async () => {
  const open: BlobRequest['open'] = async () => assert.fail('nothing is to be fetched');
  assert.equal((await buffer(blobStream(request(open, { size: 0, digest: digestOf('') })))).length, 0);
  await assert.rejects(buffer(blobStream(request(open, { size: 0 }))), { code: 'CORRUPT' });
});

test('what is kept comes first, and only the rest is fetched', async () => {
  const offsets: number[] = [];
  const open: BlobRequest['open'] = async (offset) => {
    offsets.push(offset);
    return part(content.subarray(offset), offset);
  };
  const keptOf = (bytes: number, read: (bytes: Buffer) => Readable) => ({
    bytes,
    read: () => read(content.subarray(0, bytes)) as AsyncIterable<Buffer>,
  });
  const whole = (bytes: Buffer) => part(bytes, 0).body;
  const broken = (bytes: Buffer) =>
    Readable.from(
      (function* () {
        yield bytes.subarray(0, 50_000);
        throw new Error('EIO');
      })(),
    );
  for (const [kept, offset] of [
    [keptOf(120_000, whole), [120_000]],
    [keptOf(120_000, broken), [50_000]],
    [keptOf(content.length, whole), []],
  ] as const) {
    offsets.length = 0;
    assert.ok((await buffer(blobStream(request(open, { kept })))).equals(content));
    assert.deepEqual(offsets, offset);
  }
  const wrong = keptOf(120_000, (bytes) => whole(Buffer.from(bytes).fill(0, 100, 200)));
  await assert.rejects(buffer(blobStream(request(open, { kept: wrong }))), { code: 'CORRUPT' });
});

test('a bug is not a setback: it comes out as it is', async () => {
  const open: BlobRequest['open'] = async () => {
    throw new TypeError('a bug');
  };
  await assert.rejects(buffer(blobStream(request(open))), TypeError);
});

test('a reader that leaves during a pause ends it', async () => {
  let tries = 0;
  const open: BlobRequest['open'] = async () => {
    tries++;
    throw passing();
  };
  const stream = blobStream(request(open, { backoffMs: 30 }));
  stream.resume();
  await sleep(5);
  stream.destroy();
  await sleep(60);
  assert.equal(tries, 1);
});

test('flow: a slow reader is no silence, next to nothing is', async () => {
  const slow = flowing(Readable.from([Buffer.alloc(10), Buffer.alloc(10)]), 40);
  let chunks = 0;
  for await (const _chunk of slow) {
    chunks++;
    await sleep(120);
  }
  assert.equal(chunks, 2);

  const body = new Readable({ read() {} });
  const drip = setInterval(() => body.push(Buffer.alloc(1)), 5);
  const began = performance.now();
  await assert.rejects(buffer(Readable.from(flowing(body, 80))), {
    message: 'net/http: timeout while reading body',
  });
  clearInterval(drip);
  assert.ok(performance.now() - began < 1000);
});
