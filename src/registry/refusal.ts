import { STATUS_CODES } from 'node:http';
import { type Failure, fail } from '../errors.ts';
import { familiarName, familiarString, type Reference } from '../lib/reference.ts';
import { parseRetryAfter } from './backoff.ts';
import { parseChallenges } from './challenge.ts';
import { Setback } from './setback.ts';

/** What is read of an error's body. */
export const MOST_ERROR_BYTES = 64 * 1024;
const LONGEST_MESSAGE = 1024;

// distribution/registry/api: the codes that clients know, what each says where the registry says nothing, and the
// status that dockerd answers with where it passes a refusal on as it is
const knownCodes: Readonly<Record<string, { readonly message: string; readonly status: number }>> = {
  UNKNOWN: { message: 'unknown error', status: 500 },
  UNSUPPORTED: { message: 'The operation is unsupported.', status: 405 },
  UNAUTHORIZED: { message: 'authentication required', status: 401 },
  DENIED: { message: 'requested access to the resource is denied', status: 403 },
  UNAVAILABLE: { message: 'service unavailable', status: 503 },
  TOOMANYREQUESTS: { message: 'too many requests', status: 429 },
  DIGEST_INVALID: { message: 'provided digest did not match uploaded content', status: 400 },
  NAME_INVALID: { message: 'invalid repository name', status: 400 },
  NAME_UNKNOWN: { message: 'repository name not known to registry', status: 404 },
  TAG_INVALID: { message: 'manifest tag did not match URI', status: 400 },
  MANIFEST_UNKNOWN: { message: 'manifest unknown', status: 404 },
  MANIFEST_INVALID: { message: 'manifest invalid', status: 400 },
  MANIFEST_UNVERIFIED: { message: 'manifest failed signature verification', status: 400 },
  MANIFEST_BLOB_UNKNOWN: { message: 'blob unknown to registry', status: 400 },
  BLOB_UNKNOWN: { message: 'blob unknown to registry', status: 404 },
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
 * What a registry's refusal means: the failure in dockerd's words for a pull of `ref`, and whether to try again. The
 * registry's own words are kept beside it, for those who do not pull.
 */
export function refusalOf(refused: Refused, ref?: Reference): Setback {
  const waitMs = parseRetryAfter(refused.headers['retry-after']);
  const isPassing = refused.status === 429 || refused.status === 408 || refused.status >= 500;
  const { status } = refused;
  const error = status >= 400 && status < 500 ? errorOf(refused) : undefined;
  const own = error === undefined ? fail.registry(unexplained(refused)) : ownFailure(error);
  const failure = error === undefined || ref === undefined ? own : pullFailure(ref, error, own);
  return new Setback(failure, { isPassing, status, waitMs, own });
}

function ownFailure({ code, message }: RegistryError): Failure {
  const words = `${code.toLowerCase().replaceAll('_', ' ')}: ${message}`;
  return fail.registry(words, { status: knownCodes[code]?.status ?? 500 });
}

/** moby, distribution: only a pull's refusals are worded anew, and only what is missing is more than a 500. */
function pullFailure(ref: Reference, { code }: RegistryError, { message }: Failure): Failure {
  switch (code) {
    case 'DENIED':
      return fail.pullDenied(familiarName(ref), message);
    case 'MANIFEST_UNKNOWN':
      return fail.manifestNotFound(familiarString(ref), message);
    case 'NAME_UNKNOWN':
      return fail.repositoryNotFound(familiarName(ref), message);
    case 'BLOB_UNKNOWN':
      return fail.registry('unknown blob');
    default:
      return fail.registry(message);
  }
}

function errorOf(refused: Refused): RegistryError | undefined {
  const told = errorOfChallenge(refused) ?? errorOfBody(refused);
  if (told !== undefined || refused.status !== 401) return told;
  return { code: 'UNAUTHORIZED', message: knownCodes['UNAUTHORIZED']?.message ?? '' };
}

function unexplained({ status, statusText, text }: Refused): string {
  if (status >= 400 && status < 500) return `error parsing HTTP ${status} response body: ${unreadable(text)}`;
  return `received unexpected HTTP status: ${status} ${plain(statusText) || STATUS_CODES[status] || ''}`.trimEnd();
}

/** RFC 6750, 3.1: a bearer challenge may itself say what was wrong with the token. */
function errorOfChallenge({ headers }: Refused): RegistryError | undefined {
  for (const { scheme, parameters } of parseChallenges(headers['www-authenticate'])) {
    const error = scheme === 'bearer' ? parameters.get('error') : undefined;
    const code =
      error === 'invalid_token' ? 'UNAUTHORIZED' : error === 'insufficient_scope' ? 'DENIED' : undefined;
    if (code !== undefined) {
      return {
        code,
        message: plain(parameters.get('error_description')) || (knownCodes[code]?.message ?? ''),
      };
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
  return { code, message: plain(first['message']) || (knownCodes[code]?.message ?? '') };
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
