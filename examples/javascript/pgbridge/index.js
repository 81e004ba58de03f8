/**
 * A small client of pgbridge for Node.js: what takes more than one request, in the
 * forms that the language has for it. docs/clients.md says what it promises.
 */
export { Client } from "./client.js";
export { PgbridgeError } from "./errors.js";
