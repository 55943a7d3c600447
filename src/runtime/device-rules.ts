import { fail } from '../errors.ts';

/** A line of the devices controller in the OCI runtime's words. A number that is absent is any. */
export interface DeviceRule {
  readonly allow: true;
  readonly type: string;
  readonly major?: number;
  readonly minor?: number;
  readonly access: string;
}

/** Reads `TYPE MAJOR:MINOR ACCESS`, such as `c 188:* rw`. Throws 500 in dockerd's words for what is none. */
export function deviceRule(text: string): DeviceRule {
  const [, type, major, minor, access] = /^([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})$/.exec(text) ?? [];
  if (type === undefined || access === undefined)
    throw fail.runtime(`invalid device cgroup rule format: '${text}'`);
  return {
    allow: true,
    type,
    ...(major !== '*' && { major: Number(major) }),
    ...(minor !== '*' && { minor: Number(minor) }),
    access,
  };
}
