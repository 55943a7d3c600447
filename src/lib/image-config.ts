import * as z from 'zod/mini';

// What does not fit its shape counts as absent: a config is a stranger's file, and most of it is decoration.
const text = z.catch(z.optional(z.string()), undefined);
const count = z.catch(z.optional(z.number()), undefined);
const flag = z.catch(z.optional(z.boolean()), undefined);
const texts = z.catch(z.optional(z.nullable(z.array(z.string()))), undefined);
const keys = z.catch(z.optional(z.nullable(z.record(z.string(), z.object({})))), undefined);
const map = z.catch(z.optional(z.nullable(z.record(z.string(), z.string()))), undefined);

const runConfig = z.object({
  User: text,
  ExposedPorts: keys,
  Env: texts,
  Entrypoint: texts,
  Cmd: texts,
  Volumes: keys,
  WorkingDir: text,
  Labels: map,
  StopSignal: text,
  Shell: texts,
  OnBuild: texts,
  ArgsEscaped: flag,
  Healthcheck: z.catch(
    z.optional(
      z.object({
        Test: texts,
        Interval: count,
        Timeout: count,
        Retries: count,
        StartPeriod: count,
        StartInterval: count,
      }),
    ),
    undefined,
  ),
});

const imageConfig = z.object({
  created: text,
  author: text,
  architecture: text,
  os: text,
  variant: text,
  'os.version': text,
  docker_version: text,
  container: text,
  comment: text,
  config: z.catch(z.optional(z.nullable(runConfig)), undefined),
  container_config: z.catch(z.optional(z.nullable(runConfig)), undefined),
  rootfs: z.catch(z.optional(z.object({ type: text, diff_ids: texts })), undefined),
  history: z.catch(
    z.optional(
      z.array(z.object({ created: text, created_by: text, author: text, comment: text, empty_layer: flag })),
    ),
    undefined,
  ),
});

/** The part of an image's config that an engine reads (OCI image-spec v1.1, config.md; Docker's is a superset). */
export type ImageConfig = z.infer<typeof imageConfig>;

/** How the image wants to be run; the spelling is the file format's. */
export type ImageRunConfig = z.infer<typeof runConfig>;

/** Reads a config; a part of the wrong shape counts as absent, and so does the whole if it is no JSON object. */
export function parseImageConfig(json: string): ImageConfig {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    value = {};
  }
  const parsed = imageConfig.safeParse(value);
  return parsed.success ? parsed.data : imageConfig.parse({});
}
