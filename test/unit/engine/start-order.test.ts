import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContainerRecord } from '../../../src/engine/model.ts';
import { inStartOrder } from '../../../src/engine/start-order.ts';
import { fail } from '../../../src/errors.ts';
import { containerRecord } from '../../support/container-records.ts';

const plain = containerRecord({});

function container(name: string, more: { links?: string[]; joins?: string } = {}): ContainerRecord {
  const links = (more.links ?? []).map((to) => ({ containerId: `id-${to}`, name: to, alias: to }));
  const networkMode = more.joins === undefined ? 'default' : `container:id-${more.joins}`;
  return { ...plain, id: `id-${name}`, name, links, hostConfig: { ...plain.hostConfig, networkMode } };
}

function order(...records: ContainerRecord[]): string[] {
  const get = (id: string) => records.find((record) => record.id === id);
  const find = (ref: string) => {
    const found = get(ref);
    if (found === undefined) throw fail.noSuchContainer(ref);
    return found;
  };
  return inStartOrder({ all: () => records, get, find }).map(({ name }) => name);
}

test('each behind those that it is linked to, and whose namespaces it joins', () => {
  const app = container('app', { links: ['web'] });
  const web = container('web', { links: ['db', 'gone'] });
  // its network is that of one which itself waits for others
  const guest = container('guest', { joins: 'app' });
  const lost = container('lost', { joins: 'nobody' });
  assert.deepEqual(order(guest, app, web, lost, container('db')), ['db', 'web', 'app', 'guest', 'lost']);
});

test('those that need each other come all the same, each once', () => {
  const circle = [
    container('a', { links: ['b'] }),
    container('b', { joins: 'c' }),
    container('c', { links: ['a'] }),
  ];
  assert.deepEqual(order(...circle).sort(), ['a', 'b', 'c']);
});

test('many that are linked to all before them', { timeout: 5000 }, () => {
  const names = Array.from({ length: 60 }, (_, at) => `c${at}`);
  const all = names.map((name, at) => container(name, { links: names.slice(0, at) }));
  assert.deepEqual(order(...all.toReversed()), names);
});
