import { connect } from "@nats-io/transport-node";
import { Client } from "./pgbridge/index.js";

/** A connection that never gives up, and a client on it. */
export async function open() {
  const nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222", maxReconnectAttempts: -1 });
  return { nc, pg: new Client(nc) };
}
