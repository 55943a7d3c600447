import { chmod, chown, lstat, mkdir, unlink } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { codeOf, fail, messageOf } from '../errors.ts';
import { withResolvers } from '../lib/promises.ts';
import { isAbsence, readIfThere } from './files.ts';
import { sendDatagram } from './packets.ts';

/** systemd passes sockets from this descriptor on: sd_listen_fds(3). */
const FIRST_INHERITED_FD = 3;

/** `sun_path` holds 108 bytes with its closing NUL; older libuv would cut a longer one. */
const MAX_PATH_BYTES = 107;

/**
 * Makes a server listen on a unix socket with exactly this mode and group (a name or a number). The directory
 * is made if need be. A socket that a dead process left is replaced; one that answers, or anything else that
 * is in the way, is a Failure.
 */
export async function listenUnix(
  server: Server,
  path: string,
  { mode, group }: { mode: number; group?: string },
): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) throw fail.host(`socket path is too long: ${path}`);
  const gid = group === undefined ? undefined : await groupId(group);
  if (group !== undefined && gid === undefined) throw fail.host(`group ${group} not found`);
  await mkdir(dirname(path), { recursive: true });
  await removeStale(path);
  await bind(server, path);
  if (gid !== undefined) await chown(path, process.getuid?.() ?? 0, gid);
  await chmod(path, mode);
}

/** A group's number by its name in /etc/group, or by its number itself. */
export async function groupId(group: string): Promise<number | undefined> {
  if (/^\d+$/.test(group)) return Number(group);
  const table = (await readIfThere('/etc/group'))?.toString() ?? '';
  const line = table.split('\n').find((entry) => entry.startsWith(`${group}:`));
  return line === undefined ? undefined : Number(line.split(':')[2]);
}

async function removeStale(path: string): Promise<void> {
  try {
    if (!(await lstat(path)).isSocket()) throw fail.host(`cannot listen on ${path}: it is not a socket`);
  } catch (cause) {
    if (isAbsence(cause)) return;
    throw cause;
  }
  if (await isAnswering(path))
    throw fail.host(`cannot listen on ${path}: another process is listening there`);
  await unlink(path);
}

async function isAnswering(path: string): Promise<boolean> {
  const { promise, resolve } = withResolvers<boolean>();
  const probe = connect(path);
  probe.once('connect', () => resolve(true));
  // only a refusal proves that nobody is there: a full backlog is EAGAIN
  probe.once('error', (cause) => resolve(codeOf(cause) !== 'ECONNREFUSED'));
  const isThere = await promise;
  probe.destroy();
  return isThere;
}

async function bind(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = withResolvers<void>();
  const onError = (cause: Error) => reject(fail.host(`cannot listen on ${path}: ${messageOf(cause)}`, cause));
  server.once('error', onError);
  // listen() binds before it returns: until its mode is set, nobody else gets in
  const before = process.umask(0o177);
  try {
    server.listen(path, resolve);
  } finally {
    process.umask(before);
  }
  await promise;
  server.off('error', onError);
}

/** The listening sockets that systemd passed to this process, if it did (sd_listen_fds(3)). */
export function inheritedSockets(env: Readonly<Record<string, string | undefined>>): number[] {
  const count = Number(env['LISTEN_FDS']);
  if (env['LISTEN_PID'] !== String(process.pid) || !Number.isSafeInteger(count)) return [];
  return Array.from({ length: Math.max(0, count) }, (_, index) => FIRST_INHERITED_FD + index);
}

/**
 * Tells systemd about our state, such as `READY=1` (sd_notify(3)). Not run by systemd: does nothing. The variable is
 * systemd's protocol, no configuration of ours, and so is read here.
 */
export async function notifySystemd(state: string, socket = process.env['NOTIFY_SOCKET']): Promise<void> {
  if (socket === undefined || socket === '') return;
  try {
    sendDatagram(socket, Buffer.from(state));
  } catch (cause) {
    throw fail.host(`cannot notify systemd at ${socket}: ${messageOf(cause)}`, cause);
  }
}
