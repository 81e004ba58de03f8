import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
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
  const consumer = durable
    ? await consumers.get(stream, durable)
    : await consumers.get(stream, { filter_subjects, deliver_policy: DeliverPolicy.New });
  return new Consumption(prefix, await consumer.consume({ max_messages: durable ? 1 : 1000 }), Boolean(durable));
}

export class Consumption {
  /**
   * @param {string} prefix
   * @param {import("@nats-io/jetstream").ConsumerMessages} messages
   * @param {boolean} durable
   */
  constructor(prefix, messages, durable) {
    this.prefix = prefix;
    this.messages = messages;
    this.durable = durable;
  }

  /** What the stream holds, until this or the connection is closed. @returns {AsyncGenerator<import("./events.js").Event, void>} */
  async *[Symbol.asyncIterator]() {
    for await (const m of this.messages) {
      let handled = false;
      try {
        yield { ...read(this.prefix, m), sequence: m.seq };
        handled = true;
      } finally {
        if (this.durable) handled ? m.ack() : m.nak();
      }
    }
  }

  /** Ends the loop over it. */
  async close() {
    await this.messages.close();
  }
}
