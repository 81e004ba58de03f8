/** What went wrong, in pgbridge's words or in this module's own. */
export class PgbridgeError extends Error {
  /**
   * @param {string} code one of pgbridge's codes (docs/requests.md), or of this module's:
   *   no_responders (nobody serves it, nothing was done), no_answer (none came in time),
   *   replica_gone (the transaction is gone with its replica), lost (data did not arrive whole),
   *   taken (a stream has answered), forged (something else than pgbridge has)
   * @param {string} message
   * @param {{ outcomeUnknown?: boolean, details?: Record<string, any>, cause?: unknown }} [more]
   */
  constructor(code, message, { outcomeUnknown = false, details = {}, cause } = {}) {
    super(`${code}: ${message}`, { cause });
    this.name = "PgbridgeError";
    this.code = code;
    /** True where nobody can say whether it was done. */
    this.outcomeUnknown = outcomeUnknown || code === "unknown";
    /** True where the same request can succeed later and cannot be done twice. */
    this.retryable = details.retryable === true;
    /** The error as pgbridge sent it: sqlstate, statement, line, detail, constraint, row … */
    this.details = details;
  }
}

/**
 * What a reply says went wrong, or null.
 * @typedef {{ headers?: import("@nats-io/transport-node").MsgHdrs, string(): string }} Answer
 * @param {Answer} m
 */
export function failure(m) {
  if (!m.headers?.get("Nats-Service-Error-Code")) return null;
  let details;
  try {
    details = JSON.parse(m.string()).error;
  } catch {
    // the headers say enough
  }
  details ??= { code: "internal", message: m.headers.get("Nats-Service-Error") };
  return new PgbridgeError(details.code, details.message, { details });
}

/**
 * The error that a reply is which a stream has given, or null: one that takes in what
 * pgbridge is asked is quicker than pgbridge, and its acknowledgement is no reply of
 * pgbridge's.
 * @param {Answer} m
 */
export function taken(m) {
  let ack;
  try {
    ack = JSON.parse(m.string());
  } catch {
    return null; // whoever reads it says so
  }
  if (!ack?.stream || !ack.seq) return null;
  return new PgbridgeError("taken", `the stream ${ack.stream} has taken the request, and answers in pgbridge's stead`, { outcomeUnknown: true });
}

/**
 * An error as this module's own.
 * @param {unknown} err
 */
export function asError(err) {
  if (err instanceof PgbridgeError) return err;
  return new PgbridgeError("internal", err instanceof Error ? err.message : String(err), { cause: err });
}
