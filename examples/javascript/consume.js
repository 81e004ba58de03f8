// Prints the events and gaps of the channel orders that JetStream keeps. Started
// again it goes on behind the last one that it has dealt with:
//
//     node consume.js

import { open } from "./connect.js";

const { pg } = await open();
for await (const { gap, id, text } of await pg.consume({ durable: "example-js", channels: ["orders"] })) {
  console.log(gap ? `gap ${id} ${gap.reason}` : `event ${id} ${text}`);
}
