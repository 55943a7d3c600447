import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { run } from '../../src/host/exec.ts';
import { boxImage } from '../support/box-image.ts';
import { makeAuthority } from '../support/certificate.ts';
import { TestEngine } from '../support/engine.ts';
import { startForwardProxy } from '../support/forward-proxy.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { registryUser, startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeLayer, push } from '../support/registry-images.ts';
import { startTokenServer, type TokenServer } from '../support/token-server.ts';

/** The docker CLI, the daemon and real registries: logging in, certificates, mirrors, a proxy. */
const ADDRESS = '10.66.0.2'; // on loopback every registry is an insecure one
const stack = new AsyncDisposableStack();
let engine: TestEngine;
let directory: string;
/** An open door to the storage of all. */
let open: TestRegistry;
/** With a password, behind a private authority that certs.d knows. */
let secure: TestRegistry;
/** The same behind one that it does not know. */
let stranger: TestRegistry;
let tokens: TokenServer;
let tokened: TestRegistry;

before(async () => {
  await enterOwnNetwork();
  assert.equal((await run('ip', ['address', 'add', `${ADDRESS}/32`, 'dev', 'lo'])).code, 0);
  directory = await mkdtemp(join(tmpdir(), 'skt-registries-'));
  stack.defer(() => rm(directory, { recursive: true }));
  open = stack.use(await startRegistry());
  const { storage } = open;
  await push(open.host, 'library/box', ['1', 'latest'], await boxImage());
  const more = await makeLayer({ 'etc/more': 'more\n' });
  await push(open.host, 'library/box', ['2'], await boxImage({ layers: [more] }));
  const [known, unknown] = [await makeAuthority(), await makeAuthority()];
  const guarded = { isPasswordWanted: true, storage, address: ADDRESS };
  secure = stack.use(await startRegistry({ ...guarded, certificate: await known.issue(`IP:${ADDRESS}`) }));
  stranger = stack.use(
    await startRegistry({ ...guarded, certificate: await unknown.issue(`IP:${ADDRESS}`) }),
  );
  tokens = stack.use(await startTokenServer({ users: { bob: 'secret' }, givesIdentityTokens: true }));
  tokened = stack.use(await startRegistry({ tokenServer: tokens, storage }));
  await mkdir(join(directory, secure.host), { recursive: true });
  await writeFile(join(directory, secure.host, 'ca.crt'), known.certificate);
  const gone = await startRegistry();
  await gone[Symbol.asyncDispose]();
  engine = await TestEngine.start({
    flags: [
      ...['--registry-certs', directory],
      ...['--registry-mirror', `http://${gone.host}`, '--registry-mirror', `http://${open.host}`],
    ],
  });
});

after(async () => {
  await engine.clear();
  await engine.stop();
  const left = await engine.remains();
  await engine[Symbol.asyncDispose]();
  await stack.disposeAsync();
  assert.deepEqual(left, []);
});

const login = (host: string, { username, password } = registryUser) =>
  engine.docker(['login', '--username', username, '--password-stdin', host], { input: password });

test('without a login nothing is given', async () => {
  const { code, stderr } = await engine.docker(['pull', `${secure.host}/library/box:1`]);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /Get "https:\/\/10\.66\.0\.2:\d+\/v2\/library\/box\/manifests\/1": no basic auth credentials/,
  );
});

test('login: a wrong password is told of in the words of dockerd', async () => {
  const { code, stderr } = await login(secure.host, { ...registryUser, password: 'guess' });
  assert.equal(code, 1);
  const words = `Error response from daemon: login attempt to https://${secure.host}/v2/ failed with status: 401 Unauthorized`;
  assert.ok(stderr.includes(words), stderr);
  const refused = await login(tokened.host, { username: 'bob', password: 'guess' });
  assert.equal(refused.code, 1);
  const reason = `Error response from daemon: Get "http://${tokened.host}/v2/": unauthorized: incorrect username or password`;
  assert.ok(refused.stderr.includes(reason), refused.stderr);
});

