import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import test, { type TestContext } from 'node:test';
import type { ClientStreams } from '../../src/api/session.ts';
import { fail } from '../../src/errors.ts';
import { frame } from '../../src/lib/frames.ts';
import { withResolvers } from '../../src/lib/promises.ts';
import { type Changes, ID } from './fake-engine.ts';
import { ceilings, world } from './world.ts';

const skip = hasDocker() ? false : 'there is no docker command here';

function hasDocker(): boolean {
  try {
    execFileSync('docker', ['--version']);
    return true;
  } catch {
    return false;
  }
}

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** The stock command line on an API over this engine. */
async function docker(t: TestContext, o: { ceiling?: string; engine?: Changes }) {
  const w = await world(t, o);
  return async (
    words: string[],
    { input = '', env = {} }: { input?: string; env?: object } = {},
  ): Promise<Outcome> => {
    const { promise, resolve } = withResolvers<Outcome>();
    const child = execFile(
      'docker',
      ['-H', `unix://${w.socket}`, ...words],
      { env: { ...process.env, ...env }, timeout: 20_000 },
      (cause, stdout, stderr) =>
        resolve({ code: typeof cause?.code === 'number' ? cause.code : 0, stdout, stderr }),
    );
    child.stdin?.end(input);
    return promise;
  };
}

/** A container whose process gives back its stdin in two streams and ends with 3. */
function parrot(): Changes {
  const { promise: exited, resolve } = withResolvers<{ exitCode: number }>();
  const pump = async ({ input, output, isFramed }: ClientStreams) => {
    for await (const chunk of input as AsyncIterable<Buffer>) {
      output.write(isFramed ? frame(1, chunk) : chunk);
      output.write(isFramed ? frame(2, Buffer.from(`heard ${chunk.length}\n`)) : '');
    }
    resolve({ exitCode: 3 });
  };
  const process = async () => ({ isTty: false, pump });
  return {
    io: { attach: process, wait: async () => ({ exited }) },
    containers: { start: async () => true, remove: async () => {} },
    execs: {
      start: process,
      inspect: async (id) => ({
        id,
        containerId: ID,
        request: {
          attachStdin: true,
          attachStdout: true,
          attachStderr: true,
          tty: false,
          detachKeys: '',
          env: null,
          cmd: ['cat'],
          privileged: false,
          user: '',
          workingDir: '',
        },
        isStale: false,
        isRunning: false,
        exitCode: 3,
        pid: 0,
      }),
    },
  };
}

test('docker version agrees on the ceiling, and shows the components', { skip }, async (t) => {
  for (const ceiling of ceilings) {
    const run = await docker(t, { ceiling });
    const { stdout, code } = await run([
      'version',
      '--format',
      '{{.Client.APIVersion}} {{.Server.APIVersion}}',
    ]);
    const { stdout: known } = await run(['version', '--format', '{{.Client.DefaultAPIVersion}}']);
    const newest = known.trim();
    assert.equal(code, 0);
    // or on what the CLI knows, if that is less
    const agreed = Number(ceiling) < Number(newest) ? ceiling : newest;
    assert.equal(stdout, `${agreed} ${ceiling}\n`);
  }
  const run = await docker(t, {});
  assert.match((await run(['version'])).stdout, /Server: Skerry\n Engine:\n {2}Version: +26\.1\.0\n/);
  const pinned = await run(['version', '--format', '{{.Client.APIVersion}}'], {
    env: { DOCKER_API_VERSION: '1.46' },
  });
  assert.match(pinned.stderr, /client version 1\.46 is too new\. Maximum supported API version is 1\.45/);
});

test('docker info, ps, images, inspect, history read the answers', { skip }, async (t) => {
  for (const ceiling of ['1.39', '1.45']) {
    const run = await docker(t, { ceiling });
    const info = await run(['info']);
    assert.equal(info.code, 0, info.stderr);
    assert.match(info.stdout, /Containers: 6\n {2}Running: 1\n/);
    assert.match(info.stdout, /Default Runtime: crun\n/);
    assert.match((await run(['ps', '-a'])).stdout, /c0ffee000000 +debian:12 +"sh" /);
    assert.match((await run(['images'])).stdout, /debian +12 +abababababab /);
    assert.equal(
      (await run(['inspect', 'web', '--format', '{{.Name}} {{.State.Status}}'])).stdout,
      '/web running\n',
    );
    assert.equal(
      (await run(['inspect', 'debian', '--type', 'image', '--format', '{{.Size}}'])).stdout,
      '1234\n',
    );
    assert.equal((await run(['history', 'debian'])).code, 0);
  }
});

