import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path/posix';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** Path from the repository's root (`src/api/images.ts`) → source text. */
type Sources = ReadonlyMap<string, string>;

interface Import {
  /** As written; undefined where it is no literal. */
  readonly specifier: string | undefined;
  readonly isReexport: boolean;
}

/** Which parts a part may import besides itself, `errors` and the packages; right of it in STYLE's chain. */
const parts = ['store', 'layers', 'registry', 'delta', 'runtime', 'network'];
const allowed: Readonly<Record<string, readonly string[]>> = {
  main: ['config', 'api', 'engine', ...parts, 'host', 'lib'],
  cli: ['config', 'engine', ...parts, 'host', 'lib'], // a composition root of its own
  config: ['host', 'lib'],
  api: ['engine', ...parts, 'host', 'lib'],
  engine: [...parts, 'host', 'lib'],
  ...Object.fromEntries(parts.map((part) => [part, ['host', 'lib']])),
  host: ['lib'],
  lib: [],
  errors: [],
};

/** Packages that one part owns: their errors become ours there. */
const owners: Readonly<Record<string, readonly string[]>> = {
  koffi: ['host'],
  execa: ['host'],
  level: ['store'],
  'classic-level': ['store'],
  koa: ['api'],
  '@koa/router': ['api'],
  ws: ['api'],
  pino: ['main'],
  'xdelta3-wasm': ['delta'],
};

/** What a pure part can do without. */
const impure =
  /^node:(fs|child_process|net|http|https|http2|tls|dgram|dns|worker_threads|cluster|readline|process|module)(\/|$)/;

/** `src/api/images.ts` → `api`, `src/config.ts` → `config`. */
function partOf(path: string): string {
  return (path.split('/')[1] ?? '').replace(/\.ts$/, '');
}

/** Without comments, by the lines on which the formatter leaves them. */
function codeOf(source: string): string {
  return source
    .replace(/^\s*\/\*.*?\*\/$/gms, '')
    .replace(/^\s*\/\/.*$/gm, '')
    .replace(/\s\/\/ .*$/gm, '');
}

