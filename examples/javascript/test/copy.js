// A copy that stops in the middle until it is told to go on:
//
//     node test/copy.js in|out

import { once } from "node:events";
import { Client } from "../pgbridge/index.js";
import { open } from "../connect.js";

const { nc } = await open();
const pg = new Client(nc, { retries: 0, silence: 300 });
const limits = { chunkBytes: 10_000, windowBytes: 30_000, stall: 10_000 };
let halfway = false;

/** @param {number} bytes so far */
async function pause(bytes) {
  if (halfway || bytes < 100_000) return;
  halfway = true;
  console.log("halfway");
  await once(process.stdin, "data");
}

async function* rows() {
  let bytes = 0;
  yield "customer,total\n";
  for (let i = 0; i < 50_000; i++) {
    const row = `somebody,${i}.00\n`;
    yield row;
    await pause((bytes += row.length));
  }
}

async function copy() {
  if (process.argv[2] === "in") {
    const into = await pg.copyIn("import_orders", {}, limits);
    await ReadableStream.from(rows()).pipeTo(into.stream);
    return into.totals;
  }
  const from = await pg.copyOut("export_orders", { customer: null }, limits);
  let bytes = 0;
  for await (const chunk of from.stream) await pause((bytes += chunk.length));
  return from.totals;
}

try {
  const { rows, bytes } = await copy();
  console.log(`ended well: ${rows} rows, ${bytes} bytes`);
} catch (err) {
  const { code, outcomeUnknown } = /** @type {import("../pgbridge/index.js").PgbridgeError} */ (err);
  console.log(`ended: ${code}, unknown: ${outcomeUnknown}`);
}
process.exit();
