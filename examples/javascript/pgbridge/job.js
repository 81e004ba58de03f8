import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { errors, nuid } from "@nats-io/transport-node";
import { failure, PgbridgeError } from "./errors.js";
import { join, token } from "./subjects.js";

/**
 * @typedef {object} JobOptions
 * @property {string} [id] names the work: left again, it is done once; default: one of its own
 * @property {number} [timeout] ms for each attempt
 * @property {{ bucket: string, name: string }} [object] for a copy from or to an object
 * @property {"string" | "number"} [bigNumbers] as in RunOptions
 */

const lookAgain = 5000; // ms: the message that brings a result is lost when the link breaks just then

/**
 * Leaves a job in its stream. It is safe to do so again with the same id.
 * @param {import("./requests.js").Requests} requests
 * @param {string} prefix
 * @param {string} script
 * @param {Record<string, any>} params
 * @param {JobOptions} options
 */
export async function leave({ nc }, prefix, script, params = {}, { id = nuid.next(), timeout, object, bigNumbers = "string" }) {
  const verb = object ? "copy" : "run";
  const body = object ? { params, timeout_ms: timeout, object } : { params, timeout_ms: timeout, rows: "object", big_numbers: bigNumbers };
  const job = new Job(nc, id, join(prefix, "result", script, token(id)));
  try {
    const ack = await jetstream(nc).publish(join(prefix, "job", verb, script), JSON.stringify(body), { msgID: id });
    job.duplicate = ack.duplicate;
  } catch (err) {
    job.close();
    const unknown = err instanceof errors.TimeoutError;
    throw new PgbridgeError(unknown ? "no_answer" : "no_responders", `leave job ${id}: ${err}`, { outcomeUnknown: unknown, cause: err });
  }
  return job;
}

/**
 * A job that was left. Its result is listened for from before that, until wait has
 * returned it or close was called.
 * @template [R=Record<string, any>]
 */
export class Job {
  /** @type {import("./errors.js").Answer & { json(): any } | null} */ #result = null;
  /** @type {(() => void) | null} */ #wake = null;
  #sub;

  /**
   * @param {import("@nats-io/transport-node").NatsConnection} nc
   * @param {string} id
   * @param {string} subject of the result
   */
  constructor(nc, id, subject) {
    this.nc = nc;
    this.id = id;
    this.subject = subject;
    /** True where it had been left before: this is about that one. */
    this.duplicate = false;
    this.#sub = nc.subscribe(subject, {
      callback: (err, m) => {
        if (err || !m.headers?.get("Pgbridge-Job")) return; // others can have a stream's acknowledgement sent here
        this.#result = m;
        this.#wake?.();
      },
    });
  }

  /**
   * The result, however long the job takes; an error where it was given up.
   * @returns {Promise<import("./client.js").Reply<R> & Partial<import("./chunks.js").Totals>>}
   */
  async wait() {
    try {
      let pause = this.duplicate ? 0 : lookAgain; // it may have been done already
      for (;;) {
        const m = this.#result ?? (await this.#next(pause)) ?? (await this.#stored());
        pause = lookAgain;
        if (this.nc.isClosed()) throw new PgbridgeError("no_answer", `job ${this.id}: the connection was closed; the job goes on`);
        if (!m?.headers?.get("Pgbridge-Job")) continue;
        const error = failure(m);
        if (error) throw error;
        return m.json();
      }
    } finally {
      this.close();
    }
  }

  /** Stops listening. The job goes on. */
  close() {
    this.#sub.unsubscribe();
  }

  /** @param {number} pause */
  async #next(pause) {
    await new Promise((/** @type {(value?: any) => void} */ resume) => {
      const timer = setTimeout(resume, pause);
      this.#wake = () => (clearTimeout(timer), resume());
    });
    return this.#result;
  }

  /** What some stream has kept, if this user may look. */
  async #stored() {
    try {
      const manager = await jetstreamManager(this.nc);
      const kept = await manager.streams.getMessage(await manager.streams.find(this.subject), { last_by_subj: this.subject });
      return kept && Object.assign(kept, { headers: kept.header });
    } catch {
      return null;
    }
  }
}
