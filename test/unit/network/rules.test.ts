import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rulesOf } from '../../../src/network/iptables-text.ts';
import { nftScript } from '../../../src/network/nft-script.ts';
import { type BridgeRules, ofFamily, type Ruleset } from '../../../src/network/ruleset.ts';
import { parseCidr, type Subnet } from '../../../src/network/subnets.ts';

/** What the scripts say, where the tests in network namespaces cannot see it. */

function bridge(name: string, subnets: string[], o: Partial<BridgeRules> = {}): BridgeRules {
  const parsed = subnets.map((text) => parseCidr(text)?.subnet).filter((s): s is Subnet => s !== undefined);
  return { name, subnets: parsed, isInternal: false, isIcc: true, isMasquerade: true, ...o };
}

const web = { protocol: 'tcp', hostPort: 8080, containerPort: 80 } as const;
const rules: Ruleset = {
  bridges: [
    bridge('br-one', ['10.1.0.0/24', 'fd00:1::/64']),
    bridge('br-two', ['10.2.0.0/24'], { isIcc: false }),
    bridge('br-in', ['10.3.0.0/24', 'fd00:3::/64'], { isInternal: true }),
  ],
  ports: [
    { ...web, hostIp: '0.0.0.0', containerIp: '10.1.0.2' },
    { ...web, hostIp: '::', containerIp: 'fd00:1::2' },
    { ...web, protocol: 'sctp', hostIp: '2001:db8::1', containerIp: 'fd00:1::2' },
  ],
};

function chainOf(script: string, table: string, chain: string): string[] {
  const start = `add rule ${table} ${chain} `;
  return script.split('\n').flatMap((line) => (line.startsWith(start) ? [line.slice(start.length)] : []));
}

test('nft: each family has what is its own, and the user’s chain is only ever made', () => {
  const script = nftScript(rules, [4, 6]);
  assert.deepEqual(chainOf(script, 'ip skerry', 'forward'), [
    'jump user',
    'iifname . oifname { "br-one" . "br-one", "br-in" . "br-in" } accept',
    'iifname { "br-in" } drop',
    'oifname { "br-in" } drop',
    'ct state established,related accept',
    'oifname { "br-one", "br-two", "br-in" } ct status dnat accept',
    'oifname { "br-one", "br-two", "br-in" } drop',
  ]);
  assert.deepEqual(chainOf(script, 'ip6 skerry', 'postrouting'), [
    'oifname "br-one" ct status dnat ip6 saddr { ::1, fd00:1::/64 } masquerade',
    'ip6 saddr { fd00:1::/64 } oifname != "br-one" masquerade',
    'oifname "br-in" ct status dnat ip6 saddr { ::1, fd00:3::/64 } masquerade',
  ]);
  assert.deepEqual(
    script.split('\n').filter((line) => line.startsWith('add element')),
    [
      'add element ip skerry published { tcp . 8080 : 10.1.0.2 . 80 }',
      'add element ip6 skerry published { tcp . 8080 : fd00:1::2 . 80 }',
      'add element ip6 skerry published-on-address { 2001:db8::1 . sctp . 8080 : fd00:1::2 . 80 }',
    ],
  );
  assert.deepEqual(
    script.split('\n').filter((line) => / user$| user /.test(line) && !line.includes('jump')),
    ['add chain ip skerry user', 'add chain ip6 skerry user'],
  );
  assert.doesNotMatch(nftScript(rules, [4]), /ip6|fd00/);
});

test('nft: a packet that is forwarded meets as many rules with a hundred networks as with one', () => {
  const many = Array.from({ length: 100 }, (_, n) => bridge(`br-${n}`, [`10.1.${n}.0/24`]));
  const count = (bridges: BridgeRules[]) =>
    chainOf(nftScript({ bridges, ports: [] }, [4]), 'ip skerry', 'forward').length;
  assert.equal(count(many), count(many.slice(0, 1)));
});

test('iptables: internal networks are closed before published ports are let through', () => {
  const forward = rulesOf('filter', 6, ofFamily(rules, 6)).filter((rule) => rule.includes('FORWARD'));
  const at = (text: string) => forward.indexOf(`-A SKERRY-FORWARD ${text}`);
  assert.ok(at('-i br-in -j DROP') > at('-i br-in -o br-in -j ACCEPT'));
  assert.ok(at('-o br-one -m conntrack --ctstate DNAT -j ACCEPT') > at('-i br-in -j DROP'));
  assert.equal(at('-o br-two -j DROP'), -1, 'no subnet of this family');
  assert.ok(
    rulesOf('nat', 6, ofFamily(rules, 6)).includes(
      '-A SKERRY -d 2001:db8::1 -p sctp -m sctp --dport 8080 -j DNAT --to-destination [fd00:1::2]:80',
    ),
  );
});
