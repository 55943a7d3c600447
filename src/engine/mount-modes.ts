/** The words of a bind's or volume's mode (`ro,rslave`), as dockerd has them: volume/mounts, linux_parser.go. */

export const propagations: readonly string[] = [
  'private',
  'rprivate',
  'slave',
  'rslave',
  'shared',
  'rshared',
];

/** Of each kind there may be one word. */
const kinds: readonly (readonly string[])[] = [
  ['rw', 'ro'],
  ['z', 'Z'], // labels of SELinux: accepted, and without meaning where there is none
  propagations,
  ['nocopy'],
  ['consistent', 'cached', 'delegated'], // for hosts that share files with a virtual machine
];

/** An empty one is a mode, too. */
export function isMode(mode: string): boolean {
  if (mode === '') return true;
  const words = mode.split(',');
  const known = kinds.flat();
  return (
    words.every((word) => known.includes(word)) &&
    kinds.every((kind) => words.filter((word) => kind.includes(word)).length <= 1)
  );
}

export function isReadOnly(mode: string): boolean {
  return mode.split(',').includes('ro');
}

/** What the image has there does not go into the volume. */
export function declinesCopy(mode: string): boolean {
  return mode.split(',').includes('nocopy');
}

export function propagationOf(mode: string): string | undefined {
  return mode.split(',').find((word) => propagations.includes(word));
}
