import type * as z from 'zod/mini';

/** What is wrong with a value, and where: `runtimes.kata.path`. */
export interface Complaint {
  /** Undefined where the value as a whole is meant. */
  readonly key: string | undefined;
  readonly path: string;
  readonly message: string;
  /** The key is not one that the schema has. */
  readonly isUnknown: boolean;
}

/** zod's issues in words, one per place. zod/mini brings no texts of its own, so plain ones are made here. */
export function complaintsOf(error: z.core.$ZodError, input: unknown): Complaint[] {
  return error.issues.flatMap((issue): Complaint[] => {
    const path = issue.path.map(String);
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((name) => ({
        key: path[0] ?? name,
        path: [...path, name].join('.'),
        message: 'is not a known key',
        isUnknown: true,
      }));
    }
    const value = path.reduce<unknown>(childOf, input);
    const shown = value === undefined ? 'is missing' : `(is ${withoutPassword(JSON.stringify(value))})`;
    const message = value === undefined ? shown : `${wordsOf(issue)} ${shown}`;
    return [{ key: path[0], path: path.join('.') || 'the file', message, isUnknown: false }];
  });
}

/** A text in which URLs have lost their user names and passwords: it goes to a log. */
export function withoutPassword(text: string): string {
  // proxies may leave the scheme out, and a password may hold an @
  return text.replace(/(\/\/|^|")([^/\s"]+:[^/\s"]*|(?<=\/\/)[^/\s"]+)@/g, '$1xxxxx:xxxxx@');
}

function childOf(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined;
}

function wordsOf(issue: z.core.$ZodIssue): string {
  if (issue.message !== 'Invalid input') return issue.message;
  switch (issue.code) {
    case 'invalid_type':
      return `must be of type ${issue.expected}`;
    case 'too_small':
      return `must be at least ${issue.minimum}`;
    case 'too_big':
      return `must be at most ${issue.maximum}`;
    case 'invalid_value':
      return `must be one of ${issue.values.join(', ')}`;
    default:
      return 'is not valid';
  }
}
