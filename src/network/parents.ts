import { fail } from '../errors.ts';
import type { Netlink } from '../host/netlink.ts';
import { errnoText } from '../lib/errno.ts';
import { findLink, OUR_GROUP, removeLink, upMessage } from './links.ts';
import type { NetworkDriver } from './model.ts';
import { addParent } from './virtual-links.ts';

/** The host's interfaces that macvlan and ipvlan networks ride on, in dockerd's words. */

/** Makes sure that there is such an interface: `eth0.50` may be made of `eth0`, one that leads nowhere of nothing. */
export async function ensureParent(
  netlink: Netlink,
  driver: NetworkDriver,
  { name, isDummy }: { name: string; isDummy: boolean },
): Promise<void> {
  if ((await findLink(netlink, name)) !== undefined) return;
  if (isDummy) await make(netlink, driver, name);
  else await makeVlan(netlink, driver, name);
}

/** Removes what {@link ensureParent} made; what others made stays. One that is gone is fine. */
export async function dropParent(netlink: Netlink, name: string): Promise<void> {
  const link = await findLink(netlink, name);
  if (link?.group === OUR_GROUP) await removeLink(netlink, name);
}

async function makeVlan(netlink: Netlink, driver: NetworkDriver, name: string): Promise<void> {
  if (!name.includes('.'))
    throw fail.network(`invalid subinterface vlan name ${name}, example formatting is eth0.10`);
  const [parentName = '', idText = '', more] = name.split('.');
  if (more !== undefined)
    throw fail.network(
      `required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received ${name}`,
    );
  if (!/^[+-]?\d+$/.test(idText))
    throw fail.network(`unable to parse a valid vlan id from: ${idText} (ex. eth0.10 for vlan 10)`);
  const parent = await findLink(netlink, parentName);
  if (parent === undefined)
    throw fail.network(`-o parent interface was not found on the host: ${parentName}`);
  const id = Number(idText);
  if (id > 4094 || id < 1) throw fail.network(`vlan id must be between 1-4094, received: ${id}`);
  await make(netlink, driver, name, { parent: parent.index, id });
}

async function make(
  netlink: Netlink,
  driver: NetworkDriver,
  name: string,
  vlan?: { parent: number; id: number },
): Promise<void> {
  try {
    await addParent(netlink, name, vlan);
  } catch (cause) {
    const why = errnoText(cause);
    throw fail.network(vlan === undefined ? why : `failed to create ${name} vlan link: ${why}`, { cause });
  }
  try {
    const link = await findLink(netlink, name);
    if (link !== undefined) await netlink.request([upMessage(link.index)]);
  } catch (cause) {
    await removeLink(netlink, name);
    throw fail.network(`failed to enable ${name} the ${driver} parent link ${errnoText(cause)}`, { cause });
  }
}
