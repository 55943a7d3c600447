import { randomInt } from 'node:crypto';
import type { Protocol } from '../host/foreign-sockets.ts';
import {
  type AnswerRecord,
  CLASS,
  MAX_MESSAGE_BYTES,
  nameBytes,
  type Query,
  RCODE,
  readQuery,
  TYPE,
  writeAnswer,
  writeFailure,
} from '../lib/dns-message.ts';
import type { Names } from './names.ts';
import { addressBytes, type Family } from './subnets.ts';

/** Seconds that a program may remember an answer: dockerd's. */
const TTL_SECONDS = 600;

/** Questions of one container that others are asked at once; more are told that it failed. */
const MOST_AT_ONCE = 128;

/** Asks other servers: undefined if none has an answer. */
export type AskOthers = (o: { raw: Buffer; query: Query; protocol: Protocol }) => Promise<Buffer | undefined>;

/**
 * Answers one container's questions: about names on its networks by itself, and all others by asking other servers.
 * By dockerd's rules for what it does not pass on.
 */
export class DnsAnswers {
  readonly #containerId: string;
  readonly #names: Pick<Names, 'addressesOf' | 'nameOf'>;
  readonly #askOthers: AskOthers;
  readonly #isNdotsSet: boolean;
  #underWay = 0;

  constructor(o: {
    containerId: string;
    names: Pick<Names, 'addressesOf' | 'nameOf'>;
    /** Whoever chose `ndots` wants names without a dot to be tried with a search domain, and not to leave the machine. */
    isNdotsSet: boolean;
    askOthers: AskOthers;
  }) {
    this.#containerId = o.containerId;
    this.#names = o.names;
    this.#isNdotsSet = o.isNdotsSet;
    this.#askOthers = o.askOthers;
  }

  /** Undefined for what gets no answer: a message that is no query. */
  async answer(raw: Buffer, protocol: Protocol): Promise<Buffer | undefined> {
    const query = readQuery(raw);
    if (query === undefined) return undefined;
    if ('rcode' in query) return writeFailure(query, query.rcode);
    const records = this.#ownRecords(query);
    if (records !== undefined)
      return writeAnswer(query, records, protocol === 'tcp' ? MAX_MESSAGE_BYTES : query.udpBytes);
    if (this.#isNdotsSet && isAddressType(query.type) && !query.name.includes('.'))
      return writeAnswer(query, [], query.udpBytes);
    return (await this.#askWithin({ raw, query, protocol })) ?? writeFailure(query, RCODE.SERVER_FAILURE);
  }

  async #askWithin(o: Parameters<AskOthers>[0]): Promise<Buffer | undefined> {
    if (this.#underWay >= MOST_AT_ONCE) return undefined;
    this.#underWay++;
    try {
      return await this.#askOthers(o);
    } finally {
      this.#underWay--;
    }
  }

  /** None at all for a name that has none of that kind; undefined for what others must be asked. */
  #ownRecords(query: Query): AnswerRecord[] | undefined {
    if (query.class !== CLASS.IN && query.class !== CLASS.ANY) return undefined;
    if (query.type === TYPE.A) return this.#addressRecords(query, 4);
    if (query.type === TYPE.AAAA) return this.#addressRecords(query, 6);
    if (query.type === TYPE.PTR) return this.#nameRecords(query);
    // mail goes to the addresses of a name that has no mail servers (RFC 5321, 5.1)
    if (query.type === TYPE.MX) return this.#addressesOf(query, 4) && [];
    return undefined;
  }

  #addressRecords(query: Query, family: Family): AnswerRecord[] | undefined {
    const addresses = this.#addressesOf(query, family);
    return addresses && shuffled(addresses).map((address) => record(query.type, addressBytes(address)));
  }

  #addressesOf({ name }: Query, family: Family): string[] | undefined {
    return this.#names.addressesOf(this.#containerId, name, family);
  }

  #nameRecords({ name, type }: Query): AnswerRecord[] | undefined {
    const address = reversedAddress(name);
    const found = address && this.#names.nameOf(this.#containerId, address);
    const bytes = found === undefined ? undefined : nameBytes(found);
    return bytes && [record(type, bytes)];
  }
}

/** The address that a name such as `4.3.2.1.in-addr.arpa` stands for. */
export function reversedAddress(name: string): Buffer | undefined {
  const labels = name.toLowerCase().split('.').reverse();
  if (labels[0] !== 'arpa') return undefined;
  const digits = labels.slice(2);
  if (labels[1] === 'in-addr' && digits.length === 4 && digits.every(isByte))
    return Buffer.from(digits.map(Number));
  if (labels[1] === 'ip6' && digits.length === 32 && digits.every((digit) => /^[0-9a-f]$/.test(digit)))
    return Buffer.from(digits.join(''), 'hex');
  return undefined;
}

function isByte(text: string): boolean {
  return /^\d{1,3}$/.test(text) && Number(text) <= 255;
}

function isAddressType(type: number): boolean {
  return type === TYPE.A || type === TYPE.AAAA;
}

function record(type: number, bytes: Buffer): AnswerRecord {
  return { type, ttlSeconds: TTL_SECONDS, bytes };
}

/** In another order each time, so that those who take the first are spread over all. */
function shuffled<T>(items: readonly T[]): T[] {
  const left = [...items];
  return items.flatMap(() => left.splice(randomInt(left.length), 1));
}
