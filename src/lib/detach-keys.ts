import { fail } from '../errors.ts';

const DEFAULT = 'ctrl-p,ctrl-q';

/** The bytes of a detach sequence such as `ctrl-p,ctrl-q` or `a,ctrl-[`; throws 400 for anything else. */
export function parseDetachKeys(text: string | undefined): Buffer {
  const bytes = (text === undefined || text === '' ? DEFAULT : text).split(',').map((key) => {
    if (Buffer.byteLength(key) === 1) return key.charCodeAt(0);
    const control = /^ctrl-([a-z@[\\\]^_])$/.exec(key)?.[1];
    if (control === undefined) throw fail.badRequest(`Invalid detach keys (${text}) provided`);
    return control.toUpperCase().charCodeAt(0) - 64;
  });
  return Buffer.from(bytes);
}

/** Watches typed bytes for the detach sequence, holding back what may be its beginning. */
export class DetachFilter {
  readonly #keys: Buffer;
  #matched = 0;

  constructor(keys: Buffer) {
    this.#keys = keys;
  }

  /** What may go on to the process; `isDetached` once the sequence is complete, which swallows it and the rest. */
  push(chunk: Buffer): { bytes: Buffer; isDetached: boolean } {
    const out: number[] = [];
    for (const byte of chunk) {
      if (byte === this.#keys[this.#matched]) {
        this.#matched++;
        if (this.#matched === this.#keys.length) return { bytes: Buffer.from(out), isDetached: true };
        continue;
      }
      out.push(...this.#keys.subarray(0, this.#matched));
      this.#matched = byte === this.#keys[0] ? 1 : 0;
      if (this.#matched === 0) out.push(byte);
    }
    return { bytes: Buffer.from(out), isDetached: false };
  }
}
