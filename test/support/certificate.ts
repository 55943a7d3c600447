import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** A certificate and its key, as PEM. */
export interface Certificate {
  readonly certificate: string;
  readonly key: string;
}

/** Somebody who vouches for others. */
export interface Authority {
  /** PEM: what those have who trust it. */
  readonly certificate: string;
  /** Makes a certificate for these names, such as `IP:127.0.0.1,DNS:localhost`; good for servers and clients. */
  issue(names: string): Promise<Certificate>;
}

const NAMES = 'IP:127.0.0.1,DNS:localhost';

/** Makes a self-signed one for `127.0.0.1` and `localhost`, valid for a day. Needs openssl. */
export function makeCertificate(): Promise<Certificate> {
  return inDirectory((directory) => makePair(directory, '/CN=skerry tests', `subjectAltName=${NAMES}`));
}

/** Makes an authority that nobody knows. */
export async function makeAuthority(): Promise<Authority> {
  const own = await inDirectory((directory) =>
    makePair(directory, '/CN=skerry test authority', 'keyUsage=critical,keyCertSign'),
  );
  return {
    certificate: own.certificate,
    issue: (names) =>
      inDirectory(async (directory) => {
        const [ca, caKey] = [join(directory, 'ca.pem'), join(directory, 'ca-key.pem')];
        await writeFile(ca, own.certificate);
        await writeFile(caKey, own.key);
        return makePair(directory, '/CN=skerry tests', `subjectAltName=${names}`, [
          ...['-CA', ca, '-CAkey', caKey],
          ...['-addext', 'basicConstraints=critical,CA:FALSE'],
        ]);
      }),
  };
}

async function makePair(
  directory: string,
  subject: string,
  extension: string,
  more: readonly string[] = [],
): Promise<Certificate> {
  const [key, certificate] = [join(directory, 'key.pem'), join(directory, 'certificate.pem')];
  await promisify(execFile)('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'],
    ...['-subj', subject, '-addext', extension, ...more, '-keyout', key, '-out', certificate],
  ]);
  return { certificate: await readFile(certificate, 'utf8'), key: await readFile(key, 'utf8') };
}

async function inDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'skt-certificate-'));
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
