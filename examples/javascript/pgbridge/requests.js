import { errors, headers } from "@nats-io/transport-node";
import { failure, PgbridgeError, taken } from "./errors.js";

/**
 * One request, and what may be done about its failures.
 * @typedef {object} Request
 * @property {string} subject
 * @property {unknown} [body] sent as JSON; nothing, bytes and strings are sent as they are
 * @property {string} [id] a message id: it is done once, however often it is sent
 * @property {number} [limit] ms that a reply is waited for; default: the patience
 * @property {boolean} [repeatable] it can be sent again although it may have been done
 * @property {boolean} [inTx] it goes to a transaction: where nobody is there, nobody will be
 */

/** Sends requests, again where that cannot do them twice. */
export class Requests {
  /**
   * @param {import("@nats-io/transport-node").NatsConnection} nc
   * @param {{ patience: number, retries: number, silence: number }} options
   */
  constructor(nc, { patience, retries, silence }) {
    this.nc = nc;
    this.patience = patience;
    this.retries = retries;
    this.silence = silence;
  }

  /**
   * Sends a request and returns the reply that is no error.
   * @param {Request} r
   */
  async exchange(r) {
    for (let tries = 1; ; tries++) {
      try {
        const limit = r.limit ?? this.patience;
        // What can be repeated does not wait long for a reply that may be lost, but longer each time.
        const m = await this.once(r, r.repeatable ? Math.min(limit, this.silence * 2 ** (tries - 1)) : limit);
        const error = failure(m) ?? taken(m);
        if (error) throw error;
        return m;
      } catch (err) {
        if (!(await this.again(r, tries, err))) throw err;
      }
    }
  }

  /**
   * Sends a request once and returns the reply, whatever that says.
   * @param {Request} r
   * @param {number} timeout in ms
   */
  async once(r, timeout) {
    try {
      return await this.nc.request(r.subject, encode(r.body), { timeout, headers: withId(r.id) });
    } catch (err) {
      if (err instanceof errors.TimeoutError) {
        throw new PgbridgeError("no_answer", `${r.subject}: none within ${timeout} ms`, { outcomeUnknown: true });
      }
      if (!(err instanceof errors.RequestError) || !err.isNoResponders()) throw err;
      if (r.inTx) throw new PgbridgeError("replica_gone", `${r.subject}: the replica is gone, and the transaction with it`);
      throw new PgbridgeError("no_responders", `${r.subject}: nobody serves it`);
    }
  }

  /**
   * Waits until a request may be sent once more; false: it may not be.
   * @param {Request} r
   * @param {number} tries so far
   * @param {unknown} err of the last one
   */
  async again(r, tries, err) {
    if (tries > this.retries || !(err instanceof PgbridgeError)) return false;
    const safe = err.outcomeUnknown ? Boolean(r.id || (r.repeatable && err.code === "no_answer")) : err.retryable || err.code === "no_responders";
    if (!safe) return false;
    const pause = Math.min(200 * 2 ** (tries - 1), 5000);
    await new Promise((resume) => setTimeout(resume, pause * (0.5 + Math.random() / 2)));
    return true;
  }
}

/** @param {unknown} body */
export function encode(body) {
  if (body === undefined || typeof body === "string" || body instanceof Uint8Array) return body;
  return JSON.stringify(body);
}

/** @param {string} [id] */
function withId(id) {
  if (!id) return undefined;
  const h = headers();
  h.set("Nats-Msg-Id", id);
  return h;
}
