/** How a server wants to be convinced: one challenge of a `WWW-Authenticate` header. */
export interface Challenge {
  /** Lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const LONGEST_HEADER = 8192;
const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
/** Either `name=value` (quoted or not) or a scheme, each with the comma and the blanks that may precede it. */
const piece = new RegExp(
  `[\\s,]*(?:(${token})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${token}))|(${token}))`,
  'y',
);

/**
 * Reads a `WWW-Authenticate` header, or several joined by commas (RFC 9110, 11.6.1). What it cannot read ends the
 * list: the challenges before it stand.
 */
export function parseChallenges(header: string | undefined): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  if (header === undefined || header.length > LONGEST_HEADER) return challenges;
  piece.lastIndex = 0;
  for (let match = piece.exec(header); match !== null; match = piece.exec(header)) {
    const [, name, quoted, bare, scheme] = match;
    if (scheme !== undefined) challenges.push({ scheme: scheme.toLowerCase(), parameters: new Map() });
    else if (name !== undefined) {
      const value = quoted?.replace(/\\(.)/g, '$1') ?? bare ?? '';
      challenges.at(-1)?.parameters.set(name.toLowerCase(), value);
    }
  }
  return challenges;
}

/** The challenge that we can answer, `Bearer` before `Basic`. */
export function pickChallenge(header: string | undefined): Challenge | undefined {
  const challenges = parseChallenges(header);
  const bearer = challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'));
  return bearer ?? challenges.find(({ scheme }) => scheme === 'basic');
}
