import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { HostPorts, type PortPlan, type PortRequest } from '../../../src/network/ports.ts';

const request = { containerPort: 80, protocol: 'tcp', hostIp: '127.0.0.1', hostPort: 0 } as const;

async function portsFor(t: TestContext): Promise<HostPorts> {
  const ports = new HostPorts();
  t.after(() => ports[Symbol.asyncDispose]());
  return ports;
}

/** A TCP port of the loopback that another party has. */
async function foreignPort(t: TestContext): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

test('ports: any free one is from the ephemeral range, and not the same one soon again', async (t) => {
  const ports = await portsFor(t);
  const first = await ports.reserve([request, { ...request, protocol: 'udp' }]);
  await ports.release(first);
  const again = await ports.reserve([request]);
  const numbers = [...first, ...again].map(({ hostPort }) => hostPort);
  assert.ok(numbers.every((port) => port >= 49153 && port <= 65535));
  assert.equal(new Set(numbers).size, 3);
});

test('ports: no address means any address, of both families where the container has both', async (t) => {
  const ports = await portsFor(t);
  const addresses = async (hostIp: string, plan: PortPlan) =>
    (await ports.reserve([{ ...request, hostIp }], plan)).map((mapping) => mapping.hostIp);
  assert.deepEqual(await addresses('', {}), ['0.0.0.0']);
  assert.deepEqual(await addresses('', { isIpv6: true }), ['0.0.0.0', '::']);
  assert.deepEqual(await addresses('', { hostIp: '127.0.0.1', isIpv6: true }), ['127.0.0.1']);
  assert.deepEqual(await addresses('', { hostIp: '::', isIpv6: true }), ['::']);
  assert.deepEqual(await addresses('0.0.0.0', { isIpv6: true }), ['0.0.0.0']);
  assert.deepEqual(await addresses('0:0::1', { isIpv6: true }), ['::1']);
  const refused = { status: 400, message: 'host address ::1 cannot be used: the network has no IPv6' };
  await assert.rejects(ports.reserve([{ ...request, hostIp: '::1' }]), refused);
});

test('ports: the same one on both families, whichever of them has it taken', async (t) => {
  const ports = await portsFor(t);
  const server = createServer().listen({ port: 0, host: '::', ipv6Only: true });
  await once(server, 'listening');
  t.after(() => server.close());
  const hostPort = (server.address() as AddressInfo).port;
  const wish = { ...request, hostIp: '', hostPort };
  await assert.rejects(ports.reserve([wish], { isIpv6: true }), {
    message: `Error starting userland proxy: listen tcp6 [::]:${hostPort}: bind: address already in use`,
  });
  const other = await ports.reserve([{ ...wish, hostPortEnd: hostPort + 9 }], { isIpv6: true });
  assert.equal(new Set(other.map((mapping) => mapping.hostPort)).size, 1);
  const alone = await ports.reserve([wish]);
  assert.equal(alone[0]?.hostPort, hostPort, 'what was refused before holds nothing');
  await ports.reserve([{ ...wish, protocol: 'udp' }], { isIpv6: true });
  await assert.rejects(ports.reserve([{ ...wish, protocol: 'udp', hostIp: '::' }], { isIpv6: true }), {
    message: `Bind for :::${hostPort} failed: port is already allocated`,
  });
});

test('ports: of SCTP, one on any address excludes the same on each', async (t) => {
  const ports = await portsFor(t);
  const sctp = { ...request, protocol: 'sctp', hostPort: 9999 } as const;
  await ports.reserve([
    { ...sctp, hostIp: '127.0.0.1' },
    { ...sctp, hostIp: '127.0.0.2' },
  ]);
  await assert.rejects(ports.reserve([{ ...sctp, hostIp: '' }]), {
    message: 'Error starting userland proxy: listen sctp4 0.0.0.0:9999: bind: address already in use',
  });
  await ports.reserve([{ ...sctp, hostIp: '::' }], { isIpv6: true });
  await assert.rejects(
    ports.reserve([{ ...sctp, hostIp: '::1' }], { isIpv6: true }),
    /address already in use/,
  );
});

test('ports: one of ours is refused in dockerd’s words, and so is another process’s', async (t) => {
  const ports = await portsFor(t);
  const [mine] = await ports.reserve([request]);
  const hostPort = mine?.hostPort ?? 0;
  await assert.rejects(ports.reserve([{ ...request, hostPort }]), {
    message: `Bind for 127.0.0.1:${hostPort} failed: port is already allocated`,
  });
  await ports.reserve([{ ...request, hostPort, protocol: 'sctp' }]); // SCTP has port numbers of its own
  const foreign = await foreignPort(t);
  await assert.rejects(ports.reserve([{ ...request, hostPort: foreign }]), {
    message: `Error starting userland proxy: listen tcp4 127.0.0.1:${foreign}: bind: address already in use`,
  });
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  t.after(() => socket.close());
  await once(socket, 'listening');
  const { port } = socket.address();
  await assert.rejects(ports.reserve([{ ...request, protocol: 'udp', hostPort: port }]), {
    message: `Error starting userland proxy: listen udp4 127.0.0.1:${port}: bind: address already in use`,
  });
});

test('ports: all or none', async (t) => {
  const ports = await portsFor(t);
  const [{ hostPort } = { hostPort: 0 }] = await ports.reserve([request]);
  const free: PortRequest = { ...request, hostIp: '127.0.0.2', hostPort };
  await assert.rejects(ports.reserve([free, { ...request, hostPort }]), /already allocated/);
  assert.equal((await ports.reserve([free]))[0]?.hostPort, hostPort);
});

test('ports: of a range the first that is free, whoever has the others', async (t) => {
  const ports = await portsFor(t);
  const hostPort = await foreignPort(t);
  const range = { ...request, hostPort, hostPortEnd: hostPort + 1 };
  assert.equal((await ports.reserve([range]))[0]?.hostPort, hostPort + 1);
  await assert.rejects(ports.reserve([range]), /address already in use/);
  const ours = { ...range, hostPort: hostPort + 1, hostPortEnd: hostPort + 2 };
  await ports.reserve([ours]);
  await assert.rejects(ports.reserve([ours]), { message: 'all ports are allocated' });
});

test('ports: held while in use, free for others afterwards', async (t) => {
  const ports = await portsFor(t);
  const mappings = await ports.reserve([request]);
  const port = mappings[0]?.hostPort ?? 0;
  const refused = createServer().listen(port, '127.0.0.1');
  const [failure] = await once(refused, 'error');
  assert.equal(failure.code, 'EADDRINUSE');
  await ports.release(mappings);
  await ports.release(mappings);
  const server = createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  server.close();
});

test('ports: what was in force before is taken over, and what others took meanwhile is told', async (t) => {
  const ports = await portsFor(t);
  const taken = await foreignPort(t);
  const mapping = (hostPort: number) => ({ ...request, hostPort });
  const [free] = await ports.reserve([request]);
  await ports.release(free ? [free] : []);
  const lost = await ports.adopt([mapping(taken), mapping(free?.hostPort ?? 0)]);
  assert.deepEqual(lost, [mapping(taken)]);
  for (const hostPort of [taken, free?.hostPort ?? 0])
    await assert.rejects(ports.reserve([mapping(hostPort)]), /already allocated/);
});
