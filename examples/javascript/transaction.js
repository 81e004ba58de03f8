// Walks through all orders and takes a share off the large ones, in one transaction:
//
//     node transaction.js 0.1 100

import { open } from "./connect.js";

const [, , share, limit] = process.argv;
const { nc, pg } = await open();
try {
  const changed = await pg.transaction(async (tx) => {
    let n = 0;
    for await (const order of await tx.cursor("orders.all", {}, { name: "walk", pageRows: 1 })) {
      if (Number(order.total) < Number(limit)) continue;
      await tx.run("orders.discount", { share }); // WHERE CURRENT OF walk
      n++;
    }
    return n;
  });
  console.log(`committed: ${changed} orders are cheaper`);
} catch (err) {
  console.log(`nothing was changed: ${err}`);
}
await nc.close();
