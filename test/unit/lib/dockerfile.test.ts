import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../../../src/errors.ts';
import { parseDockerfile } from '../../../src/lib/dockerfile.ts';

/** Name, flags and arguments; a JSON array is marked. */
function read(source: string) {
  return parseDockerfile(source).instructions.map(({ name, flags, args, isJson }) => [
    name,
    ...(flags.length > 0 ? [flags] : []),
    ...(isJson ? ['json'] : []),
    ...args,
  ]);
}

function refused(source: string, message: string): void {
  assert.throws(() => parseDockerfile(source), { code: 'BAD_REQUEST', message });
}

test('arguments have the form that their instruction has', () => {
  assert.deepEqual(
    read(
      [
        'CMD echo "a  b"',
        'cmd ["a", "b"]',
        'ENTRYPOINT []',
        'CMD [a]',
        'ENV a=b "c d"="e f" g=\\ h',
        'ENV  old  the rest = all',
        'LABEL k=',
        'EXPOSE 80  81/udp',
        'VOLUME ["/a b"]',
        'VOLUME /a  /b',
        'USER  me ',
        'HEALTHCHECK --interval=5s --retries="3" CMD  curl x',
        'HEALTHCHECK NONE',
        'HEALTHCHECK cmd ["a"]',
        'ONBUILD  RUN make  all',
        'STOPSIGNAL TERM',
        'BOGUS x y',
        'WORKDIR',
      ].join('\n'),
    ),
    [
      ['cmd', 'echo "a  b"'],
      ['cmd', 'json', 'a', 'b'],
      ['entrypoint', 'json'],
      ['cmd', '[a]'],
      ['env', 'a', 'b', '"c d"', '"e f"', 'g', '\\ h'],
      ['env', 'old', 'the rest = all'],
      ['label', 'k', ''],
      ['expose', '80', '81/udp'],
      ['volume', 'json', '/a b'],
      ['volume', '/a', '/b'],
      ['user', 'me'],
      ['healthcheck', ['--interval=5s', '--retries=3'], 'CMD', 'curl x'],
      ['healthcheck', 'NONE'],
      ['healthcheck', 'json', 'cmd', 'a'],
      ['onbuild', 'run', 'make  all'],
      ['stopsignal', 'TERM'],
      ['bogus', 'x y'],
      ['workdir'],
    ],
  );
});

test('lines go on behind an escape, over comments and blanks', () => {
  assert.deepEqual(read('# a comment\n\nENV a=1 \\\r\n  # within\n\n b=2\\ \n'), [
    ['env', 'a', '1', 'b', '2'],
  ]);
  assert.deepEqual(read('#escape=`\nENV a=1 `\nb=c:\\\n'), [['env', 'a', '1', 'b', 'c:\\']]);
  assert.equal(parseDockerfile('# escape = `\nUSER x').escapeToken, '`');
  assert.equal(parseDockerfile('USER x\n# escape = `').escapeToken, '\\');
  assert.deepEqual(read('\ufeffUSER a\\\n'), [['user', 'a']]);
});

test('what makes no sense is refused in dockerd’s words', () => {
  refused('', 'file with no instructions');
  refused('# only this\n', 'file with no instructions');
  refused('ENV a', 'ENV must have two arguments');
  refused('LABEL a=b c', 'Syntax error - can\'t find = in "c". Must be of the form: name=value');
  refused('CMD ["a", 1]', 'when using JSON array syntax, arrays must be comprised of strings only');
  refused('# escape=x\nUSER a', "invalid escape token 'x' does not match ` or \\");
  refused('# escape=`\n# escape=`\nUSER a', 'only one escape parser directive can be used');
  refused(`USER ${'a'.repeat(70_000)}`, 'dockerfile line greater than max allowed size of 65535');
});

test('any text is read or refused', () => {
  const piece = fc.constantFrom('ENV', 'CMD', '\\', '\n', ' ', '=', '"', "'", '[', ']', '#', '--', 'a', '\t');
  fc.assert(
    fc.property(
      fc.array(piece).map((pieces) => pieces.join('')),
      (source) => {
        try {
          parseDockerfile(source);
        } catch (cause) {
          assert.ok(cause instanceof Failure);
        }
      },
    ),
  );
});

test('a hostile text takes no longer than its length', () => {
  const began = performance.now();
  for (const source of [
    'a\\\n'.repeat(300_000),
    `ENV ${'\\ '.repeat(30_000)}=`,
    '--"'.repeat(20_000),
    ' '.repeat(60_000),
  ])
    try {
      parseDockerfile(source);
    } catch (cause) {
      assert.ok(cause instanceof Failure);
    }
  assert.ok(performance.now() - began < 2000);
});
