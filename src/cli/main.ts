import { runSkerry } from './skerry.ts';

// `skerry board list | head -1` is no error
process.stdout.on('error', (cause: NodeJS.ErrnoException) => {
  if (cause.code !== 'EPIPE') throw cause;
});
void runSkerry(process.argv.slice(2), process).then((code) => {
  process.exitCode = code;
});
