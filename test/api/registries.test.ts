import assert from 'node:assert/strict';
import test from 'node:test';
import { fail } from '../../src/errors.ts';
import { world } from './world.ts';

const DIGEST = `sha256:${'ab'.repeat(32)}`;
const credentials = JSON.stringify({ UserName: 'u', password: 'p', serveraddress: 'r:5000', email: 'old' });

test('auth: the credentials, and the identity token that they are worth', async (t) => {
  const seen: object[] = [];
  const login = async (auth: object) => {
    seen.push(auth);
    return seen.length === 1 ? '' : 'token';
  };
  const w = await world(t, { engine: { registries: { login } } });
  const answer = await w.call('POST /auth', { body: credentials });
  assert.equal(answer.status, 200);
  assert.equal(answer.text, '{"IdentityToken":"","Status":"Login Succeeded"}\n');
  // dockerd reads the body whatever it is called, and not beyond the JSON
  const headers = { 'Content-Type': 'text/plain' };
  const again = await w.call('POST /v1.39/auth', { body: `${credentials} and more`, headers });
  assert.deepEqual(again.json, { IdentityToken: 'token', Status: 'Login Succeeded' });
  const auth = { username: 'u', password: 'p', serverAddress: 'r:5000' };
  assert.deepEqual(seen, [auth, auth]);
});

test('auth: what cannot be read is a 500, what is refused is what the registry says', async (t) => {
  const login = async () => {
    throw fail.registry('Get "https://r/v2/": unauthorized: no', { status: 401 });
  };
  const w = await world(t, { engine: { registries: { login } } });
  for (const [body, message] of [
    ['', 'EOF'],
    ['{"username":', 'unexpected EOF'],
    [
      '{"username":1}',
      'json: cannot unmarshal number into Go struct field AuthConfig.username of type string',
    ],
  ] as const) {
    const answer = await w.call('POST /auth', { body });
    assert.equal(answer.status, 500);
    assert.deepEqual(answer.json, { message });
  }
  const refused = await w.call('POST /auth', { body: credentials });
  assert.equal(refused.status, 401);
  assert.deepEqual(refused.json, { message: 'Get "https://r/v2/": unauthorized: no' });
});

test('distribution: the descriptor, and the platforms as far as they say something', async (t) => {
  const names: string[] = [];
  const none = { osVersion: '', osFeatures: [], variant: '' };
  const inspect = async (name: string, { auth }: { auth?: object }) => {
    names.push(`${name} ${JSON.stringify(auth)}`);
    const platforms = [
      { architecture: 'arm', os: 'linux', ...none, variant: 'v7' },
      { architecture: 'amd64', os: 'windows', osVersion: '10', osFeatures: ['win32k'], variant: '' },
    ];
    const found = { mediaType: 'm', digest: DIGEST, sizeBytes: 7 };
    return { ...found, platforms: name === 'bare' ? [] : platforms };
  };
  const w = await world(t, { engine: { registries: { inspect } } });
  const headers = { 'X-Registry-Auth': Buffer.from('{"username":"u"}').toString('base64url') };
  const answer = await w.call('GET /distribution/r:5000%2Fa/b:1/json', { headers });
  assert.equal(
    answer.text,
    `{"Descriptor":{"mediaType":"m","digest":"${DIGEST}","size":7},"Platforms":[{"architecture":"arm","os":"linux","variant":"v7"},{"architecture":"amd64","os":"windows","os.version":"10","os.features":["win32k"]}]}\n`,
  );
  const bare = await w.call('GET /distribution/bare/json');
  assert.deepEqual(bare.json, {
    Descriptor: { mediaType: 'm', digest: DIGEST, size: 7 },
    Platforms: null,
  });
  assert.deepEqual(names, ['r:5000/a/b:1 {"username":"u"}', 'bare undefined']);
});

test('search: results in the form of the index, and limits as each generation of daemons reads them', async (t) => {
  const seen: object[] = [];
  const search = async (request: { limit?: number | undefined; filters: ReadonlyMap<string, unknown> }) => {
    seen.push({ ...request, filters: Object.fromEntries(request.filters) });
    if (request.limit === 500) throw fail.badRequest('limit 500 is outside the range of [1, 100]');
    return [{ name: 'n', description: 'd', stars: 3, isOfficial: true, isAutomated: false }];
  };
  const at = (ceiling: string) => world(t, { ceiling, engine: { registries: { search } } });
  const [old, newest] = [await at('1.41'), await at('1.45')];
  const filters = encodeURIComponent('{"stars":{"3":true}}');
  const answer = await newest.call(`GET /images/search?term=x&limit=5&filters=${filters}`);
  assert.equal(
    answer.text,
    '[{"star_count":3,"is_official":true,"name":"n","is_automated":false,"description":"d"}]\n',
  );
  await old.call('GET /images/search?term=x');
  assert.deepEqual(seen, [
    { term: 'x', limit: 5, filters: { stars: ['3'] }, auth: undefined, knowsAutomated: false },
    { term: 'x', limit: undefined, filters: {}, auth: undefined, knowsAutomated: true },
  ]);
  for (const [w, limit, status, message] of [
    [old, 'abc', 500, 'strconv.Atoi: parsing "abc": invalid syntax'],
    [newest, 'abc', 400, 'invalid limit specified: strconv.Atoi: parsing "abc": invalid syntax'],
    [old, '500', 400, 'Limit 500 is outside the range of [1, 100]'],
    [newest, '500', 400, 'limit 500 is outside the range of [1, 100]'],
  ] as const) {
    const refused = await w.call(`GET /images/search?term=x&limit=${limit}`);
    assert.deepEqual([refused.status, refused.json], [status, { message }]);
  }
});
