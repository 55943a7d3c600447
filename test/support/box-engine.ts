import { archive, dockerMembers, load } from './archives.ts';
import { boxImage } from './box-image.ts';
import { TestEngine } from './engine.ts';
import { enterOwnNetwork } from './network.ts';

/**
 * The real daemon in a network of this test's own, with box images by name and tag: each with its configuration.
 * Without a tag it is `latest`.
 */
export async function startBoxEngine(
  images: Readonly<Record<string, object>>,
  o: { flags?: readonly string[] } = {},
): Promise<TestEngine> {
  await enterOwnNetwork();
  const engine = await TestEngine.start(o);
  try {
    for (const [name, config] of Object.entries(images)) {
      const tag = name.includes(':') ? name : `${name}:latest`;
      const { error } = await load(engine.socket, archive(dockerMembers(await boxImage({ config }), [tag])));
      if (error !== undefined) throw new Error(`the box is not loaded: ${error}`);
    }
    return engine;
  } catch (cause) {
    await engine[Symbol.asyncDispose]();
    throw cause;
  }
}
