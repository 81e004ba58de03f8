// Validates an AsyncAPI document, and each message's examples by its schemas:
//
//     node check-asyncapi.mjs FILE
//
// The working directory has to hold node_modules with @asyncapi/parser, whose
// own ajv judges the examples: the parser looks at those of AsyncAPI 2 only.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const { Parser } = require("@asyncapi/parser");
const Ajv = require("ajv").default;
const addFormats = require("ajv-formats").default;

const file = process.argv[2];
const faults = [];

const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"), { source: file });
// 0 is an error, 1 a warning; the rest is advice on taste.
for (const d of diagnostics.filter((d) => d.severity <= 1)) {
  faults.push(`${file}:${d.range.start.line + 1}: ${d.path.join(".")}: ${d.message} (${d.code})`);
}

const ajv = addFormats(new Ajv({ strict: false, allErrors: true }));
let examples = 0;

function check(message, example, part, value, schema) {
  if (value === undefined || schema === undefined) return;
  examples++;
  const valid = ajv.compile(schema.json());
  if (valid(value)) return;
  for (const e of valid.errors) {
    faults.push(`${file}: example "${example}" of ${message}: ${part}${e.instancePath} ${e.message}`);
  }
}

for (const m of document?.allMessages().all() ?? []) {
  if (m.examples().isEmpty()) faults.push(`${file}: message ${m.id()} has no example`);
  for (const e of m.examples().all()) {
    check(m.id(), e.name(), "payload", e.payload(), m.payload());
    check(m.id(), e.name(), "headers", e.headers(), m.headers());
  }
}

for (const fault of faults) console.error(fault);
if (faults.length > 0) process.exit(1);
console.log(`${file} is valid, and so are its ${examples} example parts`);
