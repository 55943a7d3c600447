import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostLimits } from '../../../src/engine/container-checks.ts';
import {
  checkPlatform,
  emptyEndpoint,
  mergeConfig,
  newRecord,
} from '../../../src/engine/container-creation.ts';
import { viewOf } from '../../../src/engine/image-view.ts';
import { createRequest, everyLimit, plainConfig, plainDefaults } from '../../support/container-requests.ts';
import { imageRecord } from '../../support/image-records.ts';

const host: HostLimits = {
  cpus: 2,
  hostname: 'board',
  platform: { os: 'linux', architecture: 'amd64' },
  runtimes: ['crun'],
  defaultRuntime: 'crun',
  limits: everyLimit,
  defaults: plainDefaults,
};
const place = { host, networkName: (ref: string) => ref };
const image = (config: object = { Cmd: ['sh'] }, more: Parameters<typeof imageRecord>[0] = {}) =>
  viewOf(imageRecord({ ...more, config: { config } }), []);
const id = '0123456789abcdef'.repeat(4);

test('the request wins over the image; maps, labels and variables are united', () => {
  const merged = mergeConfig(
    {
      ...plainConfig,
      env: ['A=1', 'B'],
      labels: { own: '1', both: 'mine' },
      exposedPorts: { '80/tcp': {} },
      volumes: { '/own': {} },
    },
    {
      User: 'app',
      WorkingDir: '/app',
      Env: ['A=0', 'B=0', 'C=0'],
      Labels: { both: 'theirs', image: '1' },
      ExposedPorts: { '443/tcp': {} },
      Volumes: { '/image': {} },
      Entrypoint: ['/entry'],
      Cmd: ['default'],
      StopSignal: 'SIGINT',
      Shell: ['/bin/ash'],
    },
  );
  assert.deepEqual(merged.env, ['A=1', 'B', 'C=0']);
  assert.deepEqual(merged.labels, { own: '1', both: 'mine', image: '1' });
  assert.deepEqual(Object.keys(merged.exposedPorts ?? {}).sort(), ['443/tcp', '80/tcp']);
  assert.deepEqual(Object.keys(merged.volumes ?? {}).sort(), ['/image', '/own']);
  const { user, workingDir, entrypoint, cmd, stopSignal, shell } = merged;
  assert.deepEqual(
    [user, workingDir, entrypoint, cmd, stopSignal, shell],
    ['app', '/app', ['/entry'], ['default'], 'SIGINT', undefined], // a shell is for builds, and is not inherited
  );
});

test('entrypoint and command: who drops whom', () => {
  const from = { Entrypoint: ['/e'], Cmd: ['c'] };
  const run = (entrypoint: string[] | null, cmd: string[] | null) => {
    const merged = mergeConfig({ ...plainConfig, entrypoint, cmd }, from);
    return [merged.entrypoint, merged.cmd];
  };
  assert.deepEqual(run(null, null), [['/e'], ['c']]);
  assert.deepEqual(run([], []), [['/e'], ['c']]);
  assert.deepEqual(run(null, ['x']), [['/e'], ['x']]);
  assert.deepEqual(run(['/new'], null), [['/new'], null]);
  assert.deepEqual(run(['/new'], ['x']), [['/new'], ['x']]);
  assert.deepEqual(run([''], ['x']), [null, ['x']]);
});

test('a health check is completed from the image, part by part', () => {
  const from = { Healthcheck: { Test: ['CMD', 'true'], Interval: 5, Retries: 3 } };
  const merge = (healthcheck?: object) =>
    mergeConfig({ ...plainConfig, ...(healthcheck && { healthcheck }) }, from).healthcheck;
  assert.deepEqual(merge(), { test: ['CMD', 'true'], interval: 5, retries: 3 });
  assert.deepEqual(merge({ test: [], interval: 9, retries: 0 }), {
    test: ['CMD', 'true'],
    interval: 9,
    retries: 3,
  });
  assert.deepEqual(merge({ test: ['NONE'] })?.test, ['NONE']);
  assert.equal(mergeConfig(plainConfig, {}).healthcheck, undefined);
});

test("a new record has dockerd's defaults", () => {
  const { config, hostConfig, endpoints, runtime, state } = newRecord(
    id,
    'n',
    image(),
    createRequest(),
    place,
  );
  assert.equal(config.hostname, id.slice(0, 12));
  assert.deepEqual(config.labels, {});
  assert.deepEqual(endpoints, { bridge: emptyEndpoint() });
  assert.equal(runtime, 'crun');
  assert.deepEqual(
    [
      hostConfig.networkMode,
      hostConfig.ipcMode,
      hostConfig.cgroupnsMode,
      hostConfig.shmSize,
      hostConfig.logConfig.type,
    ],
    ['default', 'private', 'private', 64 << 20, 'json-file'],
  );
  assert.equal(state.status, 'created');
});

test('defaults that depend on others', () => {
  const make = (hostConfig: object, o: Partial<HostLimits> = {}) =>
    newRecord(id, 'n', image(), createRequest({ hostConfig }), { ...place, host: { ...host, ...o } });
  assert.equal(make({ memory: 8 << 20 }).hostConfig.memorySwap, 16 << 20);
  assert.equal(make({ memory: 8 << 20, memorySwap: -1 }).hostConfig.memorySwap, -1);
  assert.equal(make({ pidsLimit: 0 }).hostConfig.pidsLimit, null);
  assert.equal(make({ networkMode: 'host' }).config.hostname, 'board');
  assert.deepEqual(Object.keys(make({ networkMode: 'none' }).endpoints), ['none']);
  assert.deepEqual(make({ networkMode: 'container:x' }).endpoints, {});
  assert.equal(make({}, { limits: { ...everyLimit, version: 1 } }).hostConfig.cgroupnsMode, 'host');
  assert.equal(make({}).hostConfig.oomKillDisable, false);
  assert.ok(make({}).hostConfig.maskedPaths?.includes('/proc/kcore'));
  assert.deepEqual(make({ maskedPaths: [] }).hostConfig.maskedPaths, []);
  assert.equal(make({ privileged: true }).hostConfig.readonlyPaths, null);
});

test('an image without a command needs one', () => {
  const make = (config: object) => newRecord(id, 'n', image({}), createRequest({ config }), place);
  assert.throws(() => make({}), { status: 400, message: 'no command specified' });
  assert.deepEqual(make({ cmd: ['x'] }).config.cmd, ['x']);
});

test('another platform: refused where one was asked for, told where not', () => {
  const arm = image(undefined, { platform: { os: 'linux', architecture: 'arm64' } });
  const request = createRequest();
  assert.deepEqual(checkPlatform(image(), request, host.platform), []);
  assert.match(
    checkPlatform(arm, request, host.platform).join(),
    /^The requested image's platform \(linux\/arm64/,
  );
  assert.deepEqual(
    checkPlatform(arm, { ...request, platform: { os: 'linux', architecture: 'arm64' } }, host.platform),
    [],
  );
  assert.throws(() => checkPlatform(arm, { ...request, platform: host.platform }, host.platform), {
    status: 404,
    message:
      'image with reference app was found but does not match the specified platform: wanted linux/amd64, actual: linux/arm64',
  });
});

test('no variables are none, and not an empty list', () => {
  assert.equal(mergeConfig(plainConfig, {}).env, null);
  assert.equal(mergeConfig({ ...plainConfig, env: [] }, { Env: null }).env, null);
  assert.deepEqual(mergeConfig(plainConfig, { Env: [] }).env, []);
});
