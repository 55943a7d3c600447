import { Attachment } from './attach.ts';
import type { Bundle, RunFacts } from './bundle.ts';

/** The connections to containers' streams: one for each run, made when it is first wanted, and shared. */
export class Attachments implements AsyncDisposable {
  readonly #byId = new Map<string, Promise<Attachment>>();
  readonly #onEnd: (id: string) => void;

  /** `onEnd` hears that the streams of a container have ended, which may be the first sign of its own end. */
  constructor(onEnd: (id: string) => void) {
    this.#onEnd = onEnd;
  }

  /** The one to a container's run; what `run` throws where there is none. Before the start it will give the first byte. */
  async to(id: string, run: () => { bundle: Bundle; facts: RunFacts }): Promise<Attachment> {
    for (let known = this.#byId.get(id); known !== undefined; known = this.#byId.get(id)) {
      const attachment = await known;
      if (!attachment.isEnded) return attachment;
      if (this.#byId.get(id) === known) this.#byId.delete(id);
    }
    const { bundle, facts } = run();
    const connection = Attachment.connect(bundle.path('attach'), {
      hasStdin: facts.hasStdin,
      keepsStdinOpen: facts.keepsStdinOpen,
    });
    this.#byId.set(id, connection);
    const forget = () => {
      if (this.#byId.get(id) === connection) this.#byId.delete(id);
    };
    connection.then(({ ended }) => {
      void ended.then(() => {
        forget();
        this.#onEnd(id);
      });
    }, forget);
    return connection;
  }

  /** What a run that is over still had to say is heard. */
  async drain(id: string): Promise<void> {
    await (await this.#byId.get(id))?.drain();
  }

  /** Lets go of all; containers run on. Safe twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    const attachments = await Promise.allSettled(this.#byId.values());
    for (const attachment of attachments) if (attachment.status === 'fulfilled') attachment.value.close();
  }
}