test('docker run -i carries stdin, both outputs and the exit code', { skip }, async (t) => {
  for (const ceiling of ['1.41', '1.45']) {
    const run = await docker(t, { ceiling, engine: parrot() });
    const { code, stdout, stderr } = await run(['run', '-i', '--rm', 'debian', 'cat'], { input: 'hello\n' });
    assert.deepEqual([code, stdout, stderr], [3, 'hello\n', 'heard 6\n']);
  }
});

test('docker exec -i carries stdin, both outputs and the exit code', { skip }, async (t) => {
  const run = await docker(t, { engine: parrot() });
  const { code, stdout, stderr } = await run(['exec', '-i', 'web', 'cat'], { input: 'hello\n' });
  assert.deepEqual([code, stdout, stderr], [3, 'hello\n', 'heard 6\n']);
});

test('docker run gives the exit codes of what cannot be started', { skip }, async (t) => {
  for (const [message, expected] of [
    ['exec: "x": executable file not found in $PATH: unknown', 127],
    ['exec: "/etc": permission denied: unknown', 126],
  ] as const) {
    const start = async (): Promise<never> => {
      throw fail.runtime(`failed to create shim task: OCI runtime create failed: ${message}`, {
        status: 400,
      });
    };
    const engine = parrot();
    const run = await docker(t, { engine: { ...engine, containers: { ...engine.containers, start } } });
    const { code, stderr } = await run(['run', 'debian', 'x']);
    assert.equal(code, expected, stderr);
  }
  const create = async (): Promise<never> => {
    throw fail.badRequest('no');
  };
  const run = await docker(t, { engine: { containers: { create } } });
  assert.equal((await run(['run', 'debian', 'x'])).code, 125);
});

test('docker pull draws the progress and tells errors of both kinds', { skip }, async (t) => {
  const run = await docker(t, {
    engine: {
      pulls: {
        pull: async ({ fromImage }, { progress }) => {
          if (fromImage.includes('nope')) throw fail.manifestNotFound('nope:latest', 'manifest unknown');
          progress({ status: 'Pulling from library/debian', id: '12' });
          progress({ status: 'Pulling fs layer', progressDetail: {}, id: 'aaaaaaaaaaaa' });
          progress({ status: 'Downloading', progressDetail: { current: 1, total: 2 }, id: 'aaaaaaaaaaaa' });
          if (fromImage.includes('broken')) throw fail.corrupt('filesystem layer verification failed');
          progress({ status: 'Pull complete', progressDetail: {}, id: 'aaaaaaaaaaaa' });
          progress({ status: 'Status: Downloaded newer image for debian:12' });
        },
      },
    },
  });
  const { code, stdout } = await run(['pull', 'debian:12']);
  assert.equal(code, 0);
  assert.match(
    stdout,
    /^12: Pulling from library\/debian\naaaaaaaaaaaa: Pulling fs layer\naaaaaaaaaaaa: Pull complete\n/,
  );
  assert.match((await run(['pull', 'nope'])).stderr, /manifest for nope:latest not found: manifest unknown/);
  const broken = await run(['pull', 'broken']);
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /^filesystem layer verification failed/);
});

test('docker logs and events read the streams', { skip }, async (t) => {
  const engine: Changes = {
    io: {
      logs: async () => ({
        isTty: false,
        attributes: new Map(),
        lines: (async function* () {
          yield { stream: 1 as const, timeNanos: 0n, data: Buffer.from('out\n') };
          yield { stream: 2 as const, timeNanos: 1n, data: Buffer.from('err\n') };
        })(),
      }),
    },
    events: {
      async *subscribe() {
        const actor = { id: ID, attributes: { image: 'debian', name: 'web' } };
        yield {
          type: 'container',
          action: 'start',
          actor,
          timeNanos: 1_700_000_000_000_000_001n,
          scope: 'local',
        };
      },
    },
  };
  const run = await docker(t, { engine });
  const logs = await run(['logs', 'web']);
  assert.deepEqual([logs.stdout, logs.stderr], ['out\n', 'err\n']);
  assert.match((await run(['logs', '-t', 'web'])).stderr, /^1970-01-01T00:00:00\.000000001Z err\n$/);
  const events = await run(['events', '--since', '1', '--until', '2']);
  assert.match(events.stdout, /\.000000001.* container start c0ffee0+ \(image=debian, name=web\)\n$/);
});

test('docker tells refusals in the engine’s words', { skip }, async (t) => {
  const run = await docker(t, {});
  assert.match((await run(['stop', 'nope'])).stderr, /No such container: nope/);
  assert.match((await run(['rm', 'nope'])).stderr, /No such container: nope/);
  assert.match((await run(['kill', 'nope'])).stderr, /cannot kill container: nope: No such container: nope/);
});
