import { createHash } from "node:crypto";
import { headers } from "@nats-io/transport-node";
import { asError, PgbridgeError, taken as takenBy } from "./errors.js";
import { acknowledgement } from "./subjects.js";

/** @typedef {import("./link.js").Link} Link */

/** The form that pgbridge writes a digest in. @param {import("node:crypto").Hash} hash */
function format(hash) {
  const base64 = hash.digest("base64");
  return "SHA-256=" + base64.replaceAll("+", "-").replaceAll("/", "_");
}

/**
 * The chunks of a stream. One is acknowledged when the next is asked for, so the
 * reader decides how fast they come. It ends, without an error, only when all of
 * them were there, in order, and their digest is the sender's.
 * @param {Link} link
 * @param {(err: unknown) => Promise<PgbridgeError>} giveUp what to do after an error on this side
 * @returns {{ stream: ReadableStream<Uint8Array>, totals: Promise<Totals> }}
 */
export function download(link, giveUp) {
  const hash = createHash("sha256");
  let seq = 0;
  let bytes = 0;
  /** @type {string | undefined} */ let taken;
  /** @type {(t: Totals) => void} */ let finished;
  /** @type {(err: PgbridgeError) => void} */ let failed;
  const totals = new Promise((resolve, reject) => ([finished, failed] = [resolve, reject]));
  totals.catch(() => {}); // the stream says it too

  /** @param {ReadableStreamDefaultController<Uint8Array>} controller */
  async function pull(controller) {
    if (taken) link.requests.nc.publish(taken);
    const m = await link.next();
    if (m.data.length === 0) {
      const end = readEnd(m, bytes, format(hash));
      link.close();
      finished(end);
      return controller.close();
    }
    const number = m.headers?.get("Pgbridge-Seq");
    if (number !== String(++seq)) throw new PgbridgeError("lost", `chunk ${seq} is missing: ${number} has come`);
    hash.update(m.data);
    bytes += m.data.length;
    taken = acknowledgement(link.tx, link.id, seq, m.reply ?? "");
    controller.enqueue(m.data);
  }

  /** @param {unknown} err */
  async function fail(err) {
    let mine = asError(err);
    // pgbridge commits before its last word, so whether it did is not known.
    if (mine.code === "replica_gone") mine.outcomeUnknown = true;
    mine = await giveUp(mine);
    link.close();
    failed(mine);
    return mine;
  }

  const stream = new ReadableStream(
    {
      pull: async (controller) => {
        try {
          await pull(controller);
        } catch (err) {
          controller.error(await fail(err));
        }
      },
      cancel: async (reason) => void (await fail(new PgbridgeError("cancelled", String(reason ?? "the reader has left")))),
    },
    { highWaterMark: 0 }, // nothing is read ahead
  );
  return { stream, totals };
}

/**
 * @typedef {{ rows: number, bytes: number, digest: string, notices?: Notice[] }} Totals
 * @typedef {{ severity: string, message: string, sqlstate?: string, detail?: string, hint?: string }} Notice
 */

/**
 * Compares what has come with what the last message says.
 * @param {import("./link.js").Msg} m
 * @param {number} bytes
 * @param {string} digest
 * @returns {Totals}
 */
function readEnd(m, bytes, digest) {
  const said = (/** @type {string} */ name) => m.headers?.get(name) ?? "";
  if (said("Pgbridge-Bytes") !== String(bytes) || said("Pgbridge-Digest") !== digest) {
    throw new PgbridgeError("lost", "what has come is not what was sent");
  }
  const notices = said("Pgbridge-Notices");
  return { rows: Number(said("Pgbridge-Rows")), bytes, digest, ...(notices && { notices: JSON.parse(notices) }) };
}

/** @param {unknown} chunk */
async function bytes(chunk) {
  if (typeof chunk === "string") return new TextEncoder().encode(chunk);
  if (chunk instanceof ArrayBuffer) return new Uint8Array(chunk);
  if (ArrayBuffer.isView(chunk)) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  throw new PgbridgeError("invalid_request", "a chunk has to be bytes or a string");
}

const roomForHeaders = 128;
const mostUnanswered = 16384; // whatever their size

/**
 * The reply to a copy's request.
 * @typedef {{ id: string, tx: string, data?: string, chunk_bytes: number, window_bytes: number, stall_ms: number }} Opening
 */

