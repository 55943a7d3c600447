import { fail } from '../errors.ts';
import { type Digest, isDigest } from './digest.ts';

/** An image reference in its full form: `docker.io/library/debian`, with a tag, a digest or both. */
export interface Reference {
  /** Host name with optional port; `docker.io` for Docker Hub. */
  readonly domain: string;
  /** Repository path, lower case, `library/` included for official images. */
  readonly path: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

// distribution/reference, grammar in reference.go: domain [":" port] "/" path ["/" path]* [":" tag] ["@" digest]
const domainPart = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const domainPattern = new RegExp(`^(?:${domainPart}(?:\\.${domainPart})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
const pathPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tagPattern = /^\w[\w.-]{0,127}$/;
const bareId = /^[a-f0-9]{64}$/;

/** Parses what a user wrote; throws `INVALID_REFERENCE` (400) in the words that clients match on. */
export function parseReference(text: string): Reference {
  if (text === '') throw fail.invalidReference('invalid reference format');
  if (bareId.test(text)) {
    throw fail.invalidReference(
      `invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`,
    );
  }
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  const named = at < 0 ? text : text.slice(0, at);
  const colon = named.lastIndexOf(':');
  const hasTag = colon > named.lastIndexOf('/');
  const tag = hasTag ? named.slice(colon + 1) : undefined;
  const { domain, path } = splitDomain(hasTag ? named.slice(0, colon) : named);

  if (path !== path.toLowerCase()) {
    throw fail.invalidReference('invalid reference format: repository name must be lowercase');
  }
  if (!domainPattern.test(domain) || !pathPattern.test(path))
    throw fail.invalidReference('invalid reference format');
  if (tag !== undefined && !tagPattern.test(tag)) throw fail.invalidReference('invalid reference format');
  if (digest !== undefined && !isDigest(digest)) throw fail.invalidReference('invalid reference format');
  if (domain.length + 1 + path.length > 255) {
    throw fail.invalidReference('repository name must not be more than 255 characters');
  }
  return {
    domain,
    path,
    ...(tag !== undefined && { tag }),
    ...(digest !== undefined && { digest: digest as Digest }),
  };
}

function splitDomain(name: string): { domain: string; path: string } {
  const slash = name.indexOf('/');
  const head = slash < 0 ? '' : name.slice(0, slash);
  const isDomain = head !== '' && (/[.:]/.test(head) || head === 'localhost' || head !== head.toLowerCase());
  const domain = !isDomain || head === 'index.docker.io' ? 'docker.io' : head;
  const rest = isDomain ? name.slice(slash + 1) : name;
  return { domain, path: domain === 'docker.io' && !rest.includes('/') ? `library/${rest}` : rest };
}

/** True for a tag that the grammar allows: at most 128 of letters, digits, `_`, `.`, `-`. */
export function isTag(text: string): boolean {
  return tagPattern.test(text);
}

/** The repository in full, such as `docker.io/library/debian`. */
export function repositoryOf(ref: Reference): string {
  return `${ref.domain}/${ref.path}`;
}

/** The repository as people read it: Docker Hub's name and `library/` left out. */
export function familiarName(ref: Reference): string {
  if (ref.domain !== 'docker.io') return repositoryOf(ref);
  return ref.path.startsWith('library/') && ref.path.indexOf('/', 8) < 0 ? ref.path.slice(8) : ref.path;
}

/** The reference as people read it, with its tag and digest. */
export function familiarString(ref: Reference): string {
  return `${familiarName(ref)}${suffixOf(ref)}`;
}

/** The reference in full; the key under which the store keeps a tag. */
export function canonicalString(ref: Reference): string {
  return `${repositoryOf(ref)}${suffixOf(ref)}`;
}

/** The reference with `:latest` where it has neither tag nor digest. */
export function withDefaultTag(ref: Reference): Reference {
  return ref.tag === undefined && ref.digest === undefined ? { ...ref, tag: 'latest' } : ref;
}

function suffixOf(ref: Reference): string {
  return `${ref.tag === undefined ? '' : `:${ref.tag}`}${ref.digest === undefined ? '' : `@${ref.digest}`}`;
}
