/** One line of a progress stream, in Docker's form (jsonmessage); the API writes it as it is. */
export interface ProgressMessage {
  id?: string;
  status?: string;
  stream?: string;
  /** Bytes; empty on progress lines without numbers. */
  progressDetail?: { current?: number; total?: number };
  progress?: string;
  aux?: object;
  errorDetail?: { code?: number; message: string };
  error?: string;
}

/** Takes messages as they happen. The first one commits the answer to 200: what fails before it is an HTTP error. */
export type Progress = (message: ProgressMessage) => void;
