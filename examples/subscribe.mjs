// Prints the events and gaps of the channel orders as they arrive:
//
//     npm install @nats-io/transport-node
//     NATS_URL=nats://127.0.0.1:4222 node subscribe.mjs

import { connect } from "@nats-io/transport-node";

const nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222" });

// Callbacks run in the order of arrival, over all subscriptions.
nc.subscribe("pgbridge.event.orders", {
  callback: (err, m) => {
    if (err) throw err;
    console.log("event", m.string());
  },
});
nc.subscribe("pgbridge.gap.orders", {
  callback: (err, m) => {
    if (err) throw err;
    const { reason, since, until } = m.json();
    console.log(`gap (${reason}): read again what was committed from ${since ?? "the beginning"} to ${until}`);
  },
});

await nc.flush();
console.error("listening");
