import { fail } from '../errors.ts';

/** What the local driver mounts where a volume's files are: mount(8)'s `-t type -o options device`. */
export interface VolumeDevice {
  type: string;
  device: string;
  options: string;
}

/** The only driver that there is. */
export const LOCAL_DRIVER = 'local';

/** dockerd's mark of a volume that was made without a name. */
export const ANONYMOUS_LABEL = 'com.docker.volume.anonymous';

// dockerd: volume/local, volumeNameRegex
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** Throws 400 in dockerd's words. */
export function checkVolumeName(name: string): void {
  if (name.length < 2)
    throw fail.badVolume(
      name,
      'volume name is too short, names should be at least two alphanumeric characters',
    );
  if (!namePattern.test(name)) {
    throw fail.badVolume(
      name,
      `${JSON.stringify(name)} includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
    );
  }
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

/** Volumes with options count as not really here: dockerd neither prunes nor measures them. */
export function hasOptions({ options }: { options: Readonly<Record<string, string>> | null }): boolean {
  return options !== null && Object.keys(options).length > 0;
}

/** What is to be mounted for a volume with these options; undefined for a plain directory. */
export function deviceOf(options: Readonly<Record<string, string>> | null): VolumeDevice | undefined {
  const { type = '', device = '', o = '' } = options ?? {};
  return type === '' && device === '' ? undefined : { type, device, options: o };
}

/** Sizes are quotas of the file system, which the data root is not relied upon to have. */
function checkSize(name: string, text: string): void {
  const [, digits] = /^(\d+(?:\.\d+)?) ?(?:[kmgtp]?i?b?)$/i.exec(text) ?? [];
  if (digits === undefined) throw fail.badVolumeSize(name, text);
  if (Number(digits) > 0) throw fail.badVolume(name, 'quota size requested but no quota support');
}
