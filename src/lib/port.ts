import { fail } from '../errors.ts';

export type PortProtocol = 'tcp' | 'udp' | 'sctp';

/** Parses `80`, `80/tcp`, `53/udp`; throws 400. */
export function parsePort(text: string): { port: number; protocol: PortProtocol } {
  const [number = '', protocol = 'tcp'] = text.toLowerCase().split('/');
  const port = Number(number);
  const isPort = /^\d+$/.test(number) && port >= 0 && port <= 65535;
  if (!isPort || !['tcp', 'udp', 'sctp'].includes(protocol)) {
    throw fail.badRequest(`invalid port specification: "${text}"`);
  }
  return { port, protocol: protocol as PortProtocol };
}

/** A port as the API spells it, `80/tcp`; throws 400. */
export function canonicalPort(text: string): string {
  const { port, protocol } = parsePort(text);
  return `${port}/${protocol}`;
}

/** The host's side of a published port: `8080`, a range to choose from, or nothing for any; throws 400. */
export function parseHostPort(text: string): { hostPort: number; hostPortEnd?: number } {
  const [, first = '', last] = /^(\d{0,5})(?:-(\d{1,5}))?$/.exec(text) ?? [];
  const [hostPort, hostPortEnd] = [Number(first), last === undefined ? undefined : Number(last)];
  const isPort = text === '' || (first !== '' && hostPort <= 65535);
  if (!isPort || (hostPortEnd !== undefined && (hostPortEnd < hostPort || hostPortEnd > 65535)))
    throw fail.badRequest(`invalid port specification: "${text}"`);
  return { hostPort, ...(hostPortEnd !== undefined && { hostPortEnd }) };
}
