import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { parseReference } from '../../../src/lib/reference.ts';
import { startFaultyProxy } from '../../support/faulty-proxy.ts';
import { registryUser, startRegistry } from '../../support/registry.ts';
import { makeImage, makeLayer, push } from '../../support/registry-images.ts';
import { startTokenServer } from '../../support/token-server.ts';
import { testClient } from './pull-suite.ts';

const stack = new AsyncDisposableStack();
const open = stack.use(await startRegistry());
const proxy = stack.use(await startFaultyProxy(open.host));
const client = stack.use(testClient());
await push(open.host, 'app/web', ['1', '2', 'latest'], makeImage({ layers: [await makeLayer({ a: 'b' })] }));
const { signal } = new AbortController();
const ref = parseReference(`${proxy.host}/app/web`);
/** docker-registry lists them in no order. */
const sorted = async (of: Promise<string[]>) => (await of).toSorted();
const list = /\/v2\/app\/web\/tags\/list/;

after(() => stack.disposeAsync());
beforeEach(() => proxy.reset());

/** Answers with one page of tags; `link` is the header that leads to the next. */
function page(path: RegExp, tags: unknown, link?: string): void {
  const headers = link === undefined ? {} : { link };
  const body = JSON.stringify({ name: 'app/web', tags });
  proxy.fault({ path, do: { kind: 'status', status: 200, headers, body } });
}

describe('the tags of a repository', () => {
  test('are what a registry lists', async () => {
    assert.deepEqual(await sorted(client.tags(ref, { signal })), ['1', '2', 'latest']);
  });

  test('come with a password, and with a token', async () => {
    await using guarded = await startRegistry({ isPasswordWanted: true, storage: open.storage });
    const auth = registryUser;
    const tags = client.tags(parseReference(`${guarded.host}/app/web`), { auth, signal });
    assert.deepEqual(await sorted(tags), ['1', '2', 'latest']);
    await using tokenServer = await startTokenServer({ users: { bob: 'secret' } });
    await using tokened = await startRegistry({ tokenServer, storage: open.storage });
    const bob = { username: 'bob', password: 'secret' };
    const theirs = client.tags(parseReference(`${tokened.host}/app/web`), { auth: bob, signal });
    assert.deepEqual(await sorted(theirs), ['1', '2', 'latest']);
  });

  test('come over several pages, whatever host the links name', async () => {
    page(/list\?last=b$/, null);
    page(/list\?last=a&n=1$/, ['b'], '</v2/app/web/tags/list?last=b>;rel=next');
    page(/list$/, ['a'], '<http://10.9.8.7:1/v2/app/web/tags/list?last=a&n=1>; rel="next"');
    assert.deepEqual(await client.tags(ref, { signal }), ['a', 'b']);
    assert.equal(proxy.seen(list).length, 3);
  });

  test('are asked for again where a server is busy', async () => {
    proxy.fault({ path: list, times: 2, do: { kind: 'status', status: 503 } });
    assert.deepEqual(await sorted(client.tags(ref, { signal })), ['1', '2', 'latest']);
  });

  test('end where a page leads to itself; a list without an end is given up', async () => {
    page(list, ['a'], '</v2/app/web/tags/list?last=a>; rel="next"');
    assert.deepEqual(await client.tags(ref, { signal }), ['a', 'a']);
    proxy.reset();
    const many = Array.from({ length: 6000 }, (_, at) => `t${at}`);
    page(/list\?page=2/, many, '<?page=3>; rel="next"');
    page(list, many, '<?page=2>; rel="next"');
    await assert.rejects(client.tags(ref, { signal }), { message: /has more than 10000 tags$/ });
    assert.equal(proxy.seen(list).length, 2);
  });

  for (const [name, tags] of [
    ['one that is no tag', ['ok', '../../etc']],
    ['something else', { a: 1 }],
  ] as const) {
    test(`are refused if there is ${name} among them`, async () => {
      page(list, tags);
      await assert.rejects(client.tags(ref, { signal }), { message: /^invalid list of tags of 127/ });
    });
  }

  test('of a repository that is not there', async () => {
    const none = parseReference(`${proxy.host}/app/none`);
    await assert.rejects(client.tags(none, { signal }), {
      status: 404,
      message: `repository ${proxy.host}/app/none not found: name unknown: repository name not known to registry`,
    });
  });
});
