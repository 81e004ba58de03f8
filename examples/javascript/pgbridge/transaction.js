import { copyIn, copyOut, run } from "./client.js";
import { Cursor } from "./cursor.js";
import { PgbridgeError } from "./errors.js";

/**
 * @typedef {object} BeginOptions
 * @property {"read committed" | "repeatable read" | "serializable"} [isolation]
 * @property {boolean} [readOnly]
 * @property {boolean} [deferrable]
 * @property {number} [idleTimeout] ms that it may be without a request
 */

/**
 * A transaction that pgbridge holds open on a connection of its own. Its requests
 * are served in their order, and none of them is sent twice.
 * @template {import("./client.js").Scripts} [S=Record<string, { params: any, row: any }>]
 */
export class Transaction {
  /**
   * @param {import("./requests.js").Requests} requests
   * @param {string} subject
   */
  constructor(requests, subject) {
    this.requests = requests;
    this.subject = subject;
  }

  /**
   * @template {keyof S & string} N
   * @param {N} script
   * @param {S[N]["params"]} [params]
   * @param {import("./client.js").RunOptions} [options]
   * @returns {Promise<import("./client.js").Reply<S[N]["row"]>>}
   */
  run(script, params, options = {}) {
    return run(this.requests, { subject: `${this.subject}.run.${script}`, inTx: true }, params, options);
  }

  /**
   * @template {keyof S & string} N
   * @param {N} script
   * @param {S[N]["params"]} [params]
   * @param {import("./cursor.js").CursorOptions} [options]
   * @returns {Promise<Cursor<S[N]["row"]>>}
   */
  cursor(script, params, options = {}) {
    return Cursor.open(this.requests, `${this.subject}.cursor.${script}`, this.subject, params, options);
  }

  /**
   * As the client's, but the stream ends when the COPY is done, and commit is yours.
   * @template {keyof S & string} N
   * @param {N} script
   * @param {S[N]["params"]} [params]
   * @param {import("./client.js").CopyOptions} [options]
   */
  copyOut(script, params, options = {}) {
    return copyOut(this.requests, `${this.subject}.copy.${script}`, this.subject, params, options);
  }

  /**
   * @template {keyof S & string} N
   * @param {N} script
   * @param {S[N]["params"]} [params]
   * @param {import("./client.js").CopyOptions} [options]
   */
  copyIn(script, params, options = {}) {
    return copyIn(this.requests, `${this.subject}.copy.${script}`, this.subject, params, options);
  }

  /** @param {string} name */
  savepoint(name) {
    return this.#verb("savepoint", { name });
  }

  /** Undoes everything since a savepoint, after a failed statement too. @param {string} name */
  rollbackTo(name) {
    return this.#verb("rollback_to", { name });
  }

  /** @param {string} name */
  release(name) {
    return this.#verb("release", { name });
  }

  /** Renews the lease and returns when it ends now. */
  async touch() {
    const m = await this.requests.exchange({ subject: this.subject + ".touch", inTx: true, repeatable: true });
    return new Date(m.json().expires_at);
  }

  commit() {
    return this.#verb("commit");
  }

  /** Undoes it. One that has ended already is no error. */
  async rollback() {
    try {
      await this.#verb("rollback");
    } catch (err) {
      if (!(err instanceof PgbridgeError) || !["replica_gone", "gone", "unavailable"].includes(err.code)) throw err;
    }
  }

  /**
   * @param {string} name
   * @param {unknown} [body]
   */
  async #verb(name, body) {
    await this.requests.exchange({ subject: `${this.subject}.${name}`, body, inTx: true });
  }
}
