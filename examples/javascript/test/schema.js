// Compares what scripts take and return with the schema that pgbridge describe has
// written:
//
//     node test/schema.js scripts.json

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { open } from "./support.js";

const require = createRequire(import.meta.url);
const Ajv = require("ajv/dist/2020").default;
const schema = JSON.parse(readFileSync(process.argv[2], "utf8"));
const ajv = new Ajv({ allErrors: true, allowUnionTypes: true }).addSchema(schema, "scripts");
const { nc, pg } = await open();
let faults = 0;

/**
 * @param {string} definition
 * @param {unknown} value
 * @param {boolean} [want]
 */
function check(definition, value, want = true) {
  const valid = ajv.getSchema(`scripts#/$defs/${definition}`) ?? ajv.compile({ $ref: `scripts#/$defs/${definition}` });
  if (valid(value) === want) return;
  faults++;
  console.log(`${definition}: ${JSON.stringify(value)} is ${want ? "refused" : "taken"}`, valid.errors);
}

const none = { b: null, s: null, l: null, n: null, f: null, t: null, j: null, d: null, ts: null };
const some = { b: true, s: 1, l: "9007199254740993", n: 0.5, f: 1e300, t: "x", j: [1, { a: null }], d: "2026-01-02", ts: ["a", null, "b"] };
const odd = { b: "yes", s: "2", l: -3, n: "NaN", f: "Infinity", t: 5, j: "text", d: "infinity", ts: [["a", "b"], ["c", null]] };
const runs = [
  ["account", { id: 1 }], ["account", { id: "2" }], ["orders.search", { customer: null }], ["outer", {}], ["both", { x: "5" }],
  ["kinds", none], ["kinds", some], ["kinds", odd],
];
for (const [script, params] of /** @type {[string, object][]} */ (runs)) {
  check(`${script}.params`, params);
  for (const rows of ["object", "array"]) {
    for (const big_numbers of ["string", "number"]) {
      const { results } = await pg.request("run", script, { params, rows, big_numbers });
      const kind = rows === "object" ? "row" : "values";
      if (results.at(-1).rows.length === 0 && script !== "orders.search") throw new Error(`${script} has no rows`);
      for (const row of results.at(-1).rows) check(`${script}.${kind}`, row);
    }
  }
}

check("account.params", {}, false); // a parameter is missing
check("account.params", { id: 1, idd: 1 }, false);
check("account.params", { id: [1] }, false);
check("account.row", { id: null, owner: "Ada", balance: "1" }, false); // NOT NULL
check("account.row", { id: 1, owner: "Ada" }, false);
check("outer.row", { id: 1, other: null });
check("account.values", [1, "Ada"], false);
check("account.values", [1, "Ada", 5, 6], false);

console.log(faults ? `${faults} faults` : "everything is as the schema says");
await nc.close();
