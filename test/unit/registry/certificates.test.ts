import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { Certificates } from '../../../src/registry/certificates.ts';
import { makeCertificate } from '../../support/certificate.ts';

const directory = await mkdtemp(join(tmpdir(), 'skt-certs-'));
const { certificate, key } = await makeCertificate();
const [first, second] = [join(directory, 'first'), join(directory, 'second')];

/** The system's are read once, by all. */
const certificates = new Certificates({ directories: [first, second], bundles: [join(directory, 'none')] });

after(() => rm(directory, { recursive: true }));
beforeEach(async () => {
  for (const one of [first, second]) await rm(one, { recursive: true, force: true });
});

async function place(base: string, host: string, files: Record<string, string>): Promise<void> {
  await mkdir(join(base, host), { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(base, host, name), text);
}

test('hosts without files share one trust, those with files have one each', async () => {
  await place(first, 'a:5000', { 'ca.crt': certificate });
  await place(second, 'b', { 'ca.crt': certificate, 'README.txt': 'not read' });
  const [none, other, a, b] = await Promise.all(
    ['c', 'a', 'a:5000', 'b'].map((host) => certificates.of(host)),
  );
  assert.equal(none, other);
  assert.equal(none?.key, '');
  assert.notEqual(a?.key, b?.key);
  assert.equal(await certificates.of('a:5000'), a);
});

test('files that change count at once, and so do those that go', async () => {
  await place(first, 'a', { 'ca.crt': certificate });
  const before = await certificates.of('a');
  await place(first, 'a', { 'client.cert': certificate, 'client.key': key });
  const changed = await certificates.of('a');
  assert.notEqual(changed.key, before.key);
  await rm(join(first, 'a'), { recursive: true });
  assert.equal((await certificates.of('a')).key, '');
});

test('https’ own port may be written or not', async () => {
  await place(first, 'a:443', { 'ca.crt': certificate });
  assert.match((await certificates.of('a')).key, /a:443\/ca\.crt/);
  assert.equal((await certificates.of('a:5000')).key, '');
});

for (const [name, files, message] of [
  [
    'a certificate without its key',
    { 'client.cert': certificate },
    'missing key client.key for client certificate client.cert. CA certificates must use the extension .crt',
  ],
  ['a key without its certificate', { 'x.key': key }, 'missing client certificate x.cert for key x.key'],
  ['an authority that is none', { 'ca.crt': 'nothing' }, /ca\.crt: there is no certificate in PEM form/],
  ['an authority that is broken', { 'ca.crt': certificate.replace('MII', 'IIM') }, /ca\.crt: /],
  [
    'a key of another certificate',
    { 'x.cert': certificate, 'x.key': (await makeCertificate()).key },
    /x\.cert: .*key values mismatch/,
  ],
] as const) {
  test(`refused with 400: ${name}`, async () => {
    await place(first, 'a', files);
    await assert.rejects(certificates.of('a'), (cause: { failure: object; message: string }) => {
      assert.equal((cause.failure as { status: number }).status, 400);
      if (typeof message === 'string') assert.equal(cause.message, message);
      else assert.match(cause.message, message);
      return true;
    });
    assert.equal((await certificates.of('b')).key, '', 'nobody else is concerned');
  });
}
