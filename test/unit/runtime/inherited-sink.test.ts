import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sinkOfMonitor } from '../../../src/runtime/inherited-sink.ts';

test('where an older run logs is read from what its monitor was told', () => {
  const words = ['conmon', '--cid', 'c', '--log-path', 'k8s-file:/data/a b/log', '--log-size-max', '500'];
  const file = {
    kind: 'file',
    path: '/data/a b/log',
    generationBytes: 500,
    limitBytes: 1500,
    compresses: false,
  };
  assert.deepEqual(sinkOfMonitor(words), file);
  assert.deepEqual(sinkOfMonitor(words.slice(0, 5)), { kind: 'none' }); // it has no limit
  assert.deepEqual(sinkOfMonitor(['conmon', '--log-path', 'none', '--log-size-max', '5']), { kind: 'none' });
  assert.deepEqual(sinkOfMonitor([]), { kind: 'none' });
});