/** Sends chunks, no more at a time than the window holds, and waits for COMMIT at the end. */
export class Upload {
  #link;
  #opening;
  #size;
  #hash = createHash("sha256");
  #rest = new Uint8Array(0);
  #seq = 0;
  /** @type {number[]} */ #unanswered = [];
  #pending = 0; // bytes of those
  #ending = false;
  /** @type {(() => void) | null} */ #wake = null;
  /** @type {PgbridgeError | null} */ #error = null;
  /** @type {WritableStreamDefaultController | undefined} */ #controller;
  /** @type {NodeJS.Timeout | undefined} */ #slow;
  /** @type {Promise<void> | undefined} */ #flushing;
  #last; // the server's last word
  #finish;

  /**
   * @param {Link} link
   * @param {Opening} opening
   */
  constructor(link, opening) {
    this.#link = link;
    this.#opening = opening;
    const most = link.requests.nc.info?.max_payload ?? 0;
    this.#size = Math.max(1, most ? Math.min(opening.chunk_bytes, most - roomForHeaders) : opening.chunk_bytes);
    /** @type {(summary: any) => void} */ let finish = () => {};
    this.#last = new Promise((resolve) => (finish = resolve));
    this.#finish = finish;
  }

  /** @returns {{ stream: WritableStream<Uint8Array | ArrayBuffer | string>, totals: Promise<any> }} */
  start() {
    const stream = new WritableStream({
      start: (controller) => void (this.#controller = controller),
      write: (chunk) => this.#write(bytes(chunk)).catch((err) => this.#fail(asError(err)).then(() => Promise.reject(err))),
      close: () => this.#end(),
      abort: async (reason) => void (await this.#fail(new PgbridgeError("cancelled", String(reason ?? "the writer has left")))),
    });
    this.#listen();
    const totals = this.#last.then((summary) => {
      if (this.#error) throw this.#error;
      return summary;
    });
    totals.catch(() => {}); // the stream says it too
    return { stream, totals };
  }

  /** Takes answers as they come, for an error says that it is over. */
  async #listen() {
    try {
      for (;;) {
        const m = await this.#link.next();
        if (this.#error) return;
        const error = takenBy(m);
        if (error) throw error;
        this.#pending -= this.#unanswered.shift() ?? 0;
        this.#wake?.();
        if (m.data.length === 0) continue;
        this.#link.close();
        return this.#finish(m.json());
      }
    } catch (err) {
      await this.#fail(asError(err));
    }
  }

  /** @param {PgbridgeError} err */
  async #fail(err) {
    if (this.#error) return;
    clearTimeout(this.#slow);
    // Behind the last chunk it may have been committed.
    if (this.#ending && (err.code === "replica_gone" || err.code === "gone")) err.outcomeUnknown = true;
    this.#error = err;
    await this.#link.abandon(err);
    this.#link.close();
    this.#controller?.error(err);
    this.#wake?.();
    this.#finish(undefined);
  }

  /** @param {Promise<Uint8Array>} chunk */
  async #write(chunk) {
    clearTimeout(this.#slow);
    let data = await chunk;
    await this.#flushing; // one that began before this data came
    data = this.#rest.length ? Buffer.concat([this.#rest, data]) : data;
    while (data.length >= this.#size) {
      await this.#send(data.subarray(0, this.#size));
      data = data.subarray(this.#size);
    }
    this.#rest = data.slice(); // the writer may use its array again
    // pgbridge takes silence for the end of its client, so what there is goes before.
    this.#slow = setTimeout(() => (this.#flushing = this.#flush().catch(() => {})), this.#opening.stall_ms / 3);
  }

  async #flush() {
    const rest = this.#rest;
    this.#rest = new Uint8Array(0);
    if (rest.length > 0) await this.#send(rest);
  }

  async #end() {
    clearTimeout(this.#slow);
    await this.#flushing;
    await this.#flush();
    this.#ending = true;
    await this.#send(new Uint8Array(0), format(this.#hash));
    await this.#last;
    if (this.#error) throw this.#error;
  }

  /**
   * @param {Uint8Array} data
   * @param {string} [digest]
   */
  async #send(data, digest) {
    this.#hash = digest ? this.#hash : this.#hash.update(data);
    while (!this.#error && this.#full(data.length)) await new Promise((/** @type {any} */ resume) => (this.#wake = resume));
    if (this.#error) throw this.#error;
    const h = headers();
    h.set("Pgbridge-Seq", String(++this.#seq));
    if (digest) h.set("Pgbridge-Digest", digest);
    this.#link.requests.nc.publish(/** @type {string} */ (this.#opening.data), data, { headers: h, reply: `${this.#link.inbox}.${this.#seq}` });
    this.#unanswered.push(data.length);
    this.#pending += data.length;
  }

  /** @param {number} more */
  #full(more) {
    return this.#unanswered.length > 0 && (this.#pending + more > this.#opening.window_bytes || this.#unanswered.length >= mostUnanswered);
  }
}
