const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const parameter = new RegExp(`^\\s*;\\s*(${token})=(?:(${token})|"((?:[^"\\\\]|\\\\.)*)")`);

/** The media type without its parameters, in lower case; or why there is none, in the words of Go's mime package. */
export function parseMediaType(text: string): { type: string } | { problem: string } {
  const head = text.split(';', 1)[0] ?? '';
  const base = head.trim().toLowerCase();
  const problem = problemOf(base);
  if (problem !== undefined) return { problem: `mime: ${problem}` };
  let rest = text.slice(head.length);
  const names = new Set<string>();
  for (let found = parameter.exec(rest); found !== null; found = parameter.exec(rest)) {
    const name = found[1]?.toLowerCase() ?? '';
    if (names.has(name)) return { problem: 'mime: duplicate parameter name' };
    names.add(name);
    rest = rest.slice(found[0].length);
  }
  // a lone semicolon at the end is forgiven, anything else is not
  return /^\s*;?\s*$/.test(rest) ? { type: base } : { problem: 'mime: invalid media parameter' };
}

function problemOf(base: string): string | undefined {
  if (base === '') return 'no media type';
  const first = new RegExp(`^${token}`).exec(base)?.[0];
  if (first === undefined) return 'no media type';
  if (first === base) return undefined;
  if (base[first.length] !== '/') return 'expected slash after first token';
  const second = new RegExp(`^${token}`).exec(base.slice(first.length + 1))?.[0];
  if (second === undefined) return 'expected token after slash';
  return first.length + 1 + second.length === base.length
    ? undefined
    : 'unexpected content after media subtype';
}
