import { fail } from '../errors.ts';
import { capabilities, capabilitiesIn } from '../host/facts.ts';

/** What a container may do that needs more than being root, unless told otherwise: dockerd's choice. */
export const DEFAULT_CAPABILITIES: readonly string[] = (
  'CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL ' +
  'AUDIT_WRITE'
)
  .split(' ')
  .map((name) => `CAP_${name}`);

const ALL = 'ALL';
const known = new Set(capabilitiesIn((1n << 64n) - 1n));

/**
 * The capabilities of a container, by dockerd's arithmetic. "All" is no more than the daemon's own bounding set
 * (`available`): a host may lack some, and the runtime refuses to give what it has not. The same holds for the
 * defaults; what is added by name is passed on, so that its absence is told. Throws 400 for a name that is none.
 */
export function containerCapabilities(
  o: { capAdd: readonly string[] | null; capDrop: readonly string[] | null; privileged: boolean },
  available: readonly string[] = capabilities(),
): string[] {
  const added = normalize(o.capAdd ?? [], 'CapAdd');
  const dropped = new Set(normalize(o.capDrop ?? [], 'CapDrop'));
  if (o.privileged) return [...available];
  if (added.includes(ALL)) return available.filter((name) => !dropped.has(name));
  const kept = dropped.has(ALL)
    ? []
    : DEFAULT_CAPABILITIES.filter((name) => !dropped.has(name) && available.includes(name));
  return [...new Set([...kept, ...added])];
}

/** `net_admin` and `CAP_NET_ADMIN` are the same; `all` is a word of its own. */
function normalize(names: readonly string[], field: 'CapAdd' | 'CapDrop'): string[] {
  return names.map((given) => {
    const name = given.toUpperCase();
    if (name === ALL) return ALL;
    const full = name.startsWith('CAP_') ? name : `CAP_${name}`;
    if (!known.has(full)) throw fail.badRequest(`invalid ${field}: unknown capability: "${full}"`);
    return full;
  });
}
