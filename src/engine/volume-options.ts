import { fail } from '../errors.ts';

/** What the local driver mounts where a volume's files are: mount(8)'s `-t type -o options device`. */
export interface VolumeDevice {
  type: string;
  device: string;
  options: string;
}

const known = ['type', 'o', 'device', 'size'];

/** Go's range over a map has no order; here it is this one. */
const needed: readonly [string, readonly string[]][] = [
  ['device', ['type']],
  ['type', ['device']],
  ['o', ['device', 'type']],
];

/** Throws 400 in dockerd's words (volume/local, local_unix.go). */
export function checkVolumeOptions(name: string, options: Readonly<Record<string, string>>): void {
  for (const key of Object.keys(options))
    if (!known.includes(key)) throw fail.badVolume(name, `invalid option: ${JSON.stringify(key)}`);
  if (options['type'] === 'cifs' && /^[^/]*\/\/[^/]*:\d+(\/|$)/.test(options['device'] ?? ''))
    throw fail.badVolume(name, "port not allowed in CIFS device URL, include 'port' in 'o='");
  if (options['size'] !== undefined) checkSize(name, options['size']);
  for (const [key, others] of needed) {
    if (options[key] === undefined) continue;
    for (const other of others)
      if (options[other] === undefined)
        throw fail.badVolume(name, `missing required option: ${JSON.stringify(other)}`);
  }
}

/** What is to be mounted for a volume with these options; undefined for a plain directory. */
export function deviceOf(options: Readonly<Record<string, string>>): VolumeDevice | undefined {
  const { type = '', device = '', o = '' } = options;
  return type === '' && device === '' ? undefined : { type, device, options: o };
}

/** Sizes are quotas of the file system, which the data root is not relied upon to have. */
function checkSize(name: string, text: string): void {
  const [, digits] = /^(\d+(?:\.\d+)?) ?(?:[kmgtp]?i?b?)$/i.exec(text) ?? [];
  if (digits === undefined) throw fail.badVolume(name, `invalid size: '${text}'`);
  if (Number(digits) > 0) throw fail.badVolume(name, 'quota size requested but no quota support');
}
