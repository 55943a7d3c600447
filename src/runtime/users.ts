import { closeSync, fstatSync, readFileSync } from 'node:fs';
import { fail } from '../errors.ts';
import { openFileInside } from '../host/inside.ts';

/** Who a process in a container is. */
export interface ContainerUser {
  uid: number;
  gid: number;
  /** The primary group first, as dockerd has it; a group may be named twice. */
  additionalGids: number[];
  home: string;
}

/** Larger than any honest file of accounts; a container writes these files itself. */
const MAX_FILE_BYTES = 16 << 20;

const MAX_ID = 2147483647;

/**
 * Looks up `user[:group]` and further groups, each by name or number, in the container's own /etc/passwd and
 * /etc/group. Numbers need not be listed. Throws 500 in dockerd's words for a name that is not there.
 */
export async function resolveUser(
  rootfs: string,
  user: string,
  groupAdd: readonly string[] = [],
): Promise<ContainerUser> {
  const [userPart = '', groupPart = ''] = user.split(/:(.*)/s, 2);
  const passwd = recordsIn(rootfs, '/etc/passwd');
  const groups = recordsIn(rootfs, '/etc/group').map(parseGroup);
  const account = findAccount(passwd, userPart);
  const gid = groupPart === '' ? account.gid : findGroup(groups, groupPart);
  // a group that is named takes the place of all that the account is in
  const isMember = ({ members }: Group) => account.name !== undefined && members.includes(account.name);
  const supplementary = groupPart === '' ? groups.filter(isMember) : [];
  const added = groupAdd.map((group) => findGroup(groups, group, { isMore: true }));
  const additionalGids = [gid, ...supplementary.map((group) => group.gid), ...new Set(added)];
  return { uid: account.uid, gid, additionalGids, home: account.home };
}

interface Account {
  /** Absent for a number that is not listed. */
  name?: string;
  uid: number;
  gid: number;
  home: string;
}

interface Group {
  name: string;
  gid: number;
  members: string[];
}

/** A number is looked for as such, and taken as it is where it is not listed. */
function findAccount(passwd: readonly string[][], wanted: string): Account {
  const number = wanted === '' ? 0 : idOf(wanted);
  for (const [name = '', , uidText = '', gidText = '', , home = ''] of passwd) {
    const uid = Number.parseInt(uidText, 10);
    const isMatch = number === undefined ? name === wanted : uid === number;
    if (isMatch && Number.isInteger(uid)) {
      return { name, uid, gid: Number.parseInt(gidText, 10) || 0, home: home === '' ? '/' : home };
    }
  }
  if (number === undefined) throw fail.noSuchUser(wanted);
  return { uid: number, gid: 0, home: '/' };
}

function findGroup(groups: readonly Group[], wanted: string, o: { isMore?: boolean } = {}): number {
  const number = idOf(wanted);
  if (number !== undefined) return number;
  const found = groups.find(({ name }) => name === wanted);
  if (found === undefined) throw fail.noSuchGroup(wanted, o);
  return found.gid;
}

/** The number that a text is, or undefined if it is a name. */
function idOf(text: string): number | undefined {
  if (!/^[-+]?\d+$/.test(text)) return undefined;
  const id = Number(text);
  if (id < 0 || id > MAX_ID) throw fail.userOutOfRange();
  return id;
}

function parseGroup([name = '', , gid = '', members = '']: string[]): Group {
  return { name, gid: Number.parseInt(gid, 10) || 0, members: members.split(',') };
}

/** The fields of each line of a file as passwd(5) has it; none where there is no such file. */
function recordsIn(rootfs: string, path: string): string[][] {
  return readInside(rootfs, path)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'));
}

/** Links are followed as the container would, whatever a process in there does to them meanwhile. */
function readInside(rootfs: string, path: string): string {
  const fd = openFileInside(rootfs, path);
  if (fd === undefined) return '';
  try {
    if (fstatSync(fd).size > MAX_FILE_BYTES) throw fail.runtime(`${path} in the container is too large`);
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}
