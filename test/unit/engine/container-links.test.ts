import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  allNamesOf,
  linkedEnvironment,
  linkedTo,
  parseLink,
  settleLinks,
  setUpLinks,
  shownLinks,
} from '../../../src/engine/container-links.ts';
import type { ContainerRecord } from '../../../src/engine/model.ts';
import { fail } from '../../../src/errors.ts';
import { containerRecord } from '../../support/container-records.ts';

const plain = containerRecord({});
const endpoint = {
  ...{ ipamConfig: null, links: null, aliases: null, driverOpts: null, networkId: 'n', endpointId: 'e' },
  ...{ gateway: '', ipAddress: '172.17.0.2', ipPrefixLen: 16, ipv6Gateway: '', globalIPv6Address: '' },
  ...{ globalIPv6PrefixLen: 0, macAddress: '' },
};

function container(name: string, more: Partial<ContainerRecord> = {}): ContainerRecord {
  const state = { ...plain.state, status: 'running' as const };
  return { ...plain, id: `id-${name}`, name, state, endpoints: { bridge: endpoint }, ...more };
}

function those(...records: ContainerRecord[]) {
  return { all: () => records, get: (id: string) => records.find((record) => record.id === id) };
}

const link = (name: string, alias: string) => ({ containerId: `id-${name}`, name, alias });

test('links as they are written', () => {
  assert.deepEqual(parseLink('web'), { name: 'web', alias: 'web' });
  assert.deepEqual(parseLink('web:home'), { name: 'web', alias: 'home' });
  assert.deepEqual(parseLink('/web:/app/home'), { name: 'web', alias: 'home' });
  assert.throws(() => parseLink('a:b:c'), /^Failure: bad format for links: a:b:c$/);
  assert.throws(() => parseLink(''), /empty string specified for links/);
});

test('whom a new container is linked to', () => {
  const web = container('web');
  const guest = container('guest', { hostConfig: { ...plain.hostConfig, networkMode: 'container:id-web' } });
  const host = container('host', { hostConfig: { ...plain.hostConfig, networkMode: 'host' } });
  const find = (ref: string) => {
    const found = [web, guest, host].find(({ id, name }) => ref === id || ref === name);
    if (found === undefined) throw fail.noSuchContainer(ref);
    return found;
  };
  const settle = (links: string[], networkMode = 'default') => settleLinks({ links, networkMode }, find);
  assert.deepEqual(settle(['guest:g', 'web:g', 'web']), [link('web', 'g'), link('web', 'web')]);
  assert.deepEqual(settle(['nope'], 'front'), []);
  assert.throws(() => settle(['nope']), {
    status: 400,
    message: 'could not get container for nope: No such container: nope',
  });
  assert.throws(() => settle(['host']), { status: 400, message: /host type networking can't be used/ });
});

test('hosts and environment of a container that is linked, as dockerd makes them', () => {
  const config = {
    ...plain.config,
    hostname: 'w1',
    exposedPorts: { '81/tcp': {}, '80/tcp': {}, '53/udp': {}, '82/tcp': {}, '443/tcp': {}, '444/tcp': {} },
    env: ['A=1', 'HOME=/x', 'PATH=/bin', 'BARE'],
  };
  const web = container('web', { config });
  const app = container('app', { links: [link('web', 'my-home')] });
  const { hosts, environment } = setUpLinks(app, those(web, app));
  assert.deepEqual(hosts, ['172.17.0.2\tmy-home w1 web']);
  const port = (number: number, protocol = 'tcp') => {
    const name = `MY_HOME_PORT_${number}_${protocol.toUpperCase()}`;
    return [
      `${name}=${protocol}://172.17.0.2:${number}`,
      `${name}_ADDR=172.17.0.2`,
      `${name}_PORT=${number}`,
      `${name}_PROTO=${protocol}`,
    ];
  };
  assert.deepEqual(environment, [
    'MY_HOME_PORT=udp://172.17.0.2:53',
    'MY_HOME_PORT_80_TCP_START=tcp://172.17.0.2:80',
    'MY_HOME_PORT_80_TCP_PORT_START=80',
    'MY_HOME_PORT_80_TCP_END=tcp://172.17.0.2:82',
    'MY_HOME_PORT_80_TCP_PORT_END=82',
    ...port(53, 'udp'),
    ...[80, 81, 82, 443, 444].flatMap((number) => port(number)),
    'MY_HOME_NAME=/app/my-home',
    'MY_HOME_ENV_A=1',
  ]);
});

test('only what runs, on the default bridge', () => {
  const web = container('web', { state: { ...plain.state, status: 'exited' } });
  const app = container('app', { links: [link('web', 'home')] });
  const refusal = { status: 500, message: 'Cannot link to a non running container: /web AS /app/home' };
  assert.throws(() => setUpLinks(app, those(web, app)), refusal);
  assert.throws(() => setUpLinks(app, those(app)), refusal);
  assert.deepEqual(linkedEnvironment(app, those(web, app)), []);
  const apart = container('web', { endpoints: {} });
  assert.throws(() => setUpLinks(app, those(apart, app)), /id-web not attached to default bridge network/);
  assert.deepEqual(setUpLinks({ ...app, endpoints: {} }, those(web)), { hosts: [], environment: [] });
});

test('names by links', () => {
  const db = container('db');
  const web = container('web', { links: [link('db', 'store'), link('gone', 'x')] });
  const app = container('app', { links: [link('web', 'home')] });
  const all = those(app, web, db);
  assert.deepEqual(allNamesOf(db, all), ['/db', '/web/store']);
  assert.deepEqual(allNamesOf(web, all), ['/app/home', '/web']);
  assert.deepEqual(shownLinks(web, all), ['/db:/web/store', '/gone:/web/x']);
  assert.equal(shownLinks(db, all), null);
  assert.deepEqual([...linkedTo(db, all)], [{ parentId: 'id-web', alias: 'store' }]);
});

test('two that join each other have no network that a third could be linked to', () => {
  const joining = (ref: string) => ({ hostConfig: { ...plain.hostConfig, networkMode: `container:${ref}` } });
  const [one, other] = [container('one', joining('other')), container('other', joining('one'))];
  const find = (ref: string) => (ref === 'one' ? one : other);
  assert.throws(() => settleLinks({ links: ['one'], networkMode: 'default' }, find), {
    status: 400,
    message: /^could not get container for o\w+: it has no network$/,
  });
});

test('one that was made anew under its name takes the place of the one that is gone', () => {
  const app = container('app', { links: [link('web', 'home')] });
  const anew = container('web', { id: 'other' });
  assert.equal(setUpLinks(app, those(app, anew)).hosts.length, 1);
});
