import { untoken } from "./subjects.js";

/**
 * A notification, or the word that some are missing.
 * @typedef {object} Event
 * @property {string} channel PostgreSQL's; empty where nobody knows it
 * @property {Gap} [gap] notifications of the channel may be missing before this point
 * @property {Uint8Array} payload the notification's bytes or the envelope; of a gap none
 * @property {string} text the payload as a string
 * @property {string} id the same whenever the event is delivered; empty over core NATS
 * @property {number} [sequence] the message's in its stream
 *
 * @typedef {object} Gap
 * @property {string} reason one of pgbridge's, or client_disconnected and client_slow, which this module finds itself
 * @property {Date | null} since null: nobody knows
 * @property {Date} until
 * @property {number | null} dropped null: nobody counted
 */

const none = new Uint8Array(0);

/**
 * The subjects of channels, with > for all, and further ones.
 * @param {string} prefix
 * @param {string[]} channels as tokens
 * @param {string[]} more
 */
export function subjectsOf(prefix, channels, more) {
  const all = channels.length === 0 && more.length === 0 ? [">"] : channels;
  return [...all.flatMap((c) => [`${prefix}.event.${c}`, `${prefix}.gap.${c}`]), ...more];
}

/**
 * Makes an event of a message.
 * @param {string} prefix
 * @param {{ subject: string, data: Uint8Array, headers?: import("@nats-io/transport-node").MsgHdrs }} m
 * @returns {Event}
 */
export function read(prefix, m) {
  const header = (/** @type {string} */ name) => m.headers?.get(name) ?? "";
  const id = header("Pgbridge-Id") || header("Nats-Msg-Id");
  const text = new TextDecoder().decode(m.data);
  const named = header("Pgbridge-Channel");
  if (!m.subject.startsWith(`${prefix}.gap.`)) {
    const own = `${prefix}.event.`;
    const channel = named || (m.subject.startsWith(own) ? untoken(m.subject.slice(own.length)) : "");
    return { channel, payload: m.data, text, id };
  }
  const { channel, reason, since, until, dropped } = JSON.parse(text);
  return { channel, payload: none, text: "", id, gap: { reason, since: since && new Date(since), until: new Date(until), dropped } };
}

/**
 * A gap that this client has found itself: about every channel, by its own clock.
 * @param {string} reason
 * @param {number | null} dropped
 * @returns {Event}
 */
export function ownGap(reason, dropped) {
  return { channel: "", payload: none, text: "", id: "", gap: { reason, since: null, until: new Date(), dropped } };
}
