import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough, type Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import Docker from 'dockerode';
import { boxImage } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { push } from '../support/registry-images.ts';

/** What programs do that are written against Docker's SDK for Node, fleet supervisors among them. */
let registry: TestRegistry;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  await push(registry.host, 'box', ['1'], await boxImage());
});

after(async () => {
  await registry[Symbol.asyncDispose]();
});

for (const ceiling of ['1.41', '1.45'] as const) {
  describe(`against an engine of ${ceiling}`, () => {
    let engine: TestEngine;
    let docker: Docker;
    let Image: string;

    before(async () => {
      engine = await TestEngine.start({ flags: ['--api-version-ceiling', ceiling] });
      docker = new Docker({ socketPath: engine.socket, version: `v${ceiling}` });
      Image = `${registry.host}/box:1`;
    });

    after(async () => {
      await engine.clear();
      await engine.stop();
      const left = await engine.leftovers();
      await engine[Symbol.asyncDispose]();
      assert.deepEqual(left, []);
    });

    test('a pull is followed to its end, and its failure as well', async () => {
      const seen = await pull(docker, Image);
      const statuses = seen.map((message) => message['status']);
      assert.equal(statuses[0], 'Pulling from box');
      for (const status of ['Pulling fs layer', 'Download complete', 'Pull complete'])
        assert.ok(statuses.includes(status), `${status} in ${statuses}`);
      assert.equal(statuses.at(-1), `Status: Downloaded newer image for ${Image}`);
      assert.equal(
        (await pull(docker, Image)).at(-1)?.['status'],
        `Status: Image is up to date for ${Image}`,
      );
      await assert.rejects(pull(docker, `${registry.host}/box:nope`), { statusCode: 404 });
      const [image] = await docker.listImages({ filters: { reference: [Image] }, digests: true });
      assert.deepEqual(image?.RepoTags, [Image]);
      const { Id, RepoDigests } = await docker.getImage(Image).inspect();
      assert.equal(Id, image?.Id);
      assert.match(RepoDigests[0] ?? '', /box@sha256:/);
      assert.equal((await docker.getImage(RepoDigests[0] ?? '').inspect()).Id, Id);
    });

    test('create, attach, start, wait, logs, remove', async () => {
      const script = 'read line; echo got $line; echo oops >&2; exit 4';
      const container = await docker.createContainer({
        ...{ Image, Cmd: ['sh', '-c', script], OpenStdin: true, StdinOnce: true },
        ...{ AttachStdin: true, AttachStdout: true, AttachStderr: true },
      });
      const stream = await container.attach({
        ...{ stream: true, stdin: true, stdout: true, stderr: true, hijack: true },
      });
      const output = demuxed(docker, stream);
      const exited = container.wait({ condition: 'next-exit' });
      await container.start();
      await assert.rejects(container.start(), { statusCode: 304 });
      stream.end('hello\n');
      assert.equal((await exited).StatusCode, 4);
      assert.deepEqual(await output, { stdout: 'got hello\n', stderr: 'oops\n' });
      const logs = await container.logs({ follow: true, stdout: true, stderr: true });
      assert.deepEqual(await demuxed(docker, logs), { stdout: 'got hello\n', stderr: 'oops\n' });
      const tail = await container.logs({ stdout: true, tail: 2, timestamps: true });
      assert.match(tail.subarray(8).toString(), /^\d{4}-\S+Z got hello\n$/);
      assert.equal((await container.inspect()).State.ExitCode, 4);
      await container.remove({ v: true });
      await assert.rejects(container.inspect(), { statusCode: 404 });
    });

    test('exec: framed, on a terminal, resized, with an exit code', async () => {
      const container = await docker.createContainer({ Image, Cmd: ['sleep', '1000'] });
      await container.start();
      const Cmd = ['sh', '-c', 'cat; echo end >&2; exit 7'];
      const exec = await container.exec({
        ...{ Cmd, AttachStdin: true, AttachStdout: true, AttachStderr: true },
      });
      const stream = await exec.start({ hijack: true, stdin: true });
      const output = demuxed(docker, stream);
      stream.end('in\n');
      assert.deepEqual(await output, { stdout: 'in\n', stderr: 'end\n' });
      const { ExitCode, Running } = await exec.inspect();
      assert.deepEqual([ExitCode, Running], [7, false]);

      const shell = await container.exec({ Cmd: ['sh'], Tty: true, AttachStdin: true, AttachStdout: true });
      const terminal = await shell.start({ hijack: true, stdin: true, Tty: true });
      const screen = text(terminal);
      await shell.resize({ h: 33, w: 77 });
      terminal.write('stty size; exit\n');
      assert.match(await screen, /33 77\r\n/);
      await container.remove({ force: true });
    });

    test('a terminal of its own, stopped by its signal', async () => {
      const Cmd = ['sh', '-c', 'trap "echo bye; exit 3" INT; tty; while :; do sleep 0.05; done'];
      const container = await docker.createContainer({ Image, Cmd, Tty: true, StopSignal: 'SIGINT' });
      const stream = await container.attach({ stream: true, stdout: true, hijack: true });
      const trapStands = once(stream, 'data');
      await container.start();
      await container.resize({ h: 20, w: 50 });
      assert.deepEqual(await trapStands, [Buffer.from('/dev/pts/0\r\n')]);
      const rest = text(stream);
      await container.stop({ t: 10 });
      assert.equal(await rest, 'bye\r\n');
      assert.equal((await container.inspect()).State.ExitCode, 3);
      await assert.rejects(container.stop(), { statusCode: 304 });
      await container.remove();
    });

    test('events: a container from create to destroy, with the fields of old', async () => {
      const stream = (await docker.getEvents({ filters: { type: ['container'] } })) as Readable;
      stream.setEncoding('utf8');
      const container = await docker.createContainer({ Image, Cmd: ['false'], Labels: { 'io.x': 'y' } });
      await container.start();
      await container.wait();
      await container.remove();
      const events: Record<string, string>[] = [];
      for await (const line of linesOf(stream)) {
        events.push(JSON.parse(line));
        if (events.at(-1)?.['status'] === 'destroy') break;
      }
      assert.deepEqual(
        events.map(({ status }) => status),
        ['create', 'start', 'die', 'destroy'],
      );
      for (const event of events) assert.deepEqual([event['id'], event['from']], [container.id, Image]);
      const die = events[2] as unknown as { Actor: { Attributes: Record<string, string> } };
      assert.equal(die.Actor.Attributes['exitCode'], '1');
      assert.equal(die.Actor.Attributes['io.x'], 'y');
    });

    test('lists by label, name and status; rename', async () => {
      const Labels = { 'io.balena.app-id': '12', 'io.balena.supervised': '' };
      const container = await docker.createContainer({
        Image,
        name: 'first',
        Labels,
        Volumes: { '/data': {} },
      });
      const idsOf = async (filters: Record<string, string[]>) =>
        (await docker.listContainers({ all: true, filters })).map(({ Id }) => Id);
      assert.deepEqual(await idsOf({ label: ['io.balena.app-id=12'] }), [container.id]);
      assert.deepEqual(await idsOf({ label: ['io.balena.supervised'] }), [container.id]);
      assert.deepEqual(await idsOf({ label: ['io.balena.app-id=13'] }), []);
      assert.deepEqual(await idsOf({ name: ['first'], status: ['created'] }), [container.id]);
      await container.rename({ name: 'second' });
      const [listed] = await docker.listContainers({ all: true, filters: { name: ['second'] } });
      assert.deepEqual(listed?.Names, ['/second']);
      assert.equal(listed?.ImageID, (await docker.getImage(Image).inspect()).Id);
      assert.deepEqual(
        listed?.Mounts.map(({ Type, Destination }) => [Type, Destination]),
        [['volume', '/data']],
      );
      await assert.rejects(docker.createContainer({ Image, name: 'second' }), { statusCode: 409 });
      await container.remove({ v: true });
    });

    test('a supervisor finds every field as it wrote it', async () => {
      const unversioned = new Docker({ socketPath: engine.socket });
      const container = await unversioned.createContainer({
        ...{ ...supervisedConfig, Image, HostConfig: supervisedHostConfig },
        NetworkingConfig: { EndpointsConfig: { '12_default': supervisedEndpoint } },
      } as object);
      const found = await container.inspect();
      const { Env, ...config } = supervisedConfig;
      assertHolds(found.Config, { ...config, Image }, 'Config');
      assert.deepEqual(found.Config.Env.slice(0, Env.length), Env);
      assertHolds(found.HostConfig, supervisedHostConfig, 'HostConfig');
      const endpoint = found.NetworkSettings.Networks['12_default'];
      assert.ok(endpoint);
      assert.deepEqual(endpoint.IPAMConfig, supervisedEndpoint.IPAMConfig);
      for (const alias of supervisedEndpoint.Aliases) assert.ok(endpoint.Aliases?.includes(alias), alias);
      await assert.rejects(container.start(), { statusCode: 404, message: /network 12_default not found/ });
      await container.remove({ v: true });
    });

    test('what a supervisor leaves unsaid comes back as dockerd fills it in', async () => {
      const container = await docker.createContainer({ Image });
      const { HostConfig } = await container.inspect();
      const isOld = ceiling === '1.41';
      const { NetworkMode, ShmSize, IpcMode, OomKillDisable, PidsLimit, Memory, RestartPolicy } = HostConfig;
      assert.deepEqual(
        { NetworkMode, ShmSize, IpcMode, OomKillDisable, PidsLimit, Memory, RestartPolicy },
        {
          ...{
            NetworkMode: isOld ? 'default' : 'bridge',
            ShmSize: 64 << 20,
            IpcMode: 'private',
            OomKillDisable: false,
          },
          ...{ PidsLimit: null, Memory: 0, RestartPolicy: { Name: isOld ? '' : 'no', MaximumRetryCount: 0 } },
        },
      );
      await container.remove();
    });
  });
}

