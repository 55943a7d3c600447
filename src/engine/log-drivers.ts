import { randomBytes } from 'node:crypto';
import { fail, messageOf } from '../errors.ts';
import { matching } from '../lib/go-pattern.ts';
import { shortId } from '../lib/ids.ts';
import { journalFieldName } from '../lib/journal-entry.ts';
import { type LogOptions, logConfigComplaint, logLimitsOf } from '../lib/log-options.ts';
import { hasJournal } from '../runtime/journal-sender.ts';
import type { BundleSpec } from '../runtime/spec.ts';
import { commandOf } from './bundle-spec.ts';
import type { ContainerRecord, LogConfig } from './model.ts';

/** How containers log that ask for nothing else. */
export interface LogDefaults {
  driver: string;
  options: LogOptions;
  /** Bounds of a json-file log without options: the board's. */
  maxBytes: number;
  maxFiles: number;
}

/** A log of less is not worth its files; what is written at once is up to 8 KiB. */
const MIN_GENERATION_BYTES = 16 * 1024;

/** dockerd: daemon/logger/local, defaults. */
const localLimits = { maxBytes: 20_000_000, maxFiles: 5, compresses: true };

/** They go with each line, and with it must fit into a datagram. */
const MAX_JOURNAL_FIELDS_LENGTH = 32 * 1024;

/** What each entry says of its own line; no label takes that away from it. */
const lineFields: ReadonlySet<string> = new Set([
  'MESSAGE',
  'PRIORITY',
  'SYSLOG_TIMESTAMP',
  'CONTAINER_LOG_EPOCH',
  'CONTAINER_LOG_ORDINAL',
  'CONTAINER_PARTIAL_ID',
  'CONTAINER_PARTIAL_ORDINAL',
  'CONTAINER_PARTIAL_LAST',
  'CONTAINER_PARTIAL_MESSAGE',
]);

/** What a container's log configuration becomes: the daemon's options under its own, for the daemon's driver only. */
export function mergeLogConfig(wanted: LogConfig, defaults: LogDefaults): LogConfig {
  const type = wanted.type || defaults.driver;
  return {
    type,
    config: type === defaults.driver ? { ...defaults.options, ...wanted.config } : wanted.config,
  };
}

/** Throws 400 in dockerd's words for an unknown driver or option. */
export function checkLogConfig({ type, config }: LogConfig): void {
  const complaint = logConfigComplaint(type, config);
  if (complaint !== undefined) throw fail.badRequest(complaint);
}

/** Where a container is to log. What an option's value has wrong shows here, at its start, as under dockerd. */
export function logSinkOf(
  record: ContainerRecord,
  o: { path: string; defaults: LogDefaults },
): BundleSpec['log'] {
  const { type, config } = record.hostConfig.logConfig;
  try {
    if (type === 'none') return { kind: 'none' };
    if (type === 'journald') return journalSinkOf(record);
    logAttributesOf(record);
    const fallback = type === 'local' ? localLimits : { ...o.defaults, compresses: false };
    const { maxBytes, maxFiles, compresses } = logLimitsOf(type, config, fallback);
    // one more than asked for: it is kept free for the file that conmon begins while nobody looks. Three at least, or
    // with each new one nothing would be left; five at most, so that a file lasts for a moment
    const files = Math.min(5, Math.max(3, maxFiles + 1));
    const limitBytes = Math.max(maxBytes * maxFiles, files * MIN_GENERATION_BYTES);
    const generationBytes = Math.floor(limitBytes / files);
    return { kind: 'file', path: o.path, generationBytes, limitBytes, compresses };
  } catch (cause) {
    throw fail.host(`failed to initialize logging driver: ${messageOf(cause)}`, cause);
  }
}

