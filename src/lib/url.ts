/** Request targets as Go's net/url and gorilla/mux read them: clients see the texts and the redirects. */

/** A query or form that cannot be read; the message is Go's. */
export class QueryError extends Error {
  override name = 'QueryError';
}

/** `%2F` and the like decoded; undefined where an escape is broken. Bytes that are no UTF-8 become U+FFFD. */
export function percentDecode(text: string): string | undefined {
  if (!text.includes('%')) return text;
  if (/%(?![0-9a-fA-F]{2})/.test(text)) return undefined;
  try {
    return decodeURIComponent(text);
  } catch {
    const latin = text.replace(/%(..)|[^\0-\x7f]/g, (character, hex: string | undefined) =>
      hex === undefined
        ? Buffer.from(character).toString('latin1')
        : String.fromCharCode(Number.parseInt(hex, 16)),
    );
    return Buffer.from(latin, 'latin1').toString('utf8');
  }
}

/** A path with `//`, `.` and `..` resolved; a slash at the end stays. The same text if there is nothing to do. */
export function cleanPath(path: string): string {
  if (path.startsWith('/') && !/\/\/|\/\.{1,2}(?:\/|$)/.test(path)) return path;
  const kept: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') kept.pop();
    else if (part !== '' && part !== '.') kept.push(part);
  }
  const cleaned = `/${kept.join('/')}`;
  return path.endsWith('/') && cleaned !== '/' ? `${cleaned}/` : cleaned;
}

/** Encodes a path for a Location header; slashes stay. */
export function encodePath(path: string): string {
  return encodeURIComponent(path).replace(/%(?:24|26|2B|2C|2F|3A|3B|3D|40)|[!'()*]/g, (text) =>
    text.startsWith('%') ? decodeURIComponent(text) : `%${text.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** The values of a query or an urlencoded form by key, in order. Throws {@link QueryError}. */
export function parseQuery(text: string, into = new Map<string, string[]>()): Map<string, string[]> {
  for (const pair of text.split('&')) {
    if (pair === '') continue;
    if (pair.includes(';')) throw new QueryError('invalid semicolon separator in query');
    const at = pair.indexOf('=');
    const key = decodeField(at < 0 ? pair : pair.slice(0, at));
    const value = at < 0 ? '' : decodeField(pair.slice(at + 1));
    const values = into.get(key);
    if (values === undefined) into.set(key, [value]);
    else values.push(value);
  }
  return into;
}

function decodeField(text: string): string {
  const decoded = percentDecode(text.replaceAll('+', ' '));
  if (decoded !== undefined) return decoded;
  const broken = /%(?![0-9a-fA-F]{2}).{0,2}/s.exec(text)?.[0] ?? text;
  throw new QueryError(`invalid URL escape ${JSON.stringify(broken)}`);
}
