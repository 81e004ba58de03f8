import { Requests } from "./requests.js";
import { Link } from "./link.js";
import { download, Upload } from "./chunks.js";
import { Cursor } from "./cursor.js";
import { Transaction } from "./transaction.js";
import { subscribe } from "./subscribe.js";
import { consume } from "./consume.js";
import { leave } from "./job.js";
import { PgbridgeError } from "./errors.js";
import { checkKey, join, token } from "./subjects.js";

/**
 * @typedef {Record<string, any>} Params a script's parameters by name; null is NULL
 * @typedef {Record<string, any>} Row
 * @typedef {Record<string, { params: any, row: any }>} Scripts what `pgbridge describe --types typescript` writes
 * @typedef {import("./chunks.js").Totals} Totals
 *
 * @typedef {object} ClientOptions
 * @property {string} [prefix] the first tokens of every subject; default: pgbridge
 * @property {string} [caller] whose requests these are; a job has no caller
 * @property {number} [patience] ms that a reply is waited for; default: a little more than pgbridge takes itself
 * @property {number} [retries] how often a request is sent again where that is safe; default: 5
 * @property {number} [silence] ms without a sign of life after which a transaction is asked for one; default: 10,000
 *
 * @typedef {object} RunOptions
 * @property {number} [timeout] ms from receipt to reply; default: the script's
 * @property {string} [messageId] makes it be done once, however often it is sent
 * @property {"string" | "number"} [bigNumbers] how int8 and numeric come; default: "string", for a number loses digits beyond 2^53
 *
 * @typedef {object} CopyOptions
 * @property {string} [id] names the copy, on the subject of its progress too
 * @property {number} [timeout] ms for the whole copy
 * @property {number} [chunkBytes] how large a chunk is
 * @property {number} [windowBytes] how much may be under way
 * @property {number} [stall] ms that this side may be silent
 */

/**
 * @template R
 * @typedef {{ command: string, rows_affected: number, columns?: { name: string, type: string }[], rows?: R[] }} Result
 */

/**
 * @template R
 * @typedef {{ results: Result<R>[], notices?: import("./chunks.js").Notice[], attempts: number, replayed: boolean }} Reply
 */

/**
 * Uses a pgbridge over a connection that stays yours. With the types that
 * `pgbridge describe --types typescript` writes an editor knows each script:
 * `new Client<Scripts>(nc)` in TypeScript.
 *
 * @template {Scripts} [S=Record<string, { params: Params, row: Row }>]
 */
export class Client {
  /**
   * @param {import("@nats-io/transport-node").NatsConnection} nc
   * @param {ClientOptions} [options]
   */
  constructor(nc, { prefix = "pgbridge", caller, patience = 310_000, retries = 5, silence = 10_000 } = {}) {
    this.nc = nc;
    this.prefix = prefix;
    this.caller = caller;
    this.requests = new Requests(nc, { patience, retries, silence });
  }

  /** Where this client asks. @param {string[]} tokens */
  subject(...tokens) {
    return join(this.prefix, ...(this.caller ? ["as", token(this.caller)] : []), ...tokens);
  }

  /**
   * Any request with one reply, such as request("describe", "account").
   * @param {string} verb
   * @param {string} script may be empty
   * @param {unknown} [body]
   * @param {{ messageId?: string, limit?: number, repeatable?: boolean }} [options]
   * @returns {Promise<any>}
   */
  async request(verb, script, body, { messageId, ...more } = {}) {
    return (await this.requests.exchange({ subject: this.subject(verb, script), body, id: messageId, ...more })).json();
  }

  /**
   * Runs a script in a transaction of its own.
   * @template {keyof S & string} N
   * @param {N} script
   * @param {S[N]["params"]} [params]
   * @param {RunOptions} [options]
   * @returns {Promise<Reply<S[N]["row"]>>}
   */
  async run(script, params, options = {}) {
    return run(this.requests, { subject: this.subject("run", script), id: options.messageId }, params, options);
  }

  /**
   * Opens a transaction. It has to be ended with commit or rollback.
   * @param {import("./transaction.js").BeginOptions} [options]
   * @returns {Promise<Transaction<S>>}
   */
  async begin({ isolation, readOnly, deferrable, idleTimeout } = {}) {
    const body = { isolation, read_only: readOnly, deferrable, idle_timeout_ms: idleTimeout };
    const begun = (await this.requests.exchange({ subject: this.subject("begin"), body })).json();
    checkKey(begun.tx);
    return new Transaction(this.requests, begun.tx);
  }

  /**
   * Does something in a transaction, which is committed behind it, and rolled back
   * if it fails.
   * @template T
   * @param {(tx: Transaction<S>) => Promise<T>} work
   * @param {import("./transaction.js").BeginOptions} [options]
   * @returns {Promise<T>}
   */
  async transaction(work, options) {
    const tx = await this.begin(options);
    let result;
    try {
      result = await work(tx);
    } catch (err) {
      await tx.rollback().catch(() => {}); // else its lease ends it
      throw err;
    }
    await tx.commit();
    return result;
  }

