import { progressBar } from '../lib/progress-bar.ts';
import type { Terminal } from './terminal.ts';

const LINE_STEP = 0.25;
const REDRAW_MS = 100;

/** How far something is: a bar that moves on a terminal, and elsewhere a line for every quarter. */
export class ProgressLine implements Disposable {
  readonly #stderr: Terminal['stderr'];
  readonly #what: string;
  readonly #total: number;
  #done = 0;
  #told = 0;
  #drawnAt = 0;

  /** `total` is in bytes. */
  constructor(stderr: Terminal['stderr'], what: string, total: number) {
    this.#stderr = stderr;
    this.#what = what;
    this.#total = total;
  }

  add(bytes: number): void {
    this.#done += bytes;
    if (this.#stderr.isTTY === true) this.#draw();
    else this.#tell();
  }

  /** Leaves the line as if it had never been there. */
  [Symbol.dispose](): void {
    if (this.#drawnAt > 0) this.#stderr.write('\r\x1b[K');
  }

  #draw(): void {
    const now = Date.now();
    if (now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    this.#stderr.write(`\r\x1b[K${this.#what} ${progressBar(this.#done, this.#total)}`);
  }

  #tell(): void {
    const part = this.#total === 0 ? 1 : this.#done / this.#total;
    if (part < this.#told + LINE_STEP) return;
    this.#told = Math.floor(part / LINE_STEP) * LINE_STEP;
    this.#stderr.write(`${this.#what}: ${Math.round(this.#told * 100)} %\n`);
  }
}
