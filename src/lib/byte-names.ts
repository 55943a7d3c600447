/**
 * Names of files are byte strings, one character per byte, because neither tar nor the kernel promises UTF-8. Node takes
 * such a name as text only where it is ASCII.
 */
export function diskPath(name: string): string | Buffer {
  return /[^\0-\x7f]/.test(name) ? Buffer.from(name, 'latin1') : name;
}

/** Text as a byte string. */
export function nameOf(text: string): string {
  return Buffer.from(text).toString('latin1');
}

/** A byte string for people. */
export function nameText(name: string): string {
  return Buffer.from(name, 'latin1').toString();
}
