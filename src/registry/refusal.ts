import { STATUS_CODES } from 'node:http';
import { type Failure, fail } from '../errors.ts';
import { familiarName, familiarString, type Reference } from '../lib/reference.ts';
import { parseRetryAfter } from './backoff.ts';
import { parseChallenges } from './challenge.ts';
import { Setback } from './setback.ts';

/** What is read of an error's body. */
export const MOST_ERROR_BYTES = 64 * 1024;
const LONGEST_MESSAGE = 1024;

// distribution/registry/api: the codes that clients know, and what each says where the registry says nothing
const knownCodes: Readonly<Record<string, string>> = {
  UNKNOWN: 'unknown error',
  UNSUPPORTED: 'The operation is unsupported.',
  UNAUTHORIZED: 'authentication required',
  DENIED: 'requested access to the resource is denied',
  UNAVAILABLE: 'service unavailable',
  TOOMANYREQUESTS: 'too many requests',
  DIGEST_INVALID: 'provided digest did not match uploaded content',
  NAME_INVALID: 'invalid repository name',
  NAME_UNKNOWN: 'repository name not known to registry',
  TAG_INVALID: 'manifest tag did not match URI',
  MANIFEST_UNKNOWN: 'manifest unknown',
  MANIFEST_INVALID: 'manifest invalid',
  MANIFEST_UNVERIFIED: 'manifest failed signature verification',
  MANIFEST_BLOB_UNKNOWN: 'blob unknown to registry',
  BLOB_UNKNOWN: 'blob unknown to registry',
};

interface RegistryError {
  readonly code: string;
  readonly message: string;
}

/** The head of an answer that is no success, and as much of its body as was read. */
export interface Refused {
  readonly status: number;
  readonly statusText: string;
  readonly headers: {
    readonly 'www-authenticate'?: string | undefined;
    readonly 'retry-after'?: string | undefined;
  };
  readonly text: string;
}

/**
 * What a registry's refusal means for a pull or push of `ref`: the failure in dockerd's words, and whether to try
 * again.
 */
export function refusalOf(
  refused: Refused,
  ref: Reference,
  { isPush = false }: { isPush?: boolean } = {},
): Setback {
  const waitMs = parseRetryAfter(refused.headers['retry-after']);
  const isPassing = refused.status === 429 || refused.status === 408 || refused.status >= 500;
  return new Setback(failureOfRefusal(refused, ref, isPush), { isPassing, status: refused.status, waitMs });
}

function failureOfRefusal(refused: Refused, ref: Reference, isPush: boolean): Failure {
  const { status } = refused;
  if (status < 400 || status >= 500) {
    const text = plain(refused.statusText) || STATUS_CODES[status] || '';
    return fail.registry(`received unexpected HTTP status: ${status} ${text}`.trimEnd());
  }
  const error = errorOfChallenge(refused) ?? errorOfBody(refused);
  if (error === undefined) {
    if (status === 401) return fail.registry(`unauthorized: ${knownCodes['UNAUTHORIZED']}`);
    return fail.registry(`error parsing HTTP ${status} response body: ${unreadable(refused.text)}`);
  }
  const reason = `${error.code.toLowerCase().replaceAll('_', ' ')}: ${error.message}`;
  if (isPush) return fail.registry(reason); // dockerd words only a pull's refusals anew
  switch (error.code) {
    case 'DENIED':
      return fail.pullDenied(familiarName(ref), reason);
    case 'MANIFEST_UNKNOWN':
      return fail.manifestNotFound(familiarString(ref), reason);
    case 'NAME_UNKNOWN':
      return fail.repositoryNotFound(familiarName(ref), reason);
    case 'BLOB_UNKNOWN':
      return fail.registry('unknown blob');
    default:
      return fail.registry(reason);
  }
}

/** RFC 6750, 3.1: a bearer challenge may itself say what was wrong with the token. */
function errorOfChallenge({ headers }: Refused): RegistryError | undefined {
  for (const { scheme, parameters } of parseChallenges(headers['www-authenticate'])) {
    const error = scheme === 'bearer' ? parameters.get('error') : undefined;
    const code =
      error === 'invalid_token' ? 'UNAUTHORIZED' : error === 'insufficient_scope' ? 'DENIED' : undefined;
    if (code !== undefined) {
      return { code, message: plain(parameters.get('error_description')) || (knownCodes[code] ?? '') };
    }
  }
  return undefined;
}

/** `{"errors":[{"code","message"}]}` (OCI distribution-spec v1.1, Error Codes) or `{"details"}` of other servers. */
function errorOfBody({ status, text }: Refused): RegistryError | undefined {
  const body = fieldsOf(parseJson(text));
  const details = plain(body['details']);
  if (details !== '') {
    return {
      code: status === 401 ? 'UNAUTHORIZED' : status === 429 ? 'TOOMANYREQUESTS' : 'UNKNOWN',
      message: details,
    };
  }
  const first = Array.isArray(body['errors']) ? fieldsOf(body['errors'][0]) : {};
  const given = typeof first['code'] === 'string' ? first['code'] : undefined;
  if (given === undefined) return undefined;
  const code = Object.hasOwn(knownCodes, given) ? given : 'UNKNOWN';
  return { code, message: plain(first['message']) || (knownCodes[code] ?? '') };
}

/** As Go words it where a body is no JSON, or is JSON without errors in it. */
function unreadable(text: string): string {
  const shown = JSON.stringify(text.slice(0, LONGEST_MESSAGE));
  const start = text.trimStart();
  if (start === '') return `unexpected end of JSON input: ""`;
  if (parseJson(text) !== undefined) return `no error details found in HTTP response body: ${shown}`;
  return `invalid character '${plain(start[0])}' looking for beginning of value: ${shown}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** A stranger's text that will be printed on a terminal: short, and without control characters. */
function plain(text: unknown): string {
  if (typeof text !== 'string') return '';
  return text
    .slice(0, LONGEST_MESSAGE)
    .replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ')
    .trim();
}
