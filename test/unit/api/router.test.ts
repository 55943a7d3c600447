import assert from 'node:assert/strict';
import test from 'node:test';
import { Router } from '../../../src/api/router.ts';

const nothing = () => {};

test('whole paths win over names, names hold anything, the first route that fits wins', () => {
  const router = new Router();
  router.get('/containers/json', nothing);
  router.get('/containers/:id/json', nothing);
  router.get('/containers/:id/attach/ws', nothing);
  router.post('/containers/:id/start', nothing);
  router.delete('/containers/:id', nothing);
  for (const [method, path, key, name] of [
    ['GET', '/containers/json', 'GET /containers/json', ''],
    ['GET', '/containers/a/json', 'GET /containers/:id/json', 'a'],
    ['GET', '/containers/a/b/json', 'GET /containers/:id/json', 'a/b'],
    ['GET', '/containers/a/json/json', 'GET /containers/:id/json', 'a/json'],
    ['GET', '/containers/a/attach/ws', 'GET /containers/:id/attach/ws', 'a'],
    ['DELETE', '/containers/create', 'DELETE /containers/:id', 'create'],
    ['DELETE', '/containers/', 'DELETE /containers/:id', ''],
    ['GET', '/containers/start', undefined, undefined],
    ['GET', '/containers', undefined, undefined],
    ['HEAD', '/containers/json', undefined, undefined],
    ['PATCH', '/containers/json', undefined, undefined],
    ['POST', '/containersx/start', undefined, undefined],
  ] as const) {
    const found = router.find(method, path);
    assert.equal(found?.route.key, key, `${method} ${path}`);
    assert.equal(found?.name, name);
  }
});

test('a router takes in routes of another, behind its own', () => {
  const [router, other] = [new Router(), new Router()];
  router.get('/a/:x', nothing);
  other.get('/a/:y', nothing);
  other.get('/b', nothing);
  for (const route of other.routes()) router.add(route);
  assert.deepEqual(
    [...router.routes()].map(({ key }) => key),
    ['GET /a/:x', 'GET /a/:y', 'GET /b'],
  );
  assert.equal(router.find('GET', '/a/1')?.route.key, 'GET /a/:x');
});
