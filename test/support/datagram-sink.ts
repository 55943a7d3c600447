import { closeSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';

const AF_UNIX = 1;
const SOCK_DGRAM_NONBLOCK = 2 | 0o4000;
const MAX_BYTES = 1 << 20;

/** A unix datagram socket that listens, which Node has not: in place of journald's. Reads when it is asked to. */
export class DatagramSink implements Disposable {
  readonly path: string;
  readonly #c: ReturnType<typeof functions>;
  readonly #buffer = Buffer.alloc(MAX_BYTES);
  #fd: number;

  constructor(path: string) {
    this.path = path;
    this.#c = functions();
    this.#fd = this.#c.socket(AF_UNIX, SOCK_DGRAM_NONBLOCK, 0);
    const address = Buffer.alloc(2 + path.length + 1);
    new Uint16Array(address.buffer, address.byteOffset, 1)[0] = AF_UNIX;
    address.write(path, 2);
    if (this.#c.bind(this.#fd, address, address.length) !== 0) throw new Error(`cannot bind ${path}`);
  }

  /** What has come, and what still comes, until there are `count` of them; each by its fields. */
  async take(count: number): Promise<Map<string, string>[]> {
    const entries: Map<string, string>[] = [];
    for (const end = Date.now() + 10_000; entries.length < count; ) {
      const entry = this.poll();
      if (entry !== undefined) entries.push(entry);
      else if (Date.now() > end) throw new Error(`${entries.length} of ${count} came`);
      else await sleep(5);
    }
    return entries;
  }

  /** The next one that is there. */
  poll(): Map<string, string> | undefined {
    const size = Number(this.#c.recv(this.#fd, this.#buffer, MAX_BYTES, 0));
    return size <= 0 ? undefined : parse(this.#buffer.subarray(0, size));
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
    rmSync(this.path, { force: true });
  }
}

function functions() {
  const library = createRequire(import.meta.url)('koffi').load(null);
  return {
    socket: library.func('int socket(int, int, int)'),
    bind: library.func('int bind(int, const void *, unsigned int)'),
    recv: library.func('long recv(int, void *, size_t, int)'),
  };
}

/** systemd's Native Journal Protocol. A name that is there twice is an error. */
function parse(bytes: Buffer): Map<string, string> {
  const fields = new Map<string, string>();
  for (let at = 0; at < bytes.length; ) {
    const lineEnd = bytes.indexOf(0x0a, at);
    const equals = bytes.subarray(at, lineEnd).indexOf(0x3d);
    const name = bytes.toString('latin1', at, equals < 0 ? lineEnd : at + equals);
    if (fields.has(name) || !/^[A-Z0-9][A-Z0-9_]*$/.test(name)) throw new Error(`a bad field: ${name}`);
    if (equals >= 0) {
      fields.set(name, bytes.toString('utf8', at + equals + 1, lineEnd));
      at = lineEnd + 1;
      continue;
    }
    const size = Number(bytes.readBigUInt64LE(lineEnd + 1));
    fields.set(name, bytes.toString('utf8', lineEnd + 9, lineEnd + 9 + size));
    at = lineEnd + 9 + size + 1;
  }
  return fields;
}
