// What comes while a connection comes back stands behind the gap, and comes when the
// server has all subscriptions again. The connection is one of this test's own.

import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { subscribe } from "../pgbridge/subscribe.js";

/** @type {((err: null, m: any) => void)[]} */ const callbacks = [];
/** @type {any[]} */ const statuses = [];
/** @type {{ resolve: () => void, reject: (err: Error) => void }[]} */ const flushes = [];
let wake = () => {};

async function* status() {
  for (;;) {
    while (statuses.length > 0) yield statuses.shift();
    await new Promise((/** @type {any} */ resume) => (wake = resume));
  }
}

/** @param {string} type */
async function happens(type) {
  statuses.push({ type });
  wake();
  await turn();
}

const connection = {
  status,
  flush: () => new Promise((/** @type {any} */ resolve, reject) => flushes.push({ resolve, reject })),
  subscribe: (/** @type {string} */ _, /** @type {any} */ options) => (callbacks.push(options.callback), { unsubscribe() {} }),
};
const arrive = (/** @type {string} */ text) => callbacks[0](null, { subject: "pgbridge.event.orders", data: Buffer.from(text) });

const opening = subscribe(/** @type {any} */ (connection), "pgbridge", { channels: ["orders"] });
flushes.shift()?.resolve();
const events = await opening;
/** @type {string[]} */ const seen = [];
const reading = (async () => {
  for await (const { gap, text } of events) seen.push(gap?.reason ?? text);
})();
await turn();

arrive("before");
await happens("disconnect");
await happens("reconnect");
arrive("early"); // the server has this subscription, and the others perhaps not
await turn();
assert.deepEqual(seen, ["before"]);
flushes.shift()?.reject(new Error("disconnected")); // once more, before the flush is answered
await happens("disconnect");
await happens("reconnect");
arrive("late");
await turn();
assert.deepEqual(seen, ["before"]);
flushes.shift()?.resolve();
await turn();
arrive("after");
await turn();
assert.deepEqual(seen, ["before", "client_disconnected", "early", "late", "after"]);
events.close();
await reading;
console.log("the gap stands before what came after it");
process.exit();
