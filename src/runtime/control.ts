import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { codeOf } from '../errors.ts';

/**
 * Sets the size of a terminal that conmon holds, through the fifo that it reads. For one that has ended nothing is
 * left to be done, and that is no error: a client's window may change at any time.
 */
export function resizeTerminal(path: string, { rows, columns }: { rows: number; columns: number }): void {
  tell(path, `1 ${rows} ${columns}\n`);
}

function tell(path: string, line: string): void {
  let fifo: number;
  try {
    fifo = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT' || codeOf(cause) === 'ENXIO') return;
    throw cause;
  }
  try {
    writeSync(fifo, line); // shorter than PIPE_BUF: whole or not at all
  } finally {
    closeSync(fifo);
  }
}
