import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { PgbridgeError } from "./errors.js";
import { read, subjectsOf } from "./events.js";
import { streamName, token } from "./subjects.js";

/**
 * @typedef {object} ConsumeOptions
 * @property {string} [stream] default: <PREFIX>_EVENTS
 * @property {string} [durable] names a consumer that JetStream keeps: a program that is started again goes on where it stopped, at first with all that the stream holds. Without it: with the next event.
 * @property {string[]} [channels] PostgreSQL's; default: all that have no subject of their own
 * @property {string[]} [subjects] of channels that have one
 */

/**
 * Receives events from JetStream, in the stream's order. With a durable consumer an
 * event counts as handled when the loop comes back for the next one; one that the
 * loop was left in comes again, with the same id.
 * @param {import("@nats-io/transport-node").NatsConnection} nc
 * @param {string} prefix
 * @param {ConsumeOptions} options
 */
export async function consume(nc, prefix, { stream = streamName(prefix, "EVENTS"), durable, channels = [], subjects = [] }) {
  const filter_subjects = subjectsOf(prefix, channels.map(token), subjects);
  if (durable) {
    // One without acknowledgement at a time: else an event whose handling failed comes after later ones.
    const config = { durable_name: durable, filter_subjects, ack_policy: AckPolicy.Explicit, max_ack_pending: 1 };
    await (await jetstreamManager(nc)).consumers.add(stream, { ...config, deliver_policy: DeliverPolicy.All });
  }
  const consumers = jetstream(nc).consumers;
  if (durable) {
    const consumer = await consumers.get(stream, durable);
    // One that is gone would be waited for.
    return new Consumption(prefix, await consumer.consume({ max_messages: 1, abort_on_missing_resource: true }), null, 0);
  }
  /** The sequence of the stream's last message. */
  const last = async () => {
    const look = await consumers.get(stream, { filter_subjects, deliver_policy: DeliverPolicy.New });
    const { delivered } = await look.info(true);
    await look.delete().catch(() => {}); // else it goes by itself
    return delivered.stream_seq;
  };
  // Not what is new whenever the library has to make the consumer again.
  const end = await last();
  const consumer = await consumers.get(stream, { filter_subjects, deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: end + 1 });
  return new Consumption(prefix, await consumer.consume({ max_messages: 1000 }), last, end);
}

export class Consumption {
  /**
   * @param {string} prefix
   * @param {import("@nats-io/jetstream").ConsumerMessages} messages
   * @param {(() => Promise<number>) | null} last asks for the stream's end; null: the consumer is a durable one
   * @param {number} sequence of the last message that is not wanted
   */
  constructor(prefix, messages, last, sequence) {
    this.prefix = prefix;
    this.messages = messages;
    this.durable = !last;
    this.#sequence = sequence;
    if (last) this.#watch(last).catch(() => {}); // it ends with the consumption
  }
  #sequence;
  /** @type {PgbridgeError | null} */ #fault = null;

  /**
   * Ends it where the library has made the consumer again and the stream does not reach so
   * far: it is another one of that name, and what it holds would be passed over.
   * @param {() => Promise<number>} last
   */
  async #watch(last) {
    for await (const status of this.messages.status()) {
      if (status.type !== "ordered_consumer_recreated" || (await last()) >= this.#sequence) continue;
      this.#fault = new PgbridgeError("lost", "the stream was deleted and made anew");
      await this.messages.close();
    }
  }

  /** What the stream holds, until this or the connection is closed; an error where it is gone. @returns {AsyncGenerator<import("./events.js").Event, void>} */
  async *[Symbol.asyncIterator]() {
    for await (const m of this.messages) {
      let handled = false;
      this.#sequence = m.seq;
      try {
        yield { ...read(this.prefix, m), sequence: m.seq };
        handled = true;
      } finally {
        if (this.durable) handled ? m.ack() : m.nak();
      }
    }
    if (this.#fault) throw this.#fault;
  }

  /** Ends the loop over it. */
  async close() {
    await this.messages.close();
  }
}
