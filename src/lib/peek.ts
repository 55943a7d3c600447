/** The first bytes of a stream, at least `bytes` of them unless there are fewer, and the whole of it, these included. */
export async function peek(
  input: AsyncIterable<Buffer>,
  bytes: number,
): Promise<{ head: Buffer; whole: AsyncIterable<Buffer> }> {
  const pieces = input[Symbol.asyncIterator]();
  const first: Buffer[] = [];
  for (let have = 0; have < bytes; ) {
    const { value, done } = await pieces.next();
    if (done === true) break;
    first.push(value);
    have += value.length;
  }
  const head = Buffer.concat(first);
  const whole = async function* () {
    if (head.length > 0) yield head;
    yield* { [Symbol.asyncIterator]: () => pieces };
  };
  return { head, whole: whole() };
}
