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
