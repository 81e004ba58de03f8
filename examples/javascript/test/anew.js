// Consumers whose stream is deleted and made anew, and one that is deleted.

import assert from "node:assert/strict";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { open } from "../connect.js";

const { nc, pg } = await open();
const { streams, consumers } = await jetstreamManager(nc);
const js = jetstream(nc);
const create = () => streams.add({ name: "PGBRIDGE_EVENTS", subjects: ["pgbridge.event.>"] });
const publish = (/** @type {string} */ text) => js.publish("pgbridge.event.orders", text);

await create();
for (const text of ["one", "two"]) await publish(text);
const next = await pg.consume();
const kept = await pg.consume({ durable: "kept" });
await publish("three");

/** @type {string[]} */ const seen = [];
const over = assert.rejects(async () => {
  for await (const { text } of kept) seen.push(text);
});
const waits = async () => (await consumers.info("PGBRIDGE_EVENTS", "kept")).num_waiting > 0 && seen.length === 3;
while (!(await waits()));
await consumers.delete("PGBRIDGE_EVENTS", "kept");
await over;
assert.deepEqual(seen, ["one", "two", "three"]);

seen.length = 0;
await assert.rejects(async () => {
  for await (const { text } of next) {
    seen.push(text);
    await streams.delete("PGBRIDGE_EVENTS");
    await create();
    await publish("four");
  }
}, { code: "lost" });
assert.deepEqual(seen, ["three"]);
console.log("nothing was passed over");
process.exit();
