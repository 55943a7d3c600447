import { codeOf, messageOf } from '../errors.ts';

const silences = {
  connect: 'i/o timeout',
  send: 'write: i/o timeout',
  head: 'net/http: timeout awaiting response headers',
  body: 'net/http: timeout while reading body',
};

/** Our own: the other side was silent for too long: while connecting, taking our body, before its answer or in it. */
export class SilenceError extends Error {
  readonly during: keyof typeof silences;

  constructor(during: keyof typeof silences) {
    super(silences[during]);
    this.name = 'SilenceError';
    this.during = during;
  }
}

const connectErrors: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connect: connection refused',
  EHOSTUNREACH: 'connect: no route to host',
  ENETUNREACH: 'connect: network is unreachable',
  EADDRNOTAVAIL: 'connect: cannot assign requested address',
  ETIMEDOUT: 'i/o timeout',
};

const certificateErrors: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: 'certificate signed by unknown authority',
  SELF_SIGNED_CERT_IN_CHAIN: 'certificate signed by unknown authority',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'certificate signed by unknown authority',
  UNABLE_TO_GET_ISSUER_CERT: 'certificate signed by unknown authority',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'certificate signed by unknown authority',
  CERT_HAS_EXPIRED: 'certificate has expired or is not yet valid',
  CERT_NOT_YET_VALID: 'certificate has expired or is not yet valid',
  CERT_REVOKED: 'certificate is revoked',
};

/** A connection's failure in Go's words, which is what clients of dockerd know, and what kind of failure it is. */
export interface SocketTrouble {
  readonly words: string;
  /** Nobody could be reached: no name, no route, no listener. */
  readonly isUnreachable: boolean;
  /** Trying again does not change it: the certificate is not to be trusted, the proxy does not want us. */
  readonly isLasting: boolean;
}

/** Puts what Node threw for a connection to `host:port` into words. */
export function describeSocketError(error: unknown, at: { host: string; port: string }): SocketTrouble {
  const cause = firstOf(error);
  const code = codeOf(cause) ?? '';
  const certificate = describeCertificate(cause, code, at.host);
  if (certificate !== undefined) {
    return { words: `x509: ${certificate}`, isUnreachable: false, isLasting: true };
  }
  const unreachable = describeUnreachable(cause, code, at);
  if (unreachable !== undefined) {
    return { words: `dial tcp${unreachable}`, isUnreachable: true, isLasting: false };
  }
  return { words: describeExchange(cause, code), isUnreachable: false, isLasting: false };
}

function describeUnreachable(
  cause: unknown,
  code: string,
  at: { host: string; port: string },
): string | undefined {
  if (cause instanceof SilenceError) {
    return cause.during === 'connect' ? ` ${at.host}:${at.port}: ${cause.message}` : undefined;
  }
  if (code === 'ENOTFOUND') return `: lookup ${at.host}: no such host`;
  if (code === 'EAI_AGAIN') return `: lookup ${at.host}: Temporary failure in name resolution`;
  const words = connectErrors[code];
  if (words === undefined || !isOf(cause, 'connect')) return undefined;
  const { address = at.host, port = at.port } = cause as { address?: string; port?: number };
  return ` ${address.includes(':') && !address.startsWith('[') ? `[${address}]` : address}:${port}: ${words}`;
}

function describeCertificate(cause: unknown, code: string, host: string): string | undefined {
  const words = certificateErrors[code];
  if (words?.includes('expired')) {
    // boards without a clock of their own wake up in 1970: say what time we think it is
    return `${words}: current time ${new Date().toISOString().replace(/\.\d+Z$/, 'Z')}`;
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `certificate is not valid for ${host}`;
  return words ?? (code.startsWith('CERT_') ? messageOf(cause) : undefined);
}

function describeExchange(cause: unknown, code: string): string {
  if (code.startsWith('ERR_SSL_') || code === 'EPROTO') {
    const isPlain = /wrong.version.number|packet.length.too.long|http.request/i.test(
      `${code} ${messageOf(cause)}`,
    );
    return isPlain
      ? 'http: server gave HTTP response to HTTPS client'
      : 'remote error: tls: handshake failure';
  }
  if (code.startsWith('HPE_')) return `net/http: malformed HTTP response: ${messageOf(cause)}`;
  if (code === 'ECONNRESET') {
    return isOf(cause, 'read') || isOf(cause, 'write') ? 'read: connection reset by peer' : 'EOF';
  }
  if (code === 'EPIPE') return 'write: broken pipe';
  return messageOf(cause);
}

/** Of a host with several addresses each has its own error; Go tells of the first. */
function firstOf(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length > 0 ? error.errors[0] : error;
}

function isOf(cause: unknown, syscall: string): boolean {
  return cause instanceof Error && 'syscall' in cause && cause.syscall === syscall;
}
