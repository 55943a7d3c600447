import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { parseReference } from '../../../src/lib/reference.ts';
import { parseChallenges } from '../../../src/registry/challenge.ts';
import type { Reached } from '../../../src/registry/hosts.ts';
import { type RegistryAuth, Tokens } from '../../../src/registry/tokens.ts';
import type { Answer, Outgoing } from '../../../src/registry/transport.ts';

const ref = parseReference('reg.example/app/web:1');
const { signal } = new AbortController();
const bob: RegistryAuth = { username: 'bob', password: 'secret' };

function reached(challenge: string, isVerified = true): Reached {
  return { origin: 'https://reg.example', isVerified, challenge: parseChallenges(challenge)[0] };
}

/** A token server that answers what it is told to, and remembers what it was asked. */
class Server {
  readonly asked: { url: string; headers: Outgoing['headers']; payload: string | undefined }[] = [];
  /** The registries whose certificates counted. */
  readonly certificates = new Set<string | undefined>();
  nowMs = 0;
  readonly #answers: object[];

  constructor(...answers: object[]) {
    this.#answers = answers;
  }

  readonly tokens = new Tokens({ transport: this, stallMs: 1000, now: () => this.nowMs });

  async send(url: URL, { headers, payload, certificatesOf }: Outgoing): Promise<Answer> {
    this.certificates.add(certificatesOf);
    this.asked.push({ url: url.href, headers, payload: payload?.toString() });
    const answer = this.#answers.length > 1 ? this.#answers.shift() : this.#answers[0];
    const body = Readable.from([Buffer.from(JSON.stringify(answer))]) as unknown as Answer['body'];
    return { status: 200, statusText: 'OK', headers: {}, body, url };
  }
}

const challenge = 'Bearer realm="https://auth.example/token?x=1",service="reg"';

test('a token is used until nine tenths of its life are over', async () => {
  const server = new Server({ token: 'one', expires_in: 100 }, { access_token: 'two' }, { token: 'three' });
  const ask = () => server.tokens.authorization(reached(challenge), ref, undefined, { signal });
  assert.equal(await ask(), 'Bearer one');
  server.nowMs = 89_000;
  assert.equal(await ask(), 'Bearer one');
  server.nowMs = 90_000;
  assert.equal(await ask(), 'Bearer two');
  server.nowMs += 53_000; // a server that says nothing means a minute
  assert.equal(await ask(), 'Bearer two');
  server.nowMs += 1000;
  assert.equal(await ask(), 'Bearer three');
  assert.equal(
    server.asked[0]?.url,
    'https://auth.example/token?x=1&service=reg&scope=repository%3Aapp%2Fweb%3Apull',
  );
});

test('a registry vouches for its token server: its certificates count there, for passwords and identity tokens', async () => {
  const server = new Server({ token: 'one', refresh_token: 'lasting' });
  const own = reached(challenge);
  await server.tokens.authorization(own, ref, bob, { signal });
  await server.tokens.authorization(own, ref, { identityToken: 'i' }, { signal });
  assert.equal((await server.tokens.login(own, bob, { signal })).identityToken, 'lasting');
  assert.deepEqual([...server.certificates], ['reg.example']);
});

test('those who ask at once share one; a refused one is renewed once, for all', async () => {
  const server = new Server({ token: 'one' }, { token: 'two' });
  const ask = (refused?: string) =>
    server.tokens.authorization(reached(challenge), ref, bob, { refused, signal });
  assert.deepEqual(await Promise.all([ask(), ask()]), ['Bearer one', 'Bearer one']);
  assert.deepEqual(await Promise.all([ask('Bearer one'), ask('Bearer one')]), ['Bearer two', 'Bearer two']);
  assert.equal(await ask('Bearer one'), 'Bearer two');
  assert.equal(server.asked.length, 2);
  const basic = `Basic ${Buffer.from('bob:secret').toString('base64')}`;
  assert.deepEqual(server.asked[0]?.headers, { authorization: basic });
  assert.match(server.asked[0]?.url ?? '', /&account=bob$/);
});

test('a server that gives the same token again does not keep us asking', async () => {
  const server = new Server({ token: 'same' });
  const ask = (refused?: string) =>
    server.tokens.authorization(reached(challenge), ref, bob, { refused, signal });
  await ask();
  assert.equal(await ask('Bearer same'), 'Bearer same');
  assert.equal(server.asked.length, 2);
});

test('an identity token goes into a form, not into an address', async () => {
  const server = new Server({ access_token: 'one' });
  const auth = { identityToken: 'refresh&me' };
  assert.equal(await server.tokens.authorization(reached(challenge), ref, auth, { signal }), 'Bearer one');
  assert.equal(server.asked[0]?.url, 'https://auth.example/token?x=1');
  assert.deepEqual(Object.fromEntries(new URLSearchParams(server.asked[0]?.payload)), {
    grant_type: 'refresh_token',
    client_id: 'skerry',
    refresh_token: 'refresh&me',
    service: 'reg',
    scope: 'repository:app/web:pull',
  });
});

test('credentials do not travel in the clear to the token server of a registry behind https', async () => {
  const server = new Server({ token: 'one' });
  const plain = 'Bearer realm="http://auth.example/token"';
  const ask = (auth: RegistryAuth | undefined, isVerified = true) =>
    server.tokens.authorization(reached(plain, isVerified), ref, auth, { signal });
  await assert.rejects(ask(bob), { message: /is not https: credentials are not sent to it$/ });
  await assert.rejects(ask({ identityToken: 'x' }), /not https/);
  assert.equal(server.asked.length, 0);
  assert.equal(await ask(undefined), 'Bearer one');
  assert.equal(await ask(bob, false), 'Bearer one');
});

test('what no header can carry, and what is no answer', async () => {
  for (const [answer, message] of [
    [{ token: 'a\r\nX-Evil: 1' }, /characters that no header can carry/],
    [{ token: '' }, /did not include a token/],
    [{ token: 7 }, /did not include a token/],
    [[], /did not include a token/],
  ] as const) {
    const { tokens } = new Server(answer);
    await assert.rejects(tokens.authorization(reached(challenge), ref, undefined, { signal }), message);
  }
  const { tokens } = new Server({});
  for (const realm of ['', 'file:///etc/passwd', 'nonsense']) {
    const odd = reached(`Bearer realm="${realm}"`);
    await assert.rejects(
      tokens.authorization(odd, ref, undefined, { signal }),
      /invalid token auth challenge realm/,
    );
  }
});

test('a push asks for the right to push, and for that to mount; each is a token of its own', async () => {
  const server = new Server({ token: 'push' }, { token: 'mount' }, { token: 'pull' });
  const ask = (push?: { from?: string }) =>
    server.tokens.authorization(reached(challenge), ref, undefined, { signal, ...(push && { push }) });
  assert.deepEqual(
    [await ask({}), await ask({ from: 'library/debian' }), await ask(), await ask({})],
    ['Bearer push', 'Bearer mount', 'Bearer pull', 'Bearer push'],
  );
  const scopes = server.asked.map(({ url }) => new URL(url).searchParams.getAll('scope'));
  assert.deepEqual(scopes, [
    ['repository:app/web:pull,push'],
    ['repository:app/web:pull,push', 'repository:library/debian:pull'],
    ['repository:app/web:pull'],
  ]);
});
