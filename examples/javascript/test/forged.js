// Answers that are not pgbridge's: a stream's acknowledgements, and forged ones.

import assert from "node:assert/strict";
import { Client } from "../pgbridge/index.js";
import { open } from "../connect.js";

const { nc } = await open();
const taken = new Client(nc, { prefix: "taken", retries: 0 });
const forged = new Client(nc, { prefix: "forged", retries: 0 });

/**
 * @param {Client} pg
 * @param {string} script
 */
async function read(pg, script) {
  const { stream } = await pg.copyOut(script);
  for await (const _ of stream);
}

/**
 * @param {Client} pg
 * @param {string} script
 */
async function write(pg, script) {
  const { stream } = await pg.copyIn(script);
  const writer = stream.getWriter();
  await writer.write("x");
  await writer.close();
}

const unknown = { code: "taken", outcomeUnknown: true };
await assert.rejects(taken.run("one"), unknown);
await assert.rejects(taken.begin(), unknown);
await assert.rejects(read(taken, "out"), unknown);
await assert.rejects(write(taken, "in"), unknown);

for (const tx of ["", "$JS.API.STREAM.DELETE", "$JS.tx.STREAM.DELETE", "forged.run.transfer", "forged.tx.r", "forged.tx.*.i", "forged.tx.r.i\r\nPUB x"]) {
  await assert.rejects(forged.begin({ isolation: /** @type {any} */ (tx) }), { code: "forged" }, tx);
}
await assert.rejects(write(forged, "data"), { code: "forged" });
await assert.rejects(read(forged, "ack"), { code: "forged" });
await assert.rejects(async () => {
  for await (const _ of await forged.cursor("pages"));
}, { code: "forged" });
const job = await forged.job("slow", {}, { id: "one" });
await nc.request("forged.said"); // its result, and then another stream's acknowledgement
assert.equal((await job.wait()).attempts, 7);
await nc.close();
console.log("none of it was believed");
process.exit();
