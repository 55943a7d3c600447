import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { layoutMembers } from './archives.ts';

/** Writes images as an OCI layout, a directory for `oci:DIR`. */
export async function writeLayout(
  directory: string,
  images: Parameters<typeof layoutMembers>[0],
): Promise<void> {
  for (const { name, content = '' } of layoutMembers(images)) {
    const path = join(directory, String(name));
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
  }
}
