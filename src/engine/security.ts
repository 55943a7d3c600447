import { fail } from '../errors.ts';
import type { BundleSpec } from '../runtime/spec.ts';
import type { HostConfig } from './model.ts';

/** What the security options of a container come to. */
export interface Security {
  seccomp: BundleSpec['seccomp'];
  noNewPrivileges: boolean;
  /** The name of a profile; absent if none is named. */
  apparmor?: string;
}

/** What holds for containers that do not say. */
export type SecurityDefaults = Pick<Security, 'seccomp' | 'noNewPrivileges'>;

/**
 * Reads the security options; throws 500, as dockerd does, for one that is none. Labels mean nothing: they are SELinux's,
 * which no container is labelled for, as under a dockerd without selinux-enabled.
 */
export function securityOf(
  { securityOpt }: Pick<HostConfig, 'securityOpt'>,
  defaults: SecurityDefaults = { noNewPrivileges: false, seccomp: 'default' },
): Security {
  const security: Security = { ...defaults };
  for (const option of securityOpt ?? []) {
    if (option === 'no-new-privileges') security.noNewPrivileges = true;
    if (option === 'no-new-privileges' || option === 'disable') continue;
    const separator = option.includes('=') ? '=' : ':';
    const at = option.indexOf(separator);
    if (at < 0) throw fail.host(`invalid --security-opt 1: ${JSON.stringify(option)}`);
    const [key, value] = [option.slice(0, at), option.slice(at + 1)];
    const unknown = () => fail.host(`invalid --security-opt 2: ${JSON.stringify(option)}`);
    if (key === 'apparmor') security.apparmor = value;
    else if (key === 'seccomp') security.seccomp = seccompOf(value);
    else if (key === 'no-new-privileges') security.noNewPrivileges = truthOf(value, unknown);
    else if (key !== 'label') throw unknown();
  }
  return security;
}

/** The CLI reads a profile file itself and sends its text. */
function seccompOf(value: string): BundleSpec['seccomp'] {
  if (value === 'unconfined') return value;
  return value === '' || value === 'builtin' ? 'default' : { profile: value };
}

/** As Go's strconv reads it. */
function truthOf(text: string, complain: () => Error): boolean {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  throw complain();
}