const staticImport = /^import\s(?:[^'";]*?\sfrom\s+)?(['"])([^'"]+)\1[^;]*;/gm;
const reexport = /^export\s+(?:type\s+)?(?:\*(?:\s+as\s+\w+)?|\{[^}]*\})\s+from\s+(['"])([^'"]+)\1;/gm;
const atRunTime = /\b(?:import|require|createRequire\([^)]*\))\(\s*(?:(['"])([^'"]+)\1\s*[,)]|(?=[^)\s]))/g;

/** Every import of a file: static, type-only, dynamic, required, re-exported. */
function importsOf(source: string): Import[] {
  const code = codeOf(source);
  const found = (pattern: RegExp, isReexport = false) =>
    [...code.matchAll(pattern)].map(([, , specifier]) => ({ specifier, isReexport }));
  const loaded = found(atRunTime).filter(({ specifier }) => specifier !== 'import.meta.url');
  return [...found(staticImport), ...found(reexport, true), ...loaded];
}

/** Everything about these sources that STYLE's section on layering forbids, in words. */
function violationsOf(sources: Sources): string[] {
  const violations: string[] = [];
  const graph = new Map<string, string[]>();
  for (const [path, source] of sources) {
    const imports = importsOf(source);
    if (allowed[partOf(path)] === undefined) violations.push(`${path}: has no place in the layering`);
    if (isBarrel(source, imports)) violations.push(`${path}: is a barrel`);
    const targets: string[] = [];
    for (const { specifier } of imports) {
      const trouble =
        specifier === undefined ? 'imports what cannot be read' : troubleWith(path, specifier, sources);
      if (trouble !== undefined) violations.push(`${path}: ${trouble}`);
      if (specifier?.startsWith('.')) targets.push(normalize(join(dirname(path), specifier)));
    }
    graph.set(path, targets);
  }
  return [...violations, ...cyclesOf(graph)];
}

function troubleWith(path: string, specifier: string, sources: Sources): string | undefined {
  const part = partOf(path);
  if (!specifier.startsWith('.')) {
    const isForeign = owners[specifier] !== undefined && !owners[specifier].includes(part);
    if (isForeign) return `imports ${specifier}, which belongs to ${owners[specifier]}`;
    return part === 'lib' && impure.test(specifier) ? `is to be pure, and imports ${specifier}` : undefined;
  }
  const target = normalize(join(dirname(path), specifier));
  if (part === 'config' && /^(boards\/[^/]+\.json|package\.json)$/.test(target)) return undefined;
  if (!sources.has(target)) return `imports ${specifier}, which is not in src`;
  const to = partOf(target);
  if (to === part || to === 'errors' || allowed[part]?.includes(to) === true) return undefined;
  return `imports ${target}: ${part} may not import ${to}`;
}

/** A file that only hands on what others export; a type at the face of a part is none, as long as the part is there. */
function isBarrel(source: string, imports: readonly Import[]): boolean {
  if (/^export\s+(type\s+)?\*/m.test(codeOf(source))) return true;
  const rest = codeOf(source).replace(staticImport, '').replace(reexport, '').trim();
  return imports.some(({ isReexport }) => isReexport) && rest === '';
}

/** Each circle of imports once, from its first file in the alphabet. */
function cyclesOf(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const cycles = new Set<string>();
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) {
      const circle = trail.slice(at);
      const first = circle.indexOf(circle.toSorted()[0] ?? path);
      const turned = [...circle.slice(first), ...circle.slice(0, first)];
      cycles.add(`${[...turned, turned[0]].join(' → ')}: a cycle`);
      return;
    }
    if (done.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  return [...cycles];
}

const root = fileURLToPath(new URL('../../', import.meta.url));

function sourcesOf(directory: string): Sources {
  const paths = readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => join(directory, path))
    .toSorted();
  return new Map(paths.map((path) => [path, readFileSync(join(root, path), 'utf8')]));
}

test('the sources keep to the layering', () => {
  assert.deepEqual(violationsOf(sourcesOf('src')), []);
});

test('no import escapes the reader: it finds all that the bundler finds', async () => {
  const sources = sourcesOf('src');
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: [...sources.keys()],
    outdir: 'unwritten',
    write: false,
    bundle: true,
    metafile: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    logLevel: 'silent',
  });
  let count = 0;
  for (const [path, source] of sources) {
    const read = new Set(importsOf(source).map(({ specifier }) => specifier));
    for (const { original, path: target } of metafile.inputs[path]?.imports ?? []) {
      assert.ok(read.has(original ?? target), `${path} imports ${original ?? target}`);
      count++;
    }
  }
  assert.ok(count > sources.size, 'the bundler saw imports');
});

test('each rule can fail', () => {
  const cases: [string, Record<string, string>, string[]][] = [
    [
      'right to left',
      { 'src/host/a.ts': "import { x } from '../engine/b.ts';", 'src/engine/b.ts': '' },
      ['src/host/a.ts: imports src/engine/b.ts: host may not import engine'],
    ],
    [
      'braces, by a type over several lines',
      { 'src/store/a.ts': "import type {\n  X,\n} from '../network/b.ts';", 'src/network/b.ts': '' },
      ['src/store/a.ts: imports src/network/b.ts: store may not import network'],
    ],
    [
      'config, from the engine, while it runs',
      { 'src/engine/a.ts': "const c = await import('../config.ts');", 'src/config.ts': '' },
      ['src/engine/a.ts: imports src/config.ts: engine may not import config'],
    ],
    [
      'main, from the command line',
      { 'src/cli/a.ts': "import '../main.ts';", 'src/main.ts': '' },
      ['src/cli/a.ts: imports src/main.ts: cli may not import main'],
    ],
    [
      'a computed import',
      { 'src/engine/a.ts': 'await import(name);' },
      ['src/engine/a.ts: imports what cannot be read'],
    ],
    [
      'a package of another part, by require',
      { 'src/network/a.ts': "const k = createRequire(import.meta.url)('koffi');" },
      ['src/network/a.ts: imports koffi, which belongs to host'],
    ],
    [
      'lib with input and output',
      { 'src/lib/a.ts': "import fs from 'node:fs';" },
      ['src/lib/a.ts: is to be pure, and imports node:fs'],
    ],
    [
      'out of src',
      { 'src/engine/a.ts': "import x from '../../boards/x.json' with { type: 'json' };" },
      ['src/engine/a.ts: imports ../../boards/x.json, which is not in src'],
    ],
    ['an unknown room', { 'src/utils/a.ts': '' }, ['src/utils/a.ts: has no place in the layering']],
    [
      'a star',
      { 'src/lib/a.ts': "export * from './b.ts';\nconst x = 1;", 'src/lib/b.ts': '' },
      ['src/lib/a.ts: is a barrel'],
    ],
    [
      'a barrel by name',
      { 'src/lib/a.ts': "// all\nexport { y } from './b.ts';", 'src/lib/b.ts': '' },
      ['src/lib/a.ts: is a barrel'],
    ],
    [
      'a cycle',
      {
        'src/lib/b.ts': "import './c.ts';",
        'src/lib/c.ts': "import './a.ts';",
        'src/lib/a.ts': "import './b.ts';",
      },
      ['src/lib/a.ts → src/lib/b.ts → src/lib/c.ts → src/lib/a.ts: a cycle'],
    ],
  ];
  for (const [name, tree, expected] of cases) {
    assert.deepEqual(violationsOf(new Map(Object.entries(tree))), expected, name);
  }
});

test('what the layering allows passes', () => {
  const tree = {
    'src/main.ts':
      "import { a } from './config.ts';\nimport { b } from './api/b.ts';\nimport pino from 'pino';",
    'src/config.ts': "import x from '../boards/x.json' with { type: 'json' };\nimport './lib/l.ts';",
    'src/api/b.ts':
      "// import './nowhere.ts' as a comment\nimport type { C } from '../engine/c.ts';\nimport Koa from 'koa';",
    'src/engine/c.ts':
      "import { s } from '../store/s.ts';\nexport type { S } from '../store/s.ts';\nexport class C {}",
    'src/store/s.ts': "import { codeOf } from '../errors.ts';\nimport { h } from '../host/h.ts';",
    'src/host/h.ts': "import { l } from '../lib/l.ts'; // and import(nothing) more",
    'src/lib/l.ts': "import { createHash } from 'node:crypto';\nimport { fail } from '../errors.ts';",
    'src/errors.ts': '',
  };
  assert.deepEqual(violationsOf(new Map(Object.entries(tree))), []);
});
