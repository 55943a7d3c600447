import { constants } from 'node:os';
import { fail } from '../errors.ts';

const SIGRTMIN = 34;
const SIGRTMAX = 64;

/** The number of a signal written as dockerd allows: `9`, `KILL`, `SIGKILL`, `RTMIN+3`. Throws 400. */
export function parseSignal(text: string): number {
  if (/^\d+$/.test(text)) {
    const number = Number(text);
    if (number > SIGRTMAX) throw fail.unsupportedSignal(number);
    if (number < 1) throw fail.invalidSignal(text);
    return number;
  }
  const name = text.toUpperCase().replace(/^SIG/, '');
  const plain = constants.signals[`SIG${name}` as NodeJS.Signals];
  if (plain !== undefined) return plain;
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d+))?$/.exec(name);
  if (realTime === null) throw fail.invalidSignal(text);
  const base = realTime[1] === 'MIN' ? SIGRTMIN : SIGRTMAX;
  const number = base + (realTime[2] === '-' ? -1 : 1) * Number(realTime[3] ?? 0);
  if (number < SIGRTMIN || number > SIGRTMAX) throw fail.invalidSignal(text);
  return number;
}
