import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { fail, messageOf } from '../errors.ts';
import { type Digest, digestOf, isDigest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import { familiarName, type Reference } from '../lib/reference.ts';
import { countDown, pauseMs } from './backoff.ts';
import type { Client, Wish } from './client.ts';
import type { Source } from './hosts.ts';
import { Setback } from './setback.ts';
import type { PushPurpose, RegistryAuth } from './tokens.ts';
import { type Answer, discard, type Transport } from './transport.ts';

/** A blob that a repository has. */
export interface PushedBlob {
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
}

/** What one step of a push can be told. */
interface Step {
  readonly onRetry?: (secondsLeft: number) => void;
  readonly signal: AbortSignal;
}

/** Tries of each step; dockerd's number. A layer begins anew each time, so none of them is wasted on hope. */
const MOST_ATTEMPTS = 5;
/** A server that wants us to wait longer is taken to have refused. */
const LONGEST_WAIT_MS = 120_000;
/** A server may store and hash for so many times as long as it may be silent; and what sockets hold has to arrive. */
const ANSWER_PATIENCE = 10;
const LONGEST_CANCEL_MS = 5000;
/** An upload that the server has lost, or has other bytes of than we think: a new one may go well. */
const LOST_UPLOAD = new Set([400, 404, 409, 416]);

/**
 * One repository of a registry, to push to (OCI distribution-spec v1.1, Pushing). The registry itself is spoken to,
 * never a mirror. Passing trouble is waited out within bounds; failures are in dockerd's words for a push.
 */
export class Destination {
  readonly #client: Pick<Client, 'send'>;
  readonly #transport: Pick<Transport, 'follow'>;
  readonly #source: Source;
  readonly #ref: Reference;
  readonly #auth: RegistryAuth | undefined;
  readonly #backoffMs: number;
  readonly #stallMs: number;
  readonly #log: Log;

  constructor(o: {
    client: Pick<Client, 'send'>;
    transport: Pick<Transport, 'follow'>;
    source: Source;
    ref: Reference;
    auth: RegistryAuth | undefined;
    backoffMs: number;
    stallMs: number;
    log: Log;
  }) {
    this.#client = o.client;
    this.#transport = o.transport;
    this.#source = o.source;
    this.#ref = o.ref;
    this.#auth = o.auth;
    this.#backoffMs = o.backoffMs;
    this.#stallMs = o.stallMs;
    this.#log = o.log;
  }

  /** True if the repository has this blob. One that cannot be asked for counts as missing: the upload will tell why. */
  async has({ digest, size }: PushedBlob, step: Step): Promise<boolean> {
    const answer = await this.#try('HEAD', () =>
      this.#patiently(step, () => this.#send({ method: 'HEAD', path: `blobs/${digest}` }, step)),
    );
    step.signal.throwIfAborted();
    const length = answer?.headers['content-length'];
    return answer !== undefined && (length === undefined || Number(length) === size);
  }

  /** Takes a blob over from another repository of the registry; false if that cannot be done. */
  async mount(digest: Digest, from: string, step: Step): Promise<boolean> {
    const query = new URLSearchParams({ mount: digest, from });
    const answer = await this.#try('mount', () =>
      this.#send({ method: 'POST', path: `blobs/uploads/?${query}` }, step, { from }),
    );
    step.signal.throwIfAborted();
    if (answer === undefined || answer.status === 201) return answer !== undefined;
    // it has begun an upload instead
    const upload = await this.#try('mount', () => this.#locationOf(answer));
    if (upload !== undefined) await this.#cancel(upload);
    return false;
  }

  /**
   * Uploads a blob of unknown length as one stream, which is asked for anew for each try; resolves once the registry
   * has it, whole. The stream's own error is thrown as it is. What was begun and not finished is taken back.
   */
  async upload(open: () => Readable, step: Step): Promise<PushedBlob> {
    return this.#patiently(step, () => this.#uploadOnce(open, step)).catch(rethrowFailure);
  }

  /** Uploads bytes that are in memory, unless they are there. */
  async put(bytes: Buffer, step: Step): Promise<PushedBlob> {
    const blob = { digest: digestOf(bytes), size: bytes.length };
    if (await this.has(blob, step)) return blob;
    return this.upload(() => Readable.from([bytes]), step);
  }

  /**
   * Puts a manifest under a tag. Every blob that it names must be there. Says whether the registry lists it with the
   * manifest that is its subject, if it has one (OCI distribution-spec v1.1, Pushing Manifests with Subject).
   */
  async putManifest(
    tag: string,
    o: { bytes: Buffer; mediaType: string },
    step: Step,
  ): Promise<{ isListed: boolean }> {
    const digest = digestOf(o.bytes);
    const headers = { 'content-type': o.mediaType };
    const path = `manifests/${tag}`;
    const answer = await this.#patiently(step, () =>
      this.#send({ method: 'PUT', path, headers, payload: o.bytes, answerMs: this.#answerMs }, step),
    ).catch(rethrowFailure);
    if (isOther(answer, digest)) throw fail.verification('manifest', digest);
    return { isListed: answer.headers['oci-subject'] !== undefined };
  }

  get #answerMs(): number {
    return this.#stallMs * ANSWER_PATIENCE;
  }

  async #uploadOnce(open: () => Readable, step: Step): Promise<PushedBlob> {
    let upload = await this.#locationOf(await this.#send({ method: 'POST', path: 'blobs/uploads/' }, step));
    let [hash, size] = [createHash('sha256'), 0];
    const hashed = async function* () {
      [hash, size] = [createHash('sha256'), 0]; // it may be sent more than once: a token was refused, a redirect
      for await (const chunk of open() as AsyncIterable<Buffer>) {
        hash.update(chunk);
        size += chunk.length;
        yield chunk;
      }
    };
    const headers = { 'content-type': 'application/octet-stream' };
    const answerMs = this.#answerMs;
    try {
      const body = () => Readable.from(hashed(), { objectMode: false });
      const sent = await this.#send({ method: 'PATCH', path: upload, headers, body, answerMs }, step);
      if (sent.headers.location !== undefined) upload = await this.#locationOf(sent);
      const digest = `sha256:${hash.digest('hex')}` as Digest;
      const path = new URL(upload);
      // appended as text: what the registry has signed must come back as it was
      path.search += `${path.search === '' ? '?' : '&'}digest=${encodeURIComponent(digest)}`;
      const done = await this.#send({ method: 'PUT', path, headers, answerMs }, step);
      if (isOther(done, digest)) throw fail.verification('filesystem layer', digest);
      return { digest, size };
    } catch (cause) {
      await this.#cancel(upload);
      const isLost = cause instanceof Setback && LOST_UPLOAD.has(cause.status ?? 0);
      throw isLost ? new Setback(cause.own, { ...cause, isPassing: true }) : cause;
    }
  }

  /** Lets the registry forget an upload, if it will. */
  async #cancel(upload: URL): Promise<void> {
    const signal = AbortSignal.timeout(Math.min(this.#stallMs, LONGEST_CANCEL_MS));
    await this.#try('cancel', () => this.#send({ method: 'DELETE', path: upload }, { signal }));
  }

  async #locationOf({ headers, url }: Answer): Promise<URL> {
    if (!headers.location) {
      throw new Setback(fail.registry(`the registry gave no address for an upload (${url.origin})`));
    }
    return this.#transport.follow(url, headers.location, { method: 'POST', isVerified: true });
  }

  /** Work that the push can do without. */
  async #try<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (cause) {
      this.#log.debug(
        { repository: familiarName(this.#ref), what, reason: messageOf(cause) },
        'not pushed so',
      );
      return undefined;
    }
  }

  async #patiently<T>(step: Step, work: () => Promise<T>): Promise<T> {
    for (let failures = 1; ; failures++) {
      try {
        return await work();
      } catch (cause) {
        step.signal.throwIfAborted();
        if (!(cause instanceof Setback)) throw cause;
        const waitMs = Math.max(pauseMs(failures, this.#backoffMs), cause.waitMs ?? 0);
        if (!cause.isPassing || failures >= MOST_ATTEMPTS || waitMs > LONGEST_WAIT_MS) throw cause;
        const facts = { repository: familiarName(this.#ref), waitMs, reason: cause.message };
        this.#log.debug(facts, 'a step of a push failed: trying again');
        await countDown(waitMs, { onTick: step.onRetry, signal: step.signal });
      }
    }
  }

  /** One request; the body of the answer is let go. */
  async #send(
    wish: Omit<Wish, 'ref' | 'auth' | 'push' | 'signal'>,
    { signal }: Pick<Step, 'signal'>,
    push: PushPurpose = {},
  ): Promise<Answer> {
    const answer = await this.#client.send(this.#source, {
      ...wish,
      ref: this.#ref,
      auth: this.#auth,
      push,
      signal,
    });
    if (wish.method === 'HEAD')
      answer.body.resume(); // its length is that of the blob, and nothing comes
    else discard(answer.body);
    return answer;
  }
}

/** True if the registry says that it took something else than we sent. */
function isOther({ headers }: Answer, digest: Digest): boolean {
  const stated = headers['docker-content-digest'];
  return typeof stated === 'string' && isDigest(stated) && stated !== digest;
}

/** dockerd words only a pull's refusals anew. */
function rethrowFailure(cause: unknown): never {
  throw cause instanceof Setback ? cause.own : cause;
}
