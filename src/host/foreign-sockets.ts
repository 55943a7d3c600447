import { closeSync } from 'node:fs';
import { constants, networkInterfaces } from 'node:os';
import { codeOf } from '../errors.ts';
import { inNetworkNamespace } from './kernel.ts';
import { libc, succeed, systemError } from './libc.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;

const types = { tcp: 1, udp: 2 } as const;

export type Protocol = keyof typeof types;

export interface SocketAddress {
  /** 4 or 16 bytes. */
  ip: Uint8Array;
  /** The interface that a link-local IPv6 address is behind, by name or number. */
  zone?: string;
  port: number;
}

/**
 * A UDP and a TCP socket bound to one port of an address in the network namespace at a path; the caller owns the
 * descriptors. The first of the ports that is free for both. The TCP one does not listen yet.
 */
export function bindPair(
  namespacePath: string,
  ip: Uint8Array,
  ports: Iterable<number>,
): { udp: number; tcp: number; port: number } {
  return inNetworkNamespace(namespacePath, () => {
    for (const port of ports) {
      const udp = bindIfFree('udp', { ip, port });
      if (udp === undefined) continue;
      try {
        const tcp = bindIfFree('tcp', { ip, port });
        if (tcp !== undefined) return { udp, tcp, port };
      } catch (cause) {
        closeSync(udp);
        throw cause;
      }
      closeSync(udp);
    }
    throw systemError(constants.errno.EADDRINUSE, 'bind');
  });
}

/**
 * A socket that is connected to an address, or on its way there (TCP), in the network namespace at a path or in this
 * process's own. Whoever else sends to a UDP one is not heard. Throws system errors: ENETUNREACH and the like.
 */
export function connectSocket(protocol: Protocol, to: SocketAddress, namespacePath?: string): number {
  const open = () => {
    const fd = newSocket(protocol, to.ip);
    try {
      const bytes = socketAddress(to);
      succeed('connect', undefined, (c) => c.connect(fd, bytes, bytes.length));
    } catch (cause) {
      if (codeOf(cause) === 'EINPROGRESS') return fd;
      closeSync(fd);
      throw cause;
    }
    return fd;
  };
  return namespacePath === undefined ? open() : inNetworkNamespace(namespacePath, open);
}

/** Sends a datagram on a connected socket; throws system errors. */
export function sendNow(fd: number, bytes: Uint8Array): void {
  succeed('send', undefined, (c) => c.send(fd, bytes, bytes.length, 0));
}

function newSocket(protocol: Protocol, ip: Uint8Array): number {
  const family = ip.length === 4 ? AF_INET : AF_INET6;
  return succeed('socket', undefined, (c) =>
    c.socket(family, types[protocol] | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
  );
}

function bindIfFree(protocol: Protocol, at: SocketAddress): number | undefined {
  const fd = newSocket(protocol, at.ip);
  try {
    const one = Buffer.of(1, 0, 0, 0);
    // connections that an earlier socket had may linger on the port; for UDP it would let two share it
    if (protocol === 'tcp')
      succeed('setsockopt', undefined, (c) => c.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, one, one.length));
    const bytes = socketAddress(at);
    if (libc().bind(fd, bytes, bytes.length) === 0) return fd;
    const errno = libc().errno();
    if (errno !== constants.errno.EADDRINUSE) throw systemError(errno, 'bind');
  } catch (cause) {
    closeSync(fd);
    throw cause;
  }
  closeSync(fd);
  return undefined;
}

/** `struct sockaddr_in` or `sockaddr_in6`. */
function socketAddress({ ip, zone = '', port }: SocketAddress): Buffer {
  const bytes = Buffer.alloc(ip.length === 4 ? 16 : 28);
  bytes.writeUInt16LE(ip.length === 4 ? AF_INET : AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ip, ip.length === 4 ? 4 : 8);
  if (ip.length === 16) bytes.writeUInt32LE(scopeOf(zone), 24);
  return bytes;
}

function scopeOf(zone: string): number {
  if (zone === '') return 0;
  if (/^\d{1,9}$/.test(zone)) return Number(zone);
  const found = networkInterfaces()[zone]?.find(({ family }) => family === 'IPv6');
  return found?.scopeid ?? 0;
}