  /**
   * Opens a cursor over a script's last statement.
   * @template {keyof S & string} N
   * @param {N} script
   * @param {S[N]["params"]} [params]
   * @param {import("./cursor.js").CursorOptions} [options]
   * @returns {Promise<Cursor<S[N]["row"]>>}
   */
  async cursor(script, params, options = {}) {
    return Cursor.open(this.requests, this.subject("cursor", script), "", params, options);
  }

  /**
   * Copies a script's rows out: a stream of bytes, which ends without an error only
   * when all of them were there.
   * @template {keyof S & string} N
   * @param {N} script
   * @param {S[N]["params"]} [params]
   * @param {CopyOptions} [options]
   */
  async copyOut(script, params, options = {}) {
    return copyOut(this.requests, this.subject("copy", script), "", params, options);
  }

  /**
   * Copies in what is written to a stream. Closing that waits for COMMIT; aborting
   * it rolls back.
   * @template {keyof S & string} N
   * @param {N} script
   * @param {S[N]["params"]} [params]
   * @param {CopyOptions} [options]
   */
  async copyIn(script, params, options = {}) {
    return copyIn(this.requests, this.subject("copy", script), "", params, options);
  }

  /** Events and gaps over core NATS. @param {import("./subscribe.js").SubscribeOptions} [options] */
  subscribe(options = {}) {
    return subscribe(this.nc, this.prefix, options);
  }

  /** Events and gaps from their stream. @param {import("./consume.js").ConsumeOptions} [options] */
  consume(options = {}) {
    return consume(this.nc, this.prefix, options);
  }

  /**
   * Leaves a job: it is run once, now or when PostgreSQL is back.
   * @template {keyof S & string} N
   * @param {N} script
   * @param {S[N]["params"]} [params]
   * @param {import("./job.js").JobOptions} [options]
   * @returns {Promise<import("./job.js").Job<S[N]["row"]>>}
   */
  async job(script, params, options = {}) {
    if (this.caller) throw new PgbridgeError("invalid_request", "a job has no caller");
    return leave(this.requests, this.prefix, script, params, options);
  }
}

/**
 * @param {Requests} requests
 * @param {import("./requests.js").Request} request
 * @param {Params} params
 * @param {RunOptions} options
 * @returns {Promise<Reply<any>>}
 */
export async function run(requests, request, params = {}, { timeout, bigNumbers = "string" }) {
  const body = { params, timeout_ms: timeout, rows: "object", big_numbers: bigNumbers };
  const m = await requests.exchange({ ...request, body, limit: limit(timeout) });
  return { ...m.json(), replayed: m.headers?.has("Pgbridge-Replayed") ?? false };
}

/** How long a reply is waited for: there and back again besides. @param {number} [timeout] */
export const limit = (timeout) => (timeout ? timeout + 10_000 : undefined);

/**
 * @param {Requests} requests
 * @param {string} subject
 * @param {string} tx
 * @param {Params | undefined} params
 * @param {CopyOptions} o
 * @returns {Promise<{ link: Link, opening: import("./chunks.js").Opening }>}
 */
async function openCopy(requests, subject, tx, params = {}, o) {
  const body = { params, id: o.id, timeout_ms: o.timeout, chunk_bytes: o.chunkBytes, window_bytes: o.windowBytes, stall_ms: o.stall };
  const request = { subject, body, inTx: tx !== "", limit: limit(o.timeout) };
  for (let tries = 1; ; tries++) {
    const link = new Link(requests, tx);
    try {
      const opening = /** @type {import("./chunks.js").Opening} */ ((await link.open(request)).json());
      checkKey(opening.tx, opening.data);
      link.tx = opening.tx;
      return { link, opening };
    } catch (err) {
      link.close();
      // No data has been sent yet.
      if (!(await requests.again(request, tries, err))) throw err;
    }
  }
}

/** @param {Link} link */
async function wrongWay(link) {
  const err = await link.abandon(new PgbridgeError("direction", "the script copies in the other direction"));
  link.close();
  return err;
}

/**
 * @param {Requests} requests
 * @param {string} subject
 * @param {string} tx
 * @param {Params | undefined} params
 * @param {CopyOptions} options
 * @returns {Promise<{ stream: ReadableStream<Uint8Array>, totals: Promise<Totals & { id: string }> }>}
 */
export async function copyOut(requests, subject, tx, params, options) {
  const { link, opening } = await openCopy(requests, subject, tx, params, options);
  if (opening.data) throw await wrongWay(link);
  const { stream, totals } = download(link, (err) => link.abandon(err));
  const named = totals.then((t) => ({ id: opening.id, ...t }));
  named.catch(() => {}); // the stream says it too
  return { stream, totals: named };
}

/**
 * @param {Requests} requests
 * @param {string} subject
 * @param {string} tx
 * @param {Params | undefined} params
 * @param {CopyOptions} options
 * @returns {Promise<{ stream: WritableStream<Uint8Array | ArrayBuffer | string>, totals: Promise<Totals & { id: string, skipped?: number, results?: Result<any>[] }> }>}
 */
export async function copyIn(requests, subject, tx, params, options) {
  const { link, opening } = await openCopy(requests, subject, tx, params, options);
  if (!opening.data) throw await wrongWay(link);
  return new Upload(link, opening).start();
}
