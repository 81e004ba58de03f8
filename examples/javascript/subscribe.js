// Prints the events and gaps of the channel orders as they arrive:
//
//     npm install
//     NATS_URL=nats://127.0.0.1:4222 node subscribe.js

import { open } from "./connect.js";

const { pg } = await open();
const events = await pg.subscribe({ channels: ["orders"] });
console.error("listening");
for await (const { gap, text } of events) {
  if (gap) console.log(`gap (${gap.reason}): read again what was committed from ${gap.since?.toISOString() ?? "the beginning"} to ${gap.until.toISOString()}`);
  else console.log("event", text);
}
