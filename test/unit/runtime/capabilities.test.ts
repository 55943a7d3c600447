import assert from 'node:assert/strict';
import { test } from 'node:test';
import { capabilitiesIn } from '../../../src/host/facts.ts';
import { containerCapabilities, DEFAULT_CAPABILITIES } from '../../../src/runtime/capabilities.ts';

const everything = capabilitiesIn((1n << 64n) - 1n);
const request = { capAdd: null, capDrop: null, privileged: false };

test('the defaults are what dockerd gives: mask a80425fb', () => {
  const mask = DEFAULT_CAPABILITIES.reduce(
    (bits, name) => bits | (1n << BigInt(everything.indexOf(name))),
    0n,
  );
  assert.equal(mask.toString(16), 'a80425fb');
  assert.deepEqual(containerCapabilities(request, everything), DEFAULT_CAPABILITIES);
});

test('adding and dropping, with and without the prefix, in any case', () => {
  const changed = containerCapabilities(
    { ...request, capAdd: ['net_admin', 'CAP_CHOWN'], capDrop: ['cap_mknod', 'NET_RAW'] },
    everything,
  );
  const expected = DEFAULT_CAPABILITIES.filter((name) => name !== 'CAP_MKNOD' && name !== 'CAP_NET_RAW');
  assert.deepEqual(changed, [...expected, 'CAP_NET_ADMIN']);
});

test('dropping all leaves only what is added; adding all leaves out only what is dropped', () => {
  assert.deepEqual(containerCapabilities({ ...request, capDrop: ['ALL'], capAdd: ['KILL'] }, everything), [
    'CAP_KILL',
  ]);
  const most = containerCapabilities({ ...request, capAdd: ['all'], capDrop: ['SYS_ADMIN'] }, everything);
  assert.deepEqual(
    most,
    everything.filter((name) => name !== 'CAP_SYS_ADMIN'),
  );
});

test('all is no more than the host has; a default that it lacks is left out', () => {
  const poor = everything.filter((name) => name !== 'CAP_SYS_RESOURCE' && name !== 'CAP_MKNOD');
  assert.deepEqual(containerCapabilities({ ...request, privileged: true }, poor), poor);
  assert.deepEqual(containerCapabilities({ ...request, capAdd: ['ALL'] }, poor), poor);
  assert.ok(!containerCapabilities(request, poor).includes('CAP_MKNOD'));
});

test('what is added by name is passed on even if the host lacks it', () => {
  assert.ok(containerCapabilities({ ...request, capAdd: ['SYS_RESOURCE'] }, []).includes('CAP_SYS_RESOURCE'));
});

test('a name that is none answers 400 in the words of dockerd', () => {
  for (const [field, o] of [
    ['CapAdd', { ...request, capAdd: ['BOGUS'] }],
    ['CapDrop', { ...request, capDrop: ['cap_bogus'], privileged: true }],
  ] as const) {
    assert.throws(() => containerCapabilities(o, everything), {
      status: 400,
      message: `invalid ${field}: unknown capability: "CAP_BOGUS"`,
    });
  }
});
