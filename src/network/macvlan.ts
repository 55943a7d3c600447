import { fail } from '../errors.ts';
import type { RiderDriver } from './rider-networks.ts';
import { macvlanKind, macvlanModes, pick } from './virtual-links.ts';

/** Each container has an interface with a MAC address of its own, as if it were plugged into the parent's network. */
export const macvlan: RiderDriver = {
  name: 'macvlan',
  dummyPrefix: 'dm-',
  hasOwnMac: true,
  kindOf({ macvlan_mode: mode }) {
    const known = pick(macvlanModes, mode || 'bridge');
    if (known === undefined)
      throw fail.network(
        `requested macvlan mode '${mode}' is not valid, 'bridge' mode is the macvlan driver default`,
      );
    return macvlanKind(known);
  },
  isRouted: () => false,
};
