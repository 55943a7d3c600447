/** What a part needs of a logger; pino's fits. The message is a constant, the facts are fields. */
export interface Log {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/** Says nothing; for tests and for tools that report in their own way. */
export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };
