import { type IncomingMessage, type RequestOptions, request } from 'node:http';
import { defaultHost } from '../config/schema.ts';
import { codeOf, fail, messageOf } from '../errors.ts';
import type { Arguments } from '../lib/arguments.ts';
import { withResolvers } from '../lib/promises.ts';
import type { Terminal } from './terminal.ts';

/** An answer, or one line of a stream, that is longer is no answer of the daemon's. */
const MAX_ANSWER_BYTES = 64 << 20;
const MAX_LINE_CHARACTERS = 1 << 20;

/** What goes with a request besides its path. */
export interface Call {
  method?: 'GET' | 'POST' | 'DELETE';
  query?: Readonly<Record<string, string>>;
  headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  body?: object;
  /** Aborting it lets the daemon stop, too. */
  signal?: AbortSignal;
}

/**
 * The daemon, as commands talk to it: in the API's newest version, over its socket. What the daemon refuses is thrown
 * in its own words, as the docker command line prints them.
 */
export class Daemon {
  readonly #address: string;
  readonly #place: RequestOptions;

  /** Where `--host` says, else SKERRY_HOST, else DOCKER_HOST, else the default socket. Throws `CONFIG`. */
  static of({ values }: Arguments, { env }: Pick<Terminal, 'env'>): Daemon {
    const host = values.get('host');
    return new Daemon(
      typeof host === 'string' ? host : env['SKERRY_HOST'] || env['DOCKER_HOST'] || defaultHost,
    );
  }

  constructor(address: string) {
    this.#address = address;
    this.#place = placeOf(address);
  }

  /** Asks, and resolves to the parsed answer; undefined if it has no body. */
  async ask(path: string, call: Call = {}): Promise<unknown> {
    const text = await this.#read(await this.#send(path, call));
    return text === '' ? undefined : parse(text);
  }

  /** The objects that the daemon sends one by one while it works. An `error` among them is thrown. */
  async *messages(path: string, call: Call = {}): AsyncGenerator<Record<string, unknown>> {
    const response = await this.#send(path, call);
    let rest = '';
    response.setEncoding('utf8');
    try {
      for await (const chunk of response) {
        const lines = `${rest}${chunk}`.split('\n');
        rest = lines.pop() ?? '';
        if (rest.length > MAX_LINE_CHARACTERS) throw fail.daemon('the answer has a line without an end');
        for (const line of lines) if (line.trim() !== '') yield messageIn(line);
      }
    } catch (cause) {
      throw codeOf(cause) === 'ECONNRESET' ? this.#broken(cause) : cause;
    }
    if (rest.trim() !== '') yield messageIn(rest);
  }

  async #send(
    path: string,
    { method = 'GET', query, headers, body, signal }: Call,
  ): Promise<IncomingMessage> {
    const { promise, resolve, reject } = withResolvers<IncomingMessage>();
    const search = new URLSearchParams(query).toString();
    const sent = request({
      ...this.#place,
      path: search === '' ? path : `${path}?${search}`,
      method,
      agent: false,
      headers: { ...headers, ...(body && { 'content-type': 'application/json' }) },
      ...(signal && { signal }),
    });
    sent.once('response', resolve);
    sent.once('error', (cause) => reject(this.#unreachable(cause)));
    sent.end(body && JSON.stringify(body));
    const response = await promise;
    const { statusCode = 0 } = response;
    if (statusCode < 200 || statusCode > 299)
      throw fail.daemon(refusalIn(await this.#read(response), response));
    return response;
  }

  async #read(response: IncomingMessage): Promise<string> {
    let text = '';
    response.setEncoding('utf8');
    try {
      for await (const chunk of response) {
        text += chunk;
        if (text.length > MAX_ANSWER_BYTES) throw fail.daemon('the answer is too long');
      }
    } catch (cause) {
      throw codeOf(cause) === 'ECONNRESET' ? this.#broken(cause) : cause;
    }
    return text;
  }

  #unreachable(cause: Error): Error {
    if (cause.name === 'AbortError') return cause;
    return fail.noDaemon(
      `cannot connect to the daemon at ${this.#address}: is it running? (${messageOf(cause)})`,
      cause,
    );
  }

  #broken(cause: unknown): Error {
    return fail.noDaemon(`the daemon at ${this.#address} ended before its answer did`, cause);
  }
}

function placeOf(address: string): RequestOptions {
  if (address.startsWith('unix:///')) return { socketPath: address.slice('unix://'.length) };
  const [, host, port] = /^(?:tcp|http):\/\/(\[[\da-f:]+\]|[^/:]+):(\d+)\/?$/i.exec(address) ?? [];
  if (host === undefined) {
    throw fail.config(`cannot talk to the daemon at "${address}": give unix:///PATH or tcp://HOST:PORT`);
  }
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port) };
}

/** What dockerd and we answer with where something is wrong is `{"message":…}`; what lies between may answer anything. */
function refusalIn(text: string, { statusCode, statusMessage }: IncomingMessage): string {
  try {
    const { message } = JSON.parse(text);
    if (typeof message === 'string') return message;
  } catch {}
  return text.trim().slice(0, 1000) || `${statusCode} ${statusMessage}`;
}

function messageIn(line: string): Record<string, unknown> {
  const message = parse(line);
  if (typeof message !== 'object' || message === null)
    throw fail.daemon('the answer is not what was asked for');
  if ('error' in message) throw fail.daemon(String(message.error));
  return { ...message };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw fail.daemon('the answer is no JSON', cause);
  }
}
