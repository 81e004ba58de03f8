import { createInbox } from "@nats-io/transport-node";
import { asError, failure, PgbridgeError, taken } from "./errors.js";
import { encode } from "./requests.js";

/** @typedef {import("@nats-io/transport-node").Msg} Msg */

/**
 * A client's end of a stream of chunks: an inbox of its own, and the transaction
 * that the stream belongs to. Where nothing is heard for a while it asks whether
 * that is still there.
 */
export class Link {
  /** @type {Msg[]} */ #messages = [];
  /** @type {PgbridgeError | null} */ #broken = null;
  /** @type {(() => void) | null} */ #wake = null;
  #sub;

  /**
   * @param {import("./requests.js").Requests} requests
   * @param {string} tx the transaction's subject, where it is known by now
   */
  constructor(requests, tx) {
    this.requests = requests;
    this.tx = tx;
    this.id = ""; // the stream's, as soon as it is known
    this.inbox = createInbox();
    this.#sub = requests.nc.subscribe(this.inbox + ".>", {
      callback: (err, m) => {
        if (err) this.#broken = asError(err);
        else this.#messages.push(m);
        this.#wake?.();
      },
    });
  }

  /**
   * Sends the request that opens the stream and returns the first reply, which is
   * no error. An error closes the link.
   * @param {import("./requests.js").Request} r
   */
  async open(r) {
    const until = Date.now() + (r.limit ?? this.requests.patience);
    this.requests.nc.publish(r.subject, encode(r.body), { reply: this.inbox + ".0" });
    try {
      const m = await this.next(until);
      const error = taken(m);
      if (error) throw error;
      this.id = String(m.json()?.id ?? "");
      return m;
    } catch (err) {
      this.close();
      if (err instanceof PgbridgeError && err.code === "replica_gone" && !r.inTx) {
        throw new PgbridgeError("no_responders", `${r.subject}: nobody serves it`);
      }
      throw err;
    }
  }

  /** Takes the inbox away: a server that sends still learns that nobody listens. */
  close() {
    this.#sub.unsubscribe();
    this.#broken ??= new PgbridgeError("closed", "the stream was closed");
    this.#wake?.();
  }

  /**
   * The next message that is no error.
   * @param {number} [until] when to give up, as Date.now() counts; default: never
   */
  async next(until = Infinity) {
    while (this.#messages.length === 0) {
      if (this.#broken) throw this.#broken;
      if (Date.now() >= until) throw new PgbridgeError("no_answer", "none came in time", { outcomeUnknown: true });
      if ((await this.#heard(Math.min(this.requests.silence, until - Date.now()))) || !this.tx) continue;
      try {
        await this.#alive();
      } catch (err) {
        if (this.#messages.length === 0) throw err; // what has come meanwhile says more
      }
    }
    const m = /** @type {Msg} */ (this.#messages.shift());
    if (m.data.length === 0 && m.headers?.code === 503) {
      throw new PgbridgeError("replica_gone", "the replica is gone, and the transaction with it");
    }
    const error = failure(m);
    if (error) throw error;
    return m;
  }

  /**
   * Waits for a message; false: none came within ms.
   * @param {number} ms
   * @returns {Promise<boolean>}
   */
  #heard(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#wake?.(), Math.max(ms, 1));
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = null;
        resolve(this.#messages.length > 0 || this.#broken !== null);
      };
    });
  }

  /** Renews the lease, which tells whether the transaction is there. */
  async #alive() {
    const m = await this.requests.once({ subject: this.tx + ".touch", inTx: true }, this.requests.silence);
    const error = failure(m) ?? taken(m);
    if (error) throw error;
  }

  /**
   * Rolls the transaction back after an error on this side, and returns the error
   * with what is known of the outcome. pgbridge's own word needs nothing of this.
   * @param {unknown} err
   */
  async abandon(err) {
    const mine = asError(err);
    if (mine.outcomeUnknown || mine.code === "replica_gone" || mine.details.code) return mine;
    try {
      const m = await this.requests.once({ subject: this.tx + ".rollback", inTx: true }, 5000);
      const error = failure(m) ?? taken(m);
      if (error) throw error;
    } catch {
      mine.outcomeUnknown = true; // too late, or nobody has heard it
    }
    return mine;
  }
}
