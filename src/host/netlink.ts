import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import {
  type NetlinkMessage,
  type NetlinkReply,
  NLM,
  NLMSG,
  readMessages,
  writeMessages,
} from '../lib/netlink.ts';
import { inNetworkNamespace } from './kernel.ts';
import { libc, succeed, systemError } from './libc.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

const protocols = { route: 0, netfilter: 12 } as const;

/** More than the kernel puts into one datagram of a listing (32 KiB). */
const DATAGRAM_BYTES = 65536;

/** How often a listing is asked for again when things changed while the kernel wrote it. */
const MAX_LISTINGS = 5;

/** Where datagrams land before they are copied out; shared, because a read is done before anything else can run. */
let landing: Buffer | undefined;

/**
 * A socket to the kernel's own tables: links and addresses, or the firewall. It stays in the network namespace
 * where it was opened. Failures are system errors as from `fs`: EEXIST, ENOENT, ENODEV …
 */
export class Netlink implements AsyncDisposable {
  #fd: number;
  #sequence = 1;
  /** The tail of the requests: each one reads all its answers before the next is sent. */
  #tail: Promise<unknown> = Promise.resolve();

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** In this process's network namespace, or in the one at a path such as `/proc/PID/ns/net`. */
  static open(protocol: keyof typeof protocols, namespacePath?: string): Netlink {
    const open = () =>
      succeed('socket', 'netlink', (c) => c.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocols[protocol]));
    return new Netlink(namespacePath === undefined ? open() : inNetworkNamespace(namespacePath, open));
  }

  /**
   * Sends the messages at once and returns what the kernel listed, acknowledgements left out. All are worked
   * through, also after one that failed; the first failure is thrown at the end.
   */
  request(messages: readonly NetlinkMessage[]): Promise<NetlinkReply[]> {
    const answered = this.#tail.then(async () => {
      for (let listings = 1; ; listings++) {
        const replies = await this.#exchange(messages);
        if (listings === MAX_LISTINGS || !replies.some(({ flags }) => flags & NLM.INTERRUPTED))
          return replies;
      }
    });
    this.#tail = answered.catch(() => {}); // the caller has the error
    return answered;
  }

  async #exchange(messages: readonly NetlinkMessage[]): Promise<NetlinkReply[]> {
    if (messages.length === 0) return [];
    const first = this.#sequence;
    this.#sequence += messages.length;
    await this.#send(writeMessages(messages, first));
    const replies: NetlinkReply[] = [];
    const unanswered = new Set<number>();
    messages.forEach(({ flags }, index) => {
      if (flags & (NLM.ACK | NLM.DUMP)) unanswered.add(first + index);
    });
    let failure: NodeJS.ErrnoException | undefined;
    for (const reply of this.#receive()) {
      if (reply.sequence < first) continue; // of a request that was given up
      if (reply.type === NLMSG.ERROR || reply.type === NLMSG.DONE) {
        unanswered.delete(reply.sequence);
        const errno = reply.body.length >= 4 ? -reply.body.readInt32LE(0) : 0;
        if (errno > 0) failure ??= systemError(errno, 'netlink');
      } else replies.push(reply);
    }
    if (failure !== undefined) throw failure;
    if (unanswered.size > 0) throw systemError(constants.errno.ENOBUFS, 'netlink');
    return replies;
  }

  /** Off the main thread: the kernel does the work within this call, and removing a link takes it 20 ms. */
  async #send(datagram: Buffer): Promise<void> {
    const c = libc();
    await new Promise<void>((resolve, reject) => {
      c.send.async(this.#fd, datagram, datagram.length, 0, (_, sent) =>
        sent === datagram.length ? resolve() : reject(systemError(c.errno(), 'netlink')),
      );
    });
  }

  /** Every answer is already queued when send(2) returns, or made by recv(2) itself: an empty queue is the end. */
  *#receive(): Iterable<NetlinkReply> {
    const c = libc();
    for (;;) {
      landing ??= Buffer.allocUnsafeSlow(DATAGRAM_BYTES);
      const size = c.recv(this.#fd, landing, landing.length, MSG_DONTWAIT | MSG_TRUNC);
      if (size < 0) {
        if (c.errno() === constants.errno.EAGAIN) return;
        throw systemError(c.errno(), 'netlink');
      }
      if (size > landing.length) throw systemError(constants.errno.EMSGSIZE, 'netlink');
      yield* readMessages(Buffer.from(landing.subarray(0, size)));
    }
  }

  /** Lets go of the socket once the requests under way are answered: its number must not mean another file to them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tail;
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}
