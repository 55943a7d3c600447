import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeSocketError, SilenceError } from '../../../src/registry/socket-errors.ts';

const at = { host: 'reg.example', port: '5000' };

function error(code: string, more: object = {}): Error {
  return Object.assign(new Error(`${code} happened`), { code, ...more });
}

const cases: [string, unknown, string, { isUnreachable?: boolean; isLasting?: boolean }][] = [
  [
    'refused',
    error('ECONNREFUSED', { syscall: 'connect', address: '10.0.0.1', port: 5000 }),
    'dial tcp 10.0.0.1:5000: connect: connection refused',
    { isUnreachable: true },
  ],
  [
    'refused, IPv6',
    error('ECONNREFUSED', { syscall: 'connect', address: '::1', port: 5000 }),
    'dial tcp [::1]:5000: connect: connection refused',
    { isUnreachable: true },
  ],
  [
    'refused by each address',
    new AggregateError([
      error('ECONNREFUSED', { syscall: 'connect', address: '::1', port: 5000 }),
      error('ENETUNREACH'),
    ]),
    'dial tcp [::1]:5000: connect: connection refused',
    { isUnreachable: true },
  ],
  [
    'no route',
    error('EHOSTUNREACH', { syscall: 'connect', address: '10.0.0.1', port: 5000 }),
    'dial tcp 10.0.0.1:5000: connect: no route to host',
    { isUnreachable: true },
  ],
  [
    'no such name',
    error('ENOTFOUND', { syscall: 'getaddrinfo' }),
    'dial tcp: lookup reg.example: no such host',
    { isUnreachable: true },
  ],
  [
    'name servers are away',
    error('EAI_AGAIN', { syscall: 'getaddrinfo' }),
    'dial tcp: lookup reg.example: Temporary failure in name resolution',
    { isUnreachable: true },
  ],
  [
    'silence while connecting',
    new SilenceError('connect'),
    'dial tcp reg.example:5000: i/o timeout',
    { isUnreachable: true },
  ],
  ['silence afterwards', new SilenceError('head'), 'net/http: timeout awaiting response headers', {}],
  ['hung up', error('ECONNRESET'), 'EOF', {}],
  ['reset', error('ECONNRESET', { syscall: 'read' }), 'read: connection reset by peer', {}],
  ['broken pipe', error('EPIPE', { syscall: 'write' }), 'write: broken pipe', {}],
  [
    'self-signed',
    error('DEPTH_ZERO_SELF_SIGNED_CERT'),
    'x509: certificate signed by unknown authority',
    { isLasting: true },
  ],
  [
    'another name',
    error('ERR_TLS_CERT_ALTNAME_INVALID'),
    'x509: certificate is not valid for reg.example',
    { isLasting: true },
  ],
  [
    'a handshake that fails',
    error('EPROTO', { syscall: 'write' }),
    'remote error: tls: handshake failure',
    {},
  ],
  [
    'no HTTP',
    error('HPE_INVALID_CONSTANT'),
    'net/http: malformed HTTP response: HPE_INVALID_CONSTANT happened',
    {},
  ],
  ['something else', 'a string', 'a string', {}],
];

for (const [name, thrown, words, { isUnreachable = false, isLasting = false }] of cases) {
  test(`in Go’s words: ${name}`, () => {
    assert.deepEqual(describeSocketError(thrown, at), { words, isUnreachable, isLasting });
  });
}

test('an expired certificate comes with the time that we think it is: the clock may be what is wrong', () => {
  const { words } = describeSocketError(error('CERT_NOT_YET_VALID'), at);
  assert.match(
    words,
    /^x509: certificate has expired or is not yet valid: current time 20\d\d-\d\d-\d\dT[\d:]+Z$/,
  );
});
