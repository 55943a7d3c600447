/**
 * Bundles the programs: dist/skerryd.js (the daemon), dist/skerry.js (the command line), and the children
 * dist/extract-layer.js, dist/verify-layer.js (unpack and verify one layer), dist/pack-tree.js (packs one tree),
 * dist/container-files.js (looks at, packs and unpacks files of a container),
 * dist/apply-delta.js (makes layers of a delta), dist/make-delta.js (makes librsync deltas of layers) and dist/apply-patch.js (makes one of a patch of librsync's).
 * Packages with native code or data files stay in node_modules.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build, type Plugin } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const programs: Readonly<Record<string, string>> = {
  skerryd: 'src/main.ts',
  skerry: 'src/cli/main.ts',
  'extract-layer': 'src/layers/extract-layer.ts',
  'verify-layer': 'src/layers/verify-layer.ts',
  'pack-tree': 'src/layers/pack-tree.ts',
  'container-files': 'src/layers/container-files.ts',
  'apply-delta': 'src/engine/apply-delta.ts',
  'make-delta': 'src/engine/make-delta.ts',
  'apply-patch': 'src/engine/apply-patch.ts',
};

/** Native addons (koffi, classic-level under level) and a WebAssembly file that is read by its path. */
const external = ['koffi', 'level', 'classic-level', 'xdelta3-wasm'];

/**
 * Koa brings two copies of a table of 2,500 media types, of which an engine sends five. Without the rest the idle daemon
 * is 4 MB smaller.
 */
const fewMediaTypes: Plugin = {
  name: 'few-media-types',
  setup({ onLoad }) {
    onLoad({ filter: /mime-db\/db\.json$/ }, ({ path }) => {
      const known = JSON.parse(readFileSync(path, 'utf8')) as Record<string, object>;
      const sent = [
        'application/json',
        'application/octet-stream',
        'application/x-tar',
        'text/html',
        'text/plain',
      ];
      return {
        contents: JSON.stringify(Object.fromEntries(sent.map((type) => [type, known[type]]))),
        loader: 'json',
      };
    });
  },
};

const { values } = parseArgs({
  options: {
    outdir: { type: 'string', default: join(root, 'dist') },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) {
  console.log(
    'Usage: node scripts/build.ts [--outdir DIR]\n\nBundles the programs into DIR (default: dist).',
  );
} else {
  try {
    await buildAll(values.outdir);
  } catch (cause) {
    if (!(cause instanceof Error && 'errors' in cause)) throw cause;
    process.exitCode = 1; // esbuild has said what is wrong, and where
  }
}

async function buildAll(outdir: string): Promise<void> {
  const present = Object.entries(programs).filter(([, source]) => existsSync(join(root, source)));
  // built beside the old one and swapped in: a daemon that runs finds its child's program at any time
  const fresh = `${outdir}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  await build({
    absWorkingDir: root,
    entryPoints: Object.fromEntries(present),
    outdir: fresh,
    bundle: true,
    platform: 'node',
    // An ES module's import of `node:http` or `node:crypto` reads every export, and so loads Node's WebSocket and web
    // crypto: 3 MB of the daemon's RSS. `require` leaves them alone.
    format: 'cjs',
    // the Node of 32-bit ARM; also lowers `await using`
    target: 'node20',
    external,
    // names stay, and lines as far as they must, so that a stack in a device's log can be read; comments go
    minifySyntax: true,
    minifyWhitespace: true,
    lineLimit: 120,
    legalComments: 'none',
    plugins: [fewMediaTypes],
    logLevel: 'warning',
    define: {
      'process.env.NODE_ENV': '"production"',
      'import.meta.url': 'bundleUrl',
      SKERRY_COMMIT: JSON.stringify(git('rev-parse', '--short', 'HEAD') || 'unknown'),
      SKERRY_BUILT_AT: JSON.stringify(commitTime()),
    },
    banner: { js: "const bundleUrl=require('node:url').pathToFileURL(__filename).href;" },
  }).catch((cause: unknown) => {
    rmSync(fresh, { recursive: true });
    throw cause;
  });
  writeFileSync(join(fresh, 'package.json'), '{"type":"commonjs"}\n');
  rmSync(outdir, { recursive: true, force: true });
  renameSync(fresh, outdir);
  for (const [name] of present) {
    const { size } = statSync(join(outdir, `${name}.js`));
    console.log(`${join(outdir, `${name}.js`)}  ${Math.round(size / 1024)} kB`);
  }
  for (const name of Object.keys(programs).filter((each) => present.every(([other]) => other !== each))) {
    console.log(`${name}: no ${programs[name]}, left out`);
  }
}

/** The commit's own date, so that two builds of one commit are the same byte for byte. */
function commitTime(): string {
  const seconds = process.env['SOURCE_DATE_EPOCH'] ?? git('show', '-s', '--format=%ct', 'HEAD');
  return new Date(Number(seconds || 0) * 1000).toISOString().replace('.000Z', 'Z');
}

/** One line of git's output; empty outside of a repository. */
function git(...args: string[]): string {
  try {
    return execFileSync('git', args, {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return '';
  }
}
