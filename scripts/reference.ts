/** Writes docs/reference/configuration.md from the schema of the configuration; `--check` only compares. */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { foreignKeys } from '../src/config/dockerd.ts';
import type { KeyFacts } from '../src/config/key-facts.ts';
import { defaultConfigFile, flagOptions, type Key, keysBySection } from '../src/config/options.ts';

/** Where the page is kept. */
export const pagePath = join(
  dirname(dirname(fileURLToPath(import.meta.url))),
  'docs/reference/configuration.md',
);

/** The page as a whole. */
export function configurationPage(): string {
  const sections = keysBySection().map(
    ({ heading, keys }) =>
      `## ${heading}\n\n| key | flag | default | meaning |\n|---|---|---|---|\n${keys.map(rowOf).join('\n')}\n`,
  );
  return [
    '# Configuration\n',
    '<!-- Made by `node scripts/reference.ts` from src/config/schema.ts: change it there. -->\n',
    `\`skerryd\` reads flags and \`${defaultConfigFile}\` (or the file of \`--config-file\`), one JSON object. Keys and flags are
spelled as dockerd's. A key is set in one place: as a flag or in the file. An unknown key or a bad value stops the start
with a message that names it; \`skerryd --validate\` checks without starting.\n`,
    ...sections,
    '## Flags only\n',
    `${flagOptions.map(({ name, short, about }) => `- \`--${name}\`${short === undefined ? '' : `, \`-${short}\``}: ${escaped(about)}`).join('\n')}\n`,
    `## Keys of dockerd that are not ours\n`,
    'These are known, so that a `daemon.json` of dockerd can be kept. Each one has no effect and gives a warning. Where\nleaving it out would run containers less confined or more exposed than was asked for, it stops the start instead\n("refused"), unless it is off.\n',
    `| key | | why |\n|---|---|---|\n${foreignKeys.map(({ key, why, harmless }) => `| \`${key}\` | ${harmless === undefined ? 'warning' : 'refused'} | ${escaped(why)} |`).join('\n')}\n`,
  ].join('\n');
}

function rowOf({ name, facts, defaultText }: Key): string {
  const { flag, short, argument, about } = facts;
  const placeholder = argument === undefined ? '' : ` ${argument}`;
  const flagText = `\`--${flag}${placeholder}\`${short === undefined ? '' : `, \`-${short}\``}`;
  return `| \`${name}\` | ${flagText} | ${defaultCell(facts, defaultText)} | ${escaped(about)} |`;
}

function defaultCell({ fallback, takes, unit }: KeyFacts, text: string): string {
  if (text === '') return takes === 'switch' ? 'off' : 'none';
  if (fallback !== undefined) return escaped(text);
  return takes === 'switch' ? 'on' : `\`${text}\`${unit === undefined ? '' : ` ${unit}`}`;
}

/** What a table cell cannot hold as it is. */
function escaped(text: string): string {
  return text.replaceAll('|', '\\|');
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { check: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help === true) {
    console.log('Usage: node scripts/reference.ts [--check]\n\nWrites docs/reference/configuration.md.');
  } else if (values.check !== true) {
    writeFileSync(pagePath, configurationPage());
  } else if (readFileSync(pagePath, 'utf8') !== configurationPage()) {
    console.error('docs/reference/configuration.md is out of date: run node scripts/reference.ts');
    process.exitCode = 1;
  }
}
