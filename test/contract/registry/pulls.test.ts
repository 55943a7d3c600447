import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { makeCertificate } from '../../support/certificate.ts';
import { type FaultRule, startFaultyProxy } from '../../support/faulty-proxy.ts';
import { registryUser, startRegistry, type TestRegistry } from '../../support/registry.ts';
import { pushLayout, writeLayout } from '../../support/registry-images.ts';
import { startTokenServer } from '../../support/token-server.ts';
import { fillShelf, pullSuite, type Shelf } from './pull-suite.ts';

// One storage with an open door for pushing; every way leads to the same images.
const stack = new AsyncDisposableStack();
const open = stack.use(await startRegistry());
const shelf = await fillShelf(open.host);
after(() => stack.disposeAsync());

async function guarded(options: Parameters<typeof startRegistry>[0]): Promise<TestRegistry> {
  return stack.use(await startRegistry({ ...options, storage: open.storage }));
}

async function faulty(...faults: FaultRule[]): Promise<{ host: string; shelf: Shelf }> {
  const proxy = stack.use(await startFaultyProxy(open.host));
  for (const fault of faults) proxy.fault(fault);
  return { host: proxy.host, shelf };
}

pullSuite('straight', async () => ({ host: open.host, shelf }));
pullSuite('with a password', async () => ({
  host: (await guarded({ isPasswordWanted: true })).host,
  auth: registryUser,
  shelf,
}));
pullSuite('over TLS with a certificate that nobody knows, on loopback', async () => ({
  host: (await guarded({ certificate: await makeCertificate() })).host,
  shelf,
}));
pullSuite('with tokens for anybody', async () => {
  const tokenServer = stack.use(await startTokenServer({ isAnonymousAllowed: true }));
  return { host: (await guarded({ tokenServer })).host, shelf };
});
pullSuite('with tokens for a user', async () => {
  const tokenServer = stack.use(await startTokenServer({ users: { bob: 'secret' } }));
  const auth = { username: 'bob', password: 'secret' };
  return { host: (await guarded({ tokenServer })).host, auth, shelf };
});
pullSuite('with tokens for the identity token of a login', async () => {
  const tokenServer = stack.use(await startTokenServer({ users: { bob: 'secret' } }));
  const auth = { identityToken: tokenServer.identityToken('bob') };
  return { host: (await guarded({ tokenServer })).host, auth, shelf };
});

pullSuite('through a proxy', () => faulty());
pullSuite('by a server that knows no ranges, and cuts', () =>
  faulty(
    { path: /blobs/, times: 2, do: { kind: 'cut', afterBytes: 200_000 } },
    { path: /blobs/, do: { kind: 'no ranges' } },
  ),
);
pullSuite('with the connection cut every 100 kB', () =>
  faulty({ path: /blobs/, do: { kind: 'cut', afterBytes: 100_000 } }),
);
pullSuite('with blobs that end too early', () =>
  faulty({ path: /blobs/, do: { kind: 'truncate', afterBytes: 150_000 } }),
);
pullSuite('with connections that hang up now and then', () =>
  faulty(
    { path: /blobs/, times: 1, do: { kind: 'hang up' } },
    { path: /blobs/, after: 4, times: 2, do: { kind: 'hang up' } },
    { path: /manifests/, times: 1, do: { kind: 'hang up' } },
  ),
);
pullSuite('with a server that is busy at first', () =>
  faulty(
    { path: /blobs/, times: 1, do: { kind: 'status', status: 429, headers: { 'retry-after': '0' } } },
    { path: /blobs/, times: 1, do: { kind: 'status', status: 503 } },
    { path: /manifests/, times: 2, do: { kind: 'status', status: 502 } },
  ),
);
pullSuite('with lengths that are too small', () =>
  faulty({ path: /blobs/, times: 3, do: { kind: 'length', by: -50 } }),
);
pullSuite('with lengths that are too large', () =>
  faulty({ path: /blobs/, times: 3, do: { kind: 'length', by: 50 } }),
);
pullSuite('with one stall', () =>
  faulty({ path: /blobs/, times: 1, do: { kind: 'stall', afterBytes: 100 } }),
);
pullSuite('with blobs on another host', () =>
  faulty({ path: /blobs/, do: { kind: 'redirect', to: open.host } }),
);

pullSuite('after it was pushed from a layout on disk', async () => {
  const fresh = stack.use(await startRegistry());
  const images = {
    docker: shelf.docker,
    oci: shelf.oci,
    empty: shelf.empty,
    index: shelf.index,
    list: shelf.list,
  };
  for (const [tag, image] of Object.entries(images)) {
    const directory = await mkdtemp(join(tmpdir(), 'skt-layout-'));
    await writeLayout(directory, image);
    await pushLayout(fresh.host, 'shelf/image', [tag], directory).finally(() =>
      rm(directory, { recursive: true }),
    );
  }
  return { host: fresh.host, shelf };
});
