/** Below this a loop is done before the runtime's copy has begun, which makes a view first. */
const SHORT_BYTES = 64;

/** Copies `length` bytes, which both buffers have, from one to the other. For copies by the hundred thousand. */
export function copyBytes(source: Buffer, from: number, target: Buffer, at: number, length: number): void {
  if (length > SHORT_BYTES) {
    source.copy(target, at, from, from + length);
    return;
  }
  for (let n = 0; n < length; n++) target[at + n] = source[from + n] ?? 0;
}