test('login, pull and push at a registry with a password, TLS and an authority of its own', async () => {
  assert.match((await login(secure.host)).stdout, /Login Succeeded/);
  const [box, copy] = [`${secure.host}/library/box:1`, `${secure.host}/own/copy:1`];
  assert.match(await engine.ok(['pull', box]), /Downloaded newer image for/);
  await engine.ok(['tag', box, copy]);
  const digest = /digest: (sha256:\w+)/.exec(await engine.ok(['push', copy]))?.[1];
  await engine.ok(['rmi', box, copy]);
  await engine.ok(['pull', `${secure.host}/own/copy@${digest}`]);
  await engine.ok(['logout', secure.host]);
  assert.equal((await engine.docker(['pull', box])).code, 1);
});

test('a registry whose authority nobody knows is not spoken to, and no password is given to it', async () => {
  const { code, stderr } = await login(stranger.host);
  assert.equal(code, 1);
  assert.match(stderr, /x509: certificate signed by unknown authority/);
  assert.doesNotMatch(await stranger.log(), /"http\.request\.uri"/);
});

test('login at a token server: the CLI keeps its identity token instead of the password', async () => {
  assert.match(
    (await login(tokened.host, { username: 'bob', password: 'secret' })).stdout,
    /Login Succeeded/,
  );
  const { auths } = JSON.parse(await readFile(join(engine.directory, 'cli/config.json'), 'utf8'));
  assert.equal(auths[tokened.host].identitytoken, tokens.identityToken('bob'));
  await engine.ok(['pull', `${tokened.host}/library/box:2`]);
  assert.equal(tokens.requests.at(-1)?.method, 'POST');
});

test('a mirror that is down is passed over; all tags come', async () => {
  const said = await engine.ok(['pull', '--all-tags', 'box']);
  assert.match(said, /Status: Downloaded newer image for box/);
  const tags = await engine.ok(['images', '--format', '{{.Tag}}', 'box']);
  assert.deepEqual(tags.split('\n').toSorted(), ['1', '2', 'latest']);
  assert.match(await engine.log(), /mirror passed over/);
});

test('distribution tells what a registry has, or why not', async () => {
  const name = `${open.host}%2Flibrary%2Fbox`;
  const found = await engine.json(`/distribution/${name}:1/json`);
  assert.match(found.Descriptor.digest, /^sha256:/);
  assert.equal(found.Platforms[0].os, 'linux');
  const { status, text } = await engine.get(`/distribution/${name}:nope/json`);
  assert.equal(status, 404);
  assert.deepEqual(JSON.parse(text), { message: 'manifest unknown: manifest unknown' });
});

test('search at a registry that cannot', async () => {
  const { code, stderr } = await engine.docker(['search', `${open.host}/box`]);
  assert.equal(code, 1);
  assert.match(stderr, /Unexpected status code 404/);
});

test('everything but this machine is reached through the proxy, whose password nobody sees', async () => {
  await using proxy = await startForwardProxy({ user: 'eve:hidden' });
  await engine.stop();
  await engine.boot(['--https-proxy', proxy.url, '--no-proxy', 'a.b,c.d']);
  await login(secure.host);
  await engine.ok(['pull', `${secure.host}/library/box:latest`]);
  await engine.ok(['pull', `${open.host}/library/box:latest`]);
  assert.deepEqual(
    [...new Set(proxy.requests.map(({ method, target }) => `${method} ${target}`))],
    [`CONNECT ${secure.host}`],
  );
  const info = await engine.json('/info');
  assert.equal(info.HttpsProxy, `http://xxxxx:xxxxx@${proxy.host}`);
  assert.equal(info.NoProxy, 'a.b,c.d');
  proxy.refuse(403);
  const { stderr } = await engine.docker(['pull', `${secure.host}/library/box:2`]);
  assert.match(stderr, /Get "https:\/\/10\.66\.0\.2:\d+\/v2\/\S*": Forbidden/);
  assert.doesNotMatch(await engine.log(), /hidden/);
});
