/** systemd's journal: how an entry is sent (Native Journal Protocol) and how it is read back (Journal Export Format). */

/** A field takes the form with a length where a line would not hold it; either is fine for a reader. */
export function journalField(name: string, value: string | Uint8Array): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  if (!bytes.includes(NEWLINE)) return Buffer.concat([Buffer.from(`${name}=`), bytes, LINE_END]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([Buffer.from(`${name}\n`), length, bytes, LINE_END]);
}

/** A name as the journal allows it, made of any text as dockerd makes it; empty where nothing is left. */
export function journalFieldName(text: string): string {
  const upper = text.replace(/[a-z]/g, (letter) => letter.toUpperCase()); // no other alphabet's letters
  return upper.replace(/[^A-Z0-9]/gu, '_').replace(/^_+/, '');
}

export type JournalEntry = ReadonlyMap<string, Buffer>;

const NEWLINE = 0x0a;
const LINE_END = Buffer.from('\n');

/** No field of ours is nearly as long; others' entries may say that they are ours. */
const MAX_FIELD_BYTES = 1 << 20;
const MAX_FIELDS = 1024;

/** Takes an export apart. Holds one entry; one that is beyond all measure throws. */
export async function* journalEntries(source: AsyncIterable<Buffer>): AsyncGenerator<JournalEntry> {
  const reader = new Reader(source);
  let entry = new Map<string, Buffer>();
  for (let line = await reader.line(); line !== undefined; line = await reader.line()) {
    if (line.length === 0) {
      if (entry.size > 0) yield entry;
      entry = new Map();
      continue;
    }
    const equals = line.indexOf('=');
    const name = line.toString('latin1', 0, equals < 0 ? undefined : equals);
    const value = equals < 0 ? await reader.counted() : line.subarray(equals + 1);
    if (value === undefined) return;
    if (entry.size >= MAX_FIELDS) throw new Error('a journal entry has too many fields');
    entry.set(name, value);
  }
  if (entry.size > 0) yield entry;
}

class Reader {
  readonly #chunks: AsyncIterator<Buffer>;
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;

  constructor(source: AsyncIterable<Buffer>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  /** Without its end; undefined at the end of all. */
  async line(): Promise<Buffer | undefined> {
    for (let from = this.#at; ; ) {
      const end = this.#bytes.indexOf(NEWLINE, from);
      if (end >= 0) {
        const line = this.#bytes.subarray(this.#at, end);
        this.#at = end + 1;
        return line;
      }
      const searched = this.#bytes.length - this.#at;
      if (searched > MAX_FIELD_BYTES) throw new Error('a journal field is too long');
      if (!(await this.#more())) return undefined;
      from = this.#at + searched;
    }
  }

  /** A value with its length before it and a newline behind. */
  async counted(): Promise<Buffer | undefined> {
    if (!(await this.#need(8))) return undefined;
    const length = this.#bytes.readBigUInt64LE(this.#at);
    if (length > MAX_FIELD_BYTES) throw new Error('a journal field is too long');
    this.#at += 8;
    const size = Number(length);
    if (!(await this.#need(size + 1))) return undefined;
    const value = this.#bytes.subarray(this.#at, this.#at + size);
    this.#at += size + 1;
    return value;
  }

  async #need(size: number): Promise<boolean> {
    while (this.#bytes.length - this.#at < size) if (!(await this.#more())) return false;
    return true;
  }

  async #more(): Promise<boolean> {
    const { value, done } = await this.#chunks.next();
    if (done) return false;
    const rest = this.#bytes.subarray(this.#at);
    this.#bytes = rest.length === 0 ? value : Buffer.concat([rest, value]);
    this.#at = 0;
    return true;
  }
}
