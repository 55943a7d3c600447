import { readFileSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { programPath } from './programs.ts';
import { layerOf, makeImage, type Packing, type TestImage, type TestLayer } from './registry-images.ts';

const applets = (
  'sh ash cat chmod chown cp cut date dd df du echo env false find free getty grep head hostname httpd id ip ' +
  'kill ln ls mkdir mktemp mount mv nc nslookup ping printf ps pwd readlink rm rmdir sed seq sha256sum sleep sort ' +
  'stat stty sync tail tee test time timeout top touch tr true tty uname uniq unlink usleep vi wc wget whoami xargs yes'
).split(' ');

const texts: Record<string, string> = {
  'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n',
  'etc/group': 'root:x:0:\nalice:x:1000:\ndialout:x:20:alice\n',
  'etc/os-release': 'NAME="Box"\nID=box\nPRETTY_NAME="Box for tests"\n',
  'www/index.html': 'hello from the box\n',
};

/** A small Linux root file system: Debian's static busybox, users, a page to serve. */
export async function boxLayer({ packing = 'gzip' }: { packing?: Packing } = {}): Promise<TestLayer> {
  const archive = pack();
  const mtime = new Date('2026-01-01T00:00:00Z');
  for (const name of [
    'bin',
    'dev',
    'etc',
    'home',
    'home/alice',
    'proc',
    'root',
    'sys',
    'tmp',
    'usr',
    'usr/bin',
    'var',
    'www',
  ]) {
    const mode = name === 'tmp' ? 0o1777 : 0o755;
    const owner = name === 'home/alice' ? { uid: 1000, gid: 1000 } : {};
    archive.entry({ name: `${name}/`, type: 'directory', mode, mtime, ...owner });
  }
  archive.entry({ name: 'bin/busybox', mode: 0o755, mtime }, readFileSync(programPath('busybox')));
  for (const name of applets)
    archive.entry({ name: `bin/${name}`, type: 'symlink', linkname: 'busybox', mtime });
  for (const [name, text] of Object.entries(texts)) archive.entry({ name, mode: 0o644, mtime }, text);
  archive.finalize();
  return layerOf(await buffer(archive), packing);
}

/** An image on the box layer, with more layers on top. */
export async function boxImage(
  o: { config?: object; layers?: readonly TestLayer[] } = {},
): Promise<TestImage> {
  return makeImage({
    layers: [await boxLayer(), ...(o.layers ?? [])],
    ...(o.config && { config: o.config }),
  });
}