/** dockerd: daemon/logger/journald. */
function journalSinkOf(record: ContainerRecord): BundleSpec['log'] {
  if (!hasJournal()) throw new Error('journald is not enabled on this host');
  const { id, name, config } = record;
  const tag = logTagOf(record, '{{.ID}}');
  const standard = {
    CONTAINER_ID: shortId(id),
    CONTAINER_NAME: name.replace(/^\//, ''),
    CONTAINER_TAG: tag,
    IMAGE_NAME: config.image,
    SYSLOG_IDENTIFIER: tag,
  };
  const chosen = [...chosenAttributesOf(record)].map(
    ([key, value]) => [journalFieldName(key), value] as const,
  );
  const own = chosen.filter(([field]) => field !== '' && !lineFields.has(field));
  const fields = { ...standard, ...Object.fromEntries(own), CONTAINER_ID_FULL: id };
  const size = Object.entries(fields).reduce((sum, [field, value]) => sum + field.length + value.length, 0);
  if (size > MAX_JOURNAL_FIELDS_LENGTH)
    throw new Error('labels and env are too long for an entry of the journal');
  return { kind: 'journal', fields, epoch: randomBytes(32).toString('hex') };
}

/** Whether a container's log is in a file that may be looked at. */
export function hasLogFile({ hostConfig }: ContainerRecord): boolean {
  return hostConfig.logConfig.type === 'json-file';
}

/** What `details` shows of each line: chosen labels and variables, and the tag where one is asked for. */
export function logAttributesOf(record: ContainerRecord): Map<string, string> {
  const attributes = chosenAttributesOf(record);
  const tag = logTagOf(record, '');
  if (tag !== '') attributes.set('tag', tag);
  return attributes;
}

function chosenAttributesOf(record: ContainerRecord): Map<string, string> {
  const { labels, 'labels-regex': labelsPattern, env, 'env-regex': envPattern } = optionsOf(record);
  const variables = (record.config.env ?? []).flatMap((entry): [string, string][] => {
    const at = entry.indexOf('=');
    return at > 0 ? [[entry.slice(0, at), entry.slice(at + 1)]] : [];
  });
  return new Map([
    ...chosen(new Map(Object.entries(record.config.labels ?? {})), labels, labelsPattern),
    ...chosen(new Map(variables), env, envPattern),
  ]);
}

/** The `tag` option filled in, or a template of the driver's own. */
export function logTagOf(record: ContainerRecord, fallback: string): string {
  const template = optionsOf(record)['tag'] || fallback;
  const { id, name, imageId, config } = record;
  const fields: Record<string, string> = {
    ID: shortId(id),
    FullID: id,
    Name: name.replace(/^\//, ''),
    ContainerID: id,
    ContainerName: `/${name.replace(/^\//, '')}`,
    ImageID: shortId(imageId),
    ImageFullID: imageId,
    ImageName: config.image,
    ContainerImageID: imageId,
    ContainerImageName: config.image,
    Command: commandOf(record).join(' '),
    DaemonName: 'docker',
  };
  return template.replace(/\{\{(.*?)\}\}/gs, (action, inside: string) => {
    const field = /^-?\s*\.(\w+)\s*-?$/.exec(inside)?.[1];
    if (field === undefined) throw new Error(`template: log-tag:1: function in ${action} not defined`);
    if (!Object.hasOwn(fields, field)) {
      const at = `template: log-tag:1: executing "log-tag" at <.${field}>`;
      throw new Error(`${at}: can't evaluate field ${field} in type *logger.Info`);
    }
    return fields[field] ?? '';
  });
}

function optionsOf({ hostConfig }: ContainerRecord): Partial<Record<string, string>> {
  return hostConfig.logConfig.config;
}

function chosen(
  all: ReadonlyMap<string, string>,
  names: string | undefined,
  pattern: string | undefined,
): [string, string][] {
  const wanted = new Set(names ? names.split(',') : []);
  if (pattern) for (const name of matching(pattern, [...all.keys()])) wanted.add(name);
  return [...all].filter(([name]) => wanted.has(name));
}
