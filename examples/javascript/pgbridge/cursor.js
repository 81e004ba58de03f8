import { limit } from "./client.js";
import { download } from "./chunks.js";
import { asError, PgbridgeError } from "./errors.js";
import { Link } from "./link.js";
import { checkKey } from "./subjects.js";

/**
 * @typedef {object} CursorOptions
 * @property {string} [name] the cursor's, in SQL too
 * @property {number} [pageRows] how many rows a page has at most; default: 1000
 * @property {number} [pageBytes] how large a page is at most; default: a message
 * @property {boolean} [scroll] it can move backward
 * @property {boolean} [hold] it outlives the commit of its transaction
 * @property {number} [timeout] ms for each request; default: the script's
 * @property {"string" | "number"} [bigNumbers] as in RunOptions
 *
 * @typedef {"forward" | "backward" | "absolute" | "relative" | "next" | "prior" | "first" | "last"} Direction
 */

/**
 * A script's result, page by page, whatever its size. It has to be read to its end
 * or closed. Pages are numbered, so that one whose reply was lost is asked for
 * again, and no row is lost or comes twice.
 *
 * @template {Record<string, any>} [R=Record<string, any>]
 */
export class Cursor {
  /** @type {{ rows: R[], done: boolean } | null} */ #first;
  #page = 0; // the one that was asked for last
  #done;

  /**
   * @param {import("./requests.js").Requests} requests
   * @param {{ tx: string, cursor: string, columns: { name: string, type: string }[], rows: R[], done: boolean }} opened
   * @param {boolean} own the transaction is the cursor's
   * @param {CursorOptions} options
   */
  constructor(requests, opened, own, options) {
    this.requests = requests;
    this.tx = opened.tx;
    this.name = opened.cursor;
    this.columns = opened.columns;
    this.own = own;
    this.options = options;
    this.#first = opened;
    this.#done = opened.done;
  }

  /**
   * @param {import("./requests.js").Requests} requests
   * @param {string} subject
   * @param {string} tx the transaction's subject; empty: it gets one of its own
   * @param {Record<string, any>} [params]
   * @param {CursorOptions} [o]
   * @returns {Promise<Cursor<any>>}
   */
  static async open(requests, subject, tx, params = {}, o = {}) {
    const { name, scroll, hold } = o;
    const body = {
      params, name, scroll, hold, timeout_ms: o.timeout, count: o.pageRows, max_bytes: o.pageBytes,
      rows: "object", big_numbers: o.bigNumbers ?? "string",
    };
    const opened = (await requests.exchange({ subject, body, inTx: tx !== "", limit: limit(o.timeout) })).json();
    checkKey(opened.tx);
    if (opened.cursor) return new Cursor(requests, opened, tx === "", o);
    if (tx === "") await requests.once({ subject: opened.tx + ".rollback", inTx: true }, 10_000).catch(() => {});
    throw new PgbridgeError("invalid_request", "the script opens cursors of its own: see docs/cursors.md");
  }

  /** All rows that are left. Leaving the loop early closes the cursor. */
  async *[Symbol.asyncIterator]() {
    for await (const rows of this.pages()) yield* rows;
  }

  /** The same, a page at a time. @returns {AsyncGenerator<R[], void>} */
  async *pages() {
    try {
      if (this.#first) {
        const { rows } = this.#first;
        this.#first = null;
        yield rows;
      }
      while (!this.#done) {
        const { rows, done } = await this.fetch();
        // A page of pgbridge's has a row, but for the first and the last: or the loop could go on for ever.
        if (rows.length === 0 && !done) throw new PgbridgeError("forged", "a page in the middle of the cursor has no rows");
        yield rows;
      }
    } finally {
      if (!this.#done) await this.close().catch(() => {}); // else its lease ends it
    }
  }

  /**
   * Reads a page, from where the cursor stands: behind the first page once it is open.
   * @param {Direction} [direction]
   * @param {number} [count] rows, or the row's number
   * @returns {Promise<{ rows: R[], done: boolean }>}
   */
  async fetch(direction = "forward", count = takesNone(direction) ? undefined : this.options.pageRows) {
    this.#first = null;
    const page = await this.#ask("fetch", { direction, count, max_bytes: this.options.pageBytes, page: ++this.#page }, true);
    this.#done = page.done;
    return page;
  }

  /**
   * Passes over rows and returns how many fetch would have read.
   * @param {Direction} direction
   * @param {number} [count]
   * @returns {Promise<number>}
   */
  async move(direction, count) {
    this.#first = null;
    const { moved, done } = await this.#ask("move", { direction, count }, false);
    this.#done = done;
    return moved;
  }

  /**
   * All rows that are left, pushed by pgbridge as fast as they are taken: faster
   * where the way there is long. An error ends a transaction of the cursor's own,
   * and so does leaving the loop early.
   * @returns {AsyncGenerator<R, void>}
   */
  async *stream() {
    try {
      const first = this.#first?.rows ?? [];
      this.#first = null;
      yield* first;
      if (this.#done) return;
      const link = new Link(this.requests, this.tx);
      await link.open({ subject: this.tx + ".stream", body: { cursor: this.name, count: this.options.pageRows }, inTx: true });
      const { stream } = download(link, async (err) => (this.own ? link.abandon(err) : asError(err)));
      const decoder = new TextDecoder();
      for await (const chunk of stream) yield* /** @type {R[]} */ (JSON.parse(decoder.decode(chunk)));
      this.#done = true;
    } finally {
      if (!this.#done) await this.close().catch(() => {}); // else its lease ends it
    }
  }

  /** Closes it. One whose transaction has ended is no error. */
  async close() {
    try {
      await this.#ask("close", {}, true);
    } catch (err) {
      if (!(err instanceof PgbridgeError) || !["gone", "not_found", "replica_gone"].includes(err.code)) throw err;
    }
    this.#done = true;
  }

  /**
   * @param {string} verb
   * @param {object} body
   * @param {boolean} repeatable
   */
  async #ask(verb, body, repeatable) {
    const request = { subject: `${this.tx}.${verb}`, body: { cursor: this.name, ...body }, inTx: true, repeatable };
    return (await this.requests.exchange({ ...request, limit: limit(this.options.timeout) })).json();
  }
}

/** @param {Direction} direction */
const takesNone = (direction) => ["next", "prior", "first", "last"].includes(direction);
