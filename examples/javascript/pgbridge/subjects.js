import { PgbridgeError } from "./errors.js";

const plain = /[A-Za-z0-9_-]/;
const plainName = /^[A-Za-z0-9_-]+$/;

/**
 * Any string as one token of a subject.
 * @param {string} text
 */
export function token(text) {
  let all = "";
  for (const byte of new TextEncoder().encode(text)) {
    const character = String.fromCharCode(byte);
    all += plain.test(character) ? character : "%" + byte.toString(16).toUpperCase().padStart(2, "0");
  }
  return all;
}

/**
 * The string that a token stands for, or "" where it stands for none.
 * @param {string} encoded
 */
export function untoken(encoded) {
  try {
    return decodeURIComponent(encoded);
  } catch {
    return "";
  }
}

/**
 * What pgbridge calls a stream of its own.
 * @param {string} prefix
 * @param {string} name
 */
export const streamName = (prefix, name) => `${prefix.toUpperCase().replaceAll(".", "_")}_${name}`;

/**
 * Tokens as a subject; empty ones are left out.
 * @param {string[]} tokens
 */
export const join = (...tokens) => tokens.filter((t) => t !== "").join(".");

const transaction = /^(?!\$)([^.*>\s]+\.)+tx\.[^.*>\s]+\.[^.*>\s]+$/;

/**
 * Refuses what cannot be a transaction's subject, or not one for its chunks: requests go there
 * with this client's permissions, so whoever has forged the answer must not have them go
 * to JetStream's API, or anywhere else.
 * @param {unknown} tx
 * @param {string} [data]
 */
export function checkKey(tx, data) {
  const below = !data || (data.startsWith(`${tx}.data.`) && !/[*>\s]/.test(data));
  if (typeof tx === "string" && transaction.test(tx) && below) return;
  throw new PgbridgeError("forged", "the answer names a subject that is not a transaction's: something else than pgbridge has answered");
}

/**
 * Where a chunk is acknowledged: below the transaction, or anybody could have this client
 * publish anywhere.
 * @param {string} tx
 * @param {string} id the stream's
 * @param {number} seq
 * @param {string} reply what the chunk names
 */
export function acknowledgement(tx, id, seq, reply) {
  // What NATS puts there on the way from another account, which counts for a limited time.
  if (reply.startsWith("_R_.") && plainName.test(id)) return `${tx}.ack.${id}.${seq}`;
  if (reply.startsWith(`${tx}.ack.`)) return reply;
  throw new PgbridgeError("forged", `chunk ${seq} wants its acknowledgement elsewhere than the transaction`);
}
