import { ownGap, read, subjectsOf } from "./events.js";
import { token } from "./subjects.js";

/**
 * @typedef {object} SubscribeOptions
 * @property {string[]} [channels] PostgreSQL's; default: all that have no subject of their own
 * @property {string[]} [subjects] of channels that have one
 * @property {number} [buffer] how many events may wait to be taken; default: 65,536. More are dropped, and a gap says so.
 */

/**
 * Receives events over core NATS, in their order: a gap stands before every event
 * that came after the loss, also where this client lost its connection or was too
 * slow. It returns when the server has the subscriptions.
 * @param {import("@nats-io/transport-node").NatsConnection} nc
 * @param {string} prefix
 * @param {SubscribeOptions} options
 */
export async function subscribe(nc, prefix, { channels = [], subjects = [], buffer = 65_536 }) {
  const s = new Subscription(nc, prefix, buffer);
  await s.open(subjectsOf(prefix, channels.map(token), subjects));
  return s;
}

/** @typedef {import("./events.js").Event} Event */

export class Subscription {
  /** @type {Event[]} */ #events = [];
  /** @type {Event[] | null} */ #held = null; // while the connection comes back
  #dropped = 0; // since the last gap
  /** @type {unknown} */ #error = null;
  #ended = false;
  /** @type {(() => void) | null} */ #wake = null;
  /** @type {import("@nats-io/transport-node").Subscription[]} */ #subs = [];

  /**
   * @param {import("@nats-io/transport-node").NatsConnection} nc
   * @param {string} prefix
   * @param {number} buffer
   */
  constructor(nc, prefix, buffer) {
    this.nc = nc;
    this.prefix = prefix;
    this.buffer = buffer;
  }

  /** @param {string[]} subjects */
  async open(subjects) {
    this.#watch();
    for (const subject of subjects) {
      this.#subs.push(this.nc.subscribe(subject, { callback: (err, m) => (err ? this.#end(err) : this.#receive(m)) }));
    }
    await this.nc.flush(); // a refusal comes before the answer
    if (this.#error) throw this.#error;
  }

  /** Ends the subscription and the loop over it. */
  close() {
    for (const sub of this.#subs) sub.unsubscribe();
    this.#end(null);
  }

  /** What arrives, until the subscription or the connection is closed. */
  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        const next = this.#events.shift() ?? this.#lost();
        if (next) yield next;
        else if (this.#error) throw this.#error;
        else if (this.#ended) return;
        else await new Promise((/** @type {any} */ resume) => (this.#wake = resume));
      }
    } finally {
      this.close();
    }
  }

  /** @param {import("@nats-io/transport-node").Msg} m */
  #receive(m) {
    try {
      const event = read(this.prefix, m);
      if (this.#held) this.#held.push(event);
      else this.#add(event);
    } catch (err) {
      this.#end(err);
    }
  }

  /** @param {Event} event */
  #add(event) {
    if (this.#events.length >= this.buffer) {
      this.#dropped++;
      return;
    }
    const gap = this.#lost();
    if (gap) this.#events.push(gap);
    this.#events.push(event);
    this.#wake?.();
  }

  /** The gap for events that found no room. */
  #lost() {
    if (this.#dropped === 0) return null;
    const gap = ownGap("client_slow", this.#dropped);
    this.#dropped = 0;
    return gap;
  }

  /**
   * Notices that the connection was lost. What comes after that is held back until
   * the server has all subscriptions again: the gap stands before it, and who reads
   * again when the gap comes misses nothing.
   */
  async #watch() {
    for await (const status of this.nc.status()) {
      if (this.#ended) return;
      if (status.type === "disconnect") this.#held ??= [];
      if (status.type === "reconnect" && (await this.nc.flush().then(() => true, () => false))) this.#resume();
      if (status.type === "close") this.#end(new Error("the connection was closed"));
    }
  }

  #resume() {
    const held = this.#held ?? [];
    this.#held = null;
    this.#events.push(ownGap("client_disconnected", null));
    for (const event of held) this.#add(event);
    this.#wake?.();
  }

  /** @param {unknown} err */
  #end(err) {
    this.#error ??= err;
    this.#ended = true;
    this.#wake?.();
  }
}
