type CharacterTest = (character: string) => boolean;

/** What stands between two stars: one test per character. */
interface Chunk {
  isAfterStar: boolean;
  tests: CharacterTest[];
}

/**
 * A test for names by one of Go's `path.Match` patterns: `*` and `?` stand for anything but slashes, `[a-z]` and
 * `[^a-z]` for one character, `\` for what follows it as it is. Undefined for a pattern that is none. Takes time in
 * proportion to name and pattern, whatever they are.
 */
export function pathPattern(pattern: string): ((name: string) => boolean) | undefined {
  const chunks = parsePattern([...pattern]);
  return chunks && ((name) => matches(chunks, [...name]));
}

// Go: path/match.go. A star takes the first place where what follows it fits, and never has second thoughts.
function matches(chunks: readonly Chunk[], name: readonly string[]): boolean {
  let at = 0;
  for (const [index, { isAfterStar, tests }] of chunks.entries()) {
    const isLast = index === chunks.length - 1;
    if (isAfterStar && tests.length === 0) return !name.includes('/', at);
    const fits = () =>
      tests.every((test, i) => test(name[at + i] ?? '')) && (!isLast || at + tests.length === name.length);
    while (!fits()) {
      if (!isAfterStar || at >= name.length || name[at] === '/') return false;
      at++;
    }
    at += tests.length;
  }
  return at === name.length;
}

function parsePattern(rest: string[]): Chunk[] | undefined {
  const chunks: Chunk[] = [];
  let chunk: Chunk = { isAfterStar: false, tests: [] };
  const end = () => {
    if (chunk.isAfterStar || chunk.tests.length > 0) chunks.push(chunk);
  };
  for (let c = rest.shift(); c !== undefined; c = rest.shift()) {
    if (c === '*') {
      if (chunk.isAfterStar && chunk.tests.length === 0) continue;
      end();
      chunk = { isAfterStar: true, tests: [] };
      continue;
    }
    const test = c === '?' ? isNoSlash : c === '[' ? parseClass(rest) : parseLiteral(c, rest);
    if (test === undefined) return undefined;
    chunk.tests.push(test);
  }
  end();
  return chunks;
}

const isNoSlash: CharacterTest = (c) => c !== '' && c !== '/';

function parseLiteral(c: string, rest: string[]): CharacterTest | undefined {
  const wanted = c === '\\' ? rest.shift() : c;
  return wanted === undefined ? undefined : (each) => each === wanted;
}

function parseClass(rest: string[]): CharacterTest | undefined {
  const isNegated = rest[0] === '^';
  if (isNegated) rest.shift();
  const ranges: [string, string][] = [];
  while (rest[0] !== ']' || ranges.length === 0) {
    const low = parseEnd(rest);
    if (low === undefined) return undefined;
    let high: string | undefined = low;
    if (rest[0] === '-') {
      rest.shift();
      high = parseEnd(rest);
      if (high === undefined) return undefined;
    }
    ranges.push([low, high]);
  }
  rest.shift();
  return (c) => c !== '' && ranges.some(([low, high]) => low <= c && c <= high) !== isNegated;
}

/** One end of a range. */
function parseEnd(rest: string[]): string | undefined {
  const c = rest.shift();
  if (c === undefined || c === '-' || c === ']') return undefined;
  return c === '\\' ? rest.shift() : c;
}
