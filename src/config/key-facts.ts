import * as z from 'zod/mini';
import type { Option } from '../lib/arguments.ts';

/** What the help and the reference page say of a key; what the parser needs to know of its flag. */
export interface KeyFacts extends Omit<Option, 'name'> {
  /** The flag, without dashes; dockerd's singular where the key is a list. */
  readonly flag: string;
  /** Of flags that take `NAME=VALUE` and become an object: what VALUE stands for. */
  readonly entryOf?: (value: string) => unknown;
  /** Of flags whose texts are written otherwise in the file. */
  readonly fromTexts?: (texts: readonly string[]) => unknown;
  readonly unit?: string;
  /** Where the default is no constant: what it follows from. */
  readonly fallback?: string;
}

/** The facts of each key's schema. */
export const keyFacts = z.registry<KeyFacts>();
