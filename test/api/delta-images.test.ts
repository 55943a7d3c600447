import assert from 'node:assert/strict';
import test from 'node:test';
import type { DeltaImageRequest } from '../../src/api/delta-images.ts';
import type { Progress } from '../../src/engine/progress.ts';
import { fail } from '../../src/errors.ts';
import { ceilings, world } from './world.ts';

test('a delta image: asked for in every version, told of in a stream', async (t) => {
  const seen: DeltaImageRequest[] = [];
  const make = async (request: DeltaImageRequest, { progress }: { progress: Progress }) => {
    seen.push(request);
    if (request.source === '')
      throw fail.noImageForDelta('', fail.invalidReference('invalid reference format'));
    progress({ status: 'Waiting', progressDetail: {}, id: 'a' });
    if (request.tag === 'late') throw fail.noSpace('no space left on device');
  };
  for (const ceiling of ceilings) {
    const w = await world(t, { ceiling, engine: { deltaImages: { make } } });
    const told = '{"status":"Waiting","progressDetail":{},"id":"a"}\r\n';
    const answer = await w.call('POST /images/delta?src=a%2Fb%3A1&dest=c');
    assert.deepEqual(
      [answer.status, answer.headers['content-type'], answer.text],
      [200, 'application/json', told],
    );
    const late = await w.call('POST /v1.30/images/delta?src=a&dest=c&t=late');
    const error = 'no space left on device';
    assert.equal(late.text, `${told}${JSON.stringify({ errorDetail: { message: error }, error })}\r\n`);
    const early = await w.call('POST /images/delta');
    assert.deepEqual(
      [early.status, early.json],
      [400, { message: 'no such image: : invalid reference format' }],
    );
    assert.equal((await w.call('GET /images/delta')).status, 404);
  }
  assert.deepEqual(seen.slice(0, 3), [
    { source: 'a/b:1', target: 'c', tag: '' },
    { source: 'a', target: 'c', tag: 'late' },
    { source: '', target: '', tag: '' },
  ]);
});
