import { notBoolean, parseBool } from './go-numbers.ts';

/** The log drivers that there are, in dockerd's names and order. */
export const logDrivers = ['journald', 'json-file', 'local', 'none'] as const;
export type LogDriver = (typeof logDrivers)[number];

export type LogOptions = Readonly<Record<string, string>>;

/** Bounds of one log. */
export interface LogLimits {
  readonly maxBytes: number;
  readonly maxFiles: number;
  readonly compresses: boolean;
}

/** What dockerd lets every driver have, and what it has in common for those that can tell. */
/** The cache is for drivers that cannot be read back: those here need none, and take its options as dockerd does. */
const cache = ['cache-disabled', 'cache-max-size', 'cache-max-file', 'cache-compress'];
const general = ['mode', 'max-buffer-size', ...cache];
const telling = ['labels', 'labels-regex', 'env', 'env-regex', 'tag'];
const rotating = ['max-size', 'max-file', 'compress'];
const known: Readonly<Record<Exclude<LogDriver, 'none'>, readonly string[]>> = {
  'json-file': [...telling, ...rotating],
  local: [...telling, ...rotating],
  journald: telling,
};

/** What is wrong with a driver's name and the names of its options, in dockerd's words and order; or nothing. */
export function logConfigComplaint(driver: string, options: LogOptions): string | undefined {
  if (driver === 'none') return undefined;
  const { mode = '', 'max-buffer-size': bufferSize } = options;
  if (!['', 'blocking', 'non-blocking'].includes(mode)) return `logger: logging mode not supported: ${mode}`;
  if (bufferSize !== undefined) {
    if (mode !== 'non-blocking')
      return "logger: max-buffer-size option is only supported with 'mode=non-blocking'";
    if (parseHumanSize(bufferSize) === undefined)
      return `error parsing option max-buffer-size: invalid size: '${bufferSize}'`;
  }
  const { 'cache-disabled': isCacheDisabled = '' } = options;
  if (isCacheDisabled !== '' && parseBool(isCacheDisabled) === undefined)
    return `invalid value for option cache-disabled: ${isCacheDisabled}`;
  const names = known[driver as keyof typeof known] as readonly string[] | undefined;
  if (names === undefined || !Object.hasOwn(known, driver))
    return `error looking up logging plugin ${driver}: plugin "${driver}" not found`;
  const unknown = Object.keys(options).find((name) => !names.includes(name) && !general.includes(name));
  if (unknown === undefined) return undefined;
  const where = driver === 'local' ? 'for log driver local' : `for ${driver} log driver`;
  return `unknown log opt '${unknown}' ${where}`;
}

/** The bounds that options ask for; `fallback` where they do not. Throws an Error in dockerd's words for bad values. */
export function logLimitsOf(driver: string, options: LogOptions, fallback: LogLimits): LogLimits {
  const { 'max-size': size, 'max-file': files, compress } = options;
  const isLocal = driver === 'local';
  const maxBytes = size === undefined ? fallback.maxBytes : parseHumanSize(size);
  if (maxBytes === undefined) {
    throw new Error(`${isLocal ? `invalid value for max-size: ${size}: ` : ''}invalid size: '${size}'`);
  }
  if (maxBytes <= 0) throw new Error('max-size must be a positive number');
  if (files !== undefined && !/^[+-]?\d{1,9}$/.test(files)) {
    const reason = `strconv.Atoi: parsing ${JSON.stringify(files)}: invalid syntax`;
    throw new Error(isLocal ? `invalid value for max-file: ${files}: ${reason}` : reason);
  }
  const maxFiles = files === undefined ? fallback.maxFiles : Number(files);
  if (maxFiles < 1)
    throw new Error(isLocal ? 'max-file must not be negative' : 'max-file cannot be less than 1');
  const compresses = compress === undefined ? fallback.compresses && maxFiles > 1 : parseBool(compress);
  if (compresses === undefined) {
    const reason = notBoolean(compress ?? '');
    throw new Error(isLocal ? `invalid boolean value for compress: ${reason}` : reason);
  }
  if (compresses && maxFiles === 1) {
    throw new Error(
      isLocal
        ? 'compression cannot be enabled when max file count is 1'
        : 'compress cannot be true when max-file is less than 2 or max-size is not set',
    );
  }
  return { maxBytes, maxFiles, compresses };
}

/** go-units, FromHumanSize: `10m` is ten million; undefined for what is no size. */
function parseHumanSize(text: string): number | undefined {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?$/i.exec(text) ?? [];
  return number === undefined
    ? undefined
    : Math.floor(Number(number) * 1000 ** ' kmgtp'.indexOf(unit.toLowerCase() || ' '));
}