const supervisedEndpoint = {
  Aliases: ['main', 'web'],
  IPAMConfig: { IPv4Address: '172.18.0.5' },
};

const supervisedConfig = {
  Hostname: 'board',
  Domainname: 'lan',
  User: '1000:1000',
  Cmd: ['sh', '-c', 'true'],
  Entrypoint: ['env'],
  Env: ['A=1', 'EMPTY=', 'QUOTED="x y"'],
  Labels: { 'io.balena.service-name': 'main', 'io.balena.supervised': 'true' },
  Volumes: { '/data': {} },
  StopSignal: 'SIGINT',
  StopTimeout: 17,
  Healthcheck: { Test: ['CMD-SHELL', 'true'], Interval: 3e10, Timeout: 1e9, StartPeriod: 2e9, Retries: 3 },
  WorkingDir: '/tmp',
  Tty: true,
};

const supervisedHostConfig = {
  Binds: ['/tmp:/host:ro', 'resin-data:/data:rw'],
  Mounts: [{ Type: 'tmpfs', Target: '/scratch', TmpfsOptions: { SizeBytes: 65536 } }],
  Tmpfs: { '/run': '', '/cache': 'size=1m' },
  PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '8080' }] },
  NetworkMode: '12_default',
  RestartPolicy: { Name: 'always', MaximumRetryCount: 0 },
  Privileged: false,
  CapAdd: ['NET_ADMIN'],
  CapDrop: ['MKNOD'],
  Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/extra', CgroupPermissions: 'rwm' }],
  DeviceRequests: [{ Driver: '', Count: -1, DeviceIDs: [], Capabilities: [['gpu']], Options: {} }],
  Memory: 64 << 20,
  MemoryReservation: 32 << 20,
  ShmSize: 1 << 20,
  CpuShares: 512,
  CpuQuota: 50_000,
  CpusetCpus: '0',
  OomKillDisable: false,
  OomScoreAdj: -100,
  Dns: ['10.0.0.1'],
  DnsOptions: ['ndots:1'],
  DnsSearch: ['lan'],
  ExtraHosts: ['db:10.0.0.2'],
  Ulimits: [{ Name: 'nofile', Soft: 1024, Hard: 2048 }],
  ReadonlyRootfs: true,
  Sysctls: { 'net.ipv4.ip_forward': '1' },
  CgroupParent: '/skt-supervised',
  GroupAdd: ['20'],
  PidMode: 'host',
  PidsLimit: 99,
  SecurityOpt: ['no-new-privileges'],
  UsernsMode: 'host',
  IpcMode: 'shareable',
  Init: true,
};

/** Every field of `wanted` is in `found`, exactly; of all that differ. */
function assertHolds(found: object, wanted: object, what: string): void {
  const present = found as Record<string, unknown>;
  const same = Object.fromEntries(Object.keys(wanted).map((key) => [key, present[key]]));
  assert.deepEqual(same, wanted, what);
}

type PullMessage = Record<string, string>;

async function pull(docker: Docker, image: string): Promise<PullMessage[]> {
  const stream = await docker.pull(image);
  return new Promise((resolve, reject) => {
    docker.modem.followProgress(stream, (err: Error | null, messages: PullMessage[]) =>
      err ? reject(err) : resolve(messages),
    );
  });
}

/** Both streams of a framed one, to its end. */
async function demuxed(
  docker: Docker,
  stream: NodeJS.ReadableStream,
): Promise<{ stdout: string; stderr: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, stdout, stderr);
  stream.on('end', () => {
    stdout.end();
    stderr.end();
  });
  return { stdout: await text(stdout), stderr: await text(stderr) };
}

async function* linesOf(stream: Readable): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of stream) {
    const lines = `${rest}${chunk}`.split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
}
