// Copies all orders into a file, or a file of orders into the table:
//
//     node copy.js out orders.csv
//     node copy.js in orders.csv

import { createReadStream } from "node:fs";
import { open as openFile, rename } from "node:fs/promises";
import { open } from "./connect.js";

const [, , way, file] = process.argv;
const { nc, pg } = await open();
try {
  const { rows, digest } = way === "in" ? await load() : await save();
  console.log(`all rows were copied: ${rows}, ${digest}`);
} catch (err) {
  const unknown = /** @type {any} */ (err).outcomeUnknown;
  console.log(`${unknown ? "nobody knows whether anything was copied" : "nothing was copied"}: ${err}`);
  process.exitCode = 1;
}
await nc.close();

async function load() {
  const into = await pg.copyIn("import_orders");
  await ReadableStream.from(createReadStream(file)).pipeTo(into.stream); // resolves after COMMIT
  return into.totals;
}

async function save() {
  const from = await pg.copyOut("export_orders", { customer: null });
  const half = await openFile(file + ".part", "w");
  for await (const chunk of from.stream) await half.writeFile(chunk); // an error here rolls back
  await half.sync();
  await half.close();
  await rename(file + ".part", file); // only the whole file has its name
  return from.totals;
}
