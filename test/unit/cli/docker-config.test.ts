import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { credentialsFor, readCredentials } from '../../../src/cli/docker-config.ts';

let directory: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'skt-config-'));
});

after(() => rm(directory, { recursive: true }));

async function configure(config: unknown) {
  await writeFile(join(directory, 'config.json'), JSON.stringify(config));
  const env = { DOCKER_CONFIG: directory, PATH: `${directory}:/usr/bin:/bin` };
  return (domain: string) => credentialsFor(domain, env, new AbortController());
}

async function helper(name: string, script: string): Promise<void> {
  await writeFile(join(directory, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

const base64 = (text: string) => Buffer.from(text).toString('base64');

test('credentials are those that docker login left for the registry', async () => {
  const ask = await configure({
    auths: {
      'https://index.docker.io/v1/': { auth: base64('me:a:b') },
      'registry.example:5000': { auth: base64('<token>:'), identitytoken: 'refresh' },
      'empty.example': {},
    },
  });
  assert.deepEqual(await ask('docker.io'), { username: 'me', password: 'a:b' });
  assert.deepEqual(await ask('registry.example:5000'), { username: '<token>', identityToken: 'refresh' });
  assert.equal(await ask('registry.example'), undefined);
  assert.equal(await ask('empty.example'), undefined);
  const all = await readCredentials({ DOCKER_CONFIG: directory });
  assert.deepEqual(Object.keys(all), ['https://index.docker.io/v1/', 'registry.example:5000']);
});

test('programs that keep credentials are asked first, each for its registries', async () => {
  await helper('one', 'read -r server; echo "{\\"Username\\":\\"$1\\",\\"Secret\\":\\"$server\\"}"');
  await helper('token', 'echo \'{"Username":"<token>","Secret":"refresh"}\'');
  await helper('none', 'echo "credentials not found in native keychain"; exit 1');
  const auths = { 'other.example': { auth: base64('me:file') } };
  const ask = await configure({
    credHelpers: { 'a.example': 'one', 'b.example:5000': 'token' },
    credsStore: 'none',
    auths,
  });
  assert.deepEqual(await ask('a.example'), { username: 'get', password: 'a.example' });
  assert.deepEqual(await ask('b.example:5000'), { identityToken: 'refresh' });
  assert.deepEqual(await ask('other.example'), { username: 'me', password: 'file' });
  assert.equal(await ask('docker.io'), undefined);
});

test('a keeper that is missing or talks nonsense is named; one whose name is a path is not run', async () => {
  await helper('nonsense', 'echo hello');
  const ask = await configure({
    credHelpers: { a: 'missing', b: 'nonsense', c: '../docker-credential-one' },
  });
  await assert.rejects(ask('a'), /docker-credential-missing/);
  await assert.rejects(ask('b'), /docker-credential-nonsense gave no JSON/);
  assert.equal(await ask('c'), undefined);
});

test('without a file, or with one that is no JSON, there are no credentials', async () => {
  const env = { DOCKER_CONFIG: join(directory, 'nowhere') };
  assert.equal(await credentialsFor('a.example', env, new AbortController()), undefined);
  await writeFile(join(directory, 'config.json'), '{');
  assert.equal(
    await credentialsFor('a.example', { DOCKER_CONFIG: directory }, new AbortController()),
    undefined,
  );
});
