// Adds up all orders, with no more than a page of them in memory:
//
//     node cursor.js

import { open } from "./connect.js";

const { nc, pg } = await open();
let sum = 0;
let orders = 0;
for await (const order of await pg.cursor("orders.all", {}, { pageRows: 500 })) {
  sum += Number(order.total);
  orders++;
}
console.log(`${orders} orders, ${sum.toFixed(2)} in all`);
await nc.close();
