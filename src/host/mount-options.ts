import { MS } from './kernel.ts';

/** Options of mount(8) as mount(2) takes them. */
export interface MountOptions {
  flags: number;
  /** A change that is made by a call of its own. */
  propagation: number;
  /** What is the file system's to understand. */
  data: string;
}

/** Flags by their words; a word that takes a flag back has it negative. */
const flagWords: Readonly<Record<string, number>> = {
  defaults: 0,
  ro: MS.RDONLY,
  rw: -MS.RDONLY,
  nosuid: MS.NOSUID,
  suid: -MS.NOSUID,
  nodev: MS.NODEV,
  dev: -MS.NODEV,
  noexec: MS.NOEXEC,
  exec: -MS.NOEXEC,
  sync: MS.SYNCHRONOUS,
  async: -MS.SYNCHRONOUS,
  remount: MS.REMOUNT,
  noatime: MS.NOATIME,
  atime: -MS.NOATIME,
  nodiratime: MS.NODIRATIME,
  diratime: -MS.NODIRATIME,
  relatime: MS.RELATIME,
  norelatime: -MS.RELATIME,
  strictatime: MS.STRICTATIME,
  nostrictatime: -MS.STRICTATIME,
  bind: MS.BIND,
  rbind: MS.BIND | MS.REC,
};

const propagationWords: Readonly<Record<string, number>> = {
  private: MS.PRIVATE,
  rprivate: MS.PRIVATE | MS.REC,
  slave: MS.SLAVE,
  rslave: MS.SLAVE | MS.REC,
  shared: MS.SHARED,
  rshared: MS.SHARED | MS.REC,
  unbindable: MS.UNBINDABLE,
  runbindable: MS.UNBINDABLE | MS.REC,
};

/** Takes a list such as `ro,noatime,addr=10.0.0.1` apart. */
export function parseMountOptions(text: string): MountOptions {
  let flags = 0;
  let propagation = 0;
  const data: string[] = [];
  for (const word of text === '' ? [] : text.split(',')) {
    const flag = Object.hasOwn(flagWords, word) ? flagWords[word] : undefined;
    const change = Object.hasOwn(propagationWords, word) ? propagationWords[word] : undefined;
    if (flag !== undefined) flags = flag < 0 ? flags & ~-flag : flags | flag;
    else if (change !== undefined) propagation = change;
    else data.push(word);
  }
  return { flags, propagation, data: data.join(',') };
}
