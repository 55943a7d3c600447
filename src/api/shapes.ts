import type { Gate } from './gates.ts';
import type { Axes } from './versions.ts';

/** What one gate does to a request or an answer on either side of it; what it names not at all, it leaves alone. */
export interface Shape<T> {
  readonly gate: Gate;
  below?(subject: T, axes: Axes): void;
  above?(subject: T, axes: Axes): void;
}

/** An answer on its way to the wire; `omitempty` and the order of keys are settled. */
export type Wire = Record<string, unknown>;

/** Brings a request or an answer into the form that its API version has. */
export function shape<T>(subject: T, shapes: readonly Shape<T>[], axes: Axes): T {
  for (const one of shapes) {
    if (axes.has(one.gate)) one.above?.(subject, axes);
    else one.below?.(subject, axes);
  }
  return subject;
}

/** Shapes that take a field away below their gate. */
export function added<T extends Wire>(gate: Gate, ...keys: string[]): Shape<T> {
  return {
    gate,
    below: (wire) => {
      for (const key of keys) delete wire[key];
    },
  };
}
